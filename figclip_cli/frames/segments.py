"""Lists of segments: which part of which file is which clip."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from figclip_cli.errors import InputError
from figclip_cli.files import require_file
from figclip_cli.frames.clip import Source, named_part_seconds, printable

_COLUMNS = ("clip_id", "file", "start", "end")
_WHAT = "segments file"


def read_segments(path: Path, folders: Sequence[Path], videos: Mapping[str, Path]) -> list[Source]:
    """Return the clips that a list names, in its order.

    A ``.csv`` has the columns clip_id, file, start and end (seconds; empty start and end are the file's own). Any
    other file is a JSON list of VidSitu ids, as in ``vseg_split_*.json``, or has one id a line; the clip
    ``v_ID_seg_60_70`` is the file of that name, else the part from 60 to 70 s of the file ``ID`` or ``v_ID``.

    Args:
        path: The list.
        folders: Where files named in a csv are looked for.
        videos: Videos found, by name without ending.

    Raises:
        InputError: The list cannot be read, a line is wrong, or an id occurs twice.
    """
    require_file(path, _WHAT, "check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{_WHAT} {path} is not UTF-8 text", "is it the right file?") from error
    sources = _from_csv(path, text, folders) if path.suffix.lower() == ".csv" else _from_ids(path, text, videos)
    if not sources:
        raise InputError(f"{_WHAT} {path} names no clip", "a csv needs the columns clip_id,file,start,end")
    seen: set[str] = set()
    for source in sources:
        if source.clip_id in seen:
            raise InputError(f"clip '{source.clip_id}' is twice in {path}", "give each part its own id")
        seen.add(source.clip_id)
    return sources


def _from_csv(path: Path, text: str, folders: Sequence[Path]) -> list[Source]:
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(f"{path} lacks the column {missing[0]}", "the first line must be clip_id,file,start,end")
    sources = []
    for row in reader:
        where = f"{path}, line {reader.line_num}"
        clip_id, file = (row["clip_id"] or "").strip(), (row["file"] or "").strip()
        if not clip_id or not file:
            raise InputError(f"{where}: no {'clip_id' if not clip_id else 'file'}", "fill it in or remove the line")
        start, end = _seconds(row["start"], where), _seconds(row["end"], where)
        if end is not None and end <= (start or 0.0):
            raise InputError(f"{where}: the end {end:g} is not after the start {start or 0:g}", "both are in seconds")
        sources.append(Source(clip_id, _place(file, folders), start or 0.0, end))
    return sources


def _seconds(text: str | None, where: str) -> float | None:
    if not (text or "").strip():
        return None
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"{where}: '{text}' is no time in seconds", "write 12.5 for twelve and a half seconds")
    return value


def _place(file: str, folders: Sequence[Path]) -> Path:
    candidates = [folder / file for folder in folders] or [Path(file)]
    return next((candidate for candidate in candidates if candidate.exists()), candidates[0])


def _from_ids(path: Path, text: str, videos: Mapping[str, Path]) -> list[Source]:
    try:
        ids = json.loads(text) if text.lstrip().startswith(("[", "{", '"')) else text.split()
    except json.JSONDecodeError as error:
        raise InputError(f"{_WHAT} {path} is not JSON (line {error.lineno}: {error.msg})", "is it complete?") from error
    if not isinstance(ids, list) or not all(isinstance(one, str) for one in ids):
        raise InputError(f"{_WHAT} {path} is no list of clip ids", "as in VidSitu's vseg_split_train_lb.json")
    return [_named(clip_id, videos) for clip_id in ids]


def _named(clip_id: str, videos: Mapping[str, Path]) -> Source:
    part = named_part_seconds(clip_id)
    if clip_id not in videos and part is not None:
        whole = clip_id[: clip_id.rindex("_seg_")]
        for name in (whole, whole.removeprefix("v_")):
            if name in videos:
                return Source(clip_id, videos[name], *part)
    return Source(clip_id, videos.get(clip_id, Path(printable(Path(clip_id)))))
