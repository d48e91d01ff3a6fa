"""Which format a captions file has, by its content, and what it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.evaluate.datasets.captions_text import (
    LSMDC_COLUMNS,
    MSRVTT_1KA_HEADER,
    header_of,
    is_jsonl_record,
)
from figclip_cli.evaluate.datasets.common import numbered_lines, parse_json, read_text
from figclip_cli.files import require_file
from figclip_cli.plain_pickle import read_plain_pickle
from figclip_cli.prompts.store import FORMAT as PROMPTS_FORMAT

FORMATS = ("msrvtt-1ka", "msrvtt-json", "msvd", "didemo", "lsmdc", "activitynet", "csv", "jsonl", "prompts")
PARAGRAPH_FORMATS = frozenset(("didemo", "activitynet"))
WHAT = "captions file"
_HINT = "pass --captions FILE"
_DOCUMENTS = ("msrvtt-json", "msvd", "didemo", "activitynet")
# A pickle since protocol 2, then lists and dicts of protocols 0 and 1, which begin with no instruction of their own.
_PICKLE_STARTS = (b"\x80", b"(dp", b"(lp", b"}q", b"]q")


def load(path: Path, name: str | None) -> tuple[str, Any]:
    """Return a file's format and its content: the text, or the value of one JSON document or pickle.

    Args:
        name: One of :data:`FORMATS`; None recognises it.

    Raises:
        InputError: The file is missing, cannot be read, or has no known format.
        UsageError: There is no format of that name.
    """
    if name is not None and name not in FORMATS:
        raise UsageError(f"there is no captions format '{name}'", nearest(name, FORMATS))
    require_file(path, WHAT, _HINT)
    if name == "prompts" or (name is None and _is_prompts(path)):
        return "prompts", None
    if name in (None, "msvd") and _is_pickle(path):
        return "msvd", read_plain_pickle(path, WHAT)
    text = read_text(path, WHAT, _HINT)
    if name in _DOCUMENTS:
        return str(name), parse_json(text, f"{WHAT} {path}")
    return (name, text) if name else _recognised(text, f"{WHAT} {path}")


def _is_prompts(path: Path) -> bool:
    """Return whether the first line is the header of figclip's own prompts, which a plain JSONL has not."""
    with path.open("rb") as file:
        if file.read(1) != b"{":
            return False
        line = b"{" + file.readline()
    if PROMPTS_FORMAT.encode() not in line:
        return False
    try:
        header = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and header.get("format") == PROMPTS_FORMAT


def _is_pickle(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(3).startswith(_PICKLE_STARTS)


def _recognised(text: str, where: str) -> tuple[str, Any]:
    if not text.strip():
        raise InputError(f"{where} is empty", "is it the right file?")
    if not text.lstrip().startswith(("{", "[")):
        return _name_of_table(text), text
    if _is_json_lines(text):
        return "jsonl", text
    value = parse_json(text, where)
    if is_jsonl_record(value):
        return "jsonl", text
    name = _name_of_document(value) if value else None
    if name is None:
        what = "JSON of no known format" if value else "empty JSON"
        raise InputError(f"{where} is {what}", f"formats: {', '.join(FORMATS)}")
    return name, value


def _name_of_table(text: str) -> str:
    first = text.split("\n", 1)[0]
    if first.count("\t") == LSMDC_COLUMNS - 1:
        return "lsmdc"
    return "msrvtt-1ka" if header_of(text) == MSRVTT_1KA_HEADER else "csv"


def _is_json_lines(text: str) -> bool:
    """Return whether the first line is an object and something follows it."""
    lines = numbered_lines(text)
    _, first = next(lines)
    if next(lines, None) is None:
        return False
    try:
        return isinstance(json.loads(first), dict)
    except (ValueError, RecursionError):
        return False


def _name_of_document(value: Any) -> str | None:
    if isinstance(value, list):
        return "didemo" if _has_records(value) and "description" in value[0] else None
    if any(_has_records(value.get(key)) for key in ("videos", "sentences", "annotations")):
        return "msrvtt-json"
    first = next(iter(value.values()))
    if isinstance(first, list):
        return "msvd"
    return "activitynet" if isinstance(first, dict) and "sentences" in first else None


def _has_records(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)
