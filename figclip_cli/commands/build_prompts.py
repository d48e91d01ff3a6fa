"""``figclip build-prompts``: annotations -> prompts.jsonl."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from rich.table import Table

    from figclip_cli.prompts import PromptSummary

DEFAULT_PATTERN = "vsann_*_lb.json"


class Overflow(str, Enum):
    """What to do with a prompt over the model's context."""

    drop = "drop"
    truncate = "truncate"
    error = "error"


def build_prompts(
    terminal: Terminal,
    annotations: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ANNOTATIONS.json",
            help=f"VidSitu annotation files. Default: the one that matches {DEFAULT_PATTERN}.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Prompts file. Default: prompts.jsonl")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    verb_role_negatives: Annotated[
        int, typer.Option("--verb-role-negatives", help="Per event: another verb with its role names.", min=0)
    ] = 4,
    role_noun_negatives: Annotated[
        int, typer.Option("--role-noun-negatives", help="Per event: nouns exchanged or replaced.", min=0)
    ] = 2,
    on_overflow: Annotated[
        Overflow, typer.Option("--on-overflow", help="With a prompt of more than 77 tokens.")
    ] = Overflow.drop,
    split: Annotated[
        Path | None, typer.Option("--split", help="Keep only the clips of this vseg_split_*_lb.json.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing prompts file.")] = False,
) -> None:
    """Turn annotated events into prompts and hard negatives; writes prompts.jsonl."""
    from figclip_cli.errors import PartialError
    from figclip_cli.files import refuse_existing
    from figclip_cli.prompts import PromptOptions, build

    annotations = annotations or _default_annotations(terminal)
    output = terminal.default(output, Path("prompts.jsonl"), "prompts")
    # Asked before the slow imports behind it; `build` asks again for those who call it.
    refuse_existing(output, overwrite=overwrite)
    options = PromptOptions(
        seed=seed,
        verb_role_negatives=verb_role_negatives,
        role_noun_negatives=role_noun_negatives,
        on_overflow=on_overflow.value,
    )
    summary = build(annotations, output, options=options, split=split, overwrite=overwrite, reporter=terminal)
    terminal.result(summary.as_dict(), _summary_table(summary), text=str(summary.output))
    if summary.missing_clips:
        count = len(summary.missing_clips)
        raise PartialError(
            f"{count} of {count + summary.counts['clips']} clips of {split} are not annotated, "
            f"the first is {summary.missing_clips[0]}",
            "all of them are listed under --json; pass every annotation file of the split",
        )


def _default_annotations(terminal: Terminal) -> list[Path]:
    """Return the one annotation file in the current folder."""
    from figclip_cli.errors import InputError, UsageError

    found = sorted(Path().glob(DEFAULT_PATTERN))
    if not found:
        raise InputError(f"no {DEFAULT_PATTERN} in the current folder", "name the annotation file")
    if len(found) > 1:
        names = ", ".join(map(str, found))
        raise UsageError(
            f"several annotation files in the current folder: {names}",
            "name the ones that belong together; training on the valid split would not be noticed",
        )
    return [terminal.default(None, found[0], "annotations")]


def _summary_table(summary: PromptSummary) -> Table:
    from figclip_cli.commands.tables import table

    counts = summary.counts
    made = table("Prompts", "what", "count")
    for name in ("clips", "annotations", "events", "verbs"):
        made.add_row(name, f"{counts[name]:,}")
    if counts["clips_missing"]:
        made.add_row("clips of the split not annotated", f"{counts['clips_missing']:,}")
    made.add_section()
    for kind, count in counts["negatives"].items():
        made.add_row(f"negatives: {kind}", f"{count:,}")
    for kind, count in counts["negatives_missing"].items():
        made.add_row(f"negatives fewer than asked: {kind}", f"{count:,}")
    made.add_section()
    made.add_row("prompts over the context", f"{counts['overflow']['events']:,}")
    for arg, count in counts["roles_lost"].items():
        if count:
            made.add_row(f"roles lost: {arg}", f"{count:,}")
    made.add_row("roles with a generic name", f"{sum(counts['generic_roles'].values()):,}")
    return made
