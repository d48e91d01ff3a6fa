"""``figclip demo``: all five stages on a small synthetic world, or what they bring over several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from figclip_cli.demo.effect import EffectRow
    from figclip_cli.demo.run import DemoSummary


def demo(
    terminal: Terminal,
    folder: Annotated[
        Path | None, typer.Argument(help="Folder to make. Default: figclip-demo, with --full figclip-demo-full")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Measure the effect over several seeds; goes on where it was cut.")
    ] = False,
    seed: Annotated[
        int, typer.Option("--seed", help="Seed of the world and the adaptation; the first one.", min=0)
    ] = 0,
    seeds: Annotated[int | None, typer.Option("--seeds", help="How many seeds, with --full. Default: 5", min=2)] = None,
    workers: Annotated[int, typer.Option("--workers", help="Processes that decode video.", min=1)] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
) -> None:
    """Run all five stages offline on a synthetic world, with the tiny base model that is shipped; minutes on a CPU."""
    settings: dict[str, Any] = {"seed": seed, "workers": workers, "overwrite": overwrite, "reporter": terminal}
    if full:
        from figclip_cli.demo.full import SEEDS, run_full

        path = terminal.default(folder, Path("figclip-demo-full"), "demo folder")
        over_seeds = run_full(path, seeds=seeds or SEEDS, **settings)
        terminal.result(
            {
                "folder": str(over_seeds.folder),
                "effect": _plain(over_seeds.effect),
                "of_seeds": {str(number): _plain(rows) for number, rows in over_seeds.of_seeds.items()},
            },
            effect_table(over_seeds.effect),
            text=f"The same in {over_seeds.folder / 'effect.json'}",
        )
        return
    if seeds is not None:
        raise UsageError("--seeds is for --full", "pass --full, or leave it out")
    from figclip_cli.demo.run import run_demo

    _show(terminal, run_demo(terminal.default(folder, Path("figclip-demo"), "demo folder"), **settings))


def _show(terminal: Terminal, summary: DemoSummary) -> None:
    made = table("What was made", "what", "where")
    made.columns[1].justify = "left"
    for what, path in summary.files.items():
        made.add_row(what, str(path))
    differences = ", ".join(f"{kind} {value:.1e}" for kind, value in summary.exported.comparison.differences.items())
    document = {
        "files": {what: str(path) for what, path in summary.files.items()},
        "effect": _plain(summary.effect),
        "results": [result.as_document() for result in summary.results.values()],
        "clips_used": summary.adapted.coverage.used,
        "train_seconds": round(summary.adapted.train_seconds, 1),
        "largest_difference": summary.exported.comparison.differences,
    }
    text = (
        f"The exported model, re-loaded by open_clip, differs from the adapted one by at most: {differences}\n"
        f"With pictures: {summary.files['report']}"
    )
    terminal.result(document, effect_table(summary.effect), made, text=text)


def _plain(rows: Sequence[EffectRow]) -> list[dict[str, Any]]:
    from dataclasses import asdict

    return [asdict(row) for row in rows]


def effect_table(rows: Sequence[EffectRow]) -> Table:
    """Return the rows as a table, gains first."""
    seeds = rows[0].seeds
    of = f"mean of {seeds} seeds, +/- standard error over the seeds" if seeds > 1 else "+/- bootstrap standard error"
    columns = ("base", "+/-", "adapted", "+/-", "delta", "+/-")
    made = table(f"What adapting changed, percent on unseen clips ({of})", "what is asked", *columns)
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        numbers = (row.base, row.base_error, row.adapted, row.adapted_error, row.delta, row.delta_error)
        forms = (".1f", ".1f", ".1f", ".1f", "+.1f", ".1f")
        ends = following is not None and following.kept != row.kept
        made.add_row(row.what, *(format(n, f) for n, f in zip(numbers, forms, strict=True)), end_section=ends)
    return made
