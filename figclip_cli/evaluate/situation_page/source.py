"""What the page of situations shows, out of VidSitu's annotation and of prediction files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from figclip_cli.evaluate.datasets.vidsitu import SituationTruth
from figclip_cli.evaluate.datasets.vidsitu_annotations import (
    EVENTS,
    RELATED_EVENTS,
    SCORED_ROLES,
    SituationAnnotation,
    SituationArgument,
)
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions
from figclip_cli.evaluate.situation_page.inputs import PageClip, PageEvent, PagePrediction, PageRole

PhraseCider = Mapping[tuple[str, str, str], float]  # by clip id, event (Ev1) and role (Arg0)


def page_clips(truth: SituationTruth) -> dict[str, PageClip]:
    """Return what annotators say of each clip: the references that are scored, and all votes for verbs."""
    references = truth.references() if truth.annotations else ((),) * len(truth.clip_ids)
    votes = truth.verb_votes or (None,) * len(truth.clip_ids)
    return {
        clip_id: PageClip(
            clip_id,
            tuple(_event(index, of_clip, None if voted is None else voted[index]) for index in range(len(EVENTS))),
        )
        for clip_id, of_clip, voted in zip(truth.clip_ids, references, votes, strict=True)
    }


def _event(index: int, references: Sequence[SituationAnnotation], votes: tuple[str, ...] | None) -> PageEvent:
    events = [reference[index] for reference in references]
    # As in the scorer, the first reference says which roles there are.
    asked = sorted(events[0].arguments if events else (), key=lambda one: one.name not in SCORED_ROLES)
    written = [{one.key: one.value for one in event.arguments} for event in events]
    return PageEvent(
        verbs=votes if votes is not None else tuple(event.sense for event in events),
        roles=tuple(
            PageRole(
                one.name,
                _title(one),
                tuple(values[one.key] for values in written if one.key in values),
                scored=one.name in SCORED_ROLES,
            )
            for one in asked
        ),
        relations=tuple(event.relation for event in events if event.relation)
        if EVENTS[index] in RELATED_EVENTS
        else (),
    )


def _title(argument: SituationArgument) -> str:
    """Return what stands in parentheses, ``walker`` of ``Arg0 (walker)``."""
    _, _, rest = argument.key.partition("(")
    return rest.removesuffix(")").strip()


def page_predictions(
    clip_ids: Sequence[str], predictions: SituationPredictions, cider: PhraseCider | None = None
) -> dict[str, list[PagePrediction]]:
    """Return what one model says, by clip id; clips of which it says nothing are absent.

    Args:
        clip_ids: The split's clips.
        predictions: Of these clips.
        cider: Of each phrase, where it is known.
    """
    missing = predictions.missing()
    silent = {number for number, kinds in missing.items() if len(kinds) == len(predictions.kinds)}
    return {
        clip_id: [_prediction(predictions, number, index, clip_id, cider or {}) for index in range(len(EVENTS))]
        for number, clip_id in enumerate(clip_ids)
        if number not in silent
    }


def _prediction(
    predictions: SituationPredictions, number: int, index: int, clip_id: str, cider: PhraseCider
) -> PagePrediction:
    event = EVENTS[index]
    verbs, phrases, relation = None, None, None
    if predictions.verbs:
        of_clip = predictions.verbs[number]
        verbs = of_clip[index] if of_clip is not None else ()
    if predictions.roles:
        phrases = (predictions.roles[number] or {}).get(event, {})
    if predictions.relations and event in RELATED_EVENTS:
        row = (predictions.relations[number] or ((),) * len(RELATED_EVENTS))[RELATED_EVENTS.index(event)]
        # One label for each annotation, all the same of a model that does not know the annotator.
        relation = Counter(row).most_common(1)[0][0] if row else ""
    known = {role: cider[clip_id, event, role] for role in SCORED_ROLES if (clip_id, event, role) in cider}
    return PagePrediction(verbs, phrases, known, relation)
