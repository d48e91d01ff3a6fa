"""The annotation formats that figclip reads, one module each.

A format has a name, tells by a file's first record whether the file is its own, and parses one record at a time. A
record that breaks the format raises :class:`~figclip_cli.prompts.events.Problem`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from figclip_cli.prompts.events import Found
from figclip_cli.prompts.formats import imsitu, simple, srl, vidsitu


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What ``--format`` calls it.
        title: What a person calls it.
        recognises: Whether a record, with its key in an object of records (else None), is of this format.
        parse: What a record holds: record, key, and the names of imSitu's nouns.
    """

    name: str
    title: str
    recognises: Callable[[Any, str | None], bool]
    parse: Callable[[Any, str | None, imsitu.Nouns | None], list[Found]]


FORMATS = (
    Format("vidsitu", "VidSitu", vidsitu.recognises, vidsitu.parse),
    Format("imsitu", "imSitu or SWiG", imsitu.recognises, imsitu.parse),
    Format("srl", "AllenNLP SRL", srl.recognises, srl.parse),
    Format("simple", "figclip's simple form", simple.recognises, simple.parse),
)
