"""Annotated clips as tensors: events with their senses and roles, phrases to write, relations to name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from figclip_cli.evaluate.datasets.vidsitu_annotations import (
    RELATED_EVENTS,
    RELATIONS,
    ROLES,
    SituationAnnotation,
    SituationEvent,
)
from figclip_cli.heads.frame_features import EventFeatures
from figclip_cli.heads.situation.head import RELATED, THIRD
from figclip_cli.heads.situation.labels import SituationLabels, roles_of
from figclip_cli.heads.vocabulary import Vocabulary, padded

Annotated = Mapping[str, Sequence[SituationAnnotation]]


class ClipFeatures(Protocol):
    """Features of clips, by id."""

    def take(self, clip_ids: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """Return videos (n, D), events (n, 5, D) and frames (n, 5, T, D), float32 on the CPU."""
        ...


class StoredFeatures:
    """Event tokens in memory, features of frames read when they are asked for."""

    def __init__(self, features: EventFeatures) -> None:
        self._features = features
        self._row_of = {clip_id: row for row, clip_id in enumerate(features.clip_ids)}

    def take(self, clip_ids: Sequence[str]) -> tuple[Tensor, Tensor, Tensor]:
        """See :class:`ClipFeatures`."""
        rows = torch.tensor([self._row_of[clip_id] for clip_id in clip_ids], dtype=torch.int64)
        frames = self._features.frames.equal(list(clip_ids))
        return self._features.videos[rows], self._features.events[rows], frames


class EventRows(NamedTuple):
    """Annotated events; an event that several people annotated has several rows.

    Attributes:
        clip: (E,) int64, row of the clip.
        place: (E,) int64, 0 to 4.
        sense: (E,) int64, S where the training clips do not have it.
        share: (E,) float32, one over the number of rows of the same event.
        roles: (E, roles) float32, 1 where the event has the role.
    """

    clip: Tensor
    place: Tensor
    sense: Tensor
    share: Tensor
    roles: Tensor


class PhraseRows(NamedTuple):
    """Phrases to write: row of the event, number of the role (both (N,) int64), tokens (N, L) int64."""

    event: Tensor
    role: Tensor
    tokens: Tensor


class RelationRows(NamedTuple):
    """Relations: rows of the event and of the third one, number of the related event, label; all (R,) int64."""

    event: Tensor
    third: Tensor
    related: Tensor
    label: Tensor


class Rows(NamedTuple):
    """Everything that is annotated of some clips."""

    events: EventRows
    phrases: PhraseRows
    relations: RelationRows

    def to(self, device: torch.device) -> Rows:
        """Return the same on a device."""
        return Rows(*(type(part)(*(tensor.to(device) for tensor in part)) for part in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Examples:
    """Annotated clips.

    Attributes:
        clip_ids: n ids.
        rows: Of all clips, clip after clip.
        bounds: (n + 1, 3) int64: where a clip's events, phrases and relations begin.
        overlong: Phrases that were cut.
    """

    clip_ids: tuple[str, ...]
    rows: Rows
    bounds: Tensor
    overlong: int

    def __len__(self) -> int:
        return len(self.clip_ids)

    def take(self, clips: Tensor) -> Rows:
        """Return what is annotated of some clips, (k,) int64; rows of clips and events are counted within them."""
        begins, ends = self.bounds[clips], self.bounds[clips + 1]
        event, phrase, relation = (_ranges(begins[:, part], ends[:, part]) for part in range(3))
        events, phrases, relations = self.rows
        # From a row among all events to the row among those taken.
        shift = _shifts(begins[:, 0], ends[:, 0])
        of_phrases = shift.repeat_interleave(ends[:, 1] - begins[:, 1])
        of_relations = shift.repeat_interleave(ends[:, 2] - begins[:, 2])
        own = torch.arange(len(clips)).repeat_interleave(ends[:, 0] - begins[:, 0])
        return Rows(
            EventRows(own, *(tensor[event] for tensor in events[1:])),
            PhraseRows(phrases.event[phrase] - of_phrases, phrases.role[phrase], phrases.tokens[phrase]),
            RelationRows(
                relations.event[relation] - of_relations,
                relations.third[relation] - of_relations,
                relations.related[relation],
                relations.label[relation],
            ),
        )


def _ranges(begins: Tensor, ends: Tensor) -> Tensor:
    """Return all numbers from each begin up to its end."""
    lengths = ends - begins
    starts = lengths.cumsum(0) - lengths
    return torch.arange(int(lengths.sum())) + (begins - starts).repeat_interleave(lengths)


def _shifts(begins: Tensor, ends: Tensor) -> Tensor:
    """Return how far the rows of each clip move when the clips are put one after another."""
    lengths = ends - begins
    return begins - (lengths.cumsum(0) - lengths)


class _Collected:
    """Rows as they are found."""

    def __init__(self, labels: SituationLabels, max_roles: int) -> None:
        self._labels, self._max_roles = labels, max_roles
        self.events: list[tuple[int, int, int, float]] = []
        self.present: list[list[float]] = []
        self.phrases: list[tuple[int, int]] = []
        self.texts: list[str] = []
        self.relations: list[tuple[int, int, int, int]] = []

    def bounds(self) -> tuple[int, int, int]:
        return len(self.events), len(self.phrases), len(self.relations)

    def add(self, clip: int, annotation: SituationAnnotation, share: float) -> None:
        first = len(self.events)
        for place, event in enumerate(annotation):
            self._add_event(clip, place, event, share)
        for related, place in enumerate(RELATED):
            if annotation[place].relation in RELATIONS:
                label = RELATIONS.index(annotation[place].relation)
                self.relations.append((first + place, first + THIRD, related, label))

    def _add_event(self, clip: int, place: int, event: SituationEvent, share: float) -> None:
        roles = roles_of(event)
        row = len(self.events)
        self.events.append((clip, place, self._labels.number(event.sense), share))
        self.present.append([float(role in roles) for role in ROLES])
        for role in list(roles)[: self._max_roles]:
            self.phrases.append((row, ROLES.index(role)))
            self.texts.append(roles[role])


def make_examples(
    annotated: Annotated,
    clip_ids: Sequence[str],
    labels: SituationLabels,
    vocabulary: Vocabulary,
    *,
    max_tokens: int,
    max_roles: int,
) -> Examples:
    """Return what is annotated of clips, as tensors.

    Args:
        annotated: Of each clip one annotation or more; each counts as its share of them.
        max_tokens: Longer phrases are cut.
        max_roles: Of an event, in the annotation's order; further ones get no phrase.
    """
    found = _Collected(labels, max_roles)
    bounds = [found.bounds()]
    for clip, clip_id in enumerate(clip_ids):
        for annotation in annotated[clip_id]:
            found.add(clip, annotation, 1.0 / len(annotated[clip_id]))
        bounds.append(found.bounds())
    whole = torch.tensor([event[:3] for event in found.events], dtype=torch.int64).reshape(-1, 3)
    share = torch.tensor([event[3] for event in found.events], dtype=torch.float32)
    present = torch.tensor(found.present, dtype=torch.float32).reshape(-1, len(ROLES))
    of_clip, place, sense = whole.unbind(1)
    event, role = torch.tensor(found.phrases, dtype=torch.int64).reshape(-1, 2).unbind(1)
    tokens = padded(vocabulary, found.texts, max_tokens)
    relations = torch.tensor(found.relations, dtype=torch.int64).reshape(-1, len(RELATED_EVENTS))
    return Examples(
        tuple(clip_ids),
        Rows(
            EventRows(of_clip, place, sense, share, present),
            PhraseRows(event, role, tokens),
            RelationRows(*relations.unbind(1)),
        ),
        torch.tensor(bounds, dtype=torch.int64),
        int((~(tokens == vocabulary.end_id).any(1)).sum()),
    )
