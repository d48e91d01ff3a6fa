"""``figclip report``: runs and what is known of them -> one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError

if TYPE_CHECKING:
    from figclip_cli.report import ReportSummary, SituationFiles
    from figclip_cli.run_folder import RunFolder

_SHOWN, _SITUATIONS = "What is shown", "Situation predictions"
_OUTPUT = Path("report.html")
_COUNT = 4


def report(
    terminal: Terminal,
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Run folders, side by side. Default: the newest finished one.")
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results",
            help="Results of figclip evaluate, or a folder of them; repeat. Default: results/ here and beside runs/",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    curve: Annotated[
        list[Path] | None,
        typer.Option(
            "--curve", help="Curve over scales; repeat. Default: those among the results.", rich_help_panel=_SHOWN
        ),
    ] = None,
    frames: Annotated[
        list[Path] | None,
        typer.Option(
            "--frames",
            help="Frames file, or a pattern, of the clips in results; repeat. Default: *.h5 here and beside runs/",
            rich_help_panel=_SHOWN,
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", help="Queries, items and clips of each list.", min=1, rich_help_panel=_SHOWN)
    ] = _COUNT,
    predictions: Annotated[
        list[Path] | None,
        typer.Option(
            "--predictions",
            help="Folder of figclip predict situation, of the base or of a run; repeat.",
            rich_help_panel=_SITUATIONS,
        ),
    ] = None,
    vidsitu: Annotated[
        Path | None,
        typer.Option("--vidsitu", help="VidSitu's folder, that has split_files/.", rich_help_panel=_SITUATIONS),
    ] = None,
    split_name: Annotated[
        str | None,
        typer.Option("--split-name", help="Split in the files' names. Default: valid", rich_help_panel=_SITUATIONS),
    ] = None,
    split: Annotated[
        Path | None, typer.Option("--split", help="Instead: the list of clips.", rich_help_panel=_SITUATIONS)
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option("--annotations", help="With it: roles and relations.", rich_help_panel=_SITUATIONS)
    ] = None,
    vinfo: Annotated[
        Path | None, typer.Option("--vinfo", help="With it: ten verbs of each event.", rich_help_panel=_SITUATIONS)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help=f"HTML file to write. Default: {_OUTPUT}")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Write what runs learned, and what it is worth, as one HTML file that opens anywhere."""
    from figclip_cli.files import check_output, named_files
    from figclip_cli.report import ReportMaterial, write_report
    from figclip_cli.report.write import check_report

    folders = _chosen(terminal, runs)
    situation = _situation(vidsitu, split_name, split, annotations, vinfo)
    material = ReportMaterial(results, curve, frames, tuple(predictions or ()), situation)
    place = terminal.default(output, _OUTPUT, "report")
    check_report(place, count)
    check_output(place, overwrite=overwrite, inputs=named_files(material.named()))
    _print(terminal, write_report(folders, place, material, count=count, reporter=terminal))


def _chosen(terminal: Terminal, runs: list[Path] | None) -> list[RunFolder]:
    """Return the runs, by default the newest finished one, which is said."""
    from figclip_cli.errors import InputError
    from figclip_cli.run_folder import RunFolder, newest_finished_run

    if runs:
        return [RunFolder(path) for path in runs]
    newest = newest_finished_run()
    if newest is None:
        raise InputError("there is no finished run in runs/", "make one with figclip adapt, or name a run folder")
    terminal.info(f"run: {newest.path} (default: the newest finished one)")
    return [newest]


def _situation(
    folder: Path | None, split_name: str | None, split: Path | None, annotations: Path | None, vinfo: Path | None
) -> SituationFiles | None:
    """Return the annotation of situations: of the folder, but for what is named by itself; None where none is."""
    from figclip_cli.report import SituationFiles

    if folder is None:
        first = next((name for name, one in (("annotations", annotations), ("vinfo", vinfo)) if one is not None), None)
        if split is None and first is not None:
            raise UsageError(f"--{first} needs --split, the list of clips", "or name a --vidsitu folder")
        if split_name is not None:
            raise UsageError("--split-name is for --vidsitu", "leave it out")
        return None if split is None else SituationFiles(split, annotations, vinfo)
    from figclip_cli.evaluate.datasets.vidsitu import vidsitu_files

    found = vidsitu_files(folder, split_name or "valid")
    given = (split, annotations, vinfo)
    return SituationFiles(*(own or one for own, one in zip(given, found, strict=True)))


def _print(terminal: Terminal, summary: ReportSummary) -> None:
    shown = table("Report", "section", "material")
    shown.columns[1].justify = "left"
    for title, has_material in summary.sections.items():
        shown.add_row(title, "shown" if has_material else "none: the section says which command makes it")
    terminal.result(summary.as_dict(), shown, text=str(summary.path))
