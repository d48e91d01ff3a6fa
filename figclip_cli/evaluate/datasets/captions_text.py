"""Rows of the captions files that are lines of text: csv, JSON lines and LSMDC's table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.captions_rows import Row
from figclip_cli.evaluate.datasets.common import ID_COLUMNS, csv_rows, parse_json_lines

TEXT_COLUMNS = ("caption", "sentence", "text")
MSRVTT_1KA_HEADER = ("key", "vid_key", "video_id", "sentence")
LSMDC_COLUMNS = 6
_CSV_HINT = f"a csv needs a header with one of {', '.join(ID_COLUMNS)} and one of {', '.join(TEXT_COLUMNS)}"
_JSONL_HINT = f"a line is an object with one of {', '.join(ID_COLUMNS)} and one of {', '.join(TEXT_COLUMNS)}"


def header_of(text: str) -> tuple[str, ...]:
    """Return the stripped cells of the first line, commas between them; for recognition, so nothing is refused."""
    return tuple(cell.strip().strip('"') for cell in text.split("\n", 1)[0].split(","))


def csv_captions(text: str, where: str) -> Iterator[Row]:
    """Yield the rows of a csv; its header names the columns."""
    rows = csv_rows(text, where)
    header = [cell.strip() for cell in rows[0][1]] if rows else []
    clip, caption = _column(header, ID_COLUMNS), _column(header, TEXT_COLUMNS)
    if clip is None or caption is None:
        named = " ".join(", ".join(header).split())[:120]
        raise InputError(f"{where} has the columns {named or 'none'}", _CSV_HINT)
    for used in (header[clip], header[caption]):
        if header.count(used) > 1:
            raise InputError(f"{where}, line 1: the column {used} comes twice", "remove one of them")
    for number, row in rows[1:]:
        if len(row) != len(header):
            found = f"{len(row)} columns, the header has {len(header)}"
            raise InputError(f"{where}, line {number}: {found}", "put a caption that has commas in double quotes")
        yield f"line {number}", row[clip], row[caption]


def msrvtt_1ka_captions(text: str, where: str) -> Iterator[Row]:
    """Yield the rows of ``MSRVTT_JSFUSION_test.csv``: 1,000 clips with a sentence each."""
    rows = csv_rows(text, where)
    header = tuple(cell.strip() for cell in rows[0][1]) if rows else ()
    if header != MSRVTT_1KA_HEADER:
        raise InputError(f"{where} is not msrvtt-1ka: its header is not {','.join(MSRVTT_1KA_HEADER)}", _CSV_HINT)
    return csv_captions(text, where)


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def jsonl_captions(text: str, where: str) -> Iterator[Row]:
    """Yield the captions of JSON lines; a list of captions gives a row for each."""
    for number, record in parse_json_lines(text, where, _JSONL_HINT):
        clip, caption = _key(record, ID_COLUMNS), _key(record, TEXT_COLUMNS)
        if clip is None or caption is None:
            names = " or ".join(ID_COLUMNS if clip is None else TEXT_COLUMNS)
            raise InputError(f"{where}, line {number}: no {names}", _JSONL_HINT)
        value = record[caption]
        if not isinstance(value, list):
            yield f"line {number}", record[clip], value
            continue
        if not value:
            raise InputError(f"{where}, line {number}: '{caption}' is an empty list", "fill it in")
        for one in value:
            yield f"line {number}", record[clip], one


def _key(record: dict[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in record), None)


def is_jsonl_record(value: Any) -> bool:
    """Return whether a JSON value is one line of a file of captions."""
    if not isinstance(value, dict):
        return False
    clip, caption = _key(value, ID_COLUMNS), _key(value, TEXT_COLUMNS)
    return clip is not None and caption is not None and not isinstance(value[clip], (list, dict))


def lsmdc_captions(text: str, where: str) -> Iterator[Row]:
    """Yield the rows of LSMDC's table: clip, four times (aligned, extracted), sentence; tabs, no header, no quoting."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != LSMDC_COLUMNS:
            found = f"{len(cells)} columns with tabs between them, LSMDC's table has {LSMDC_COLUMNS}"
            raise InputError(f"{where}, line {number}: {found}", "clip, four times, and the sentence")
        yield f"line {number}", cells[0], cells[-1]
