"""Sentences with semantic roles as AllenNLP's predictor writes them, one record per sentence.

``{"clip": "v1", "words": ["A", "man", "walks"], "verbs": [{"verb": "walks", "tags": ["B-ARG0", "I-ARG0", "B-V"]}]}``

The predictor knows no clips: the key ``clip`` (or ``clip_id``, ``video_id``, ``id``) must be added to each record. With
the key ``event`` the sentence tells of that event, and each of its verbs is an annotation of it; without, each verb is
an event, in the order of sentences and words. A verb that has a ``frame`` (``walk.01``) takes its role names from it.
"""

from __future__ import annotations

from typing import Any

from figclip_cli.prompts.english import verb_lemma
from figclip_cli.prompts.events import AnnotatedEvent, Argument, Found, Problem
from figclip_cli.prompts.formats.checks import member, refuse_unusable, text, type_of
from figclip_cli.prompts.roles import TAGS, lemma_of
from figclip_cli.prompts.templates import clean_value

_CLIP_KEYS = ("clip", "clip_id", "video_id", "id")
_ARGS = {**TAGS, "ARGM-PNC": "purpose"}  # the older tag of PRP
_NEGATION = "ARGM-NEG"
NEXT = -1
"""Index of an event that takes the next free one of its clip."""


def recognises(record: Any, key: str | None) -> bool:
    """Return whether a record has words and verbs."""
    return key is None and isinstance(record, dict) and "words" in record and "verbs" in record


def parse(record: Any, key: str | None, nouns: object = None) -> list[Found]:
    """Return the verbs of a sentence that have roles; a verb that is denied ("does not walk") did not happen."""
    del key, nouns
    if not isinstance(record, dict):
        raise Problem(f"it is {type_of(record)}, not a sentence with words and verbs")
    clip_id = next((text(record, name) for name in _CLIP_KEYS if name in record), None)
    if clip_id is None:
        raise Problem("clip is missing", "add the key clip to each record: the predictor does not know it")
    index = member(record, "event", int) if "event" in record else None
    if index is not None and (index < 0 or isinstance(index, bool)):
        raise Problem(f"event: {index} is not a whole number from 0")
    words = _words(record)
    events = [_event(verb, words, f"verbs, {n}") for n, verb in enumerate(member(record, "verbs", list))]
    told = [event for event in events if event is not None]
    if not told:
        raise Problem("no verb has a role")
    if index is None:
        return [Found(clip_id, told, 0)]
    return [
        Found(clip_id, [AnnotatedEvent(index, event.verb, event.sense, event.arguments)], annotation)
        for annotation, event in enumerate(told)
    ]


def _words(record: dict[str, Any]) -> list[str]:
    words = member(record, "words", list)
    for number, word in enumerate(words):
        if not isinstance(word, str):
            raise Problem(f"words, {number} is {type_of(word)}, not a string")
        refuse_unusable(word, f"words, {number}")
    return words


def _event(verb: Any, words: list[str], where: str) -> AnnotatedEvent | None:
    if not isinstance(verb, dict):
        raise Problem(f"{where} is {type_of(verb)}, not an object")
    tags = member(verb, "tags", list, where)
    if len(tags) != len(words):
        raise Problem(f"{where}, tags: {len(tags)} tags for {len(words)} words")
    spans = _spans(tags, words, where)
    arguments = tuple(Argument(_ARGS[role], "", clean_value(value)) for role, value in spans if role in _ARGS)
    if not arguments or any(role == _NEGATION for role, _ in spans):
        return None
    sense = text(verb, "frame", where).strip() if "frame" in verb else verb_lemma(text(verb, "verb", where).strip())
    return AnnotatedEvent(NEXT, lemma_of(sense), sense.replace(" ", "_"), arguments)


def _spans(tags: list[Any], words: list[str], where: str) -> list[tuple[str, str]]:
    """Return roles and their words by BIO tags; ``C-ARG1`` continues the ARG1 before it."""
    spans: list[tuple[str, str]] = []
    inside = "O"
    for number, (tag, word) in enumerate(zip(tags, words, strict=True)):
        mark, _, role = tag.partition("-") if isinstance(tag, str) else ("", "", "")
        if tag != "O" and (mark not in ("B", "I") or not role):
            raise Problem(f"{where}, tags, {number}: {tag!r} is none of O, B-ROLE, I-ROLE")
        if mark == "I" and role != inside:
            raise Problem(f"{where}, tags, {number}: {tag} continues no {role}")
        continued = role.removeprefix("C-")
        if tag == "O":
            inside = "O"
            continue
        place = next((n for n in reversed(range(len(spans))) if spans[n][0] == continued), None)
        if place is not None and (mark == "I" or role != continued):
            spans[place] = (continued, f"{spans[place][1]} {word}")
        else:
            spans.append((continued, word))
        inside = role
    return spans
