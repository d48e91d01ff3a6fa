"""Numbers of predicted verbs: accuracy among the annotators' verbs, and recall of the verbs that several name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from figclip_cli.evaluate.datasets.common import quoted
from figclip_cli.evaluate.datasets.vidsitu import SituationTruth
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions
from figclip_cli.evaluate.metrics.statistics import PERCENT, Floats, Mean, Statistic
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.samples import Outcome, Sample

TOP = range(1, 6)
_MOST = max(TOP)
_FEWEST_ANNOTATORS = 2
THRESHOLDS = range(10)
HEADLINE_THRESHOLD = 9  # Rec@5 is over verbs in more than 9 events


class VerbNumbers:
    """Events, and pairs of an event and a verb that two annotators or more name; drawn by clip.

    Args:
        truth: With the annotators' verbs.
        models: Predictions of ``base`` and, where given, ``adapted``; a clip that is missing has no verb right.
    """

    def __init__(self, truth: SituationTruth, models: Mapping[str, SituationPredictions]) -> None:
        self._truth = truth
        self._events = [(clip, event) for clip in range(len(truth.clip_ids)) for event in range(len(EVENTS))]
        self._pairs = [
            (row, verb)
            for row, (clip, event) in enumerate(self._events)
            for verb, count in Counter(truth.verb_votes[clip][event]).items()
            if count >= _FEWEST_ANNOTATORS
        ]
        verbs = Counter(verb for _, verb in self._pairs)
        self._verb_number = {verb: number for number, verb in enumerate(verbs)}
        self._events_of_verb = np.array([verbs[verb] for _, verb in self._pairs], dtype=np.int64)
        self._events_of_verbs = np.array(list(verbs.values()), dtype=np.int64)
        self._predicted = {model: self._of_model(predictions) for model, predictions in models.items()}
        self._ranks = {model: self._ranked(rows) for model, rows in self._predicted.items()}
        self._by_event = {model: _tops(ranks) for model, ranks in self._ranks.items()}
        worst = {model: ranks.reshape(-1, len(EVENTS)).max(axis=1) for model, ranks in self._ranks.items()}
        self._by_clip = {model: _tops(ranks) for model, ranks in worst.items()}
        self._hits = {model: self._hit(rows) for model, rows in self._predicted.items()}
        self.resampling = Resampling([clip for clip, _ in self._events])
        self._of_clips = Resampling(range(len(truth.clip_ids)))
        self._of_pairs = Resampling([self._events[row][0] for row, _ in self._pairs])

    def _of_model(self, predictions: SituationPredictions) -> list[tuple[str, ...]]:
        """Return the five best verbs of every event."""
        nothing = ((),) * len(EVENTS)
        return [row[:_MOST] for of_clip in predictions.verbs for row in (of_clip or nothing)]

    def _ranked(self, rows: list[tuple[str, ...]]) -> Floats:
        """Return the place of the first verb that an annotator names, (events,); 5 where there is none."""
        ranks = np.full(len(rows), float(_MOST))
        for number, ((clip, event), row) in enumerate(zip(self._events, rows, strict=True)):
            named = set(self._truth.verb_votes[clip][event])
            ranks[number] = next((place for place, verb in enumerate(row) if verb in named), _MOST)
        return ranks

    def _hit(self, rows: list[tuple[str, ...]]) -> Floats:
        return np.array([float(verb in rows[row]) for row, verb in self._pairs])

    def notes(self) -> list[str]:
        """Return what may be wrong with the predictions: senses that nobody named anywhere, events with few verbs."""
        made, named = [], {verb for of_clip in self._truth.verb_votes for votes in of_clip for verb in votes}
        for model, rows in self._predicted.items():
            if not any(verb in named for row in rows for verb in row):
                example = next((verb for row in rows for verb in row), "")
                made.append(
                    f"{model}: not one predicted verb is a sense that annotators name, such as {quoted(example)}"
                )
            few = sum(0 < len(row) < _MOST for row in rows)
            if few:
                made.append(f"{model}: events with fewer than {_MOST} predicted verbs: {few}")
        return made

    def metrics(self) -> Iterator[Metric]:
        """Yield acc@1 to acc@5 of events and of whole clips, and Rec@5 where a verb is in enough events."""
        for k in TOP:
            yield measure(f"verb acc@{k}", Mean(PERCENT, key=f"top-{k}"), self._by_event, self.resampling)
        if self.scored_verbs(HEADLINE_THRESHOLD):
            yield self._recall("verb Rec@5", HEADLINE_THRESHOLD, "")
        for k in TOP:
            statistic = Mean(PERCENT, key=f"top-{k}")
            yield measure(f"all five verbs acc@{k}", statistic, self._by_clip, self._of_clips)

    def groups(self) -> Iterator[Metric]:
        """Yield the recall over verbs in more events than each threshold."""
        for threshold in THRESHOLDS:
            if self.scored_verbs(threshold):
                yield self._recall("verb Rec@5", threshold, f"verbs in more than {threshold} events")

    def scored_verbs(self, threshold: int) -> int:
        """Return how many verbs two annotators or more name in more than so many events."""
        return int((self._events_of_verbs > threshold).sum())

    def _recall(self, name: str, threshold: int, group: str) -> Metric:
        return measure(name, self._recall_statistic(threshold), self._hits, self._of_pairs, group=group)

    def _recall_statistic(self, threshold: int, scale: float = PERCENT) -> Statistic:
        numbers = np.array([self._verb_number[verb] for _, verb in self._pairs], dtype=np.int64)
        return Mean(scale, groups=np.where(self._events_of_verb > threshold, numbers, -1))

    def official(self, model: str) -> dict[str, float]:
        """Return a model's numbers by their official names, from 0 to 1."""
        scores = {f"Per_Ev_Top_{k}": float(self._by_event[model][f"top-{k}"].mean()) for k in TOP}
        scores |= {f"Per_Vid_Top_{k}": float(self._by_clip[model][f"top-{k}"].mean()) for k in TOP}
        scores["acc"] = scores[f"Per_Ev_Top_{_MOST}"]
        for threshold in THRESHOLDS:
            verbs = self.scored_verbs(threshold)
            recall = self._recall_statistic(threshold, 1.0).number(self._hits[model]) if verbs else 0.0
            scores[f"recall_macro_1_th_{threshold}"] = recall
            scores[f"num_vbs_thresh_{threshold}"] = float(verbs)
        return scores

    def within(self, name: str, weights: Floats) -> Metric:
        """Return acc@5 of the events that have weight, (events,), under the name of a group."""
        return measure(
            "verb acc@5", Mean(PERCENT, weights=weights, key="top-5"), self._by_event, self.resampling, group=name
        )

    def samples(self) -> Iterator[Sample]:
        """Yield each event: right where the first verb is one of the annotators', ranked by the first that is."""
        for row, (clip, event) in enumerate(self._events):
            clip_id = self._truth.clip_ids[clip]
            named = Counter(self._truth.verb_votes[clip][event]).most_common(1)[0][0]
            outcomes = {
                model: _outcome(float(self._ranks[model][row]), rows[row]) for model, rows in self._predicted.items()
            }
            id = f"{clip_id} {EVENTS[event]}"
            yield Sample(id=id, part="verbs", group=named, look=clip_id, text=named, outcomes=outcomes)


def _tops(ranks: Floats) -> dict[str, Floats]:
    return {f"top-{k}": (ranks < k).astype(np.float64) for k in TOP}


def _outcome(rank: float, row: tuple[str, ...]) -> Outcome:
    """Files need not have scores, so the margin is of places: 1 where the first is right, else below 0 to -1."""
    margin = 1.0 if rank == 0 else -rank / _MOST
    return Outcome(right=rank == 0, margin=margin, rank=rank, chosen=row[0] if row else "")
