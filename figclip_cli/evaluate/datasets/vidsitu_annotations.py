"""The records of VidSitu's ``vsann_*_lb.json``: one annotator's five events of a clip, texts as they are written.

Layout: TheShadow29/VidSitu, vseg_ann_files. The scorer compares texts letter by letter, so nothing is cleaned here.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import quoted, read_json_document, shown_value
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.formats.checks import member, type_of

EVENTS = ("Ev1", "Ev2", "Ev3", "Ev4", "Ev5")
RELATED_EVENTS = ("Ev1", "Ev2", "Ev4", "Ev5")  # each has a relation with Ev3
SCORED_ROLES = ("Arg0", "Arg1", "Arg2", "ALoc", "AScn")
RELATIONS = ("Causes", "Reaction To", "Enables", "NoRel")
_NUMBERED = ("Arg0", "Arg1", "Arg2", "Arg3", "Arg4", "Arg5")
# In this order: the first that the parenthesis has is the role.
_MODIFIERS = {"direction": "ADir", "purpose": "APrp", "manner": "AMnr", "location": "ALoc", "goal": "AGol"}
ROLES = (*_NUMBERED, *_MODIFIERS.values(), "AScn")
_SCENE = "Scene of the Event"

_ANNOTATION = "annotation file"
_ANNOTATION_HINT = "VidSitu's vsann_SPLIT_lb.json, a list of records with Ev1 to Ev5"


class SituationArgument(NamedTuple):
    """A role as annotated.

    Attributes:
        key: As written, ``Arg0 (walker)``.
        name: ``Arg0`` to ``Arg5``, ``ADir``, ``APrp``, ``AMnr``, ``ALoc``, ``AGol`` or ``AScn``.
        value: As written; may be empty.
        place: Where it stands in ``Args``, from 0; the order of arguments is that of ``Arg_List``.
    """

    key: str
    name: str
    value: str
    place: int


class SituationEvent(NamedTuple):
    """An event as annotated.

    Attributes:
        verb: ``Verb`` as written, which has more than the word; empty where there is none.
        sense: ``VerbID``, ``walk.01``.
        arguments: In the order of ``Arg_List``, or of ``Args`` where there is none.
        relation: ``EvRel``, how it relates to the third event; empty where there is none.
    """

    verb: str
    sense: str
    arguments: tuple[SituationArgument, ...]
    relation: str


SituationAnnotation = tuple[SituationEvent, ...]  # five


def read_annotations(path: Path) -> dict[str, tuple[SituationAnnotation, ...]]:
    """Read all annotations of every clip, by clip id, in the order of the file.

    Raises:
        InputError: The file is missing or a record breaks the format; the message names the record and the key.
    """
    found: dict[str, list[SituationAnnotation]] = {}
    for number, record in enumerate(records_of(path, _ANNOTATION, _ANNOTATION_HINT)):
        try:
            clip_id, annotation = _annotation(record)
        except Problem as problem:
            named = _named(record)
            raise InputError(f"{_ANNOTATION} {path}, record {number}{named}: {problem}", _ANNOTATION_HINT) from None
        found.setdefault(clip_id, []).append(annotation)
    return {clip_id: tuple(of_clip) for clip_id, of_clip in found.items()}


def records_of(path: Path, what: str, hint: str) -> list[Any]:
    """Return the records of a JSON file that is a list of them.

    Raises:
        InputError: The file is missing, or no list, or empty.
    """
    records = read_json_document(path, what, hint)
    if not isinstance(records, list):
        raise InputError(f"{what} {path}: {shown_value(records)}, not a list of records", hint)
    if not records:
        raise InputError(f"{what} {path} is an empty list", hint)
    return records


def _named(record: Any) -> str:
    event = record.get("Ev1") if isinstance(record, dict) else None
    clip_id = event.get("vid_seg_int") if isinstance(event, dict) else None
    return f" ({quoted(clip_id)})" if isinstance(clip_id, str) else ""


def _annotation(record: Any) -> tuple[str, SituationAnnotation]:
    if not isinstance(record, dict):
        raise Problem(f"it is {type_of(record)}, not an object with Ev1 to Ev5")
    events = [member(record, name, dict) for name in EVENTS]
    clip_id = stated(events[0], "vid_seg_int", EVENTS[0])
    for name, event in zip(EVENTS[1:], events[1:], strict=True):
        if event.get("vid_seg_int", clip_id) != clip_id:
            raise Problem(f"{name}, vid_seg_int: {shown_value(event['vid_seg_int'])} here, '{clip_id}' in Ev1")
    return clip_id, tuple([_event(event, name) for name, event in zip(EVENTS, events, strict=True)])


def _event(event: dict[str, Any], where: str) -> SituationEvent:
    if "VerbID" not in event and "Args" not in event:
        raise Problem(f"{where} has no labels, as in the test files: they are scored on VidSitu's server alone")
    verb, relation = event.get("Verb", ""), event.get("EvRel", "")
    for key, value in (("Verb", verb), ("EvRel", relation)):
        if not isinstance(value, str):
            raise Problem(f"{where}, {key}: {type_of(value)}, not a string")
        require_unicode(value, f"{where}, {key}")
    return SituationEvent(verb, stated(event, "VerbID", where), _arguments(event, where), relation)


def stated(parent: dict[str, Any], key: str, where: str) -> str:
    """Return ``parent[key]``, a text that says something, as it is.

    Raises:
        Problem: It is missing, no text, or empty.
    """
    found: str = member(parent, key, str, where)
    place = f"{where}, {key}" if where else key
    if not found.strip():
        raise Problem(f"{place} is empty")
    return require_unicode(found, place)


def _arguments(event: dict[str, Any], where: str) -> tuple[SituationArgument, ...]:
    values = member(event, "Args", dict, where)
    order = member(event, "Arg_List", dict, where) if "Arg_List" in event else dict.fromkeys(values, 0)
    if odd := values.keys() ^ order.keys():
        key = min(odd)
        has, lacks = ("Args", "Arg_List") if key in values else ("Arg_List", "Args")
        raise Problem(f"{where}, {lacks}: {quoted(key)} is missing, {has} has it")
    made = [_argument(key, value, place, where) for place, (key, value) in enumerate(values.items())]
    if {*map(type, order.values())} <= {int}:
        return tuple(sorted(made, key=lambda one: order[one.key]))
    return tuple(sorted(made, key=lambda one: _position(order[one.key], one.key, where)))


def _argument(key: str, value: Any, place: int, where: str) -> SituationArgument:
    name = mapped_name(key)
    if name is None:
        raise Problem(f"{where}, Args: {quoted(key)} is not a role of VidSitu")
    if not isinstance(value, str):
        raise Problem(f"{where}, Args, {quoted(key)}: {type_of(value)}, not a string")
    if not key.isascii():
        require_unicode(key, f"{where}, Args, {quoted(key)}")
    if not value.isascii():
        require_unicode(value, f"{where}, Args, {quoted(key)}")
    return SituationArgument(key, name, value, place)


def _position(position: Any, key: str, where: str) -> int:
    """Return a place in ``Arg_List``; VidSitu has some of them as strings."""
    try:
        if isinstance(position, (int, str)) and not isinstance(position, bool):
            return int(position)
    except ValueError:
        pass
    raise Problem(f"{where}, Arg_List, {quoted(key)}: {shown_value(position)} is not a whole number")


@lru_cache(maxsize=1 << 16)
def mapped_name(key: str) -> str | None:
    """Return the short name of a key of ``Args``, None where the official scorer knows no such role."""
    if key == _SCENE:
        return "AScn"
    first, _, rest = key.partition(" ")
    if first in _NUMBERED:
        return first
    if first != "ArgM":
        return None
    return next((name for word, name in _MODIFIERS.items() if word in rest), None)


def require_unicode(text: str, where: str) -> str:
    """Return a text that a file can hold.

    Raises:
        Problem: It has half of a surrogate pair.
    """
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Problem(f"{where} has half of a surrogate pair, which is no text") from None
    return text
