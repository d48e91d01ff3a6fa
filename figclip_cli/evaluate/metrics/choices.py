"""Accuracy of choices between texts, with ties counted and the tie rule explicit.

Everything comes as a value per item and a weight per item, so that a bootstrap can weigh anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.datasets.choices import PartRule
from figclip_cli.evaluate.metrics.statistics import PERCENT, Mean

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """What became of n items.

    Attributes:
        strict: (n,) bool, right where a tie is wrong.
        lenient: (n,) bool, right where a tie is right.
        margin: (n,) float64, right score minus the best wrong one; of several comparisons the least.
    """

    strict: Bools
    lenient: Bools
    margin: Floats

    @property
    def tied(self) -> Bools:
        """(n,) bool: the tie rule decides."""
        return self.lenient & ~self.strict

    def right(self, ties: str) -> Bools:
        """Return (n,) bool under the rule ``strict`` or ``lenient``."""
        return self.strict if ties == "strict" else self.lenient


def _outcomes(margin: Floats) -> Outcomes:
    return Outcomes(margin > 0, margin >= 0, margin)


def _finite(scores: npt.NDArray[np.float32]) -> Floats:
    """Return scores as float64, in which the difference of two float32 is zero only if they are equal."""
    if not np.isfinite(scores).all():
        raise VerificationError("a score is not finite", "check the model and the images with `figclip doctor`")
    return scores.astype(np.float64)


def choice_outcomes(scores: Sequence[npt.NDArray[np.float32]]) -> Outcomes:
    """Compare each item's right text with its best wrong one.

    Args:
        scores: Per item a (texts,) float32 array of at least two, the right text first.

    Raises:
        VerificationError: A score is not finite.
    """
    if not scores:
        return _outcomes(np.empty(0))
    counts = np.array([len(row) for row in scores])
    if counts.min() < 2:
        raise ValueError("an item has no wrong text")
    flat = _finite(np.concatenate(scores))
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    own = flat[starts]
    flat[starts] = -np.inf
    return _outcomes(own - np.maximum.reduceat(flat, starts))


def winoground_outcomes(scores: npt.NDArray[np.float32]) -> dict[str, Outcomes]:
    """Compute Winoground's ``text``, ``image`` and ``group`` outcomes.

    ``text``: for both images the right text scores higher; ``image``: for both texts the right image does; ``group``:
    both. A tie in one comparison decides only where the other is not lost (Thrush et al., 2022, use the strict rule).

    Args:
        scores: (n, 2, 2) float32, texts by images; text 0 is right for image 0, text 1 for image 1.

    Raises:
        VerificationError: A score is not finite.
    """
    exact = _finite(scores)
    right0, right1, text1_image0, text0_image1 = exact[:, 0, 0], exact[:, 1, 1], exact[:, 1, 0], exact[:, 0, 1]
    text = np.minimum(right0 - text1_image0, right1 - text0_image1)
    image = np.minimum(right0 - text0_image1, right1 - text1_image0)
    margins = {"text": text, "image": image, "group": np.minimum(text, image)}
    return {name: _outcomes(margin) for name, margin in margins.items()}


def _counted(rule: PartRule, groups: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return (n,) number of each item's group, -1 where it does not count."""
    names, group_of, sizes = np.unique(np.array(groups, dtype=object), return_inverse=True, return_counts=True)
    keep = np.array([name not in rule.dropped_groups for name in names], dtype=bool) & (sizes >= rule.min_group_items)
    if not keep.any():
        least = f", or has fewer than {rule.min_group_items} items" if rule.min_group_items else ""
        raise InputError(
            f"none of {len(names)} groups counts: each is left out by the rule{least}", "use the whole set"
        )
    return np.where(keep, np.arange(len(names)), -1)[group_of.reshape(-1)]


def part_statistic(
    rule: PartRule, groups: Sequence[str], rows: npt.NDArray[np.int64], items: int, *, key: str = ""
) -> Mean:
    """Return a part's headline accuracy, in percent, as a statistic of all items of a benchmark.

    Args:
        groups: Group of each of the part's items.
        rows: (n,) where these are among all items.
        items: Number of all items.
        key: Which array of the values, where they have several.

    Raises:
        InputError: No group counts.
    """
    numbers = np.full(items, -1)
    numbers[rows] = _counted(rule, groups)
    if rule.headline == "macro":
        return Mean(PERCENT, groups=numbers, key=key)
    return Mean(PERCENT, weights=(numbers >= 0).astype(np.float64), key=key)
