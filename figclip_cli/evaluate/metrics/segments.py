"""Segments of time: how far they overlap, and what of the references is found.

Definitions are those of ranjaykrishna/densevid_eval (2018) and its port in ttengwang/PDVC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TIOUS = (0.3, 0.5, 0.7, 0.9)
_SLACK_SECONDS = 1e-8  # the original adds it to the union, so no overlap is exactly 1


@dataclass(frozen=True)
class Found:
    """What of one video is found, (thresholds,) float64 each.

    Attributes:
        recall: Share of the references that a proposal overlaps, of the set of references where it is largest.
        precision: Share of the proposals that overlap a reference, of the set where it is largest.
    """

    recall: Floats
    precision: Floats


def temporal_iou(proposals: Floats, references: Floats) -> Floats:
    """Return the overlap of each proposal with each reference, over their union.

    The union is the smaller of the hull and the sum of lengths, plus 1e-8 seconds. A segment whose start is not
    before its end overlaps nothing. The order of the additions is the original's, so that overlaps on a threshold
    fall on the same side.

    Args:
        proposals: (n, 2) start and end in seconds.
        references: (m, 2) start and end in seconds.

    Returns:
        (n, m) float64 from 0 to 1.
    """
    start_i, end_i = proposals[:, None, 0], proposals[:, None, 1]
    start, end = references[None, :, 0], references[None, :, 1]
    intersection = np.maximum(0.0, np.minimum(end, end_i) - np.maximum(start, start_i))
    hull = np.maximum(end, end_i) - np.minimum(start, start_i)
    union = np.minimum(hull, end - start + end_i - start_i) + _SLACK_SECONDS
    # Of two segments that run backwards the union may be 0 or less, where the intersection is 0.
    return np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)


def found(overlaps: Sequence[Floats], thresholds: Sequence[float]) -> Found:
    """Return recall and precision of one video's proposals, the better of the sets of references each.

    An overlap counts where it is larger than the threshold, while captions are paired where it is at least that.

    Args:
        overlaps: For each set of references, (proposals, references) as :func:`temporal_iou` gives them.
    """
    recall, precision = np.zeros(len(thresholds)), np.zeros(len(thresholds))
    levels = np.asarray(thresholds, dtype=np.float64)[:, None, None]
    for overlap in overlaps:
        over = overlap[None] > levels
        if overlap.size:
            recall = np.maximum(recall, over.any(axis=1).mean(axis=1))
            precision = np.maximum(precision, over.any(axis=2).mean(axis=1))
    return Found(recall, precision)


def pairs(overlaps: Sequence[Floats], threshold: float) -> npt.NDArray[np.int64]:
    """Return which proposal is compared with which reference, sorted by both.

    A proposal is paired with every reference of every set that it overlaps by at least the threshold; one that
    overlaps none has a single pair with reference -1.

    Args:
        overlaps: For each set of references, (proposals, references).

    Returns:
        (pairs, 2) int64: number of the proposal; number of the reference, counted through the sets, or -1.
    """
    matched = np.concatenate(list(overlaps), axis=1) >= threshold
    # A last column for those without a match, so that one call gives all pairs in order.
    alone = ~matched.any(axis=1, keepdims=True)
    made = np.argwhere(np.concatenate([matched, alone], axis=1)).astype(np.int64)
    made[made[:, 1] == matched.shape[1], 1] = -1
    return made
