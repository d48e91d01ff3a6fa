"""What readers of action lists have in common: rows with a name or an index, and checked tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import clip_id_of, csv_rows, quoted, read_text

LIST_WHAT = "action list"
LIST_HINT = (
    "lists of UCF101, HMDB51, Kinetics and Something-Something, lines 'path label', or a csv with the columns "
    "video_id and label"
)


@dataclass(frozen=True)
class Row:
    """One clip of a list.

    Attributes:
        clip_id: The clip's file name without ending.
        label: The class's name, or its index from 0 in the class file.
        where: File and line or record, for messages.
        names: What the clip's own path says its class is: names, each of which counts only where it is a class.
        number: The class's number from 1, where a list gives it beside the name (UCF101 train lists).
    """

    clip_id: str
    label: str | int
    where: str
    names: tuple[str, ...] = ()
    number: int | None = None


@dataclass(frozen=True)
class Listed:
    """One list, read.

    Attributes:
        path: The list.
        groups: Rows of each split of the list.
        unused: Rows of no split, which only the full set takes.
        files: All files that were read.
        several: Whether the list's splits are rounds of one protocol, all of them evaluated by default; otherwise
            they are train, val and the like, and one must be chosen.
        classes: All names of classes, where the list tells them apart from its rows.
        sort_classes: Whether names of classes found in rows are sorted, rather than taken as they come.
        remarks: For the result.
    """

    path: Path
    groups: dict[str, list[Row]]
    unused: list[Row] = field(default_factory=list)
    files: tuple[Path, ...] = ()
    several: bool = False
    classes: tuple[str, ...] = ()
    sort_classes: bool = False
    remarks: dict[str, Any] = field(default_factory=dict)


def clip_of(name: str, where: str) -> str:
    """Return the clip id of a file name or path.

    Raises:
        InputError: Nothing is left of it.
    """
    clip_id = clip_id_of(name)
    if not clip_id:
        raise InputError(f"{where}: no clip in {quoted(name)}", "is the file complete and of this format?")
    return clip_id


def small_number(text: str) -> int | None:
    """Return a whole number of at most nine ASCII digits, or None where the text is anything else."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 9 else None


def read_table(
    path: Path, needed: Sequence[Sequence[str]], what: str = LIST_WHAT, hint: str = LIST_HINT
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield place and cells by column of each row of a csv that has a header; blank rows are left out.

    Args:
        needed: Columns that the header must have; of several names in one of them, any will do.

    Raises:
        InputError: The file cannot be read as csv, a column is missing or comes twice, or a row has another number
            of columns.
    """
    place = f"{what} {path}"
    rows = csv_rows(read_text(path, what, hint), place)
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    absent = next((names for names in needed if not set(names) & set(header)), None)
    if absent:
        raise InputError(f"{place}: the header has no column {' or '.join(absent)}", hint)
    if len(set(header)) != len(header):
        raise InputError(f"{place}: a column comes twice in the header {quoted(','.join(header))}", hint)
    for number, row in rows[1:]:
        where = f"{place}, line {number}"
        if len(row) != len(header):
            raise InputError(
                f"{where}: {len(row)} columns, the header has {len(header)}",
                "put a name that has commas in double quotes",
            )
        yield where, {column: cell.strip() for column, cell in zip(header, row, strict=True)}


def filled(cells: dict[str, str], column: str, where: str) -> str:
    """Return a cell that must not be empty.

    Raises:
        InputError: It is empty, or there is no such column.
    """
    if not cells.get(column):
        raise InputError(f"{where}: {column} is empty", "fill it in, or leave the row out")
    return cells[column]
