"""figclip's own annotation form: one record per event, as JSON, JSON lines or CSV.

``{"clip": "v1", "event": 0, "verb": "walk.01", "roles": {"Arg0 (walker)": "man", "manner": "slowly"}}``

It is described in docs/file-formats.md; ``figclip schema annotations`` prints its JSON schema.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from figclip_cli.errors import InputError
from figclip_cli.prompts.events import AnnotatedEvent, Argument, Found, Problem
from figclip_cli.prompts.formats.checks import refuse_unusable, type_of
from figclip_cli.prompts.roles import KNOWN_OWN_KEYS, OWN_KEY_PATTERN, lemma_of, parse_own_key
from figclip_cli.prompts.templates import clean_value

FORMAT = "figclip-annotations"
FORMAT_VERSION = 1
_COLUMNS = ("clip", "event", "annotation", "start_seconds", "end_seconds", "verb", "roles")

Text = Annotated[str, msgspec.Meta(min_length=1)]
Index = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[float, msgspec.Meta(ge=0)]


class Event(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """One event of one clip.

    Attributes:
        clip: The clip's id: the video file's name without its ending.
        verb: A word, ``walk``, or a PropBank sense, ``walk.01``, which gives the roles their names.
        roles: What fills each role, in the order of the text.
        event: Which event of the clip, from 0.
        annotation: Which of several annotations of the clip, from 0.
        start_seconds: Where the event begins, from the clip's start.
        end_seconds: Where it ends.
    """

    clip: Text
    verb: Text
    roles: Annotated[dict[str, str], msgspec.Meta(extra_json_schema={"propertyNames": {"pattern": OWN_KEY_PATTERN}})]
    event: Index = 0
    annotation: Index = 0
    start_seconds: Seconds | None = None
    end_seconds: Seconds | None = None


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """The form as one JSON object; a list of events and one event per line are read too.

    Attributes:
        format: ``figclip-annotations``.
        format_version: 1.
        events: In any order.
    """

    events: list[Event]
    format: Literal["figclip-annotations"] = "figclip-annotations"
    format_version: Literal[1] = 1


def recognises(record: Any, key: str | None) -> bool:
    """Return whether a record is an event of this form."""
    return key is None and isinstance(record, dict) and "clip" in record and "verb" in record


def parse(record: Any, key: str | None, nouns: object = None) -> list[Found]:
    """Return the one event of a record."""
    del key, nouns
    if not isinstance(record, dict):
        raise Problem(f"it is {type_of(record)}, not an event with clip, verb and roles")
    for name, value in record["roles"].items() if isinstance(record.get("roles"), dict) else ():
        if not isinstance(value, str):
            raise Problem(f"roles, '{name}': {type_of(value)}, not a string")
    try:
        event = msgspec.convert(record, Event)
    except msgspec.ValidationError as error:
        raise Problem(_readable(error)) from error
    for name in ("clip", "verb"):
        if not clean_value(getattr(event, name)):
            raise Problem(f"{name} is empty")
        refuse_unusable(getattr(event, name), name)
    sense = event.verb.strip().replace(" ", "_")
    arguments = tuple(_argument(name, value) for name, value in event.roles.items())
    times = _times(event)
    return [
        Found(event.clip, [AnnotatedEvent(event.event, lemma_of(sense), sense, arguments, *times)], event.annotation)
    ]


def rows_of_csv(path: Path) -> Iterator[tuple[int, dict[str, Any] | Problem]]:
    """Yield the rows of a CSV file as records, each with its line; columns that are roles become ``roles``.

    Raises:
        InputError: The file is not UTF-8, is no CSV, or a column is missing, comes twice or is no role.
    """
    checked = False
    for line, row in plain_rows(path, "annotation file"):
        if not checked and not isinstance(row, Problem):
            _check_columns([*row], path)
            checked = True
        yield line, row if isinstance(row, Problem) else _record_of_row(row)


def plain_rows(path: Path, what: str) -> Iterator[tuple[int, dict[str, str] | Problem]]:
    """Yield the rows of a CSV file by the columns of its header, each with its line.

    Raises:
        InputError: The file is not UTF-8, is no CSV, or a column comes twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file, strict=True)
            columns = [name.strip() for name in next(rows, [])]
            if twice := [name for name in columns if columns.count(name) > 1]:
                raise InputError(f"{what} {path}, line 1: the column {twice[0]} comes twice", "remove one of them")
            for row in filter(None, rows):
                fits = len(row) == len(columns)
                wrong = Problem(f"{len(row)} fields, the first line has {len(columns)}")
                yield rows.line_num, dict(zip(columns, row, strict=True)) if fits else wrong
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not UTF-8 text", "is it the right file?") from error
    except csv.Error as error:
        raise InputError(f"{what} {path} is not CSV ({error})", "is a quotation mark left open?") from error


def _check_columns(columns: list[str], path: Path) -> None:
    missing = [name for name in ("clip", "verb") if name not in columns]
    if missing:
        hint = f"the first line names the columns: {', '.join(_COLUMNS)}, or a role each ({KNOWN_OWN_KEYS})"
        raise InputError(f"annotation file {path}, line 1: no column {missing[0]}", hint)
    for name in columns:
        if name not in _COLUMNS and parse_own_key(name) is None:
            raise InputError(f"annotation file {path}, line 1: no such column '{name}'", f"roles: {KNOWN_OWN_KEYS}")


def _record_of_row(cells: dict[str, str]) -> dict[str, Any] | Problem:
    """Return a record of the JSON form; ``roles`` holds ``ROLE=VALUE; ROLE=VALUE``, the column of a role its value."""
    roles: dict[str, str] = {}
    for part in filter(str.strip, cells.get("roles", "").split(";")):
        name, equals, value = part.partition("=")
        if not equals:
            return Problem(f"roles: '{part.strip()}' is not ROLE=VALUE")
        if name.strip() in roles:
            return Problem(f"roles: '{name.strip()}' comes twice")
        roles[name.strip()] = value
    roles |= {name: cells[name] for name in cells if name not in _COLUMNS and cells[name].strip()}
    record: dict[str, Any] = {"clip": cells["clip"].strip(), "verb": cells["verb"].strip(), "roles": roles}
    for name, kind in (("event", int), ("annotation", int), ("start_seconds", float), ("end_seconds", float)):
        if cells.get(name, "").strip():
            try:
                record[name] = kind(cells[name])
            except ValueError:
                return Problem(f"{name}: '{cells[name]}' is not a {'whole ' if kind is int else ''}number")
    return record


def _argument(key: str, value: str) -> Argument:
    parsed = parse_own_key(key)
    if parsed is None:
        raise Problem(f"roles: '{key}' is not a role; known: {KNOWN_OWN_KEYS}")
    refuse_unusable(key, "roles")
    refuse_unusable(value, f"roles, '{key}'")
    return Argument(*parsed, clean_value(value))


def _times(event: Event) -> tuple[float | None, float | None]:
    start, end = event.start_seconds, event.end_seconds
    if (start is None) != (end is None):
        raise Problem("start_seconds and end_seconds: one is there without the other")
    if start is not None and end is not None and not (math.isfinite(end) and start < end):
        raise Problem(f"end_seconds: {end:g} is not after start_seconds, {start:g}")
    return start, end


def _readable(error: msgspec.ValidationError) -> str:
    """Return msgspec's message with the key first: "event: Expected `int`, got `str`"."""
    message, _, path = str(error).partition(" - at `$.")
    return f"{path.rstrip('`')}: {message}" if path else message
