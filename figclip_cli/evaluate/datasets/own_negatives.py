"""The hard negatives of our own prompts.jsonl: each is one choice on the frames of its event."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import assembled, known_files, macro
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import quoted
from figclip_cli.prompts import PromptEvent, read_prompts
from figclip_cli.prompts.kinds import KINDS

_RULE = PartRule("micro", "strict")
_WHAT = "prompts file"


def read_own_negatives(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read the negatives, part by kind, group by verb sense; ``macro`` is the mean of the kinds.

    Raises:
        InputError: A file is broken, no prompt has a negative, or an event is in two files.
    """
    found = known_files(paths, ("prompts.jsonl",), _WHAT)
    files = [read_prompts(path) for path in found.paths]
    events = [event for file in files for event in file.events]
    choices = [choice for event in events for choice in _choices(event)]
    if not choices:
        message = f"{_WHAT} {', '.join(map(str, found.paths)):.120} has no negatives"
        raise InputError(message, "build it with `figclip build-prompts --negatives`")
    parts = sorted({choice.part for choice in choices}, key=lambda part: (_place(part), part))
    without = sum(not event.negatives for event in events)
    made = assembled(
        benchmark,
        paths,
        found.paths,
        choices,
        dict.fromkeys(parts, _RULE),
        averages=macro("macro", parts),
        remarks={"events": len(events), "events_without_negatives": without},
        ignored=found.ignored,
        uses="clips",
    )
    return replace(made, events_per_clip=max(file.events_per_clip for file in files))


def _place(kind: str) -> int:
    return KINDS.index(kind) if kind in KINDS else len(KINDS)


def _choices(event: PromptEvent) -> list[Choice]:
    name = f"{event.clip_id}/{event.annotation_index}/{event.event_index}"
    choices = []
    for number, negative in enumerate(event.negatives):
        texts = event.text.strip(), negative.text.strip()
        if not all(texts) or not negative.kind.strip():
            where = f"{_WHAT}, event {quoted(name)}, negative {number}"
            raise InputError(f"{where}: empty text or kind", "build the file again")
        look = Look(clip_id=event.clip_id, event_index=event.event_index)
        choices.append(Choice(f"{name}/{number}", (look,), texts, negative.kind, event.verb_sense))
    return choices
