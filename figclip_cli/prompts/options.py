"""What a user can choose about prompts, and what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from figclip_cli.errors import UsageError, nearest
from figclip_cli.prompts.annotations import AUTO
from figclip_cli.prompts.kinds import ROLE_NOUN, TEMPORAL, VERB_ROLE
from figclip_cli.prompts.negatives import checked_requests
from figclip_cli.prompts.overflow import OnOverflow
from figclip_cli.prompts.templates import PAPER


@dataclass(frozen=True)
class PromptOptions:
    """What the texts are to be.

    Attributes:
        seed: Decides every random choice.
        template: ``paper``, ``natural``, ``verb-only``, ``nouns-only``, ``shuffled``, or the path of a template file.
        negatives: Number of negatives per event, by kind (:data:`~figclip_cli.prompts.kinds.REQUESTS`).
        balance: Make verbs and values come as often in negatives as in prompts.
        on_overflow: What to do with a prompt over the model's context: ``drop``, ``truncate`` or ``error``.

    Raises:
        UsageError: There is no such kind, rule or template, or a number is below zero.
    """

    seed: int = 0
    template: str = PAPER
    negatives: Mapping[str, int] = field(default_factory=lambda: {VERB_ROLE: 4, ROLE_NOUN: 2})
    balance: bool = False
    on_overflow: OnOverflow = "drop"

    def __post_init__(self) -> None:
        object.__setattr__(self, "negatives", checked_requests(self.negatives))
        if self.on_overflow not in get_args(OnOverflow):
            hint = nearest(self.on_overflow, get_args(OnOverflow))
            raise UsageError(f"no rule '{self.on_overflow}' for overflow", hint)

    @property
    def per_event(self) -> dict[str, int]:
        """The negatives of single events."""
        return {kind: number for kind, number in self.negatives.items() if kind != TEMPORAL}

    @property
    def temporal(self) -> int:
        """Negatives per joined text, its events in another order."""
        return self.negatives.get(TEMPORAL, 0)


@dataclass(frozen=True)
class Inputs:
    """What the texts are made of.

    Attributes:
        annotations: Annotation files.
        format_name: Their format; ``auto`` finds it out.
        split: Keep only the clips that this list names, also as a source of other verbs and nouns.
        vinfo: Verbs that annotators gave beside the annotation (VidSitu's ``vinfo_valid_lb.json``).
        nouns: imSitu's ``imsitu_space.json``.
        strict: Make the first record that breaks its format an error, instead of leaving it out.
    """

    annotations: Sequence[Path]
    format_name: str = AUTO
    split: Path | None = None
    vinfo: Path | None = None
    nouns: Path | None = None
    strict: bool = False
