"""Numbers of dense captioning: each measure's mean over overlaps, at every overlap, and video by video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]

from figclip_cli.evaluate.datasets.dense_captions import DenseCaptions
from figclip_cli.evaluate.datasets.dense_submissions import Submission
from figclip_cli.evaluate.dense_captioning.scores import BLEU, HAS_PROPOSALS, SODA, key_of
from figclip_cli.evaluate.evaluation import BOOTSTRAP_SEED
from figclip_cli.evaluate.metrics.statistics import PERCENT, Average, Mean, Statistic, Sums, Values
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.samples import Outcome, Sample

Floats = npt.NDArray[np.float64]
AT_OVERLAPS = ("CIDEr", "METEOR", *BLEU, "ROUGE-L", "recall", "precision")
# Of a video's CIDEr, in points: published models score about as much on ActivityNet Captions (PDVC: 31.14).
RIGHT_CIDER = 30.0
RIGHT = f"right: CIDEr of the video, mean over overlaps, at least {RIGHT_CIDER:g}; margin: CIDEr - {RIGHT_CIDER:g}"


@dataclass(frozen=True, eq=False)
class MeanOfThose(Statistic):
    """``scale`` times the mean over those items that a model has, which need not be the same for both models.

    Attributes:
        scale: 100 for percent.
        key: Which array of the values.
        there: Which array says, with 1 or 0, what the model has.
        counted: (items,) which of them some model has.
    """

    scale: float
    key: str
    there: str
    counted: npt.NDArray[np.bool_]
    _KIND = "mean over videos with proposals"

    def used(self, items: int) -> npt.NDArray[np.bool_]:
        """Return which items some model has."""
        assert len(self.counted) == items
        return self.counted

    def sums(self, models: Sequence[Values]) -> Sums:
        """Return sums (2, items): of the values of those that are there, and of how many are."""
        rows = []
        for values in models:
            assert isinstance(values, Mapping)
            there = np.asarray(values[self.there], dtype=np.float64)
            rows.append(sparse.csr_matrix(np.stack([there * values[self.key], there])))

        def finish(sums: Floats) -> Floats:
            top, bottom = sums
            made = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
            return np.asarray(self.scale * made)

        return Sums(tuple(rows), finish)


class DenseNumbers:
    """The items, a video of the references each, and the numbers made of them.

    Args:
        sets: The sets of references, for the samples' texts.
        submissions: By model.
        values: By model, the values of each video by name.
        thresholds: The overlaps.
        soda_of_all: Whether a video without proposals counts 0 for SODA_c, or not at all.
    """

    def __init__(
        self,
        sets: Sequence[DenseCaptions],
        submissions: Mapping[str, Submission],
        values: Mapping[str, Mapping[str, Floats]],
        *,
        videos: Sequence[str],
        thresholds: Sequence[float],
        soda_of_all: bool,
    ) -> None:
        self._sets, self._submissions, self._values = sets, submissions, values
        self._videos, self._thresholds, self._soda_of_all = videos, thresholds, soda_of_all
        self.resampling = Resampling(videos, seed=BOOTSTRAP_SEED)

    def metrics(self) -> Iterator[Metric]:
        """Yield each measure's mean over overlaps of its mean over videos, and SODA_c, in percent."""
        for name in self._measured():
            statistic = Average(tuple(Mean(PERCENT, key=key_of(name, one)) for one in self._thresholds))
            yield measure(name, statistic, self._values, self.resampling)
        some = next(iter(self._values.values()))
        for name in SODA:
            if name in some:
                yield measure(name, self._soda(name), self._values, self.resampling)

    def groups(self) -> Iterator[Metric]:
        """Yield each measure's mean over videos at every overlap, in percent."""
        for name in self._measured():
            for one in self._thresholds:
                mean = Mean(PERCENT, key=key_of(name, one))
                yield measure(name, mean, self._values, self.resampling, group=f"tIoU {one:g}")

    def samples(self) -> Iterator[Sample]:
        """Yield each video, with the sentences of the references and what every model says."""
        scores = {model: self._cider(values) for model, values in self._values.items()}
        for row, video in enumerate(self._videos):
            outcomes = {
                model: self._outcome(submission, video, float(scores[model][row]))
                for model, submission in self._submissions.items()
            }
            own = next(one.videos[video] for one in self._sets if video in one.videos)
            yield Sample(id=video, look=video, text=" ".join(own.sentences), outcomes=outcomes)

    def _measured(self) -> list[str]:
        some = next(iter(self._values.values()))
        return [name for name in AT_OVERLAPS if key_of(name, self._thresholds[0]) in some]

    def _soda(self, name: str) -> Statistic:
        everywhere = all(bool(values[HAS_PROPOSALS].all()) for values in self._values.values())
        if self._soda_of_all or everywhere:  # a plain mean has a paired test of its own
            return Mean(PERCENT, key=name)
        counted = np.any([values[HAS_PROPOSALS] > 0 for values in self._values.values()], axis=0)
        return MeanOfThose(PERCENT, name, HAS_PROPOSALS, counted)

    def _cider(self, values: Mapping[str, Floats]) -> Floats:
        return np.asarray(PERCENT * np.mean([values[key_of("CIDEr", one)] for one in self._thresholds], axis=0))

    def _outcome(self, submission: Submission, video: str, score: float) -> Outcome:
        proposals = submission.videos.get(video)
        said = " ".join(proposals.sentences) if proposals else ""
        return Outcome(right=score >= RIGHT_CIDER, margin=score - RIGHT_CIDER, chosen=said)
