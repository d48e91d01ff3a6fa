"""What each video of a submission scores, by every measure and at every overlap."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from figclip_cli.evaluate.datasets.dense_captions import DenseCaptions
from figclip_cli.evaluate.datasets.dense_submissions import Proposals, Submission
from figclip_cli.evaluate.dense_captioning.stories import SODA, soda_of_videos
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions
from figclip_cli.evaluate.metrics.bleu import bleu_counts, corpus_bleu
from figclip_cli.evaluate.metrics.cider import cider_in_groups
from figclip_cli.evaluate.metrics.meteor import Meteor
from figclip_cli.evaluate.metrics.ptb import ptb_all, ptb_words
from figclip_cli.evaluate.metrics.rouge import rouge_l
from figclip_cli.evaluate.metrics.segments import found, pairs, temporal_iou
from figclip_cli.reporting import Reporter

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
GARBAGE = "abc123!@#"
GARBAGE_LETTERS = (10, 20)
GARBAGE_SEED = 0
BLEU = tuple(f"BLEU-{order}" for order in range(1, 5))
HAS_PROPOSALS = "has proposals"
NOTHING = Proposals(np.zeros((0, 2)), ())


def key_of(measure: str, threshold: float) -> str:
    """Return the name of a measure's values at an overlap."""
    return f"{measure}@{threshold:g}"


@dataclass(frozen=True, eq=False)
class VideoReferences:
    """The references of one video.

    Attributes:
        segments: For each set that has the video, (events, 2) seconds.
        words: For each set, the sentences as words.
    """

    segments: tuple[Floats, ...]
    words: tuple[tuple[str, ...], ...]

    @property
    def flat(self) -> tuple[str, ...]:
        """All sentences, set after set."""
        return tuple(word for one in self.words for word in one)


def references_of(sets: Sequence[DenseCaptions]) -> dict[str, VideoReferences]:
    """Return the references of every video that a set has, in the order in which the sets name them first."""
    videos = list(dict.fromkeys(name for one in sets for name in one.videos))
    made = {}
    for name in videos:
        own = [one.videos[name] for one in sets if name in one.videos]
        words = tuple(tuple(ptb_all(video.sentences)) for video in own)
        made[name] = VideoReferences(tuple(video.segments_seconds for video in own), words)
    return made


class SubmissionScores:
    """Scores of one submission.

    Args:
        submission: With the references' video ids.
        references: Of every video.

    Attributes:
        values: By name, (videos,) float64 from 0 to 1, CIDEr to 10, in the order of the references. A video without
            proposals has 0 everywhere.
    """

    def __init__(
        self, submission: Submission, references: Mapping[str, VideoReferences], options: DenseCaptioningOptions
    ) -> None:
        self._references, self._options = list(references.values()), options
        self._names = list(references)
        proposals = [submission.videos.get(name, NOTHING) for name in references]
        self._words = [ptb_all(one.sentences) for one in proposals]
        self._proposals = proposals
        self._overlaps = [
            [temporal_iou(one.segments_seconds, segments) for segments in own.segments]
            for one, own in zip(proposals, self._references, strict=True)
        ]
        there = np.array([bool(one.sentences) for one in proposals])
        self.values: dict[str, Floats] = {HAS_PROPOSALS: there.astype(np.float64)}
        self._find()
        self._pairs = {threshold: self._paired(threshold) for threshold in options.thresholds}

    def pairs(self, threshold: float) -> tuple[list[str], list[str], Ints]:
        """Return hypothesis, reference and video of each pair that is compared at an overlap, in words."""
        return self._pairs[threshold]

    def _find(self) -> None:
        thresholds = self._options.thresholds
        made = [found(overlaps, thresholds) for overlaps in self._overlaps]
        for column, threshold in enumerate(thresholds):
            self.values[key_of("recall", threshold)] = np.array([float(one.recall[column]) for one in made])
            self.values[key_of("precision", threshold)] = np.array([float(one.precision[column]) for one in made])

    def _paired(self, threshold: float) -> tuple[list[str], list[str], Ints]:
        """Return hypotheses, references and the video of each pair."""
        hypotheses, references, videos = [], [], []
        for number, (words, own, overlaps) in enumerate(
            zip(self._words, self._references, self._overlaps, strict=True)
        ):
            if not words:
                continue
            texts = own.flat
            for proposal, reference in pairs(overlaps, threshold).tolist():
                hypotheses.append(words[proposal])
                references.append(texts[reference] if reference >= 0 else self._garbage(number, proposal))
                videos.append(number)
        return hypotheses, references, np.array(videos, dtype=np.int64)

    def _garbage(self, video: int, proposal: int) -> str:
        if self._options.variant == "2018":
            return _CONSTANT_GARBAGE
        return random_garbage(self._names[video], proposal)

    def add_words(self) -> None:
        """Add CIDEr, BLEU and, where asked for, ROUGE-L at every overlap."""
        for threshold, (hypotheses, references, videos) in self._pairs.items():
            lists = [[reference] for reference in references]
            scores = cider_in_groups(hypotheses, lists, videos)
            self.values[key_of("CIDEr", threshold)] = self._means(scores, videos)
            bleu = self._bleu(hypotheses, lists, videos)
            self.values |= {key_of(name, threshold): bleu[:, order] for order, name in enumerate(BLEU)}
            if self._options.rouge:
                scores = rouge_l(hypotheses, lists)
                self.values[key_of("ROUGE-L", threshold)] = self._means(scores, videos)

    def _means(self, scores: Floats, videos: Ints) -> Floats:
        count = np.bincount(videos, minlength=len(self._names))
        return np.asarray(np.bincount(videos, scores, minlength=len(self._names)) / np.maximum(1, count))

    def _bleu(self, hypotheses: list[str], references: list[list[str]], videos: Ints) -> Floats:
        """Return BLEU-1 to 4 of each video's pairs together, (videos, 4); 0 where there is no pair."""
        made = np.zeros((len(self._names), len(BLEU)))
        own, rows = np.unique(videos, return_inverse=True)
        made[own] = corpus_bleu(bleu_counts(hypotheses, references), rows)
        return made

    def add_meteor(self, meteor: Meteor) -> None:
        """Add METEOR at every overlap: of a video's pairs together."""
        for threshold, (hypotheses, references, videos) in self._pairs.items():
            groups: dict[int, list[tuple[str, str]]] = {}
            for hypothesis, reference, video in zip(hypotheses, references, videos.tolist(), strict=True):
                groups.setdefault(video, []).append((hypothesis, reference))
            made = np.zeros(len(self._names))
            made[list(groups)] = meteor.of_groups(list(groups.values()))
            self.values[key_of("METEOR", threshold)] = made

    def add_soda(self, meteor: Meteor) -> None:
        """Add F1, precision and recall of SODA_c."""
        told = [(one.segments_seconds, words) for one, words in zip(self._proposals, self._words, strict=True)]
        sets = [list(zip(own.segments, own.words, strict=True)) for own in self._references]
        made = soda_of_videos(told, sets, meteor, self._options)
        self.values |= {name: made[:, column] for column, name in enumerate(SODA)}


def random_garbage(video: str, proposal: int) -> str:
    """Return 10 to 20 random letters, always the same for a proposal of a video."""
    generator = random.Random(f"{GARBAGE_SEED} {video} {proposal}")
    return "".join(generator.choices("abcdefghijklmnopqrstuvwxyz", k=generator.randint(*GARBAGE_LETTERS)))


_CONSTANT_GARBAGE = ptb_words(GARBAGE)


def score_submissions(
    submissions: Mapping[str, Submission],
    references: Mapping[str, VideoReferences],
    options: DenseCaptioningOptions,
    *,
    with_meteor: bool,
    reporter: Reporter,
) -> dict[str, dict[str, Floats]]:
    """Return the values of each submission; see :class:`SubmissionScores`.

    Raises:
        InputError: METEOR is asked for and cannot be computed.
        MachineError: METEOR ended early.
    """
    made = {model: SubmissionScores(submission, references, options) for model, submission in submissions.items()}
    with ExitStack() as stack:
        # It takes a quarter of a minute to start, during which the others are computed.
        meteor = stack.enter_context(Meteor(reporter)) if with_meteor else None
        for model, scores in made.items():
            scores.add_words()
            if meteor is not None:
                reporter.detail(f"METEOR and SODA_c of {submissions[model].name}")
                scores.add_meteor(meteor)
                scores.add_soda(meteor)
    return {model: scores.values for model, scores in made.items()}
