"""Standard errors by a cluster bootstrap, and paired tests of base against adapted; one engine for every task.

Items that share a clip or an image are not independent: they are drawn together, and swapped together.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]

from figclip_cli.errors import VerificationError
from figclip_cli.evaluate.metrics.statistics import PERCENT, Floats, Mean, Statistic, Sums, Values
from figclip_cli.evaluate.results import Metric

DRAWS, FEWEST_DRAWS = 1000, 200
SIGN_FLIPS, FEWEST_SIGN_FLIPS = 10_000, 1000
LABEL_SWAPS = 1000
MOST_ITEMS_OF_LABEL_SWAPS = 50_000
_MOST_DRAWN_ITEMS = 400_000_000  # draws x items
_CELLS_AT_ONCE = 4_000_000  # 32 MB of float64
_CELLS_KEPT = 32_000_000  # 64 MB of uint16
_SLACK = 1e-9  # two numbers this near are the same: they were added up in another order


class Resampling:
    """Draws of clusters with replacement, the same for every metric and model measured with it.

    Args:
        clusters: (items,) what each item is drawn with: a clip id, an image, or the item's own number.
        seed: Seed of the draws and of the tests.
        draws: At most so many; fewer (not under 200) where draws times items would be over 4e8.

    Attributes:
        items: Number of items.
        clusters: Number of clusters.
        cluster_of: (items,) number of each item's cluster, in order of first appearance.
        draws: Number of draws that are made.
        seed: As given.
    """

    def __init__(self, clusters: Iterable[Hashable], *, seed: int = 0, draws: int = DRAWS) -> None:
        numbers: dict[Hashable, int] = {}
        self.cluster_of = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.int64)
        self.items, self.clusters, self.seed = len(self.cluster_of), len(numbers), seed
        self.draws = min(draws, max(FEWEST_DRAWS, _MOST_DRAWN_ITEMS // max(1, self.items)))
        self._kept: list[npt.NDArray[np.uint16]] = []

    def by_cluster(self, rows: sparse.csr_matrix) -> sparse.csr_matrix:
        """Add up the columns (sums, items) of each cluster, to (sums, clusters)."""
        shape = self.items, self.clusters
        members = sparse.csr_matrix((np.ones(self.items), (np.arange(self.items), self.cluster_of)), shape)
        return sparse.csr_matrix(rows @ members)

    def counts(self) -> Iterator[npt.NDArray[np.uint16]]:
        """Yield how often each cluster is drawn, (clusters, draws of a part), in parts that bound the memory.

        The counts are kept where they are small, else drawn again from the same seed.
        """
        if self._kept:
            yield from self._kept
            return
        keep = self.clusters * self.draws <= _CELLS_KEPT
        generator = np.random.default_rng(self.seed)
        for part in _parts(self.draws, self.items):
            picks = generator.integers(0, self.clusters, size=(part, self.clusters))
            picks += np.arange(part)[:, None] * self.clusters
            flat = np.bincount(picks.ravel(), minlength=part * self.clusters)
            counts = np.ascontiguousarray(flat.reshape(part, self.clusters).T.astype(np.uint16))
            if keep:
                self._kept.append(counts)
            yield counts


def measure(
    name: str,
    statistic: Statistic,
    by_model: Mapping[str, Values],
    resampling: Resampling,
    *,
    higher_is_better: bool = True,
    group: str = "",
) -> Metric:
    """Compute a number of one model, or of base and adapted, with errors and the test of the difference.

    A draw that holds none of the statistic's items is left out of the standard error.

    Args:
        by_model: Values of the items (or several arrays of them by name) under ``base`` and, where given,
            ``adapted``.
        group: What the number is a breakdown by.

    Raises:
        VerificationError: A value or the number is not finite.
    """
    models = [by_model[model] for model in ("base", "adapted") if model in by_model]
    _check(name, models, resampling.items)
    sums = statistic.sums(models)
    everything = np.ones((resampling.items, 1))
    numbers = [float(sums.finish(rows @ everything)[0]) for rows in sums.rows]
    draws = _bootstrap(sums, resampling)
    n = int(statistic.used(resampling.items).sum())
    if len(models) == 1:
        return Metric(name, numbers[0], _spread(draws[0]), higher_is_better, n=n, group=group, statistic=statistic.kind)
    p_value, test = paired_test(statistic, models[0], models[1], resampling)
    return Metric(
        name,
        numbers[1],
        _spread(draws[1]),
        higher_is_better,
        base_value=numbers[0],
        base_standard_error=_spread(draws[0]),
        delta=numbers[1] - numbers[0],
        delta_standard_error=_spread(draws[1] - draws[0]),
        n=n,
        p_value=p_value,
        test=test,
        group=group,
        statistic=statistic.kind,
    )


def measure_groups(
    name: str,
    by_model: Mapping[str, Floats],
    resampling: Resampling,
    labels: Sequence[str],
    *,
    scale: float = PERCENT,
    higher_is_better: bool = True,
) -> tuple[Metric, ...]:
    """Measure the mean of the items of each label, in the order of the labels' names.

    Args:
        labels: (items,) relation, kind or class of each item; an item with an empty one is left out.
    """
    column = np.array(labels, dtype=object)
    return tuple(
        measure(
            name,
            Mean(scale=scale, weights=(column == label).astype(np.float64)),
            by_model,
            resampling,
            higher_is_better=higher_is_better,
            group=label,
        )
        for label in sorted(set(labels) - {""})
    )


def paired_test(
    statistic: Statistic, base: Values, adapted: Values, resampling: Resampling
) -> tuple[float | None, str | None]:
    """Test whether two models scored on the same items differ, two-sided; return the p-value and the test's name.

    - Exact McNemar, for a mean of zeros and ones with equal weights whose clusters have one item each.
    - Sign flips of whole clusters, for other means: p = (1 + c) / (1 + draws), where c counts the draws whose
      difference is at least as large as the one found.
    - Swaps of the two models' labels, for what is no mean; not made (None) above 50,000 items.
    """
    first, second = statistic.contributions(base), statistic.contributions(adapted)
    used = np.flatnonzero(statistic.used(resampling.items))
    if first is not None and second is not None:
        if _suits_mcnemar(statistic, base, adapted, used, resampling):
            change = np.sign(second - first)
            return mcnemar(int((change < 0).sum()), int((change > 0).sum())), "exact McNemar"
        by_cluster = np.bincount(resampling.cluster_of, second - first, minlength=resampling.clusters)
        p_value, draws = _sign_flips(by_cluster.astype(np.float64), resampling.seed)
        return p_value, f"sign flips, {draws} draws"
    if len(used) > MOST_ITEMS_OF_LABEL_SWAPS:
        return None, None
    return _label_swaps(statistic.sums([base, adapted]), resampling), f"label swaps, {LABEL_SWAPS} draws"


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test from the counts of items that only one model has right."""
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    discordant = only_first + only_second
    return float(binomtest(only_first, discordant, 0.5).pvalue) if discordant else 1.0


def _check(name: str, models: Sequence[Values], items: int) -> None:
    for values in models:
        for array in values.values() if isinstance(values, Mapping) else (values,):
            if len(array) != items:
                raise ValueError(f"{name}: {len(array)} values for {items} items")
            if not np.isfinite(array).all():
                raise VerificationError(f"{name}: a value that is not finite", "the model's weights are damaged")


def _bootstrap(sums: Sums, resampling: Resampling) -> list[Floats]:
    """Return each model's number under every draw, (draws,) each."""
    by_cluster = [resampling.by_cluster(rows) for rows in sums.rows]
    # Breakdowns use a few clusters out of many.
    used = np.unique(np.concatenate([rows.indices for rows in by_cluster]))
    by_cluster = [rows[:, used] for rows in by_cluster]
    found: list[list[Floats]] = [[] for _ in by_cluster]
    for counts in resampling.counts():
        weights = counts[used].astype(np.float64)
        for numbers, rows in zip(found, by_cluster, strict=True):
            numbers.append(sums.finish(rows @ weights))
    return [np.concatenate(numbers) for numbers in found]


def _spread(draws: Floats) -> float:
    """Return the standard deviation of the draws that have a number."""
    known = draws[~np.isnan(draws)]
    return float(known.std()) if len(known) else 0.0


def _suits_mcnemar(
    statistic: Statistic, base: Values, adapted: Values, used: npt.NDArray[np.int64], resampling: Resampling
) -> bool:
    if not isinstance(statistic, Mean) or len(np.unique(resampling.cluster_of[used])) < len(used):
        return False
    ones = statistic.contributions(_ones(base))  # a macro mean over groups of equal size has equal weights too
    arrays = [np.asarray(v[statistic.key] if isinstance(v, Mapping) else v)[used] for v in (base, adapted)]
    return bool(np.ptp(ones[used]) == 0) and all(bool(np.isin(array, (0, 1)).all()) for array in arrays)


def _ones(values: Values) -> Values:
    if isinstance(values, Mapping):
        return {key: np.ones(len(array)) for key, array in values.items()}
    return np.ones(len(values))


def _sign_flips(change: Floats, seed: int) -> tuple[float, int]:
    """Flip the sign of each cluster's change at random; return the p-value and the number of draws."""
    observed, slack = abs(change.sum()), _SLACK * np.abs(change).sum()
    change = change[np.abs(change) > 0]
    if not len(change):
        return 1.0, SIGN_FLIPS
    draws = min(SIGN_FLIPS, max(FEWEST_SIGN_FLIPS, _MOST_DRAWN_ITEMS // len(change)))
    generator, as_large = np.random.default_rng([seed, 1]), 0
    for part in _parts(draws, len(change)):
        flips = generator.integers(0, 2, size=(part, len(change)), dtype=np.int8)
        as_large += int((np.abs((1.0 - 2.0 * flips) @ change) >= observed - slack).sum())
    return (1 + as_large) / (1 + draws), draws


def _label_swaps(sums: Sums, resampling: Resampling) -> float:
    """Exchange the two models' values in a random half of the clusters, and compute both numbers again."""
    base, adapted = (resampling.by_cluster(rows) for rows in sums.rows)
    whole = np.ones((resampling.clusters, 1))
    all_base, all_adapted, between = base @ whole, adapted @ whole, adapted - base
    observed = abs(float((sums.finish(all_adapted) - sums.finish(all_base))[0]))
    generator, as_large = np.random.default_rng([resampling.seed, 2]), 0
    for part in _parts(LABEL_SWAPS, resampling.items):
        swapped = between @ generator.integers(0, 2, size=(resampling.clusters, part)).astype(np.float64)
        difference = sums.finish(all_adapted - swapped) - sums.finish(all_base + swapped)
        as_large += int((np.abs(difference) >= observed - _SLACK * max(1.0, observed)).sum())
    return (1 + as_large) / (1 + LABEL_SWAPS)


def _parts(draws: int, width: int) -> Iterator[int]:
    """Yield how many draws to make at once, until all are made."""
    most = max(1, _CELLS_AT_ONCE // max(1, width))
    for start in range(0, draws, most):
        yield min(most, draws - start)
