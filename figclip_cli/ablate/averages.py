"""Numbers over seeds, and the rule of thumb by which a setting is taken."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SEEDS, BOOTSTRAP = "seeds", "bootstrap"


@dataclass(frozen=True)
class Estimate:
    """A number with its standard error.

    Attributes:
        value: The number; over several seeds their mean.
        error: Standard error.
        error_of: ``seeds``: the sample deviation over seeds divided by the root of their number; ``bootstrap``: over
            clips, of one seed.
        seeds: How many there are.
    """

    value: float
    error: float
    error_of: str
    seeds: int


def over_seeds(values: Sequence[tuple[float, float]]) -> Estimate:
    """Return the mean over seeds.

    Args:
        values: Of each seed the value with its bootstrap standard error; at least one.
    """
    numbers = [value for value, _ in values]
    if len(numbers) == 1:
        return Estimate(numbers[0], values[0][1], BOOTSTRAP, 1)
    error = statistics.stdev(numbers) / math.sqrt(len(numbers))
    return Estimate(statistics.fmean(numbers), error, SEEDS, len(numbers))


def best_of(estimates: Sequence[Estimate | None], *, higher_is_better: bool) -> int | None:
    """Return the place of the best, the first of equals; None where there is no number."""
    there = [place for place, one in enumerate(estimates) if one is not None]
    if not there:
        return None
    sign = 1 if higher_is_better else -1
    return max(there, key=lambda place: (sign * _of(estimates[place]).value, -place))


def cheapest_near_best(
    estimates: Sequence[Estimate | None], costs: Sequence[float | None], *, higher_is_better: bool
) -> int | None:
    """Return the place of the cheapest setting within one standard error of the best; the first of equals.

    The error is that of the best. A setting without a cost is dearer than all others.
    """
    best = best_of(estimates, higher_is_better=higher_is_better)
    if best is None:
        return None
    sign = 1 if higher_is_better else -1
    top = _of(estimates[best])
    near = [
        place
        for place, one in enumerate(estimates)
        if one is not None and sign * one.value >= sign * top.value - top.error
    ]
    return min(near, key=lambda place: (math.inf if costs[place] is None else costs[place], place))


def _of(estimate: Estimate | None) -> Estimate:
    assert estimate is not None
    return estimate
