"""Numbers of action recognition: of each split, their mean and deviation, and class by class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from figclip_cli.evaluate.datasets.action_sets import ActionClip, ActionSplit
from figclip_cli.evaluate.evaluation import BOOTSTRAP_SEED
from figclip_cli.evaluate.metrics.classification import TOP_K, Classified, over_splits
from figclip_cli.evaluate.metrics.ranking import hits
from figclip_cli.evaluate.metrics.statistics import PERCENT, Average, Mean, Statistic
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure, measure_groups
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.samples import Outcome, Sample

METRIC_NAMES = ("top-1", "top-5", "mean of top-1 and top-5", "per-class mean")


@dataclass(frozen=True)
class ScoredSplit:
    """One split as evaluated.

    Attributes:
        split: As the list has it.
        clips: Those of its clips that are there.
        classified: What each model made of them.
    """

    split: ActionSplit
    clips: tuple[ActionClip, ...]
    classified: dict[str, Classified]


class ActionNumbers:
    """The items, a clip of a split each, and the numbers made of them."""

    def __init__(self, splits: Sequence[ScoredSplit]) -> None:
        self._splits = splits
        self._items = [(number, clip) for number, split in enumerate(splits) for clip in split.clips]
        self._split_of = np.array([number for number, _ in self._items])
        # A clip that is in several splits is drawn once for all of them.
        self.resampling = Resampling([clip.clip_id for _, clip in self._items], seed=BOOTSTRAP_SEED)
        self._models = list(splits[0].classified)
        self._values = {model: self._of_model(model) for model in self._models}

    def _of_model(self, model: str) -> dict[str, npt.NDArray[np.float64]]:
        ranks = np.concatenate([split.classified[model].ranks for split in self._splits])
        return {f"top-{k}": hits(ranks, k).astype(np.float64) for k in TOP_K}

    def tied(self) -> dict[str, int]:
        """Return how many clips each model ties the right class of with a wrong one."""
        return {model: sum(split.classified[model].tied_clips for split in self._splits) for model in self._models}

    def metrics(self) -> Iterator[Metric]:
        """Yield the mean over splits of each number, with the deviation where there are several."""
        for title, of_split in self._statistics().items():
            statistic = of_split[0] if len(of_split) == 1 else Average(tuple(of_split))
            metric = measure(title, statistic, self._values, self.resampling)
            yield self._with_deviation(metric, of_split)

    def groups(self) -> Iterator[Metric]:
        """Yield the numbers of each split where there are several, then top-1 of each class."""
        if len(self._splits) > 1:
            for title, of_split in self._statistics().items():
                for split, statistic in zip(self._splits, of_split, strict=True):
                    yield measure(title, statistic, self._values, self.resampling, group=split.split.name)
        labels = [self._splits[number].split.classes[clip.label] for number, clip in self._items]
        top1 = {model: values["top-1"] for model, values in self._values.items()}
        yield from measure_groups("top-1", top1, self.resampling, labels)

    def samples(self) -> Iterator[Sample]:
        """Yield each clip of each split, with what every model made of it."""
        within = np.concatenate([np.arange(len(split.clips)) for split in self._splits])
        for (number, clip), row in zip(self._items, within, strict=True):
            split = self._splits[number]
            classes = split.split.classes
            outcomes = {model: _outcome(split.classified[model], int(row), classes) for model in self._models}
            name = classes[clip.label]
            part = split.split.name
            yield Sample(id=clip.clip_id, part=part, group=name, look=clip.clip_id, text=name, outcomes=outcomes)

    def _statistics(self) -> dict[str, list[Statistic]]:
        """Return, for each number, its statistic of every split."""
        labels = np.array([clip.label for _, clip in self._items])
        made: dict[str, list[Statistic]] = {name: [] for name in METRIC_NAMES}
        for number in range(len(self._splits)):
            inside = (self._split_of == number).astype(np.float64)
            tops = tuple(Mean(PERCENT, weights=inside, key=f"top-{k}") for k in TOP_K)
            made["top-1"].append(tops[0])
            made["top-5"].append(tops[1])
            made["mean of top-1 and top-5"].append(Average(tops))
            made["per-class mean"].append(Mean(PERCENT, groups=np.where(inside > 0, labels, -1), key="top-1"))
        return made

    def _with_deviation(self, metric: Metric, of_split: Sequence[Statistic]) -> Metric:
        if len(of_split) == 1:
            return metric
        alone: Mapping[str, list[float]] = {
            model: [statistic.number(values) for statistic in of_split] for model, values in self._values.items()
        }
        deviations = [over_splits(alone[model]).deviation for model in self._models]
        base = deviations[0] if len(deviations) == 2 else None
        return replace(metric, deviation=deviations[-1], base_deviation=base)


def _outcome(classified: Classified, row: int, classes: Sequence[str]) -> Outcome:
    rank = float(classified.ranks[row])
    chosen = classes[int(classified.chosen[row])]
    return Outcome(right=rank == 0, margin=float(classified.margins[row]), rank=rank, chosen=chosen)
