"""VidSitu's annotation files: read whole, checked to the last key, and never read around a mistake."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import read_json, sha256_of_file
from figclip_cli.prompts.roles import KNOWN_KEYS, parse_key
from figclip_cli.prompts.templates import clean_value

EVENTS_PER_CLIP = 5
_EVENT_KEYS = tuple(f"Ev{number}" for number in range(1, EVENTS_PER_CLIP + 1))
_ANY_EVENT_KEY = re.compile(r"Ev\d+")
_HINT = "records are counted from 0; correct the annotation file, nothing was written"
_UNLABELLED_HINT = "VidSitu's test labels are not public: use the train or the valid annotations"
_TYPE_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
# The text tower takes its feature at the end token, so one inside a text would hide what follows.
_TOKENIZER_MARKS = ("<start_of_text>", "<end_of_text>")


@dataclass(frozen=True, slots=True)
class Argument:
    """One role as annotated.

    Attributes:
        arg: See :class:`~figclip_cli.prompts.roles.Role`.
        description: The annotator's name of a numbered role, or empty.
        value: Cleaned; empty where the annotator left it so.
    """

    arg: str
    description: str
    value: str


@dataclass(frozen=True, slots=True)
class AnnotatedEvent:
    """One event: ``verb`` as a word, ``sense`` like ``walk.01``, arguments in the annotator's order."""

    verb: str
    sense: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Annotation:
    """One record: a clip, which of its annotations this is (from 0, in file order), and its five events."""

    clip_id: str
    annotation_index: int
    events: tuple[AnnotatedEvent, ...]


@dataclass(frozen=True)
class AnnotationFiles:
    """What was read.

    Attributes:
        sources: ``{"name": file name, "sha256": ...}`` of each file, in the order they were read.
        annotations: Sorted by clip id and annotation index.
    """

    sources: tuple[dict[str, str], ...]
    annotations: tuple[Annotation, ...]


class _Problem(Exception):
    def __init__(self, message: str, hint: str = _HINT) -> None:
        super().__init__(message)
        self.hint = hint


def read_annotations(paths: Sequence[Path]) -> AnnotationFiles:
    """Read annotation files (VidSitu's ``vsann_*_lb.json``), in sorted order.

    Raises:
        UsageError: Two of the files are the same.
        InputError: A file is missing, is not JSON, has no records, or has records that break the format; the
            message shows the first problem and counts the records that have any.
    """
    by_clip: dict[str, list[tuple[AnnotatedEvent, ...]]] = defaultdict(list)
    sources: list[dict[str, str]] = []
    problems: list[tuple[str, str]] = []
    total = 0
    for path in sorted(paths, key=lambda path: (path.name, str(path))):
        records = _records(path)
        total += len(records)
        _add_source(sources, path)
        for number, record in enumerate(records):
            try:
                clip_id, events = _parse_record(record)
            except _Problem as problem:
                problems.append((f"{path}, record {number}{_clip_of(record)}: {problem}", problem.hint))
            else:
                by_clip[clip_id].append(events)
    if problems:
        first, hint = problems[0]
        raise InputError(f"{first} ({len(problems)} of {total} records have problems)", hint)
    annotations = [
        Annotation(clip_id, index, events)
        for clip_id in sorted(by_clip)
        for index, events in enumerate(by_clip[clip_id])
    ]
    return AnnotationFiles(tuple(sources), tuple(annotations))


def read_split(path: Path) -> frozenset[str]:
    """Read a split file (VidSitu's ``vseg_split_*_lb.json``): a list of clip ids.

    Raises:
        InputError: The file is missing, not JSON, empty, or not a list of strings.
    """
    clip_ids = read_json(path, "split file")
    if not isinstance(clip_ids, list) or not all(isinstance(clip_id, str) for clip_id in clip_ids):
        raise InputError(f"split file {path} is not a list of clip ids", "pass a vseg_split_*_lb.json file")
    if not clip_ids:
        raise InputError(f"split file {path} names no clip", "is it the right file?")
    return frozenset(clip_ids)


def _records(path: Path) -> list[Any]:
    records = read_json(path, "annotation file")
    if not isinstance(records, list):
        raise InputError(f"annotation file {path} is {_type_of(records)}, not a list of records", _right_file())
    if not records:
        raise InputError(f"annotation file {path} has no records", _right_file())
    return records


def _right_file() -> str:
    return "pass a vsann_*_lb.json file"


def _add_source(sources: list[dict[str, str]], path: Path) -> None:
    digest = sha256_of_file(path)
    twin = next((source["name"] for source in sources if source["sha256"] == digest), None)
    if twin is not None:
        raise UsageError(f"annotation files {twin} and {path} are the same", "name each file once")
    sources.append({"name": path.name, "sha256": digest})


def _clip_of(record: Any) -> str:
    """Return `` (clip ID)`` where the record tells."""
    for key in _EVENT_KEYS if isinstance(record, dict) else ():
        event = record.get(key)
        if isinstance(event, dict) and isinstance(event.get("vid_seg_int"), str):
            return f" (clip {event['vid_seg_int']})"
    return ""


def _parse_record(record: Any) -> tuple[str, tuple[AnnotatedEvent, ...]]:
    if not isinstance(record, dict):
        raise _Problem(f"it is {_type_of(record)}, not an object with {_EVENT_KEYS[0]} to {_EVENT_KEYS[-1]}")
    unknown = [key for key in record if _ANY_EVENT_KEY.fullmatch(key) and key not in _EVENT_KEYS]
    if unknown:
        raise _Problem(f"{unknown[0]}: a clip has the events {_EVENT_KEYS[0]} to {_EVENT_KEYS[-1]}")
    clip_ids, events = [], []
    for key in _EVENT_KEYS:
        event = _member(record, key, dict, key)
        clip_ids.append(_text(event, "vid_seg_int", key))
        if clip_ids[-1] != clip_ids[0]:
            raise _Problem(f"{key}, vid_seg_int: '{clip_ids[-1]}' here, '{clip_ids[0]}' in {_EVENT_KEYS[0]}")
        events.append(_parse_event(event, key))
    return clip_ids[0], tuple(events)


def _parse_event(event: dict[str, Any], where: str) -> AnnotatedEvent:
    if "Verb" not in event and "Args" not in event:
        raise _Problem(f"{where} has no labels (neither Verb nor Args)", _UNLABELLED_HINT)
    verb = clean_value(_text(event, "Verb", where).split()[0])
    sense = _text(event, "VerbID", where)
    if not verb:
        raise _Problem(f"{where}, Verb: '{event['Verb']}' has no word")
    if len(sense.split()) != 1:
        raise _Problem(f"{where}, VerbID: '{sense}' is not a sense like walk.01")
    return AnnotatedEvent(sys.intern(verb), sys.intern(sense.strip()), _parse_arguments(event, where))


def _parse_arguments(event: dict[str, Any], where: str) -> tuple[Argument, ...]:
    values, order = _member(event, "Args", dict, where), _member(event, "Arg_List", dict, where)
    if odd := values.keys() ^ order.keys():
        key = min(odd)
        has, lacks = ("Args", "Arg_List") if key in values else ("Arg_List", "Args")
        raise _Problem(f"{where}, {lacks}: '{key}' is missing, {has} has it")
    placed = [(_position(order[key], key, where), _argument(key, values[key], where)) for key in values]
    placed.sort(key=lambda item: item[0])
    return tuple(argument for _, argument in placed)


def _argument(key: str, value: Any, where: str) -> Argument:
    parsed = parse_key(key)
    if parsed is None:
        raise _Problem(f"{where}, Args: '{key}' is not a role; known: {KNOWN_KEYS}")
    if not isinstance(value, str):
        raise _Problem(f"{where}, Args, '{key}': {_type_of(value)}, not a string")
    _refuse_unusable(key, where)
    _refuse_unusable(value, f"{where}, Args, '{key}'")
    return Argument(*parsed, clean_value(value))


def _position(position: Any, key: str, where: str) -> int:
    try:
        if isinstance(position, (int, str)) and not isinstance(position, bool):
            return int(position)
    except ValueError:
        pass
    raise _Problem(f"{where}, Arg_List, '{key}': {position!r} is not a whole number")


def _member(parent: dict[str, Any], key: str, kind: type, where: str) -> Any:
    if key not in parent:
        raise _Problem(f"{where} is missing" if key == where else f"{where}, {key} is missing")
    if not isinstance(parent[key], kind):
        place = where if key == where else f"{where}, {key}"
        raise _Problem(f"{place} is {_type_of(parent[key])}, not {_TYPE_NAMES[kind]}")
    return parent[key]


def _text(event: dict[str, Any], key: str, where: str) -> str:
    text: str = _member(event, key, str, where)
    if not text.strip():
        raise _Problem(f"{where}, {key} is empty")
    _refuse_unusable(text, f"{where}, {key}")
    return text


def _refuse_unusable(text: str, where: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Problem(f"{where} has half of a surrogate pair, which is no text") from None
    if "<" in text and any(mark in text.lower() for mark in _TOKENIZER_MARKS):
        raise _Problem(f"{where} has {' or '.join(_TOKENIZER_MARKS)}, which the tokenizer takes for its own mark")


def _type_of(value: Any) -> str:
    return _TYPE_NAMES.get(type(value), "a number")
