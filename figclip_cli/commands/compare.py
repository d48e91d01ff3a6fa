"""``figclip compare``: what flipped between two models, item by item."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from figclip_cli.commands.tables import one_line, p_text, table
from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from figclip_cli.evaluate.compare import Comparison
    from figclip_cli.evaluate.flips import Count, Flip

_LONGEST_CELL = 60


class ModelChoice(str, Enum):
    """Which model of a results file."""

    base = "base"
    adapted = "adapted"


class GroupByChoice(str, Enum):
    """What items are counted by."""

    group = "group"
    look = "look"


def compare(
    terminal: Terminal,
    first: Annotated[Path | None, typer.Argument(help="Results JSON. Default: the newest in results/.")] = None,
    second: Annotated[
        Path | None, typer.Argument(help="Another one. Default: the first's base against its adapted model.")
    ] = None,
    model_a: Annotated[
        ModelChoice | None,
        typer.Option("--model-a", help="Model of the first file. Default: adapted, if two are given."),
    ] = None,
    model_b: Annotated[
        ModelChoice | None, typer.Option("--model-b", help="Model of the second file. Default: adapted, else base.")
    ] = None,
    at: Annotated[
        int | None, typer.Option("--at", metavar="K", help="Right is what ranks among the first K.", min=1)
    ] = None,
    part: Annotated[str | None, typer.Option("--part", help="Only this part, for example t2v.")] = None,
    group: Annotated[str | None, typer.Option("--group", help="Only this relation, kind or class.")] = None,
    group_by: Annotated[
        GroupByChoice | None, typer.Option("--group-by", help="Also count by group, or by clip or image (look).")
    ] = None,
    common: Annotated[
        bool, typer.Option("--common", help="Where the files have different items, compare those in both.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", help="Most flips and groups to show, each way.", min=0)] = 10,
    flips: Annotated[Path | None, typer.Option("--flips", help="Write all flips to this JSONL file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file of flips.")] = False,
) -> None:
    """Show what flipped between base and adapted, or between two results files: what was won, and what was lost."""
    from figclip_cli.evaluate import compare as library
    from figclip_cli.evaluate.flips import write_flips
    from figclip_cli.files import check_output

    first = first or terminal.default(None, library.newest_results(), "results")
    if flips is not None:
        check_output(flips, overwrite=overwrite, inputs=_files_of(first, second))
    options = library.CompareOptions(
        model_a=None if model_a is None else model_a.value,
        model_b=None if model_b is None else model_b.value,
        at=at,
        part=part,
        group=group,
        group_by=None if group_by is None else group_by.value,
        common=common,
    )
    found = library.compare(first, second, options=options, reporter=terminal)
    if flips is not None:
        write_flips(flips, (*found.won, *found.lost))
        terminal.info(f"flips: {flips}")
    terminal.result(found.as_dict(), *_tables(found, limit))


def _files_of(*results: Path | None) -> list[Path]:
    """Return results files and, beside them, the files of samples that they name."""
    from figclip_cli.evaluate.results import read_results

    given = [path for path in results if path is not None]
    named = [(path, read_results(path).samples) for path in given]
    return [*given, *(path.with_name(str(samples["file"])) for path, samples in named if samples is not None)]


def _tables(found: Comparison, limit: int) -> list[Table]:
    results = found.a.results
    sides = " and ".join(f"{letter} = {side.name} ({side.model})" for letter, side in (("A", found.a), ("B", found.b)))
    made = [
        _counts_table(
            f"{results.task}, {results.dataset_id}: {sides}",
            "part",
            [part for part in found.parts if part.name],
            found.whole,
        )
    ]
    by, groups = found.options.group_by, found.groups
    if by is not None:
        won = [count for count in groups if count.only_b > count.only_a]
        lost = sorted((count for count in groups if count.only_a > count.only_b), key=lambda count: count.delta)
        for title, counts in (("won", won), ("lost", lost)):
            if counts[:limit]:
                made.append(_counts_table(f"{by}: {_of(counts, limit)} that {title} most", by, counts[:limit]))
    for title, list_of in (("Won: A wrong, B right", found.won), ("Lost: A right, B wrong", found.lost)):
        made.append(_flips_table(f"{title}, {_of(list_of, limit)}", list_of[:limit]))
    return made


def _of(items: Sequence[object], limit: int) -> str:
    return f"{len(items):,}" if len(items) <= limit else f"{limit} of {len(items):,}"


def _counts_table(title: str, what: str, counts: Sequence[Count], whole: Count | None = None) -> Table:
    columns = ("items", "both right", "only A", "only B", "both wrong", "A %", "B %", "delta", "p")
    made = table(title, what, *columns)
    for count in counts:
        made.add_row(*_count_row(count.name or "(none)", count))
    if whole is not None:
        made.add_section()
        made.add_row(*_count_row("all", whole))
    return made


def _count_row(name: str, count: Count) -> list[str]:
    numbers = (count.n, count.both_right, count.only_a, count.only_b, count.both_wrong)
    percent = f"{count.accuracy_a:.2f}", f"{count.accuracy_b:.2f}", f"{count.delta:+.2f}"
    return [
        one_line(name, longest=_LONGEST_CELL),
        *(f"{number:,}" for number in numbers),
        *percent,
        p_text(count.p_value),
    ]


def _flips_table(title: str, flips: Sequence[Flip]) -> Table:
    """Return flips with what each model put first; columns that no flip fills are left out."""
    texts = {
        "part": [flip.part for flip in flips],
        "group": [flip.group for flip in flips],
        "item": [flip.id for flip in flips],
        "look": ["" if flip.look == flip.id else flip.look for flip in flips],
        "text": [flip.text for flip in flips],
        "A chose": [flip.chosen_a if flip.flip == "won" else "" for flip in flips],
        "B chose": [flip.chosen_b if flip.flip == "lost" else "" for flip in flips],
    }
    texts = {name: cells for name, cells in texts.items() if any(cells) or name == "item"}
    numbers = {
        "margin A": [f"{flip.margin_a:+.3f}" for flip in flips],
        "margin B": [f"{flip.margin_b:+.3f}" for flip in flips],
        "rank A": [_rank(flip.rank_a) for flip in flips],
        "rank B": [_rank(flip.rank_b) for flip in flips],
    }
    numbers = {name: cells for name, cells in numbers.items() if any(cells)}
    made = table(title, *texts, *numbers, numbers_from=len(texts))
    for row in zip(*texts.values(), *numbers.values(), strict=True):
        made.add_row(*(one_line(text, longest=_LONGEST_CELL) for text in row))
    return made


def _rank(rank: float | None) -> str:
    """Return a rank counted from 1, as the metrics count."""
    return "" if rank is None else f"{rank + 1:g}"
