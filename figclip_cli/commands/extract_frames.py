"""``figclip extract-frames``: videos -> frames.h5."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal


class DecoderChoice(str, Enum):
    """What decodes."""

    pyav = "pyav"
    ffmpeg = "ffmpeg"


class StorageChoice(str, Enum):
    """How pictures are stored."""

    jpeg = "jpeg"
    raw = "raw"


def extract_frames(
    terminal: Terminal,
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Folders of videos, or video files. Default: the current folder.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Frames file. Default: frames.h5")] = None,
    events: Annotated[int, typer.Option("--events", help="Equal parts of a clip.")] = 5,
    frames_per_event: Annotated[int, typer.Option("--frames-per-event", help="Frames of each event.")] = 4,
    size: Annotated[int, typer.Option("--size", help="Side of the stored square in pixels.")] = 224,
    decoder: Annotated[
        DecoderChoice, typer.Option("--decoder", help="Both give the same frames.")
    ] = DecoderChoice.pyav,
    storage: Annotated[StorageChoice, typer.Option("--storage", help="How frames are kept.")] = StorageChoice.jpeg,
    jpeg_quality: Annotated[int, typer.Option("--jpeg-quality", help="1 to 95.")] = 95,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes. Default: one per processor, at most 8.", min=1)
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="A JSON line per clip. Default: OUTPUT-report.jsonl")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing frames file.")] = False,
) -> None:
    """Sample frames of every video by presentation time: 5 events x 4 frames at the midpoints of equal parts."""
    from figclip_cli.errors import PartialError
    from figclip_cli.frames import SamplingRecipe, extract

    summary = extract(
        videos or [terminal.default(None, Path(), "videos")],
        terminal.default(output, Path("frames.h5"), "output"),
        recipe=SamplingRecipe(
            events=events,
            frames_per_event=frames_per_event,
            size=size,
            decoder=decoder.value,
            storage=storage.value,
            jpeg_quality=jpeg_quality,
        ),
        workers=workers,
        report=report,
        overwrite=overwrite,
        reporter=terminal,
    )
    made = table("Clips", "status", "clips")
    made.add_row("found", str(summary.found))
    for status, count in summary.by_status.items():
        made.add_row(status, str(count))
    for reason, count in summary.by_reason.items():
        made.add_row(f"  {reason}", str(count))
    document = {
        "output": str(summary.output),
        "report": str(summary.report),
        "found": summary.found,
        "by_status": summary.by_status,
        "by_reason": summary.by_reason,
        "taken_up": summary.taken_up,
        "content_sha256": summary.content_sha256,
    }
    terminal.result(document, made, text=f"{summary.output}\n{summary.report}")
    if summary.by_status["ok"] < summary.found:
        raise PartialError(
            f"{summary.found - summary.by_status['ok']} of {summary.found} clips are not ok",
            f"{summary.report} names each with its reason; the others are in {summary.output}",
        )
