"""``figclip schema``: JSON schemas of figclip's files."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from figclip_cli.console import Terminal


def schema(
    terminal: Terminal,
    name: Annotated[str, typer.Argument(metavar="annotations|prompts", help="Which file.")],
) -> None:
    """Print the JSON schema of figclip's own annotation form, or of a line of prompts.jsonl."""
    from figclip_cli.prompts.schemas import schema as schema_of

    document = schema_of(name)
    terminal.result(document, text=json.dumps(document, indent=2, ensure_ascii=False))
