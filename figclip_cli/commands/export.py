"""``figclip export``: run folder -> weights for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from figclip_cli.commands.model_flags import ActivationFlag, ModelFlag, PretrainedFlag, model_source
from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal


def export(
    terminal: Terminal,
    run: Annotated[Path | None, typer.Argument(help="Run folder. Default: the newest finished one.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write. Default: export/NAME/open-clip")
    ] = None,
    model: ModelFlag = None,
    pretrained: PretrainedFlag = None,
    activation: ActivationFlag = None,
    scale: Annotated[
        float, typer.Option("--scale", help="How far from the base (0) to the adapted weights (1).", min=0.0, max=1.0)
    ] = 1.0,
    frames: Annotated[
        list[Path] | None,
        typer.Option("--frames", help="Compare on frames of this file; repeat for several."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing folder.")] = False,
) -> None:
    """Merge a run into ordinary open_clip weights, re-load them in a fresh process and compare."""
    from figclip_cli.errors import InputError
    from figclip_cli.export import export_open_clip
    from figclip_cli.run_folder import RunFolder, newest_finished_run

    chosen = RunFolder(run) if run is not None else newest_finished_run()
    if chosen is None:
        raise InputError("there is no finished run in runs/", "make one with figclip adapt, or name a run folder")
    if run is None:
        terminal.info(f"run: {chosen.path} (default: the newest finished one)")
    summary = export_open_clip(
        chosen,
        terminal.default(output, Path("export") / chosen.name / "open-clip", "output"),
        source=model_source(terminal, model, pretrained, activation) if model else None,
        scale=scale,
        frames=frames or (),
        overwrite=overwrite,
        reporter=terminal,
    )
    made = table("Re-loaded by open_clip, against the unmerged model", "features", "largest difference")
    for kind, difference in summary.differences.items():
        made.add_row(kind, f"{difference:.2e}")
    document = {
        "folder": str(summary.folder),
        "largest_difference": summary.differences,
        "changed_tensors": list(summary.merged_tensors),
        "tensors": summary.tensors,
    }
    text = f"{len(summary.merged_tensors)} of {summary.tensors} tensors changed\n{summary.folder}"
    terminal.result(document, made, text=text)
