"""Apply a head to clips: five verbs an event, a phrase for each role, a relation for each pair of events.

Everything is computed in float64, and scores are rounded to float32, so that how many clips are computed together
changes no prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from figclip_cli.evaluate.datasets.vidsitu import REFERENCES
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS, RELATIONS, ROLES, SituationAnnotation
from figclip_cli.heads.decoding import generate
from figclip_cli.heads.situation.examples import ClipFeatures
from figclip_cli.heads.situation.head import RELATED, THIRD, Encoded, all_there, related_rows
from figclip_cli.heads.situation.loading import LoadedHead
from figclip_cli.heads.situation.options import GIVEN, PredictOptions
from figclip_cli.reporting import SILENT, Reporter

VERBS_OF_AN_EVENT = 5


@dataclass
class ClipPrediction:
    """What is predicted of one clip.

    Attributes:
        verbs: Of each event, senses, the best first; ``verb_scores`` are their probabilities.
        senses: Of each event, the sense that roles and relations were told.
        roles: Of each event, phrases by role.
        relations: Of each related event, a label for each reference; ``relation_scores`` are their probabilities.
    """

    verbs: list[list[str]] = field(default_factory=list)
    verb_scores: list[list[float]] = field(default_factory=list)
    senses: list[str] = field(default_factory=list)
    roles: list[dict[str, str]] = field(default_factory=list)
    relations: list[list[str]] = field(default_factory=list)
    relation_scores: list[list[float]] = field(default_factory=list)


class _Asked(NamedTuple):
    """Roles that get a phrase: rows of clips, events and roles, (n,) int64 each."""

    clips: Tensor
    places: Tensor
    roles: Tensor


@torch.no_grad()
def predict_clips(
    head: LoadedHead,
    features: ClipFeatures,
    clip_ids: Sequence[str],
    options: PredictOptions,
    parts: Sequence[str],
    references: Sequence[Sequence[SituationAnnotation]] = (),
    reporter: Reporter = SILENT,
) -> list[ClipPrediction]:
    """Return what a head predicts of clips.

    Args:
        references: Of each clip, the annotations that are scored against, where verbs or roles are given.
    """
    found: list[ClipPrediction] = []
    with reporter.track("predict", len(clip_ids), "clips") as progress:
        for start in range(0, len(clip_ids), options.batch_size):
            part = slice(start, start + options.batch_size)
            batch = _Batch(head, features, clip_ids[part], options, references[part])
            found += batch.predict(parts)
            progress.advance(len(clip_ids[part]))
    return found


class _Batch:
    def __init__(
        self,
        head: LoadedHead,
        features: ClipFeatures,
        clip_ids: Sequence[str],
        options: PredictOptions,
        references: Sequence[Sequence[SituationAnnotation]],
    ) -> None:
        self._head, self._options, self._references = head, options, references
        self._device = head.module.sense.weight.device
        seen = (tensor.to(self._device, torch.float64) for tensor in features.take(clip_ids))
        self._encoded: Encoded = head.module.encode(*seen)
        self._made = [ClipPrediction() for _ in clip_ids]

    def predict(self, parts: Sequence[str]) -> list[ClipPrediction]:
        """Return what is predicted of each clip."""
        senses = self._verbs() if "verbs" in self._head.parts else None
        if self._options.verbs == GIVEN:
            senses = self._given(0)
        if "roles" in parts and senses is not None:
            self._roles(senses)
        if "relations" in parts and senses is not None:
            self._relations(senses)
        return self._made

    def _verbs(self) -> Tensor:
        """Fill in the verbs; return the best of each event, (B, 5) int64."""
        scores = self._head.module.verb_logits(self._encoded).softmax(-1)
        # A stable sort, so that equal scores keep the order of senses.
        ordered, order = scores.sort(dim=-1, descending=True, stable=True)
        names = self._head.labels.senses
        for made, own, sense in zip(self._made, ordered.tolist(), order.tolist(), strict=True):
            made.verb_scores = [_rounded(event[:VERBS_OF_AN_EVENT]) for event in own]
            made.verbs = [[names[number] for number in event[:VERBS_OF_AN_EVENT]] for event in sense]
            made.senses = [event[0] for event in made.verbs]
        return order[..., 0]

    def _given(self, column: int) -> Tensor:
        """Return the senses (B, 5) of one reference; those of reference 0 are what the prediction names."""
        named = [[event.sense for event in _reference(of_clip, column)] for of_clip in self._references]
        if column == 0:
            for made, senses in zip(self._made, named, strict=True):
                made.senses = list(senses)
        numbers = [[self._head.labels.number(sense) for sense in senses] for senses in named]
        return torch.tensor(numbers, dtype=torch.int64, device=self._device)

    def _roles(self, senses: Tensor) -> None:
        asked = self._given_roles() if self._options.roles == GIVEN else self._predicted_roles(senses)
        module = self._head.module
        memory = module.memory(self._encoded, asked.clips, asked.places, senses[asked.clips, asked.places], asked.roles)
        texts = generate(
            module.decoder, memory, all_there(memory), self._head.vocabulary, beams=self._options.beams
        ).texts
        for made in self._made:
            made.roles = [{} for _ in EVENTS]
        for clip, place, role, text in zip(*(rows.tolist() for rows in asked), texts, strict=True):
            if text:
                self._made[clip].roles[place][ROLES[role]] = text

    def _given_roles(self) -> _Asked:
        """Return the roles of reference 0, whether it says something of them or not."""
        rows = [
            (clip, place, role)
            for clip, of_clip in enumerate(self._references)
            for place, event in enumerate(_reference(of_clip, 0))
            for role in dict.fromkeys(ROLES.index(argument.name) for argument in event.arguments)
        ]
        return _Asked(*torch.tensor(rows, dtype=torch.int64, device=self._device).reshape(-1, 3).unbind(1))

    def _predicted_roles(self, senses: Tensor) -> _Asked:
        """Return the likeliest roles of each event, as many as the head was trained for at most."""
        logits = self._head.module.role_logits(self._encoded.events.flatten(0, 1), senses.flatten())
        most = min(int(self._head.config["options"]["max_roles"]), len(ROLES))
        chosen = logits.sort(dim=-1, descending=True, stable=True).indices[:, :most]
        kept = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, chosen, True)
        kept &= logits.sigmoid() >= self._options.role_threshold
        event, role = kept.nonzero().unbind(1)
        return _Asked(event // len(EVENTS), event % len(EVENTS), role)

    def _relations(self, senses: Tensor) -> None:
        given = self._options.verbs == GIVEN
        columns = [
            self._relation_column(self._given(at) if given else senses) for at in range(REFERENCES if given else 1)
        ]
        columns *= REFERENCES // len(columns)
        for clip, made in enumerate(self._made):
            own = [[column[clip][row] for column in columns] for row in range(len(RELATED))]
            made.relations = [[RELATIONS[label] for label, _ in row] for row in own]
            made.relation_scores = [_rounded([score for _, score in row]) for row in own]

    def _relation_column(self, senses: Tensor) -> list[list[tuple[int, float]]]:
        """Return label and probability of each clip's four relations."""
        clips, related = (rows.to(self._device) for rows in related_rows(len(self._made)))
        places = torch.tensor(RELATED, device=self._device)[related]
        scores = self._head.module.relation_logits(
            self._encoded, clips, related, senses[clips, places], senses[clips, THIRD]
        ).softmax(-1)
        best = scores.sort(dim=-1, descending=True, stable=True)
        pairs = list(zip(best.indices[:, 0].tolist(), best.values[:, 0].tolist(), strict=True))
        return [pairs[at : at + len(RELATED)] for at in range(0, len(pairs), len(RELATED))]


def _reference(of_clip: Sequence[SituationAnnotation], column: int) -> SituationAnnotation:
    """Return a reference of a clip; where it has fewer, the first again."""
    return of_clip[column if column < len(of_clip) else 0]


def _rounded(scores: Sequence[float]) -> list[float]:
    """Return float32 numbers."""
    return [float(np.float32(score)) for score in scores]
