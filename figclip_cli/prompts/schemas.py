"""JSON schemas of the files that people write for figclip, or read from it."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from figclip_cli.errors import UsageError, nearest
from figclip_cli.prompts.formats import simple
from figclip_cli.prompts.store import FORMAT, FORMAT_VERSION, PromptEvent

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NAMES = ("annotations", "prompts")


def schema(name: str) -> dict[str, Any]:
    """Return the JSON schema of ``annotations`` (the simple form) or of one line of ``prompts`` (prompts.jsonl).

    Raises:
        UsageError: There is no such schema.
    """
    if name == "annotations":
        whole = msgspec.json.schema(simple.Document)
        return {"$schema": DIALECT, "title": "figclip annotations", **_tidy(whole)}
    if name == "prompts":
        _, definitions = msgspec.json.schema_components([PromptEvent], ref_template="#/$defs/{name}")
        lines = [{"$ref": "#/$defs/Header"}, {"$ref": "#/$defs/PromptEvent"}]
        all_definitions = {**definitions, "Header": _header()}
        return {"$schema": DIALECT, "title": "a line of prompts.jsonl", "anyOf": lines, "$defs": _tidy(all_definitions)}
    raise UsageError(f"no schema '{name}'", nearest(name, NAMES))


def _tidy(node: Any) -> Any:
    """Return a schema whose descriptions, which are our docstrings, have no indentation."""
    if isinstance(node, dict):
        return {
            key: inspect.cleandoc(value) if key == "description" and isinstance(value, str) else _tidy(value)
            for key, value in node.items()
        }
    return [_tidy(each) for each in node] if isinstance(node, list) else node


def _header() -> dict[str, Any]:
    return {
        "title": "Header",
        "description": "The first line.",
        "type": "object",
        "properties": {
            "format": {"const": FORMAT},
            "format_version": {"const": FORMAT_VERSION},
            "tool_version": {"type": "string"},
            "options": {"type": "object"},
            "seed": {"type": "integer"},
            "sources": {"type": "array", "items": {"type": "object"}},
            "counts": {"type": "object", "required": ["events"]},
        },
        "required": ["counts", "format", "format_version", "options", "seed", "sources", "tool_version"],
    }
