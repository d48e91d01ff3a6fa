"""Retrieval metrics from scores, with ties counted and the tie rule explicit.

Ranks are 0-based: the number of wrong items that score higher, plus a share of those that score the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ties = Literal["average", "optimistic", "pessimistic"]
MultiCaption = Literal["max-per-video", "min-rank"]
TIES: tuple[str, ...] = get_args(Ties)
MULTI_CAPTION: tuple[str, ...] = get_args(MultiCaption)
RECALL_AT = (1, 5, 10)

_SHARE_OF_TIES = {"average": 0.5, "optimistic": 0.0, "pessimistic": 1.0}
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class Ranks:
    """Ranks of the queries of one direction.

    Attributes:
        values: (n,) float64, 0-based; fractional only under ``average``.
        tied_queries: Queries whose right item scores the same as a wrong one.
        candidates: Size of the gallery that each query was ranked against.
        best_wrong: (n,) int64, the wrong item with the highest score, of several the one with the lowest index; -1
            where there is none. Like the next two None if it was not asked for.
        own_scores: (n,) float32, score of the right item.
        best_wrong_scores: (n,) float32, score of ``best_wrong``; minus infinity where there is none.
    """

    values: Floats
    tied_queries: int
    candidates: int
    best_wrong: npt.NDArray[np.int64] | None = None
    own_scores: npt.NDArray[np.float32] | None = None
    best_wrong_scores: npt.NDArray[np.float32] | None = None


def text_to_video_ranks(scores: npt.NDArray[np.float32], video_of_text: npt.NDArray[np.int64], *, ties: Ties) -> Ranks:
    """Rank each text's own video among all videos.

    Args:
        scores: (texts, videos) float32 similarities.
        video_of_text: (texts,) column of each text's own video.
    """
    own = scores[np.arange(len(scores)), video_of_text][:, None]  # (texts, 1)
    greater, equal = _count(scores, own)
    return make_ranks(greater, equal - 1, ties, scores.shape[1])


def video_to_text_ranks(
    scores: npt.NDArray[np.float32],
    video_of_text: npt.NDArray[np.int64],
    *,
    ties: Ties,
    multi_caption: MultiCaption,
) -> Ranks:
    """Rank each video's own text among the texts; two conventions exist where a video has several.

    ``max-per-video`` reduces the texts of every video to their best score and ranks videos (CLIP4Clip);
    ``min-rank`` ranks the video's best own text among the texts of all other videos (collaborative experts).
    They are equal where each video has one text.

    Args:
        scores: (texts, videos) float32 similarities.
        video_of_text: (texts,) column of each text's own video; every video has at least one text.
    """
    videos = scores.shape[1]
    order = np.argsort(video_of_text, kind="stable")
    starts = np.searchsorted(video_of_text[order], np.arange(videos))
    best = np.maximum.reduceat(scores[order], starts, axis=0)  # (videos as owners of texts, videos as queries)
    own = np.diagonal(best)[:, None]  # (videos, 1)
    if multi_caption == "max-per-video":
        greater, equal = _count(best.T, own)
        return make_ranks(greater, equal - 1, ties, videos)
    greater, equal = _count(scores.T, own)
    own_equal = np.zeros(videos, dtype=np.int64)
    np.add.at(own_equal, video_of_text, scores[np.arange(len(scores)), video_of_text] == own[video_of_text, 0])
    return make_ranks(greater, equal - own_equal, ties, len(scores))


def _count(scores: npt.NDArray[np.float32], own: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int64], ...]:
    """Count, row by row, the scores above and equal to ``own`` (n, 1), in blocks of rows."""
    greater = np.empty(len(scores), dtype=np.int64)
    equal = np.empty(len(scores), dtype=np.int64)
    for start in range(0, len(scores), _BLOCK_ROWS):
        rows = slice(start, start + _BLOCK_ROWS)
        greater[rows] = (scores[rows] > own[rows]).sum(axis=1)
        equal[rows] = (scores[rows] == own[rows]).sum(axis=1)
    return greater, equal


def make_ranks(greater: npt.NDArray[np.int64], tied: npt.NDArray[np.int64], ties: Ties, candidates: int) -> Ranks:
    """Return the ranks of queries from their numbers of wrong items above and at the score of the right one."""
    return Ranks(greater + _SHARE_OF_TIES[ties] * tied, int((tied > 0).sum()), candidates)


def hits(ranks: Floats | np.float64, k: int) -> npt.NDArray[np.bool_]:
    """Return which right items are among the first ``k``: rank 0 exactly for ``k`` = 1, else rank < ``k``.

    Under the ``average`` rule a rank may be fractional: a tie for the first place has rank 0.5 or more, and is no hit
    at 1, as in the collaborative-experts implementation.

    Args:
        ranks: (..., n) 0-based.
    """
    return np.asarray((ranks == 0) if k == 1 else (ranks < k))
