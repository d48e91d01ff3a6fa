"""``figclip build-prompts``: annotations -> prompts.jsonl."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from figclip_cli.prompts import PromptSummary

DEFAULT_PATTERN = "vsann_*_lb.json"
_SHOWN_PROBLEMS = 10


class Overflow(str, Enum):
    """What to do with a prompt over the model's context."""

    drop = "drop"
    truncate = "truncate"
    error = "error"


class AnnotationFormat(str, Enum):
    """Layout of the annotation files."""

    auto = "auto"
    vidsitu = "vidsitu"
    imsitu = "imsitu"
    srl = "srl"
    simple = "simple"


def build_prompts(
    terminal: Terminal,
    annotations: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="ANNOTATIONS",
            help=f"Annotation files (.json, .jsonl, .csv). Default: the one that matches {DEFAULT_PATTERN}.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Prompts file. Default: prompts.jsonl")] = None,
    annotation_format: Annotated[
        AnnotationFormat, typer.Option("--format", help="Of the annotation; auto finds it out and says which.")
    ] = AnnotationFormat.auto,
    split: Annotated[
        Path | None, typer.Option("--split", help="Keep only the clips of this list (vseg_split_*.json).")
    ] = None,
    vinfo: Annotated[
        Path | None, typer.Option("--vinfo", help="VidSitu's vinfo file: its verbs are never negatives.")
    ] = None,
    nouns: Annotated[
        Path | None, typer.Option("--nouns", help="imsitu_space.json, for imSitu and SWiG annotation.")
    ] = None,
    from_captions: Annotated[
        Path | None,
        typer.Option("--from-captions", help="Turn captions, or questions and answers, into annotations.json; stop."),
    ] = None,
    template: Annotated[
        str,
        typer.Option("--template", help="paper, natural, verb-only, nouns-only, shuffled, or a template file."),
    ] = "paper",
    negatives: Annotated[
        str, typer.Option("--negatives", metavar="KIND=N,...", help="Negatives per event, by kind.")
    ] = "verb-role=4,role-noun=2",
    balance: Annotated[
        bool, typer.Option("--balance", help="Verbs and values come as often in negatives as in prompts.")
    ] = False,
    on_overflow: Annotated[
        Overflow, typer.Option("--on-overflow", help="With a prompt of more than 77 tokens.")
    ] = Overflow.drop,
    joined: Annotated[
        Path | None, typer.Option("--joined", help="Also write one text per clip, of all its events, to this file.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes.", min=1)] = 1,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first malformed record instead of leaving it out.")
    ] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Print all counts: roles, lengths, overflow.")] = False,
    sample: Annotated[int, typer.Option("--sample", help="Show this many events, changes marked.", min=0)] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing files.")] = False,
) -> None:
    """Turn annotated events into prompts and hard negatives; writes prompts.jsonl."""
    from figclip_cli.commands.prompt_tables import sample_texts, statistics_tables, summary_table
    from figclip_cli.prompts import Inputs, PromptOptions, build
    from figclip_cli.prompts.negatives import parse_requests

    if from_captions is not None:
        _convert(terminal, from_captions, annotations, output, overwrite=overwrite)
        return
    options = PromptOptions(seed, template, parse_requests(negatives), balance, on_overflow.value)
    annotations = annotations or _default_annotations(terminal)
    output = terminal.default(output, Path("prompts.jsonl"), "prompts")
    summary = build(
        Inputs(annotations, annotation_format.value, split, vinfo, nouns, strict),
        output,
        options=options,
        joined=joined,
        workers=workers,
        samples=sample,
        overwrite=overwrite,
        reporter=terminal,
    )
    tables = statistics_tables(summary) if stats else [summary_table(summary)]
    shown = sample_texts(summary.samples, in_colour=terminal.in_colour)
    terminal.result(summary.as_dict(), *tables, *shown, text=str(summary.output))
    _leave_with_what_failed(terminal, summary, split)


def _leave_with_what_failed(terminal: Terminal, summary: PromptSummary, split: Path | None) -> None:
    from figclip_cli.errors import PartialError

    _list_problems(terminal, summary.problems)
    parts = []
    if summary.problems:
        parts.append(f"{len(summary.problems)} records or events were left out, the first is {summary.problems[0]}")
    if summary.missing_clips:
        count = len(summary.missing_clips)
        parts.append(
            f"{count} of {count + summary.counts['clips']} clips of {split} are not annotated, "
            f"the first is {summary.missing_clips[0]}"
        )
    if summary.counts["records_unlabelled"]:
        parts.append(f"{summary.counts['records_unlabelled']} records have no labels (VidSitu's test files)")
    if parts:
        raise PartialError("; ".join(parts), "all of them are listed under --json; the others are written")


def _list_problems(terminal: Terminal, problems: tuple[str, ...]) -> None:
    for problem in problems[:_SHOWN_PROBLEMS]:
        terminal.warn(problem)
    if len(problems) > _SHOWN_PROBLEMS:
        terminal.warn(f"and {len(problems) - _SHOWN_PROBLEMS} more")


def _convert(
    terminal: Terminal, captions: Path, annotations: list[Path] | None, output: Path | None, *, overwrite: bool
) -> None:
    """Write the simple annotation form of a caption file."""
    from figclip_cli.errors import PartialError, UsageError
    from figclip_cli.prompts.from_captions import DEFAULT_OUTPUT, convert_captions

    if annotations:
        raise UsageError(
            "--from-captions takes no annotation files", "build prompts of what it writes in a second step"
        )
    output = terminal.default(output, DEFAULT_OUTPUT, "annotations")
    summary = convert_captions(captions, output, overwrite=overwrite)
    _list_problems(terminal, summary.problems)
    terminal.info(f"{summary.events} events; now: figclip build-prompts {output}")
    terminal.result(summary.as_dict(), text=str(output))
    if summary.problems:
        raise PartialError(
            f"{len(summary.problems)} records or questions were left out, the first is {summary.problems[0]}",
            "all of them are listed under --json; the others are written",
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
