"""The sentence made of an event, and when two sentences say the same."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from figclip_cli.prompts.roles import GENERIC_NAMES, Role

PAPER = "paper"
"""Name of the template of FiGCLIP (section 3): every noun is bound to the name of its role."""

_TRAILING = " .,;:!?-\N{EN DASH}\N{EM DASH}_\N{HORIZONTAL ELLIPSIS}"
_WORD = re.compile(r"\w+")
_ARTICLES = frozenset({"a", "an", "the"})


def clean_value(value: str) -> str:
    """Return a value on one line, without extra spaces and trailing punctuation; ``...`` becomes empty."""
    return " ".join(value.split()).rstrip(_TRAILING)


def paper_prompt(verb: str, roles: Iterable[Role]) -> str:
    """Return ``In this photo, the action is VERB, the NAME is VALUE, ...``, roles in the order given.

    Numbered roles read "the walker is man"; modifiers and the scene read "direction is forward".
    """
    parts = [f"In this photo, the action is {verb}"]
    parts += [f"{'the ' if role.arg in GENERIC_NAMES else ''}{role.name} is {role.value}" for role in roles]
    return ", ".join(parts) + "."


def normalised(text: str) -> str:
    """Return a text without case, articles, punctuation and extra spaces: equal results say the same."""
    return " ".join(filter(None, map(_normalised_chunk, text.split())))


@lru_cache(maxsize=1 << 18)
def _normalised_chunk(chunk: str) -> str:
    """Return the words between two spaces, normalised; no word reaches across a space."""
    return " ".join([word for word in _WORD.findall(chunk.lower()) if word not in _ARTICLES])


def last_word(value: str) -> str:
    """Return the last word of a value, normalised; empty where it has none."""
    return normalised(value).rpartition(" ")[2]
