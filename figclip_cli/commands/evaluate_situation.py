"""``figclip evaluate situation``: prediction files + VidSitu's annotation -> table and results JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.evaluate_output import ResultOptions
from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.situation_page_options import SituationPageOptions
from figclip_cli.commands.tables import groups_table, results_table
from figclip_cli.console import Terminal
from figclip_cli.errors import PartialError

if TYPE_CHECKING:
    from rich.table import Table

    from figclip_cli.evaluate.results import Metric, Results
    from figclip_cli.evaluate.situation.task import SituationEvaluation

_PREDICTED, _TRUTH, _NUMBERS = "Predictions", "Annotation", "Breakdowns"
_ENDS, _SOLID = 15, 10  # a long breakdown is printed at either end, without groups of fewer items
_SPLIT_NAME = "valid"


class Breakdown(str, Enum):
    """What numbers are broken down by."""

    role = "role"
    verb = "verb"
    frequency = "frequency"


@with_flags_of(SituationPageOptions, ResultOptions)
def situation(
    terminal: Terminal,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            "--predictions",
            help="Leaderboard file of verbs, roles or relations (JSON or pickle), or a folder; repeat for several.",
            rich_help_panel=_PREDICTED,
        ),
    ] = None,
    base: Annotated[
        list[Path] | None,
        typer.Option("--base", help="The same of the model to compare with.", rich_help_panel=_PREDICTED),
    ] = None,
    allow_missing: Annotated[
        bool,
        typer.Option("--allow-missing", help="Count clips without a record as wrong.", rich_help_panel=_PREDICTED),
    ] = False,
    split: Annotated[
        Path | None, typer.Option("--split", help="List of clips, vseg_split_valid_lb.json.", rich_help_panel=_TRUTH)
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", help="Roles and relations, vsann_valid_lb.json.", rich_help_panel=_TRUTH),
    ] = None,
    vinfo: Annotated[
        Path | None, typer.Option("--vinfo", help="Verbs, vinfo_valid_lb.json.", rich_help_panel=_TRUTH)
    ] = None,
    vidsitu: Annotated[
        Path | None,
        typer.Option("--vidsitu", help="Instead: the folder that has split_files/.", rich_help_panel=_TRUTH),
    ] = None,
    split_name: Annotated[
        str | None,
        typer.Option("--split-name", help="Split in the files' names. Default: valid", rich_help_panel=_TRUTH),
    ] = None,
    by: Annotated[
        list[Breakdown] | None,
        typer.Option("--by", help="Also print the numbers by this; repeat for several.", rich_help_panel=_NUMBERS),
    ] = None,
    train_annotations: Annotated[
        Path | None,
        typer.Option("--train-annotations", help="For --by frequency: vsann_train_lb.json.", rich_help_panel=_NUMBERS),
    ] = None,
    official_json: Annotated[
        Path | None,
        typer.Option(
            "--official-json",
            help="Also write the numbers as VidSitu's scorer does, by its names.",
            rich_help_panel="Output",
        ),
    ] = None,
    **values: Any,
) -> None:
    """Situation recognition on VidSitu: verbs, roles and relations of files of predictions, as its scorer has them."""
    from figclip_cli.evaluate.datasets.vidsitu_predictions import prediction_files
    from figclip_cli.evaluate.situation.task import SituationInputs, evaluate_situation, predictions_name
    from figclip_cli.files import write_json

    options: ResultOptions = options_from(ResultOptions, values)
    page: SituationPageOptions = options_from(SituationPageOptions, values)
    predictions = predictions or [terminal.default(None, Path("predictions"), "predictions")]
    files = _truth_files(terminal, (split, annotations, vinfo), vidsitu, split_name or _SPLIT_NAME)
    names = [one.value for one in by or ()]
    inputs = SituationInputs(
        predictions, *files, base=base or (), train_annotations=train_annotations, allow_missing=allow_missing, by=names
    )
    read = (predictions, base, files, train_annotations, prediction_files([*predictions, *(base or ())]))
    stem = files[0].stem.removeprefix("vseg_split_").removesuffix("_lb")
    output = options.place(terminal, f"situation-{stem}-{predictions_name(predictions)}", read)
    _check_official(official_json, page.page, output, options, read)
    page.check(inputs.split, read, overwrite=options.overwrite)
    evaluation = evaluate_situation(inputs, terminal)
    results = evaluation.write(output, samples=options.samples)
    page.write(terminal, inputs)
    if official_json is not None:
        write_json(official_json, evaluation.official())
    tables = list(_tables(evaluation, results, options.groups))
    terminal.result(results.as_document(), *tables, text=str(output), then=_missing(results, output))


def _check_official(
    official: Path | None, page: Path | None, output: Path, options: ResultOptions, inputs: Sequence[Any]
) -> None:
    """Refuse official numbers that cannot be written, and outputs that would replace each other."""
    from figclip_cli.evaluate.results import samples_path
    from figclip_cli.files import check_output, named_files, refuse_same_outputs

    samples = samples_path(output) if options.samples else None
    refuse_same_outputs(results=output, samples=samples, official_numbers=official, page=page)
    if official is not None:
        check_output(official, overwrite=options.overwrite, inputs=named_files(*inputs))


def _truth_files(
    terminal: Terminal, given: tuple[Path | None, ...], folder: Path | None, split_name: str
) -> tuple[Path, Path, Path]:
    """Return split, annotations and verbs: as given, else of the folder, else by their names in the current one."""
    from figclip_cli.evaluate.datasets.vidsitu import vidsitu_files

    names = ("split", "annotations", "vinfo")
    if folder is not None:
        split, annotations, vinfo = (
            own or found for own, found in zip(given, vidsitu_files(folder, split_name), strict=True)
        )
        return split, annotations, vinfo
    defaults = (f"vseg_split_{split_name}_lb.json", f"vsann_{split_name}_lb.json", f"vinfo_{split_name}_lb.json")
    split, annotations, vinfo = (
        terminal.default(own, Path(default), name) for own, default, name in zip(given, defaults, names, strict=True)
    )
    return split, annotations, vinfo


def _tables(evaluation: SituationEvaluation, results: Results, groups: bool) -> Iterator[Table]:
    yield results_table(results)
    if groups:
        yield groups_table(results)
    for name, metrics in evaluation.breakdowns.items():
        shown = [row for metric in dict.fromkeys(one.name for one in metrics) for row in _shown(metric, metrics)]
        made = groups_table(replace(results, groups=tuple(shown)))
        made.title = f"{results.task}, {results.dataset_id}: by {name}"
        if len(shown) < len(metrics):
            made.title += f", {len(shown)} of {len(metrics)} rows; the results have all"
        yield made


def _shown(name: str, metrics: Sequence[Metric]) -> list[Metric]:
    """Return the rows of one number; of many, both ends of those that are not of a handful of items."""
    own = [metric for metric in metrics if metric.name == name]
    if len(own) <= 2 * _ENDS:
        return own
    solid = [metric for metric in own if (metric.n or 0) >= _SOLID]
    return solid if len(solid) <= 2 * _ENDS else solid[:_ENDS] + solid[-_ENDS:]


def _missing(results: Results, output: Path) -> PartialError | None:
    if not results.missing:
        return None
    first = next(iter(results.missing))
    return PartialError(
        f"{len(results.missing)} clips have no prediction, the first is {first}: {results.missing[first]}",
        f'all of them are listed under "missing" in {output}',
    )
