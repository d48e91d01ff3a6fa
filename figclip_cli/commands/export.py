"""``figclip export``: run folder -> weights for other libraries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.model_flags import ActivationFlag, ModelFlag, PretrainedFlag, model_source
from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal
from figclip_cli.export.options import DTYPES, FORMATS, ExportOptions, read_scales

if TYPE_CHECKING:
    from rich.table import Table

    from figclip_cli.export import ExportSummary
    from figclip_cli.export.options import Target
    from figclip_cli.run_folder import RunFolder

_CARD = "Model card"
_COMPARING = "Comparing"
_FRAMES, _PROMPTS = Path("frames.h5"), Path("prompts.jsonl")


def export(
    terminal: Terminal,
    run: Annotated[Path | None, typer.Argument(help="Run folder. Default: the newest finished one.")] = None,
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help=f"{', '.join(FORMATS)}, or all; repeat for several. Default: open-clip"),
    ] = None,
    scale: Annotated[
        str,
        typer.Option("--scale", help="How far from the base (0) to the adapted weights (1); several with commas."),
    ] = "1",
    dtype: Annotated[str, typer.Option("--dtype", help=f"{', '.join(DTYPES)}. Merging is in float32.")] = "fp32",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; of several, the one they go into. Default: export/RUN/"),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing exports.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, say what would be written.")] = False,
    model: ModelFlag = None,
    pretrained: PretrainedFlag = None,
    activation: ActivationFlag = None,
    base_name: Annotated[
        str | None, typer.Option("--base-name", help="What a PEFT folder calls its base model, for example on a hub.")
    ] = None,
    frames: Annotated[
        list[Path] | None,
        typer.Option(
            "--frames", help=f"Compare on frames of this file. Default: {_FRAMES}", rich_help_panel=_COMPARING
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option("--prompts", help=f"Compare on its texts too. Default: {_PROMPTS}", rich_help_panel=_COMPARING),
    ] = None,
    results: Annotated[
        list[Path] | None,
        typer.Option("--results", help="Results of figclip evaluate for the card; repeat.", rich_help_panel=_CARD),
    ] = None,
    licence: Annotated[
        str | None, typer.Option("--license", help="Licence of the base model.", rich_help_panel=_CARD)
    ] = None,
) -> None:
    """Write a run as weights for other libraries, open each in a fresh process and compare it."""
    from figclip_cli.export import check, own_frames, own_prompts, planned_folders, possible_formats
    from figclip_cli.export import export as make

    chosen = _chosen(terminal, run)
    names = [name.strip() for one in to or ["open-clip"] for name in one.split(",")]
    formats = possible_formats(chosen, dtype=dtype, reporter=terminal) if names == ["all"] else tuple(names)
    options = ExportOptions(
        formats,
        read_scales(scale),
        dtype,
        base_name,
        licence,
        tuple(results or ()),
        tuple(frames or own_frames(chosen, _FRAMES)),
        prompts or own_prompts(chosen, _PROMPTS),
    )
    source = model_source(terminal, model, pretrained, activation) if model else None
    folders = planned_folders(chosen, options, output)
    if output is None:
        common = next(iter(folders.values()))
        terminal.default(None, common if len(folders) == 1 else common.parent, "output")
    if dry_run:
        check(chosen, folders, options, source=source, overwrite=overwrite, reporter=terminal)
        _print_planned(terminal, folders)
        return
    made = []
    for summary in make(
        chosen,
        folders,
        options,
        source=source,
        overwrite=overwrite,
        reporter=terminal,
    ):
        terminal.info(f"{summary.target.name}: {summary.folder}")
        made.append(summary)
    _print(terminal, made)


def _print_planned(terminal: Terminal, folders: Mapping[Target, Path]) -> None:
    planned = [{"folder": str(folder), "for": target.format} for target, folder in folders.items()]
    terminal.result({"would_write": planned}, text="\n".join(map(str, folders.values())))


def _chosen(terminal: Terminal, run: Path | None) -> RunFolder:
    """Return the run, by default the newest finished one, which is said."""
    from figclip_cli.errors import InputError
    from figclip_cli.run_folder import RunFolder, newest_finished_run

    chosen = RunFolder(run) if run is not None else newest_finished_run()
    if chosen is None:
        raise InputError("there is no finished run in runs/", "make one with figclip adapt, or name a run folder")
    if run is None:
        terminal.info(f"run: {chosen.path} (default: the newest finished one)")
    return chosen


def _print(terminal: Terminal, made: list[ExportSummary]) -> None:
    """Print what was written.

    Raises:
        VerificationError: One is over its bound; everything is printed before.
    """
    problems = [summary.error for summary in made if summary.error is not None]
    terminal.result(
        {"exports": [summary.as_dict() for summary in made]},
        _differences_table(made),
        text="\n".join(str(summary.folder) for summary in made),
        then=problems[0] if problems else None,
    )


def _differences_table(made: list[ExportSummary]) -> Table:
    halves = any(summary.comparison.cast_alone for summary in made)
    columns = ["export", "output", "largest difference", "allowed"]
    columns += ["the same cast of the base", "from the merged model cast alike"] if halves else []
    shown = table("Re-loaded in a fresh process, against the unmerged model", *columns, numbers_from=2)
    for summary in made:
        comparison = summary.comparison
        for kind, difference in comparison.differences.items():
            cells = [summary.target.name, kind, f"{difference:.1e}", f"{comparison.bounds[kind]:.1e}"]
            for other in (comparison.cast_alone, comparison.from_cast or {}) if halves else ():
                cells.append(f"{other[kind]:.1e}" if kind in other else "")
            shown.add_row(*cells)
    return shown
