"""Text from elsewhere inside Markdown: on one line, and unable to end the place where it stands."""

from __future__ import annotations

import re


def one_line(text: str) -> str:
    """Return text on one line, of printable letters only."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def inline(text: str) -> str:
    """Return text for a sentence or a cell of a table: without what begins code, a link, a tag or another cell."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", one_line(text))


def code(text: str) -> str:
    """Return text as code inside a sentence or a cell of a table."""
    return f"`{one_line(text).replace('`', chr(39)).replace('|', '/')}`"


def fenced(text: str, language: str = "") -> str:
    """Return lines as a block of code that none of them can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"
