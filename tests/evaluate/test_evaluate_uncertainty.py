"""Every number against a slow second way: repeated data, loops over draws, and all sign patterns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from figclip_cli.errors import VerificationError
from figclip_cli.evaluate.metrics import uncertainty
from figclip_cli.evaluate.metrics.statistics import PERCENT, Average, GeometricMean, Mean, Median
from figclip_cli.evaluate.metrics.uncertainty import Resampling, mcnemar, measure, measure_groups, paired_test


def independent(n, **options):
    return Resampling(range(n), **options)


def of_repeated(simple, values, labels, cluster_of, counts):
    """The statistic of items that are really repeated as often as their cluster is drawn."""
    times = counts[cluster_of]
    return simple(np.repeat(values, times), np.repeat(labels, times))


def simple_mean(values, labels):
    return values.mean()


def simple_macro(values, labels):
    return np.mean([values[labels == label].mean() for label in sorted(set(labels.tolist()))])


def simple_median(values, labels):
    return np.median(values)


def simple_geometric(values, labels):
    return (100 * (values < 1).mean() * 100 * (values < 3).mean()) ** 0.5


def simple_average(values, labels):
    even, odd = values[labels % 2 == 0], values[labels % 2 == 1]
    return np.mean([part.mean() for part in (even, odd) if len(part)])


@pytest.fixture
def world():
    """40 items of 13 clusters, with ranks of two models and groups that cross the clusters."""
    generator = np.random.default_rng(5)
    ranks = {model: generator.integers(0, 6, 40) / 2.0 for model in ("base", "adapted")}
    return ranks, generator.integers(0, 13, 40), generator.integers(0, 5, 40)


def statistics(labels):
    even = (labels % 2 == 0).astype(float)
    return {
        simple_mean: Mean(),
        simple_macro: Mean(groups=labels),
        simple_median: Median(),
        simple_average: Average((Mean(weights=even), Mean(weights=1 - even))),
    }


def draws_of(resampling):
    """The counts of each draw, one after another, (items' clusters,)."""
    return [column for part in resampling.counts() for column in part.T.astype(int)]


def test_numbers_and_errors_equal_those_of_repeated_data(world):
    ranks, clusters, labels = world
    resampling = Resampling(clusters.tolist(), seed=3, draws=200)
    for simple, statistic in statistics(labels).items():
        made = measure("x", statistic, ranks, resampling)
        by_draw = {
            model: np.array(
                [of_repeated(simple, values, labels, resampling.cluster_of, counts) for counts in draws_of(resampling)]
            )
            for model, values in ranks.items()
        }
        assert made.base_value == pytest.approx(simple(ranks["base"], labels))
        assert made.value == pytest.approx(simple(ranks["adapted"], labels))
        assert made.base_standard_error == pytest.approx(by_draw["base"].std())
        assert made.standard_error == pytest.approx(by_draw["adapted"].std())
        assert made.delta_standard_error == pytest.approx((by_draw["adapted"] - by_draw["base"]).std())
        assert made.delta == made.value - made.base_value and made.n == 40


def test_the_geometric_mean_equals_that_of_repeated_data(world):
    ranks, clusters, labels = world
    resampling = Resampling(clusters.tolist(), draws=200)
    statistic = GeometricMean((Mean(scale=PERCENT, key="@1"), Mean(scale=PERCENT, key="@3")))
    hits = {model: {f"@{k}": (values < k).astype(float) for k in (1, 3)} for model, values in ranks.items()}
    made = measure("gmean", statistic, hits, resampling)
    by_draw = [
        of_repeated(simple_geometric, ranks["adapted"], labels, resampling.cluster_of, counts)
        for counts in draws_of(resampling)
    ]
    assert made.value == pytest.approx(simple_geometric(ranks["adapted"], labels))
    assert made.standard_error == pytest.approx(np.std(by_draw))
    none = {"base": {"@1": np.zeros(40), "@3": np.ones(40)}}
    assert measure("gmean", statistic, none, resampling).value == 0.0


def test_whole_weights_are_repetitions():
    generator = np.random.default_rng(0)
    for n in range(1, 30):
        values, weights = generator.integers(0, 5, n).astype(float), generator.integers(0, 4, n)
        if not weights.sum():
            continue
        repeated = np.repeat(values, weights)
        for statistic, simple in ((Mean(weights=weights), np.mean), (Median(weights=weights), np.median)):
            made = measure("x", statistic, {"base": values}, independent(n))
            assert made.value == pytest.approx(simple(repeated)), (values, weights)
            assert made.n == (weights > 0).sum()


def test_the_median_is_numpys_also_with_weights_that_are_no_whole_numbers():
    values = np.array([3.0, 1.0, 2.0, 10.0])
    assert measure("x", Median(weights=np.full(4, 0.1)), {"base": values}, independent(4)).value == 2.5
    assert measure("x", Median(offset=1.0), {"base": values[:3]}, independent(3)).value == 3.0


def test_a_macro_mean_weighs_groups_and_not_items():
    values, groups = np.array([1.0, 1.0, 1.0, 0.0]), np.array([7, 7, 7, 2])
    made = measure("x", Mean(scale=PERCENT, groups=groups), {"base": values}, independent(4))
    assert made.value == 50.0 and made.statistic == "macro mean"
    left_out = measure("x", Mean(groups=np.array([7, 7, 7, -1])), {"base": values}, independent(4))
    assert left_out.value == 1.0 and left_out.n == 3


def test_the_error_of_a_share_is_that_of_a_binomial():
    values = np.repeat([1.0, 0.0], [60, 140])
    made = measure("x", Mean(scale=PERCENT), {"base": values}, independent(200))
    assert made.standard_error == pytest.approx(100 * np.sqrt(0.3 * 0.7 / 200), rel=0.1)


def test_copies_of_an_item_make_the_error_larger_only_where_they_are_drawn_together():
    values = np.repeat(np.random.default_rng(1).integers(0, 2, 50).astype(float), 8)
    copied = measure("x", Mean(), {"base": values}, Resampling(np.repeat(np.arange(50), 8).tolist()))
    naive = measure("x", Mean(), {"base": values}, independent(400))
    once = measure("x", Mean(), {"base": values[::8]}, independent(50))
    assert copied.standard_error == pytest.approx(once.standard_error)
    assert copied.standard_error > 2 * naive.standard_error


def test_equal_models_do_not_differ():
    values = np.random.default_rng(2).integers(0, 2, 30).astype(float)
    both = {"base": values, "adapted": values.copy()}
    for statistic in (Mean(), Mean(groups=np.arange(30) % 4), Median(), GeometricMean((Mean(), Mean(scale=2.0)))):
        made = measure("x", statistic, both, independent(30))
        assert (made.delta, made.delta_standard_error, made.p_value) == (0.0, 0.0, 1.0)


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == mcnemar(1, 0) == mcnemar(4, 4) == 1.0
    assert mcnemar(0, 5) == mcnemar(5, 0) == pytest.approx(2 / 32)
    assert mcnemar(2, 10) == pytest.approx(2 * (1 + 12 + 66) / 4096)


def test_zeros_and_ones_of_independent_items_are_tested_by_mcnemar():
    base, adapted = np.array([1, 1, 0, 0, 0, 0, 0, 0, 1, 0.0]), np.array([1, 0, 1, 1, 1, 1, 1, 1, 1, 0.0])
    made = measure("x", Mean(scale=PERCENT), {"base": base, "adapted": adapted}, independent(10))
    assert made.test == "exact McNemar" and made.p_value == pytest.approx(binomtest(1, 7).pvalue)
    half = np.repeat([1.0, 0.0], 5)
    part = paired_test(Mean(weights=half), base, adapted, independent(10))
    assert part == (pytest.approx(binomtest(1, 4).pvalue), "exact McNemar")


@pytest.mark.parametrize(
    "statistic", [Mean(weights=[1, 1, 1, 1, 1, 1, 1, 2.0]), Mean(groups=[0, 0, 0, 1, 1, 1, 1, 1]), Average((Mean(),))]
)
def test_unequal_weights_are_not_tested_by_mcnemar(statistic):
    base, adapted = np.array([1, 1, 0, 0, 0, 0, 0, 0.0]), np.array([1, 0, 1, 1, 1, 1, 1, 1.0])
    assert "sign flips" in paired_test(statistic, base, adapted, independent(8))[1]


def test_items_that_share_a_cluster_are_not_tested_by_mcnemar():
    base, adapted = np.zeros(8), np.array([1, 1, 1, 1, 0, 0, 0, 0.0])
    together = Resampling([0, 0, 0, 0, 1, 2, 3, 4])
    p_value, test = paired_test(Mean(), base, adapted, together)
    assert p_value == 1.0 and test.startswith("sign flips")  # one cluster changed, either way as far
    later = np.array([0, 0, 0, 0, 1, 1, 1, 1.0])
    assert paired_test(Mean(weights=later), base, adapted, together)[1] == "exact McNemar"


def test_differences_that_are_equal_but_for_rounding_count_as_equally_large():
    base, adapted = np.full(6, 0.3), np.array([0.4] * 5 + [0.2])
    p_value, _ = paired_test(Mean(), base, adapted, independent(6))
    assert p_value == pytest.approx(2 * (1 + 6) / 64, abs=0.015)  # at least five of six in one direction


def test_contributions_add_up_to_the_statistic(world):
    ranks, _, labels = world
    for simple, statistic in statistics(labels).items():
        if simple is not simple_median:
            assert statistic.contributions(ranks["base"]).sum() == pytest.approx(simple(ranks["base"], labels))
    macros = Average((Mean(scale=100, groups=labels), Mean()))
    expected = 50 * simple_macro(ranks["base"], labels) + ranks["base"].mean() / 2
    assert macros.contributions(ranks["base"]).sum() == pytest.approx(expected)
    assert Median().contributions(ranks["base"]) is None
    assert Average((Mean(), Median())).contributions(ranks["base"]) is None


def enumerated(change):
    """The exact p-value: all patterns of signs."""
    patterns = [abs(np.dot(signs, change)) for signs in itertools.product((1, -1), repeat=len(change))]
    return np.mean(np.array(patterns) >= abs(change.sum()) - 1e-12)


def test_sign_flips_come_near_all_patterns_of_clusters():
    generator = np.random.default_rng(4)
    base, adapted = generator.random(24), generator.random(24) + 0.15
    clusters = np.arange(24) // 3
    p_value, test = paired_test(Mean(), base, adapted, Resampling(clusters.tolist()))
    change = np.array([(adapted - base)[clusters == cluster].sum() for cluster in range(8)])
    assert p_value == pytest.approx(enumerated(change), abs=0.01) and test == "sign flips, 10000 draws"
    assert p_value != pytest.approx(paired_test(Mean(), base, adapted, independent(24))[0], abs=0.01)


def test_sign_flips_of_a_macro_mean_come_near_all_patterns():
    generator = np.random.default_rng(6)
    base, adapted, groups = generator.random(10), generator.random(10) + 0.2, np.array([0] * 7 + [1] * 3)
    p_value, _ = paired_test(Mean(groups=groups), base, adapted, independent(10))
    assert p_value == pytest.approx(enumerated((adapted - base) / np.where(groups == 0, 14, 6)), abs=0.01)


def test_label_swaps_come_near_all_swaps():
    generator = np.random.default_rng(8)
    base, adapted = generator.integers(0, 9, 9).astype(float), generator.integers(0, 5, 9).astype(float)
    p_value, test = paired_test(Median(), base, adapted, independent(9))
    observed = abs(np.median(adapted) - np.median(base))
    as_large = []
    for pattern in itertools.product((False, True), repeat=9):
        first, second = np.where(pattern, adapted, base), np.where(pattern, base, adapted)
        as_large.append(abs(np.median(second) - np.median(first)) >= observed)
    assert p_value == pytest.approx(np.mean(as_large), abs=0.05) and test == "label swaps, 1000 draws"


def test_label_swaps_are_not_made_for_very_many_items(monkeypatch):
    monkeypatch.setattr(uncertainty, "MOST_ITEMS_OF_LABEL_SWAPS", 5)
    made = measure("x", Median(), {"base": np.arange(6.0), "adapted": np.arange(6.0)}, independent(6))
    assert (made.p_value, made.test) == (None, None)


def test_draws_are_the_same_for_all_metrics_and_depend_on_the_seed():
    first, again, other = independent(50), independent(50), independent(50, seed=1)
    assert np.array_equal(draws_of(first), draws_of(first)) and np.array_equal(draws_of(first), draws_of(again))
    assert not np.array_equal(draws_of(first), draws_of(other))
    assert all(counts.sum() == 50 for counts in draws_of(first)) and len(draws_of(first)) == first.draws == 1000


def test_parts_and_what_is_kept_change_no_number(monkeypatch, world):
    ranks, clusters, labels = world
    whole = [measure("x", s, ranks, Resampling(clusters.tolist())) for s in statistics(labels).values()]
    monkeypatch.setattr(uncertainty, "_CELLS_AT_ONCE", 300)
    monkeypatch.setattr(uncertainty, "_CELLS_KEPT", 0)
    resampling = Resampling(clusters.tolist())
    for statistic, expected in zip(statistics(labels).values(), whole, strict=True):
        made = measure("x", statistic, ranks, resampling)
        assert made.standard_error == pytest.approx(expected.standard_error)
        assert made.delta_standard_error == pytest.approx(expected.delta_standard_error)
    assert resampling._kept == []


def test_there_are_fewer_draws_of_very_many_items_but_never_under_200():
    assert [independent(n).draws for n in (10, 400_000, 800_000, 4_000_000)] == [1000, 1000, 500, 200]


def test_a_group_without_items_in_a_draw_drops_out_of_it():
    """A group of one item is absent from a third of the draws; the macro mean is then the other group's."""
    values, groups = np.array([1.0] * 9 + [0.0]), np.array([0] * 9 + [1])
    made = measure("x", Mean(groups=groups), {"base": values}, independent(10))
    absent = np.mean([counts[9] == 0 for counts in draws_of(independent(10))])
    assert 0.2 < absent < 0.5
    assert made.standard_error == pytest.approx(0.5 * np.sqrt(absent * (1 - absent)), rel=1e-6)
    alone = measure("x", Mean(weights=groups), {"base": values}, independent(10))
    assert (alone.value, alone.standard_error, alone.n) == (0.0, 0.0, 1)


def test_groups_are_measured_one_by_one():
    values = {"base": np.array([1.0, 0, 1, 0]), "adapted": np.array([1.0, 1, 1, 0])}
    made = measure_groups("accuracy", values, independent(4), ["on", "in", "on", ""])
    assert [(m.group, m.n, m.base_value, m.value) for m in made] == [("in", 1, 0.0, 100.0), ("on", 2, 100.0, 100.0)]
    assert made[0].test == "exact McNemar"


def test_the_error_of_a_group_is_that_of_its_own_items(world):
    ranks, clusters, labels = world
    resampling = Resampling(clusters.tolist(), draws=200)
    made = measure_groups("x", ranks, resampling, [str(label) for label in labels], scale=1.0)
    for metric in made:
        own = labels == int(metric.group)
        times = [counts[resampling.cluster_of][own] for counts in draws_of(resampling)]
        by_draw = [np.repeat(ranks["adapted"][own], t).mean() for t in times if t.sum()]
        assert metric.standard_error == pytest.approx(np.std(by_draw)) and metric.n == own.sum()


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(VerificationError, match="not finite"):
        measure("x", Mean(), {"base": np.array([1.0, np.nan])}, independent(2))
    with pytest.raises(VerificationError, match="value of metric 'x' of swap is nan"):
        measure("x", Mean(weights=np.zeros(2)), {"base": np.ones(2)}, independent(2), group="swap")
    with pytest.raises(ValueError, match="3 values for 2 items"):
        measure("x", Mean(), {"base": np.ones(3)}, independent(2))
