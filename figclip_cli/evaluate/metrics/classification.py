"""Classification metrics from exact scores, with ties counted and the tie rule explicit."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.metrics.exact_scores import exact_product, make_block
from figclip_cli.evaluate.metrics.ranking import Floats, Ties, text_to_video_ranks

Integers = npt.NDArray[np.int64]
TOP_K = (1, 5)

_BLOCK_ROWS = 512


@dataclass(frozen=True)
class Classified:
    """What a model says of each clip.

    Attributes:
        labels: (n,) int64, index of the right class.
        ranks: (n,) float64, 0-based rank of the right class; fractional only under ``average``.
        tied: (n,) int64, wrong classes that score the same as the right one.
        chosen: (n,) int64, the right class where it has rank 0, else the wrong class of the best score, the lowest
            index of several.
        margins: (n,) float64, score of the right class minus the best score of a wrong one.
        classes: Number of classes that compete.
    """

    labels: Integers
    ranks: Floats
    tied: Integers
    chosen: Integers
    margins: Floats
    classes: int

    @property
    def tied_clips(self) -> int:
        """Clips whose right class scores the same as a wrong one."""
        return int((self.tied > 0).sum())


@dataclass(frozen=True)
class OverSplits:
    """One metric over several splits.

    Attributes:
        mean: Mean over splits.
        deviation: Sample standard deviation over splits (n - 1 in the denominator), or None for a single split.
        splits: Number of splits.
    """

    mean: float
    deviation: float | None
    splits: int


def score_matrix(videos: npt.NDArray[np.float32], classes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return exact dot products rounded to float32, in blocks of rows.

    See :mod:`figclip_cli.evaluate.metrics.exact_scores`: equal features tie, whatever is computed beside them.

    Args:
        videos: (N, D) features.
        classes: (C, D) features.

    Returns:
        (N, C) float32.
    """
    columns = make_block(torch.from_numpy(classes))
    scores = torch.empty(len(videos), len(classes))
    for start in range(0, len(videos), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        exact_product(make_block(torch.from_numpy(videos[rows])), columns, scores[rows])
    return scores.numpy()


def classify(scores: npt.NDArray[np.float32], labels: Integers, *, ties: Ties) -> Classified:
    """Rank the right class of each clip among all classes.

    Args:
        scores: (clips, classes) float32.
        labels: (clips,) int64, index of the right class.
        ties: What a wrong class with the same score counts.

    Raises:
        InputError: There is no clip, or there are fewer than two classes.
        ValueError: A label is no index of a class, or the shapes differ.
        VerificationError: A score is not finite.
    """
    clips, classes = scores.shape
    if clips == 0 or classes < 2:
        raise InputError(f"{clips} clips of {classes} classes", "classification needs a clip and two classes")
    if labels.shape != (clips,) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels {labels.shape} do not fit scores {scores.shape}")
    if not np.isfinite(scores).all():
        raise VerificationError("a score of a clip is not finite", "the features of a model are damaged")
    ranks = text_to_video_ranks(scores, labels, ties=ties).values
    tied, margins, best_wrong = _wrong_classes(scores, labels)
    return Classified(labels, ranks, tied, np.where(ranks == 0, labels, best_wrong), margins, classes)


def _wrong_classes(scores: npt.NDArray[np.float32], labels: Integers) -> tuple[Integers, Floats, Integers]:
    """Return how many wrong classes tie with the right one, the margin over the best wrong one, and which that is."""
    tied, best = np.empty(len(scores), dtype=np.int64), np.empty(len(scores), dtype=np.int64)
    margins = np.empty(len(scores), dtype=np.float64)
    for start in range(0, len(scores), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        block = scores[rows].astype(np.float64)
        at = np.arange(len(block)), labels[rows]
        right = block[at]
        tied[rows] = (block == right[:, None]).sum(axis=1) - 1
        block[at] = -np.inf
        margins[rows] = right - block.max(axis=1)
        best[rows] = block.argmax(axis=1)
    return tied, margins, best


def over_splits(values: Sequence[float]) -> OverSplits:
    """Return mean and sample standard deviation (n - 1) of one metric's values, one per split.

    Raises:
        ValueError: There are no values.
    """
    if not values:
        raise ValueError("no splits")
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return OverSplits(statistics.fmean(values), deviation, len(values))
