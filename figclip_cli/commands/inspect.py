"""``figclip inspect``: what is inside frames.h5."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal


def inspect(
    terminal: Terminal,
    frames: Annotated[list[Path] | None, typer.Argument(help="Frames files. Default: frames.h5")] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Write a picture of clips, times under the frames (.png, .jpg).")
    ] = None,
    clip: Annotated[
        list[str] | None, typer.Option("--clip", help="A clip for the sheet; may be given again. Default: the first 8.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sheet.")] = False,
) -> None:
    """Say what is inside frames files: recipe, clips by status, times; and draw a contact sheet."""
    from figclip_cli.files import refuse_existing
    from figclip_cli.frames import FramesReader
    from figclip_cli.frames.contact_sheet import write_contact_sheet

    if sheet is not None:
        refuse_existing(sheet, overwrite=overwrite)
    reader = FramesReader(list(frames) if frames else terminal.default(None, Path("frames.h5"), "frames"))
    statuses = Counter(row.status for row in reader.clips)
    seconds = sum(row.duration_seconds for row in reader.clips if row.status == "ok")
    document = {
        "files": [str(path) for path in reader.paths],
        "recipe": reader.recipe.as_dict(),
        "recipe_sha256": reader.recipe.sha256,
        "content_sha256": reader.content_sha256,
        "clips": len(reader.clips),
        "by_status": dict(sorted(statuses.items())),
        "ok_seconds": seconds,
        "bytes": sum(path.stat().st_size for path in reader.paths),
    }
    shown = table(", ".join(str(path) for path in reader.paths), "what", "value")
    shown.add_row("clips", str(document["clips"]))
    for status, count in sorted(statuses.items()):
        shown.add_row(f"  {status}", str(count))
    shown.add_row("seconds of ok clips", f"{seconds:.1f}")
    shown.add_row("bytes", str(document["bytes"]))
    for name, value in reader.recipe.as_dict().items():
        shown.add_row(name, str(value))
    shown.add_row("content", reader.content_sha256)
    if sheet is not None:
        write_contact_sheet(reader, clip or [row.clip_id for row in reader.clips[:8]], sheet)
        document["sheet"] = str(sheet)
        terminal.info(f"sheet: {sheet}")
    terminal.result(document, shown)
