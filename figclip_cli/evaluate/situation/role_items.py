"""What predicted roles are scored against: the items of the text metrics, and the mentions of LEA."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.vidsitu import SituationTruth
from figclip_cli.evaluate.datasets.vidsitu_annotations import (
    EVENTS,
    SCORED_ROLES,
    SituationAnnotation,
    SituationArgument,
    SituationEvent,
)
from figclip_cli.evaluate.datasets.vidsitu_predictions import Roles, SituationPredictions
from figclip_cli.evaluate.metrics.lea import LeaSums, Mentions, clusters_of, lea_sums


class RoleItem(NamedTuple):
    """A role that the first reference has.

    Attributes:
        clip: Number in the split.
        event: 0 to 4.
        name: One of :data:`SCORED_ROLES`.
        key: As the first reference writes it.
        sense: Of the first reference's verb.
        texts: Those of the references that have the same key.
    """

    clip: int
    event: int
    name: str
    key: str
    sense: str
    texts: tuple[str, ...]

    @property
    def mention(self) -> str:
        """What LEA calls it."""
        return f"{EVENTS[self.event]}_{self.name}"


@dataclass(frozen=True)
class RoleItems:
    """The references of a split, and the items they make.

    Attributes:
        items: In the order of clips and events.
        references: Of each clip.
        rounds: For how many references LEA is computed: as many as the first clip has.
        lacking: Items whose key one of the references lacks; the official scorer stops there.
        uneven: Clips with fewer references than the first; the official scorer stops there.
    """

    items: tuple[RoleItem, ...]
    references: tuple[tuple[SituationAnnotation, ...], ...]
    rounds: int
    lacking: int
    uneven: int


def role_items(truth: SituationTruth) -> RoleItems:
    """Return what the predicted roles of a split are scored against.

    Raises:
        InputError: The first references have no role that is scored.
    """
    references = truth.references()
    items = tuple(item for clip, of_clip in enumerate(references) for item in _of_clip(clip, of_clip))
    if not items:
        raise InputError(f"no annotation has one of {', '.join(SCORED_ROLES)}: there is no role to score", "see them")
    rounds = len(references[0])
    return RoleItems(
        items,
        references,
        rounds,
        lacking=sum(len(item.texts) < len(references[item.clip]) for item in items),
        uneven=sum(len(of_clip) < rounds for of_clip in references),
    )


def _of_clip(clip: int, references: Sequence[SituationAnnotation]) -> Iterator[RoleItem]:
    for event, annotated in enumerate(references[0]):
        values = [{one.key: one.value for one in reference[event].arguments} for reference in references]
        for argument in _scored(annotated):
            texts = tuple(of[argument.key] for of in values if argument.key in of)
            yield RoleItem(clip, event, argument.name, argument.key, annotated.sense, texts)


def hypotheses_of(items: Sequence[RoleItem], predictions: SituationPredictions) -> list[str]:
    """Return the predicted text of every item, empty where there is none."""
    texts = []
    for item in items:
        roles = predictions.roles[item.clip] or {}
        texts.append(roles.get(EVENTS[item.event], {}).get(item.name, ""))
    return texts


def mention_pairs(found: RoleItems, predictions: SituationPredictions) -> Iterator[list[tuple[Mentions, Mentions]]]:
    """Yield, for each clip, the mentions of each reference and those predicted for its roles.

    As in the official scorer a clip whose prediction has no ``Ev1`` counts nothing; one that has no record at all
    counts as one without mentions.
    """
    for clip, references in enumerate(found.references):
        roles = predictions.roles[clip]
        if roles is not None and EVENTS[0] not in roles:
            yield []
        else:
            yield [(_annotated(one), _predicted(one, roles or {})) for one in references[: found.rounds]]


def _scored(event: SituationEvent) -> list[SituationArgument]:
    """Return the arguments that are scored as Args has them: where two keys are one role, their order matters."""
    return sorted((one for one in event.arguments if one.name in SCORED_ROLES), key=lambda one: one.place)


def _annotated(reference: SituationAnnotation) -> Mentions:
    by_event = zip(EVENTS, reference, strict=True)
    return [(f"{name}_{one.name}", one.value) for name, event in by_event for one in _scored(event)]


def _predicted(reference: SituationAnnotation, roles: Roles) -> Mentions:
    names = [(name, one.name) for name, event in zip(EVENTS, reference, strict=True) for one in _scored(event)]
    return [(f"{event}_{name}", roles[event][name]) for event, name in names if name in roles.get(event, {})]


def lea_of_clips(
    found: RoleItems, predictions: SituationPredictions, cider: Sequence[float]
) -> tuple[list[list[LeaSums]], int]:
    """Return LEA's sums of each clip and reference, and how many predicted mentions have no CIDEr.

    Those are of roles that the first reference lacks: their CIDEr is taken as 0, where the official scorer stops.

    Args:
        cider: Of every item.
    """
    score_of: dict[int, dict[str, float]] = {}
    for item, score in zip(found.items, cider, strict=True):  # of two keys with one name the later in Args counts
        score_of.setdefault(item.clip, {})[item.mention] = score
    sums, unknown = [], 0
    for clip, pairs in enumerate(mention_pairs(found, predictions)):
        known: Mapping[str, float] = score_of.get(clip, {})
        of_clip = []
        for key, response in pairs:
            extra = {name: 0.0 for name, _ in response if name not in known}
            unknown += len(extra)
            of_clip.append(lea_sums(clusters_of(key), clusters_of(response), {**known, **extra}))
        sums.append(of_clip)
    return sums, unknown
