"""SODA_c: captions of a video told in order, by Fujita et al., "SODA: Story Oriented Dense Video Captioning Evaluation
Framework", ECCV 2020; written from the definition in the paper.

Predictions and references are put in order of time. Each pair is worth its overlap times the similarity of its
captions. Of all ways to pair them one to one without crossing, the one worth most counts: over the number of
predictions it is the precision, over that of the references the recall.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Soda(NamedTuple):
    """SODA of one video, from 0 to 1."""

    precision: float
    recall: float
    f1: float


def in_order(segments: Floats) -> npt.NDArray[np.int64]:
    """Return the places of segments (n, 2) in order of start, then of end, then of place."""
    return np.lexsort((segments[:, 1], segments[:, 0])).astype(np.int64)


def best_sum(worth: Floats) -> float:
    """Return the largest sum of a pairing that does not cross: of row i with column j, then of later rows and columns.

    Args:
        worth: (predictions, references), both in order, not negative.
    """
    best = np.zeros(worth.shape[1] + 1)  # of the rows so far, with the first so many columns
    for row in worth:
        taken = best[:-1] + row
        best[1:] = np.maximum.accumulate(np.maximum(best[1:], taken))
    return float(best[-1])


def soda(worth: Floats) -> Soda:
    """Return SODA of one video from the worth of each pair, (predictions, references), both in order.

    A video without predictions or without references has 0.
    """
    predictions, references = worth.shape
    if not (predictions and references):
        return Soda(0.0, 0.0, 0.0)
    total = best_sum(worth)
    precision, recall = total / predictions, total / references
    both = precision + recall
    return Soda(precision, recall, 2 * precision * recall / both if both > 0 else 0.0)
