"""VidSitu's ``vsann_*_lb.json``: a list of records, each with the five events of a clip.

Layout: TheShadow29/VidSitu, vseg_ann_files. Test annotation is published without labels.
"""

from __future__ import annotations

import re
import sys
from functools import lru_cache
from typing import Any

from figclip_cli.prompts.events import AnnotatedEvent, Argument, Found, Problem, Unlabelled
from figclip_cli.prompts.formats.checks import member, refuse_unusable, text, type_of
from figclip_cli.prompts.roles import KNOWN_KEYS, lemma_of, parse_key
from figclip_cli.prompts.templates import clean_value

EVENT_KEYS = tuple(f"Ev{number}" for number in range(1, 6))
_ANY_EVENT_KEY = re.compile(r"Ev\d+")


def recognises(record: Any, key: str | None) -> bool:
    """Return whether a record has VidSitu's events."""
    return key is None and isinstance(record, dict) and any(_ANY_EVENT_KEY.fullmatch(name) for name in record)


def parse(record: Any, key: str | None, nouns: object = None) -> list[Found]:
    """Return the five events of a record, an annotation of its own."""
    del key, nouns
    if not isinstance(record, dict):
        raise Problem(f"it is {type_of(record)}, not an object with {EVENT_KEYS[0]} to {EVENT_KEYS[-1]}")
    unknown = [name for name in record if _ANY_EVENT_KEY.fullmatch(name) and name not in EVENT_KEYS]
    if unknown:
        raise Problem(f"{unknown[0]}: a clip has the events {EVENT_KEYS[0]} to {EVENT_KEYS[-1]}")
    events = [member(record, name, dict) for name in EVENT_KEYS]
    clip_ids = [text(event, "vid_seg_int", name) for name, event in zip(EVENT_KEYS, events, strict=True)]
    for name, clip_id in zip(EVENT_KEYS, clip_ids, strict=True):
        if clip_id != clip_ids[0]:
            raise Problem(f"{name}, vid_seg_int: '{clip_id}' here, '{clip_ids[0]}' in {EVENT_KEYS[0]}")
    if not any(label in event for event in events for label in ("Verb", "VerbID", "Args")):
        raise Unlabelled
    parsed = [_event(index, event, name) for index, (name, event) in enumerate(zip(EVENT_KEYS, events, strict=True))]
    return [Found(clip_ids[0], parsed)]


def clip_of(record: Any) -> str:
    """Return the clip a record is of, as far as a broken record tells; else empty."""
    for name in EVENT_KEYS if isinstance(record, dict) else ():
        event = record.get(name)
        if isinstance(event, dict) and isinstance(event.get("vid_seg_int"), str):
            return str(event["vid_seg_int"])
    return ""


def _event(index: int, event: dict[str, Any], where: str) -> AnnotatedEvent:
    """Return one event. ``Verb`` holds more than the word, so the word is taken from the sense."""
    written = text(event, "Verb", where)
    sense = text(event, "VerbID", where).strip()
    if not clean_value(written):
        raise Problem(f"{where}, Verb: '{written}' has no word")
    if len(sense.split()) != 1 or not clean_value(lemma_of(sense)):
        raise Problem(f"{where}, VerbID: '{sense}' is not a sense like walk.01")
    return AnnotatedEvent(index, sys.intern(lemma_of(sense)), sys.intern(sense), _arguments(event, where))


def _arguments(event: dict[str, Any], where: str) -> tuple[Argument, ...]:
    values, order = member(event, "Args", dict, where), member(event, "Arg_List", dict, where)
    if odd := values.keys() ^ order.keys():
        key = min(odd)
        has, lacks = ("Args", "Arg_List") if key in values else ("Arg_List", "Args")
        raise Problem(f"{where}, {lacks}: '{key}' is missing, {has} has it")
    if {*map(type, order.values())} <= {int}:
        placed = sorted(values, key=order.__getitem__)
    else:  # VidSitu has some of them as strings
        placed = sorted(values, key=lambda key: _position(order[key], key, where))
    try:
        return tuple([_argument(key, values[key]) for key in placed])
    except TypeError:  # a list or an object cannot be looked up among the arguments seen before
        key = next(key for key in placed if not isinstance(values[key], str))
        raise Problem(f"{where}, Args, '{key}': {type_of(values[key])}, not a string") from None
    except Problem as problem:
        raise Problem(f"{where}, {problem}", problem.hint) from None


@lru_cache(maxsize=1 << 17)
def _argument(key: str, value: Any) -> Argument:
    parsed = parse_key(key)
    if parsed is None:
        raise Problem(f"Args: '{key}' is not a role; known: {KNOWN_KEYS}")
    if not isinstance(value, str):
        raise Problem(f"Args, '{key}': {type_of(value)}, not a string")
    refuse_unusable(parsed[1], "Args")
    refuse_unusable(value, f"Args, '{key}'")
    return Argument(*parsed, clean_value(value))


def _position(position: Any, key: str, where: str) -> int:
    try:
        if isinstance(position, (int, str)) and not isinstance(position, bool):
            return int(position)
    except ValueError:
        pass
    raise Problem(f"{where}, Arg_List, '{key}': {position!r} is not a whole number")
