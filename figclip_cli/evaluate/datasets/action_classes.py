"""Class files: names of classes in their order, as each data set publishes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.action_rows import (
    filled,
    read_table,
    small_number,
)
from figclip_cli.evaluate.datasets.class_names import positions
from figclip_cli.evaluate.datasets.common import check_text, read_json_document, read_lines

_WHAT = "class file"
_HINT = "one name to a line, lines 'number name', a csv with the columns id and name, or JSON of names"


def read_class_names(path: Path) -> tuple[str, ...]:
    """Read the names of classes, by index.

    Known forms: UCF101's ``classInd.txt`` (``1 ApplyEyeMakeup``, numbers from 1 or 0), one name to a line (mmaction's
    label maps), a csv ``id,name`` with ids from 0 (X-CLIP, ViFi-CLIP), a JSON list, and Something-Something's JSON
    object from name to index. Double quotes around a name are not part of it.

    Raises:
        InputError: The file is missing or of no known form, its numbers have a gap or a repetition, or two names are
            equal but for case, spaces and punctuation.
    """
    is_json = path.suffix.lower() == ".json"
    written = _from_json(path, read_json_document(path, _WHAT, _HINT)) if is_json else _from_text(path)
    names = [_unquoted(name) for name in written]
    for name in names:
        check_text(name, f"{_WHAT} {path}")
    positions(names, f"{_WHAT} {path}")
    return tuple(names)


def _unquoted(name: str) -> str:
    name = name.strip()
    return name[1:-1].strip() if len(name) > 2 and name[0] == name[-1] == '"' else name


def _from_json(path: Path, value: Any) -> list[str]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return list(value)
    if isinstance(value, dict):
        numbers = {name: small_number(str(index)) for name, index in value.items()}
        if not any(isinstance(index, bool) for index in value.values()):
            return _ordered(path, [(number, name) for name, number in numbers.items()])
    raise InputError(f"{_WHAT} {path} is neither a JSON list of names nor an object from name to index", _HINT)


def _from_text(path: Path) -> list[str]:
    lines = [line for _, line in read_lines(path, _WHAT, _HINT)]
    if lines and [cell.strip() for cell in lines[0].split(",")] == ["id", "name"]:
        table = read_table(path, [("id",), ("name",)], _WHAT, _HINT)
        return _ordered(path, [(small_number(cells["id"]), filled(cells, "name", where)) for where, cells in table])
    _refuse_other_tables(path, lines)
    parts = [line.split(maxsplit=1) for line in lines]
    numbers = [small_number(part[0]) if len(part) == 2 else None for part in parts]
    if lines and None not in numbers:
        numbered = [(number, part[1]) for number, part in zip(numbers, parts, strict=True)]
        return _ordered(path, numbered, first=0 if 0 in numbers else 1)
    return lines


def _refuse_other_tables(path: Path, lines: list[str]) -> None:
    """Refuse numbers after the name, and a csv without header: as plain names they would go into the prompts."""
    if len(lines) < 2:
        return
    if all(small_number(line.split()[-1]) is not None and len(line.split()) > 1 for line in lines):
        raise InputError(f"{_WHAT} {path} has lines 'name number', which is no known form", _HINT)
    if all(small_number(line.split(",")[0]) is not None for line in lines):
        raise InputError(f"{_WHAT} {path} has lines that begin with a number, but no names or no header", _HINT)


def _ordered(path: Path, numbered: list[tuple[int | None, str]], first: int = 0) -> list[str]:
    """Return names by number; the numbers run from ``first`` without gaps, each once."""
    by_number = {number: name for number, name in numbered if number is not None}
    wanted = range(first, first + len(numbered))
    missing = next((number for number in wanted if number not in by_number), None)
    if missing is not None:
        raise InputError(
            f"{_WHAT} {path} numbers {len(numbered)} classes, but none has the number {missing}",
            f"numbers go from {first} without gaps; known forms: {_HINT}",
        )
    return [by_number[number] for number in wanted]
