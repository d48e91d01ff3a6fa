"""Stage 2: annotated events in, prompts and hard negatives out."""

from __future__ import annotations

from figclip_cli.prompts.build import PromptSummary, build
from figclip_cli.prompts.options import Inputs, PromptOptions
from figclip_cli.prompts.roles import Role
from figclip_cli.prompts.store import Negative, PromptEvent, PromptsFile, read_prompts

__all__ = [
    "Inputs",
    "Negative",
    "PromptEvent",
    "PromptOptions",
    "PromptSummary",
    "PromptsFile",
    "Role",
    "build",
    "read_prompts",
]
