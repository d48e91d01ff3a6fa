"""Numbers of predicted event relations: accuracy where two of the three annotators agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.vidsitu import SituationTruth
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS, RELATED_EVENTS, RELATIONS
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions
from figclip_cli.evaluate.metrics.statistics import PERCENT, Floats, Mean
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure, measure_groups
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.samples import Outcome, Sample

_ANNOTATORS, _MAJORITY = 3, 2


class _Item(NamedTuple):
    """An annotator's label of a relation, which is the majority's."""

    clip: int
    event: int  # of RELATED_EVENTS
    column: int
    label: str


class RelationNumbers:
    """Labels that agree with the majority of the first three annotations, in the order of the file; drawn by clip.

    Args:
        truth: With annotations.
        models: Predictions of ``base`` and, where given, ``adapted``; a clip that is missing has no label right.

    Attributes:
        undecided: Relations without a majority, which are left out.
        unscored_labels: Labels that are only on such relations; the official scorer divides by zero there.
        odd_labels: Annotated labels that VidSitu does not have; they are kinds of relation like the others.

    Raises:
        InputError: An event has no relation, a prediction has not one label for each annotation, or nothing is left.
    """

    def __init__(self, truth: SituationTruth, models: Mapping[str, SituationPredictions]) -> None:
        self._truth, self.undecided = truth, 0
        self._items: list[_Item] = []
        labels: set[str] = set()
        for clip in range(len(truth.clip_ids)):
            for event, name in enumerate(RELATED_EVENTS):
                row = self._labels(clip, name)
                label, count = Counter(row).most_common(1)[0]
                labels.add(label)
                if count < _MAJORITY:
                    self.undecided += 1
                    continue
                self._items += [_Item(clip, event, column, label) for column, one in enumerate(row) if one == label]
        self.unscored_labels = sorted(labels - {item.label for item in self._items})
        self.odd_labels = sorted(labels - set(RELATIONS))
        if not self._items:
            raise InputError("no relation has a majority of its annotators: there is none to score", "see annotations")
        self._chosen = {model: self._of_model(model, predictions) for model, predictions in models.items()}
        self._right = {
            model: np.array([float(one == item.label) for one, item in zip(chosen, self._items, strict=True)])
            for model, chosen in self._chosen.items()
        }
        self._label_of = [item.label for item in self._items]
        self.resampling = Resampling([item.clip for item in self._items])

    def _labels(self, clip: int, event: str) -> list[str]:
        row = [annotation[EVENTS.index(event)].relation for annotation in self._truth.annotations[clip][:_ANNOTATORS]]
        if "" in row:
            where = f"annotation {row.index('')} of {self._truth.clip_ids[clip]}"
            raise InputError(f"{where}: {event} has no EvRel", "relations cannot be scored with this annotation file")
        return row

    def _of_model(self, model: str, predictions: SituationPredictions) -> list[str]:
        for clip, rows in enumerate(predictions.relations):
            annotations = min(_ANNOTATORS, len(self._truth.annotations[clip]))
            for name, row in zip(RELATED_EVENTS, rows or (), strict=rows is not None):
                if len(row) != annotations:
                    raise InputError(
                        f"{model} predictions, {self._truth.clip_ids[clip]} (ann_idx {clip}), pred_evrels_ev: "
                        f"{name} has {len(row)} labels, its annotations are {annotations}",
                        "one label for each of the first three annotations",
                    )
        return [
            "" if (rows := predictions.relations[item.clip]) is None else rows[item.event][item.column]
            for item in self._items
        ]

    def metrics(self) -> Iterator[Metric]:
        """Yield the accuracy over labels, and its mean over kinds of relation."""
        yield measure("relation acc@1", Mean(PERCENT), self._right, self.resampling)
        yield measure("relation macro acc@1", self._macro(), self._right, self.resampling)

    def _macro(self, scale: float = PERCENT) -> Mean:
        return Mean(scale, groups=np.unique(np.array(self._label_of), return_inverse=True)[1])

    def groups(self) -> Iterator[Metric]:
        """Yield the accuracy of each kind of relation."""
        yield from measure_groups("relation acc@1", self._right, self.resampling, self._label_of)

    def official(self, model: str) -> dict[str, Any]:
        """Return a model's numbers by their official names, from 0 to 1."""
        right: Floats = self._right[model]
        by_label: dict[str, list[float]] = {}
        for label, one in zip(self._label_of, right.tolist(), strict=True):
            by_label.setdefault(label, []).append(one)
        return {
            "Top_1": float(right.mean()),
            "Len": len(right),
            "Macro_Top_1": self._macro(1.0).number(right),
            "Macro_Top_Dct": {label: sum(ones) / len(ones) for label, ones in by_label.items()},
        }

    def samples(self) -> Iterator[Sample]:
        """Yield each label; the margin is 1 where it is right and -1 where not."""
        for row, item in enumerate(self._items):
            clip_id = self._truth.clip_ids[item.clip]
            outcomes = {}
            for model, chosen in self._chosen.items():
                right = chosen[row] == item.label
                outcomes[model] = Outcome(right=right, margin=1.0 if right else -1.0, chosen=chosen[row])
            id = f"{clip_id} {RELATED_EVENTS[item.event]} annotation {item.column}"
            yield Sample(id=id, part="relations", group=item.label, look=clip_id, text=item.label, outcomes=outcomes)
