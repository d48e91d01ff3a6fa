"""Captions to retrieve with: MSR-VTT 1k-A csv, a plain csv, or our own prompts.jsonl.

The format is recognised by the file's content and named in the result.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from figclip_cli.errors import InputError
from figclip_cli.files import require_file, sha256_of_file
from figclip_cli.prompts import read_prompts

Level = Literal["video", "event"]

_MSRVTT_1KA_HEADER = ["key", "vid_key", "video_id", "sentence"]
_CLIP_COLUMNS = ("clip_id", "video_id", "video")
_TEXT_COLUMNS = ("caption", "sentence", "text")
_PROMPTS_PREFIX = "{"


@dataclass(frozen=True)
class Query:
    """One text query and the item it belongs to.

    Attributes:
        clip_id: The clip.
        event_index: The event of the clip, or None for the whole clip.
        texts: One caption; or several, whose features are averaged (the event prompts of a clip).
    """

    clip_id: str
    event_index: int | None
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Captions:
    """A captions file.

    Attributes:
        dataset_id: The file's name, for tables.
        sha256: Hash of the file.
        format: ``msrvtt-1ka``, ``csv`` or ``prompts``.
        queries: In file order.
    """

    dataset_id: str
    sha256: str
    format: str
    queries: tuple[Query, ...]


def read_captions(path: Path, *, level: Level = "video") -> Captions:
    """Read a captions file.

    Args:
        level: With prompts.jsonl, whether a query is a clip (the mean of its event prompts) or a single event.

    Raises:
        InputError: The file is missing, empty, of no known format, or has a broken row.
    """
    require_file(path, "captions file", "pass --captions FILE")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            if file.read(1) == _PROMPTS_PREFIX:
                return Captions(path.name, sha256_of_file(path), "prompts", _from_prompts(path, level))
            file.seek(0)
            if level == "event":
                raise InputError(f"{path} has captions of whole clips, not of events", "leave out --level event")
            name, queries = _from_csv(path, csv.reader(file))
    except UnicodeDecodeError as error:
        raise InputError(f"captions file {path} is not UTF-8 text", "is it the right file?") from error
    if not queries:
        raise InputError(f"captions file {path} has no captions", "is it the right file?")
    return Captions(path.name, sha256_of_file(path), name, queries)


def _from_prompts(path: Path, level: Level) -> tuple[Query, ...]:
    events = read_prompts(path).events
    if level == "event":
        return tuple(Query(event.clip_id, event.event_index, (event.text,)) for event in events)
    grouped: dict[tuple[str, int], list[str]] = defaultdict(list)
    for event in events:
        grouped[event.clip_id, event.annotation_index].append(event.text)
    return tuple(Query(clip_id, None, tuple(texts)) for (clip_id, _), texts in grouped.items())


def _from_csv(path: Path, rows: csv._reader) -> tuple[str, tuple[Query, ...]]:  # type: ignore[name-defined]
    header = [column.strip() for column in next(rows, [])]
    clip_column = next((header.index(name) for name in _CLIP_COLUMNS if name in header), None)
    text_column = next((header.index(name) for name in _TEXT_COLUMNS if name in header), None)
    if clip_column is None or text_column is None:
        raise InputError(
            f"captions file {path} has the columns {', '.join(header)[:120] or 'none'}",
            f"a csv needs a header with one of {', '.join(_CLIP_COLUMNS)} and one of {', '.join(_TEXT_COLUMNS)}",
        )
    queries = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise InputError(
                f"captions file {path}, line {rows.line_num}: {len(row)} columns, the header has {len(header)}",
                "put a caption that has commas in double quotes",
            )
        clip_id, text = row[clip_column].strip(), row[text_column].strip()
        if not clip_id or not text:
            raise InputError(f"captions file {path}, line {rows.line_num}: empty clip id or caption", "fill it in")
        queries.append(Query(clip_id, None, (text,)))
    return ("msrvtt-1ka" if header == _MSRVTT_1KA_HEADER else "csv"), tuple(queries)
