"""``figclip merge-frames``: shards of an extraction -> one frames.h5."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal


def merge_frames(
    terminal: Terminal,
    frames: Annotated[list[Path] | None, typer.Argument(help="Shards, or a pattern. Default: frames-*-of-*.h5")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Frames file. Default: frames.h5")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing frames file.")] = False,
) -> None:
    """Merge the shards of one extraction, checking that none is missing and that all have one recipe."""
    from figclip_cli.errors import PartialError
    from figclip_cli.frames.merge import merge

    summary = merge(
        frames or [terminal.default(None, Path("frames-*-of-*.h5"), "frames")],
        terminal.default(output, Path("frames.h5"), "output"),
        overwrite=overwrite,
        reporter=terminal,
    )
    made = table("Clips", "status", "clips")
    for status, count in summary.by_status.items():
        made.add_row(status, str(count))
    document = {
        "output": str(summary.output),
        "files": summary.files,
        "by_status": summary.by_status,
        "content_sha256": summary.content_sha256,
    }
    terminal.result(document, made, text=str(summary.output))
    bad = sum(count for status, count in summary.by_status.items() if status != "ok")
    if bad:
        raise PartialError(f"{bad} of {sum(summary.by_status.values())} clips are not ok", "figclip inspect names them")
