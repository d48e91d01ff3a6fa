"""Checks that all formats share; each names the key it is about."""

from __future__ import annotations

from typing import Any

from figclip_cli.prompts.events import Problem

_TYPE_NAMES = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
# The text tower takes its feature at the end token, so one inside a text would hide what follows.
_TOKENIZER_MARKS = ("<start_of_text>", "<end_of_text>")


def type_of(value: Any) -> str:
    """Return what JSON calls a value's type, with its article."""
    return _TYPE_NAMES.get(type(value), "a number")


def member(parent: dict[str, Any], key: str, kind: type, where: str = "") -> Any:
    """Return ``parent[key]``, which must be of one type; ``where`` is the path to ``parent``, empty for the record."""
    place = f"{where}, {key}" if where else key
    if key not in parent:
        raise Problem(f"{place} is missing")
    if not isinstance(parent[key], kind):
        raise Problem(f"{place} is {type_of(parent[key])}, not {_TYPE_NAMES.get(kind, 'a whole number')}")
    return parent[key]


def text(parent: dict[str, Any], key: str, where: str = "") -> str:
    """Return ``parent[key]``, a text that says something."""
    found: str = member(parent, key, str, where)
    place = f"{where}, {key}" if where else key
    if not found.strip():
        raise Problem(f"{place} is empty")
    refuse_unusable(found, place)
    return found


def refuse_unusable(text: str, where: str) -> None:
    """Refuse a text that is no Unicode, or that the tokenizer would take for its own marks."""
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Problem(f"{where} has half of a surrogate pair, which is no text") from None
    elif "<" not in text:
        return
    if any(mark in text.lower() for mark in _TOKENIZER_MARKS):
        raise Problem(f"{where} has {' or '.join(_TOKENIZER_MARKS)}, which the tokenizer takes for its own mark")
