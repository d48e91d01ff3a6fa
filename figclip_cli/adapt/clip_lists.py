"""Lists of clip ids, in the forms that data sets come with."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.files import require_file

_KEYS = ("clip_id", "clip", "vid_seg_int", "video_id", "video")
_HINT = "one id a line, a JSON list of ids, or a csv with a column clip_id"


def read_clip_lists(paths: Sequence[Path]) -> frozenset[str]:
    """Return the clip ids of all the lists together; see :func:`read_clip_list`."""
    return frozenset().union(*(read_clip_list(path) for path in paths))


def read_clip_list(path: Path) -> frozenset[str]:
    """Read a list of clip ids.

    A JSON list of ids (VidSitu's ``vseg_split_*.json``) or of objects, an object whose keys are ids, JSON lines such
    as ``prompts.jsonl``, a csv, or one id a line (``#`` begins a comment). In objects and csv the id is under
    ``clip_id``, ``clip``, ``vid_seg_int``, ``video_id`` or ``video``. An ending such as ``.mp4`` is cut off.

    Raises:
        InputError: The file is missing, of no such form, or names no clip.
    """
    require_file(path, "clip list", "check the path")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"clip list {path} is not UTF-8 text", "is it the right file?") from error
    if path.suffix.lower() == ".csv":
        found = _from_csv(path, text)
    elif text.lstrip()[:1] in ("[", "{"):
        found = _from_json(path, text)
    else:
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        found = [line for line in lines if line]
    if not found:
        raise InputError(f"clip list {path} names no clip", _HINT)
    return frozenset(_without_ending(clip_id) for clip_id in found)


def _without_ending(clip_id: str) -> str:
    return clip_id[: -len(Path(clip_id).suffix)] if clip_id.lower().endswith((".mp4", ".webm", ".mkv")) else clip_id


def _from_csv(path: Path, text: str) -> list[str]:
    reader = csv.DictReader(text.splitlines())
    column = next((key for key in _KEYS if key in (reader.fieldnames or ())), None)
    if column is None:
        raise InputError(f"clip list {path} has no column {', '.join(_KEYS)}", _HINT)
    return [row[column].strip() for row in reader if (row[column] or "").strip()]


def _from_json(path: Path, text: str) -> list[str]:
    try:
        document: Any = json.loads(text)
    except json.JSONDecodeError:
        document = _from_lines(path, text)
    if isinstance(document, dict):  # by its keys one object, or a file of JSON lines that has one line
        if document and all(isinstance(value, list) for value in document.values()):
            named = ", ".join(f"'{key}'" for key in list(document)[:4])
            raise InputError(f"clip list {path} is an object of lists: {named}", "write the one you mean to a file")
        is_line = "format_version" in document or any(isinstance(document.get(key), str) for key in _KEYS)
        document = _without_header([document]) if is_line else list(document)
    found = [one if isinstance(one, str) else _id_of(one) for one in document]
    if any(one is None for one in found):
        raise InputError(f"clip list {path}: entry {found.index(None) + 1} has no clip id", _HINT)
    return [one for one in found if one]


def _from_lines(path: Path, text: str) -> list[Any]:
    """Return the objects of a file of JSON lines; a first line that is a header of figclip's own is passed over."""
    documents = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                documents.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise InputError(f"clip list {path} is not JSON (line {number}: {error.msg})", _HINT) from error
    return _without_header(documents)


def _without_header(documents: list[Any]) -> list[Any]:
    is_headed = documents and isinstance(documents[0], dict) and "format_version" in documents[0]
    return documents[1:] if is_headed else documents


def _id_of(entry: Any) -> str | None:
    """Return the clip id of an object; VidSitu's annotation has it one level down, in each of its events."""
    if not isinstance(entry, dict):
        return None
    for key in _KEYS:
        if isinstance(entry.get(key), str):
            return str(entry[key])
    return next((found for value in entry.values() if (found := _id_of(value)) is not None), None)
