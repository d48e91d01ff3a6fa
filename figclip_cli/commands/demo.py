"""``figclip demo``: all five stages on a small synthetic world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from figclip_cli.commands.tables import results_table, table
from figclip_cli.console import Terminal


def demo(
    terminal: Terminal,
    folder: Annotated[Path | None, typer.Argument(help="Folder to make. Default: figclip-demo")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the world and the adaptation.")] = 0,
    workers: Annotated[int, typer.Option("--workers", help="Processes that decode video.", min=1)] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier demo.")] = False,
) -> None:
    """Run all five stages offline on a synthetic world, with the tiny base model that is shipped; minutes on a CPU."""
    from figclip_cli.demo.run import run_demo

    summary = run_demo(
        terminal.default(folder, Path("figclip-demo"), "demo folder"),
        seed=seed,
        workers=workers,
        overwrite=overwrite,
        reporter=terminal,
    )
    made = table("What was made", "what", "where")
    made.columns[1].justify = "left"
    for what, path in summary.files.items():
        made.add_row(what, str(path))
    differences = ", ".join(f"{kind} {value:.1e}" for kind, value in summary.exported.comparison.differences.items())
    document = {
        "files": {what: str(path) for what, path in summary.files.items()},
        "results": [result.as_document() for result in summary.results],
        "clips_used": summary.adapted.coverage.used,
        "train_seconds": round(summary.adapted.train_seconds, 1),
        "largest_difference": summary.exported.comparison.differences,
    }
    text = f"The exported model, re-loaded by open_clip, differs from the adapted one by at most: {differences}"
    terminal.result(document, *(results_table(result) for result in summary.results), made, text=text)
