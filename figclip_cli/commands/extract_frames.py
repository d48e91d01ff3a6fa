"""``figclip extract-frames``: videos -> frames.h5."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from figclip_cli.frames import ExtractionSummary

_REASONS_SHOWN = 20


class DecoderChoice(str, Enum):
    """What decodes."""

    pyav = "pyav"
    ffmpeg = "ffmpeg"


class StorageChoice(str, Enum):
    """How pictures are stored."""

    jpeg = "jpeg"
    raw = "raw"


class PolicyChoice(str, Enum):
    """When to look; ``fps`` is chosen by ``--fps``."""

    midpoints = "midpoints"
    uniform = "uniform"
    random = "random"


class CropChoice(str, Enum):
    """How a picture becomes a square."""

    center = "center"  # type: ignore[assignment]  # str.center is not called
    center_inner = "center-0.875"
    squash = "squash"
    letterbox = "letterbox"


class ExecutorChoice(str, Enum):
    """Where clips are decoded."""

    processes = "processes"
    ray = "ray"


Segments = Annotated[
    Path | None,
    typer.Option("--segments", help="Parts of files: a csv (clip_id,file,start,end), or VidSitu's list of ids."),
]
Policy = Annotated[
    PolicyChoice, typer.Option("--policy", help="Times: midpoints of parts, first to last, or random in parts.")
]
Fps = Annotated[float | None, typer.Option("--fps", help="Instead: a fixed rate, as many frames as the clip is long.")]
Crop = Annotated[CropChoice, typer.Option("--crop", help="Centre of the short side, squashed, or between black bars.")]
Hwaccel = Annotated[
    str, typer.Option("--hwaccel", help="Let ffmpeg decode on a device, such as cuda; needs --decoder ffmpeg.")
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds one clip may take; then its worker is killed.", min=0.1)
]
ShardFlag = Annotated[
    str | None, typer.Option("--shard", help="Share I/N of the clips, I from 0; or slurm in a job array.")
]
ExecutorFlag = Annotated[ExecutorChoice, typer.Option("--executor", help="This machine's processes, or a Ray cluster.")]
Report = Annotated[Path | None, typer.Option("--report", help="A JSON line per clip. Default: OUTPUT-report.jsonl")]
Decoder = Annotated[DecoderChoice, typer.Option("--decoder", help="Both give the same frames; pyav is faster.")]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Processes. Default: one per processor, at most 8.", min=1)
]


def extract_frames(
    terminal: Terminal,
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Folders of videos, or video files. Default: the current folder.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Frames file. Default: frames.h5")] = None,
    segments: Segments = None,
    events: Annotated[int, typer.Option("--events", help="Equal parts of a clip.")] = 5,
    frames_per_event: Annotated[int, typer.Option("--frames-per-event", help="Frames of each event.")] = 4,
    policy: Policy = PolicyChoice.midpoints,
    fps: Fps = None,
    seed: Annotated[int, typer.Option("--seed", help="Of --policy random.", min=0)] = 0,
    size: Annotated[int, typer.Option("--size", help="Side of the stored square in pixels.")] = 224,
    crop: Crop = CropChoice.center,
    decoder: Decoder = DecoderChoice.pyav,
    hwaccel: Hwaccel = "",
    storage: Annotated[StorageChoice, typer.Option("--storage", help="How frames are kept.")] = StorageChoice.jpeg,
    jpeg_quality: Annotated[int, typer.Option("--jpeg-quality", help="1 to 95.")] = 95,
    workers: Workers = None,
    timeout: Timeout = 300.0,
    shard: ShardFlag = None,
    executor: ExecutorFlag = ExecutorChoice.processes,
    report: Report = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing frames file.")] = False,
) -> None:
    """Sample frames of every video by presentation time: 5 events x 4 frames at the midpoints of equal parts."""
    from figclip_cli.errors import PartialError
    from figclip_cli.frames import SamplingRecipe, extract, plan
    from figclip_cli.frames.decoder_ffmpeg import check_hwaccel
    from figclip_cli.frames.shards import parse_shard

    recipe = SamplingRecipe(
        events=events,
        frames_per_event=frames_per_event,
        size=size,
        decoder=decoder.value,
        storage=storage.value,
        jpeg_quality=jpeg_quality,
        policy=policy.value if fps is None else "fps",
        fps=fps or 0.0,
        seed=seed if policy is PolicyChoice.random else 0,
        crop=crop.value,
        hwaccel=hwaccel,
    )
    if hwaccel:
        check_hwaccel(hwaccel)
    part = None if shard is None else parse_shard(shard)
    target = terminal.default(output, Path(f"frames{part.suffix if part else ''}.h5"), "output")
    paths = videos or [terminal.default(None, Path(), "videos")]
    if dry_run:
        planned = plan(paths, target, recipe=recipe, segments=segments, shard=part, overwrite=overwrite)
        _say_plan(terminal, target, recipe.as_dict(), planned.listed, planned.found, planned.taken_up)
        return
    summary = extract(
        paths,
        target,
        recipe=recipe,
        segments=segments,
        shard=part,
        workers=workers,
        timeout_seconds=timeout,
        executor=executor.value,
        report=report,
        overwrite=overwrite,
        reporter=terminal,
    )
    _say_summary(terminal, summary)
    if summary.by_status["ok"] < summary.listed:
        raise PartialError(
            f"{summary.listed - summary.by_status['ok']} of {summary.listed} clips are not ok",
            f"{summary.report} names each with its reason; the others are in {summary.output}",
        )


def _say_plan(terminal: Terminal, output: Path, recipe: dict[str, Any], listed: int, found: int, done: int) -> None:
    made = table("Would do", "what", "clips")
    for what, count in (("listed", listed), ("found", found), ("done before", done), ("to do", listed - done)):
        made.add_row(what, str(count))
    counts = {"listed": listed, "found": found, "taken_up": done, "to_do": listed - done}
    terminal.result({"output": str(output), "dry_run": True, "recipe": recipe, **counts}, made, text=str(output))


def _say_summary(terminal: Terminal, summary: ExtractionSummary) -> None:
    made = table("Clips", "status", "clips")
    made.add_row("listed", str(summary.listed))
    made.add_row("found", str(summary.found))
    for status, count in summary.by_status.items():
        made.add_row(status, str(count))
    for reason, count in list(summary.by_reason.items())[:_REASONS_SHOWN]:
        made.add_row(f"  {reason}", str(count))
    document = {
        "output": str(summary.output),
        "report": str(summary.report),
        "listed": summary.listed,
        "found": summary.found,
        "by_status": summary.by_status,
        "by_reason": summary.by_reason,
        "taken_up": summary.taken_up,
        "content_sha256": summary.content_sha256,
    }
    terminal.result(document, made, text=f"{summary.output}\n{summary.report}")
