"""What the readers of all benchmarks share: clip ids, lists of ids, and checked JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.files import require_file
from figclip_cli.frames.sources import VIDEO_ENDINGS
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.formats.checks import refuse_unusable

# Endings of video files; whatever else follows a dot belongs to the id (LSMDC's ids hold times with dots).
VIDEO_SUFFIXES = VIDEO_ENDINGS | {".3g2", ".mts", ".m2ts"}
ID_COLUMNS = ("clip_id", "video_id", "video")
_COMPLETE = "is the file complete?"
_ID_LIST = "list of clips"
_ID_LIST_HINT = "one id to a line, a csv with a column video_id, or a JSON list"


def clip_id_of(name: str) -> str:
    """Return the clip id that ``extract-frames`` gives a file: the last part of its path without a video ending."""
    path = PurePosixPath(name.strip().replace("\\", "/"))
    return path.stem if path.suffix.lower() in VIDEO_SUFFIXES else path.name


def read_text(path: Path, what: str, hint: str) -> str:
    """Return a text file's content, without a byte-order mark, line ends as ``\\n``.

    Args:
        what: What the file is to the user, for example ``"captions file"``.

    Raises:
        InputError: The file is missing, a folder, or not UTF-8.
    """
    require_file(path, what, hint)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not UTF-8 text", "is it the right file?") from error


def read_lines(path: Path, what: str, hint: str) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the stripped text of each line that is not blank."""
    yield from numbered_lines(read_text(path, what, hint))


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the stripped text of each line that is not blank.

    Lines end with ``\\n`` alone: ``str.splitlines`` would cut a caption at a form feed or at U+2028 too, both of
    which JSON allows inside a string.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if stripped := line.strip():
            yield number, stripped


class _RepeatedKey(ValueError):
    """An object has a key twice."""


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1))
    return made


def parse_json(text: str, where: str, hint: str = _COMPLETE) -> Any:
    """Return the value of a JSON text.

    Python's parser keeps the last of two equal keys without a word; here they are refused, because a benchmark that
    is keyed by clip would lose one of them.

    Args:
        where: The file, and the line where there are several values.

    Raises:
        InputError: The text is not JSON, is nested too deep to read, or an object has a key twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_object_of)
    except json.JSONDecodeError as error:
        many_lines = "\n" in text.strip()
        place = f"line {error.lineno}, column {error.colno}" if many_lines else f"column {error.colno}"
        raise InputError(f"{where}: not JSON ({place}: {error.msg})", hint) from error
    except _RepeatedKey as error:
        raise InputError(f"{where}: an object has the key {quoted(str(error))} twice", "leave one out") from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deep", hint) from error
    except ValueError as error:  # a whole number of thousands of digits
        raise InputError(f"{where}: a number has too many digits", hint) from error


def read_json_document(path: Path, what: str, hint: str) -> Any:
    """Return the value of a JSON file, checked as :func:`parse_json` does.

    Raises:
        InputError: The file is missing, a folder, not UTF-8, or not JSON.
    """
    return parse_json(read_text(path, what, hint), f"{what} {path}", hint)


def read_json_lines(path: Path, what: str, hint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number, from 1, and the object of each line of a JSONL file.

    Raises:
        InputError: A line is not a JSON object; the message names it.
    """
    yield from parse_json_lines(read_text(path, what, hint), f"{what} {path}", hint)


def parse_json_lines(text: str, where: str, hint: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number, from 1, and the object of each line that is not blank.

    Raises:
        InputError: A line is not a JSON object; the message names it.
    """
    for number, line in numbered_lines(text):
        value = parse_json(line, f"{where}, line {number}", hint)
        if not isinstance(value, dict):
            raise InputError(f"{where}, line {number}: not a JSON object", hint)
        yield number, value


def read_id_list(path: Path) -> tuple[str, ...]:
    """Read clip ids: one to a line, a csv with a column of ids, or a JSON list; video endings are dropped.

    Of a JSON object the keys are the ids, as in ActivityNet's ``val_1.json``.

    Raises:
        InputError: The file is missing, has no ids, an empty id, or names one twice.
    """
    where = f"{_ID_LIST} {path}"
    text = read_text(path, _ID_LIST, _ID_LIST_HINT)
    if path.suffix.lower() == ".json" or text.lstrip().startswith(("[", "{")):
        names = _names_from_json(parse_json(text, where, _ID_LIST_HINT), where)
    else:
        names = _names_from_lines(text, where)
    ids = []
    for place, name in names:
        check_text(name, f"{where}, {place}")
        ids.append(clip_id_of(name))
        if not ids[-1]:
            raise InputError(f"{where}, {place}: empty id", _ID_LIST_HINT)
    if not ids:
        raise InputError(f"{where} has no ids", _ID_LIST_HINT)
    refuse_repeated(ids, where)
    return tuple(ids)


def _names_from_json(value: Any, where: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and any(isinstance(one, list) for one in value.values()):
        named = ", ".join(quoted(key) for key in list(value)[:4])
        raise InputError(f"{where} is an object of lists: {named}", "write the list you mean to a file of its own")
    if not isinstance(value, (list, dict)) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{where} is not a JSON list of names", _ID_LIST_HINT)
    return [(f"entry {number}", name) for number, name in enumerate(value, start=1)]


def _names_from_lines(text: str, where: str) -> list[tuple[str, str]]:
    lines = list(numbered_lines(text))
    header = _cells_of(lines[0][1], where) if lines else []
    names = [name.strip() for name in header]
    column = next((names.index(name) for name in ID_COLUMNS if name in names), None)
    if column is None:
        return [(f"line {number}", line) for number, line in lines]
    rows = csv_rows(text, where)[1:]
    for number, row in rows:
        if len(row) != len(names):
            found = f"{len(row)} columns, the header has {len(names)}"
            raise InputError(f"{where}, line {number}: {found}", "put a cell that has commas in double quotes")
    return [(f"line {number}", row[column]) for number, row in rows]


def _cells_of(line: str, where: str) -> list[str]:
    # An id may hold a quotation mark; only a line that begins with one is taken for a header with quotes.
    if not line.startswith('"'):
        return line.split(",")
    return next((row for _, row in csv_rows(line, where)), [])


def csv_rows(text: str, where: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a csv that are not blank, each with the number, from 1, of its last line.

    Raises:
        InputError: The csv is broken: a quotation mark left open, or a cell of more than 128 KiB.
    """
    reader = csv.reader(io.StringIO(text), strict=True)
    try:
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        # Not strict, the reader would take the rest of the file for one cell.
        place = f"line {reader.line_num}"
        raise InputError(f"{where}, {place}: not csv ({error})", "is a quotation mark left open?") from error


def refuse_repeated(ids: Sequence[str], where: str) -> None:
    """Raise an :class:`InputError` that names the first id that occurs twice."""
    if len(set(ids)) == len(ids):
        return
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise InputError(f"{where} names {quoted(name)} twice", "leave one of the two out")
        seen.add(name)


def require_str(record: dict[str, Any], key: str, where: str) -> str:
    """Return a record's text under ``key``, stripped.

    Raises:
        InputError: It is missing, empty or no text; ``where`` says which record of which file.
    """
    value = record.get(key)
    if not isinstance(value, str) or not value.strip():
        shown = "missing" if key not in record else "empty" if value == "" else shown_value(value)
        raise InputError(f"{where}: '{key}' is {shown}, expected a text", "is the file complete and of this format?")
    check_text(value, f"{where}: '{key}'")
    return value.strip()


def check_text(text: str, where: str) -> None:
    """Refuse a text that no file can hold (half of a surrogate pair) or that holds the tokenizer's own marks.

    Raises:
        InputError: It is such a text; the message begins with ``where``.
    """
    try:
        refuse_unusable(text, where)
    except Problem as problem:
        raise InputError(str(problem), "correct the text in the file") from None


def quoted(text: str) -> str:
    """Return a name in quotes for a message: one line, short, and printable whatever it holds."""
    shown = ascii(text)[1:-1] if not text.isprintable() else text
    return f"'{shown if len(shown) <= 60 else shown[:57] + '...'}'"


def shown_value(value: object) -> str:
    """Return a value for a message: scalars as they are, cut after 40 letters, the others by their type."""
    if isinstance(value, str):
        return f"{value[:40]!r}"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 64:
        return "a long number"
    if isinstance(value, (int, float)):
        return f"{value!r}"
    return "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else type(value).__name__
