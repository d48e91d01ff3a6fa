"""Numbers of a set of items, in a form that can be computed again when items are resampled or models swapped.

Every statistic is a function of sums over the items: ``sums = rows @ weights`` with one sparse row for each sum. A
resampling only changes the weights, so a thousand draws are one product.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Values = Floats | Mapping[str, Floats]
PERCENT = 100.0
_MEDIAN_TOLERANCE = 1e-9  # of the weight in all: sums of equal weights may differ in their last bits


@dataclass(frozen=True)
class Sums:
    """What a statistic adds up, and how the number comes from the sums.

    Attributes:
        rows: For each model, a sparse matrix (sums, items).
        finish: Takes sums (sums, draws) float64 to numbers (draws,); NaN where a draw has no item.
    """

    rows: tuple[sparse.csr_matrix, ...]
    finish: Callable[[Floats], Floats]


class Statistic(ABC):
    """A number of a set of items. ``Values`` are an array (items,) or several of them by name."""

    _KIND: ClassVar[str]

    @property
    def kind(self) -> str:
        """How the number is formed, for results."""
        return self._KIND

    @abstractmethod
    def used(self, items: int) -> Bools:
        """Return which of the items count, (items,)."""

    @abstractmethod
    def sums(self, models: Sequence[Values]) -> Sums:
        """Return what is to be added up for each model; the sums of all models mean the same."""

    def number(self, values: Values) -> float:
        """Return the number of one model's values; NaN where no item counts."""
        sums = self.sums([values])
        (rows,) = sums.rows
        return float(sums.finish(rows @ np.ones((rows.shape[1], 1)))[0])

    def contributions(self, values: Values) -> Floats | None:
        """Return (items,) numbers whose sum differs from the statistic by a constant; None where there are none."""
        return None


@dataclass(frozen=True, eq=False)
class Mean(Statistic):
    """``scale * mean + offset``, where the mean is that of the items, or the unweighted mean over groups of theirs.

    A macro mean is the mean with weights ``1 / (G n_g)``. Under resampling it is normalised again within the groups;
    a group that has no item in a draw drops out of that draw's mean.

    Attributes:
        scale: 100 for percent.
        offset: Added at the end, for example 1 for ranks counted from 1.
        weights: (items,) not negative; default 1 each. An item with weight 0 is left out.
        groups: (items,) integer labels; negative leaves an item out. Default: one group.
        key: Which array of the values, where they have several.
    """

    scale: float = 1.0
    offset: float = 0.0
    weights: npt.ArrayLike | None = None
    groups: npt.ArrayLike | None = None
    key: str = ""

    @property
    def kind(self) -> str:
        """How the number is formed, for results."""
        return "mean" if self.groups is None else "macro mean"

    def used(self, items: int) -> Bools:
        """Return which of the items have weight and a group."""
        used = _weights(self.weights, items) > 0
        return used if self.groups is None else used & (np.asarray(self.groups) >= 0)

    def _layout(self, items: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Floats, int]:
        """Return used items, the number of each one's group, their weights, and how many groups there are."""
        used = np.flatnonzero(self.used(items))
        weights = _weights(self.weights, items)[used]
        if self.groups is None:
            return used, np.zeros(len(used), dtype=np.int64), weights, 1
        labels, group = np.unique(np.asarray(self.groups)[used], return_inverse=True)
        return used, group, weights, len(labels)

    def sums(self, models: Sequence[Values]) -> Sums:
        """Return sums (2 G, items): of weight times value by group, then of weight by group."""
        arrays = [_array(values, self.key) for values in models]
        used, group, weights, groups = self._layout(len(arrays[0]))
        shape = (groups, len(arrays[0]))
        of_weight = sparse.csr_matrix((weights, (group, used)), shape)
        rows = tuple(
            sparse.vstack([sparse.csr_matrix((weights * array[used], (group, used)), shape), of_weight], format="csr")
            for array in arrays
        )

        def finish(sums: Floats) -> Floats:
            top, bottom = sums[:groups], sums[groups:]
            means = np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)
            return self.scale * _mean_of_known(means) + self.offset

        return Sums(rows, finish)

    def contributions(self, values: Values) -> Floats:
        """Return each item's share of the mean."""
        array = _array(values, self.key)
        used, group, weights, groups = self._layout(len(array))
        shares = np.zeros(len(array))
        in_group = np.bincount(group, weights, minlength=groups)
        shares[used] = self.scale * weights * array[used] / (in_group[group] * groups)
        return shares


@dataclass(frozen=True, eq=False)
class Median(Statistic):
    """Weighted median plus ``offset``; with whole weights it is numpy's of the items repeated that often.

    Attributes:
        offset: Added at the end, for example 1 for ranks counted from 1.
        weights: (items,) not negative; default 1 each.
        key: Which array of the values, where they have several.
    """

    offset: float = 0.0
    weights: npt.ArrayLike | None = None
    key: str = ""
    _KIND = "median"

    def used(self, items: int) -> Bools:
        """Return which of the items have weight."""
        return _weights(self.weights, items) > 0

    def sums(self, models: Sequence[Values]) -> Sums:
        """Return sums (distinct values, items) of weight, in order of the values of all models together."""
        arrays = [_array(values, self.key) for values in models]
        used = np.flatnonzero(self.used(len(arrays[0])))
        weights = _weights(self.weights, len(arrays[0]))[used]
        distinct = np.unique(np.concatenate([array[used] for array in arrays]))
        shape = (len(distinct), len(arrays[0]))
        rows = tuple(
            sparse.csr_matrix((weights, (np.searchsorted(distinct, array[used]), used)), shape) for array in arrays
        )

        def finish(sums: Floats) -> Floats:
            if not len(distinct):
                return np.full(sums.shape[1], np.nan)
            below = np.cumsum(sums, axis=0)
            half, slack = below[-1] / 2, below[-1] * _MEDIAN_TOLERANCE
            lower = (below < half - slack).sum(axis=0)
            upper = np.minimum((below <= half + slack).sum(axis=0), len(distinct) - 1)
            return np.where(half > 0, (distinct[lower] + distinct[upper]) / 2 + self.offset, np.nan)

        return Sums(rows, finish)


@dataclass(frozen=True, eq=False)
class _Combined(Statistic):
    """A statistic of other statistics.

    Attributes:
        of: The others.
    """

    of: tuple[Statistic, ...]

    def used(self, items: int) -> Bools:
        """Return which of the items count for any of the others."""
        return np.logical_or.reduce([part.used(items) for part in self.of])

    def sums(self, models: Sequence[Values]) -> Sums:
        """Return the sums of the others, one after another."""
        parts = [part.sums(models) for part in self.of]
        ends = np.cumsum([part.rows[0].shape[0] for part in parts])[:-1]
        rows = tuple(sparse.vstack([part.rows[model] for part in parts], format="csr") for model in range(len(models)))

        def finish(sums: Floats) -> Floats:
            split = zip(parts, np.split(sums, ends), strict=True)
            return self._combine(np.stack([part.finish(own) for part, own in split]))

        return Sums(rows, finish)

    @abstractmethod
    def _combine(self, numbers: Floats) -> Floats:
        """Take numbers (others, draws) to (draws,)."""


@dataclass(frozen=True, eq=False)
class Average(_Combined):
    """Unweighted mean of other statistics, for example over the parts of a benchmark.

    One that has no item in a draw drops out of that draw's mean.
    """

    _KIND = "mean of parts"

    def _combine(self, numbers: Floats) -> Floats:
        return _mean_of_known(numbers)

    def contributions(self, values: Values) -> Floats | None:
        """Return each item's share, where the others have one."""
        parts = [part.contributions(values) for part in self.of]
        known = [part for part in parts if part is not None]
        return sum(known, np.zeros_like(known[0])) / len(parts) if len(known) == len(parts) else None


@dataclass(frozen=True, eq=False)
class GeometricMean(_Combined):
    """Geometric mean of other statistics that are not negative; 0 if one of them is 0."""

    _KIND = "geometric mean"

    def _combine(self, numbers: Floats) -> Floats:
        return np.asarray(np.prod(numbers ** (1 / len(numbers)), axis=0))


def _array(values: Values, key: str) -> Floats:
    return np.asarray(values[key] if isinstance(values, Mapping) else values, dtype=np.float64)


def _weights(weights: npt.ArrayLike | None, items: int) -> Floats:
    return np.ones(items) if weights is None else np.asarray(weights, dtype=np.float64)


def _mean_of_known(numbers: Floats) -> Floats:
    """Return the mean over the first axis of what is not NaN; NaN where nothing is."""
    known = ~np.isnan(numbers)
    total, count = np.where(known, numbers, 0.0).sum(axis=0), known.sum(axis=0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
