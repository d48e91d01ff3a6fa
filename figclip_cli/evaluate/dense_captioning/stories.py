"""SODA_c of the videos of a submission: which sentences METEOR has to compare, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions
from figclip_cli.evaluate.metrics.meteor import Meteor
from figclip_cli.evaluate.metrics.segments import temporal_iou
from figclip_cli.evaluate.metrics.soda import Soda, in_order, soda

Floats = npt.NDArray[np.float64]
Told = tuple[Floats, Sequence[str]]  # segments (n, 2) in seconds, and the words of each
SODA = ("SODA_c", "SODA_c precision", "SODA_c recall")


def soda_of_videos(
    told: Sequence[Told], references: Sequence[Sequence[Told]], meteor: Meteor, options: DenseCaptioningOptions
) -> Floats:
    """Return F1, precision and recall of each video, (videos, 3) from 0 to 1; 0 without proposals.

    With several sets of references, ``merged`` compares with all of them in one list, ``best`` takes the set whose F1
    is largest.

    Args:
        told: Proposals of each video.
        references: Sets of references of each video.
    """
    stories = [_stories(one, own, options) for one, own in zip(told, references, strict=True)]
    scores = iter(meteor.of_pairs([pair for of_video in stories for story in of_video for pair in story.pairs]))
    made = np.zeros((len(told), len(SODA)))
    for row, of_video in enumerate(stories):
        found = [story.score([next(scores) for _ in story.pairs]) for story in of_video]
        if found:
            best = max(found, key=lambda one: one.f1)
            made[row] = best.f1, best.precision, best.recall
    return made


@dataclass(frozen=True, eq=False)
class _Story:
    """Proposals and references of a video in order.

    Attributes:
        overlap: (proposals, references).
        pairs: Hypothesis and reference of METEOR, of each pair that overlaps, row by row.
    """

    overlap: Floats
    pairs: list[tuple[str, str]]

    def score(self, similarities: Sequence[float]) -> Soda:
        worth = np.zeros_like(self.overlap)
        worth[self.overlap > 0] = similarities
        return soda(worth * self.overlap)


def _stories(told: Told, sets: Sequence[Told], options: DenseCaptioningOptions) -> list[_Story]:
    """Return what a video's proposals are compared with: all sets of references in one list, or each of them."""
    if not len(told[1]):
        return []
    if options.soda_references == "merged":
        sets = [(np.concatenate([segments for segments, _ in sets]), [one for _, words in sets for one in words])]
    return [_story(told, references, swapped=options.soda_meteor == "swapped") for references in sets]


def _story(told: Told, references: Told, *, swapped: bool) -> _Story:
    (segments, words), (own_segments, own_words) = told, references
    rows, columns = in_order(segments), in_order(own_segments)
    overlap = temporal_iou(segments[rows], own_segments[columns])
    pairs = [(words[rows[row]], own_words[columns[column]]) for row, column in np.argwhere(overlap > 0)]
    return _Story(overlap, [(reference, said) for said, reference in pairs] if swapped else pairs)
