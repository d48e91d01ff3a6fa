"""``figclip evaluate dense-captioning``: predictions + timed sentences -> table and results JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.evaluate_output import ResultOptions
from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.tables import groups_table, results_table
from figclip_cli.console import Terminal
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions

if TYPE_CHECKING:
    from rich.table import Table

    from figclip_cli.evaluate.results import Results

_FILES = "Predictions and references"


@with_flags_of(DenseCaptioningOptions, ResultOptions)
def dense_captioning(
    terminal: Terminal,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions", help="Submission as the ActivityNet Captions challenge defines it.", rich_help_panel=_FILES
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option("--base", help="Another submission, to compare --predictions with.", rich_help_panel=_FILES),
    ] = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            "--annotations",
            help="ActivityNet's val_1.json (repeat for val_2.json), or YouCook2's own file.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="With YouCook2's own file. Default: validation", rich_help_panel=_FILES),
    ] = None,
    **values: Any,
) -> None:
    """Dense video captioning: CIDEr, METEOR, BLEU, SODA_c, recall and precision of a file of predictions."""
    from figclip_cli.evaluate.dense_captioning.task import evaluate_dense_captioning

    options: DenseCaptioningOptions = options_from(DenseCaptioningOptions, values)
    output_options: ResultOptions = options_from(ResultOptions, values)
    predictions = terminal.default(predictions, Path("predictions/dense-captions.json"), "predictions")
    annotations = annotations or [terminal.default(None, Path("val_1.json"), "annotations")]
    name = f"dense-captioning-{annotations[0].stem}-{predictions.stem}"
    output = output_options.place(terminal, name, (predictions, base, annotations))
    evaluation = evaluate_dense_captioning(
        predictions, annotations, base=base, split=split, options=options, reporter=terminal
    )
    results = evaluation.write(output, samples=output_options.samples)
    tables = [_with_what_lacks(results_table(results), results)]
    if output_options.groups:
        tables.append(groups_table(results))
    terminal.result(results.as_document(), *tables, text=str(output))


def _with_what_lacks(table: Table, results: Results) -> Table:
    """Say below the table which measures it lacks, and why."""
    if not results.protocol["meteor"]["computed"]:
        table.caption = f"METEOR and SODA_c are not computed: {results.protocol['meteor']['why_not']}"
        table.caption_justify = "left"
    return table
