"""What verbs that score or embed share: which model, with or without a run, and which clips it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.model_flags import Activation, Device, model_source
from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from figclip_cli.evaluate.protocols import Protocol
    from figclip_cli.evaluate.visuals import StoredClips
    from figclip_cli.frames import FramesReader
    from figclip_cli.models.clip import Clip
    from figclip_cli.run_folder import RunFolder

RunFlag = Annotated[Path | None, typer.Option("--run", help="Run folder. Default: the newest in runs/.")]
BaseOnlyFlag = Annotated[bool, typer.Option("--base-only", help="Use the base model alone.")]
VideosFlag = Annotated[
    list[Path] | None, typer.Option("--videos", help="Instead of frames: a folder of videos; repeat for several.")
]
NoCacheFlag = Annotated[bool, typer.Option("--no-cache", help="Keep no features in .figclip/ for the next time.")]


def choose_run(terminal: Terminal, run: Path | None, *, base_only: bool) -> RunFolder | None:
    """Return the run that is asked for, else the newest finished one in ``runs/``, which is said; None for the base.

    Raises:
        UsageError: A run is named together with ``--base-only``.
    """
    from figclip_cli.errors import UsageError
    from figclip_cli.run_folder import RunFolder, newest_finished_run

    if base_only and run is not None:
        raise UsageError("--base-only and --run contradict each other", "leave one of them out")
    if base_only or run is not None:
        return None if run is None else RunFolder(run)
    newest = newest_finished_run()
    found = f"{newest.path} (default: the newest finished one)" if newest else "none in runs/, base alone"
    terminal.info(f"run: {found}")
    return newest


def load_scored(
    terminal: Terminal,
    run: RunFolder | None,
    *,
    model: str | None,
    pretrained: str | None,
    activation: Activation | None,
    device: Device,
) -> Clip:
    """Load the base model: the run's own, found where ``--model`` says if it moved, or the one that is named.

    Raises:
        UsageError: Flags contradict each other, or no model is named and there is no default.
        InputError: The run is not finished, or the model is missing, damaged or not the run's.
    """
    from figclip_cli.errors import UsageError
    from figclip_cli.models.adapted import load_base
    from figclip_cli.models.clip import choose_device, load_clip

    where = choose_device(device.value)
    if run is None:
        return load_clip(model_source(terminal, model, pretrained, activation), device=where, reporter=terminal)
    if model is None and (pretrained is not None or activation is not None):
        flag = "--pretrained" if pretrained is not None else "--activation"
        raise UsageError(
            f"{flag} without --model: the run says what it started from", "name the --model, or leave it out"
        )
    source = None if model is None else model_source(terminal, model, pretrained, activation)
    return load_base(run, source=source, device=where, reporter=terminal)


def scored_model(
    terminal: Terminal,
    *,
    run: Path | None,
    base_only: bool,
    model: str | None,
    pretrained: str | None,
    activation: Activation | None,
    device: Device,
) -> tuple[Clip, RunFolder | None]:
    """Return the base model and the run that goes with it: :func:`choose_run`, then :func:`load_scored`."""
    chosen = choose_run(terminal, run, base_only=base_only)
    clip = load_scored(terminal, chosen, model=model, pretrained=pretrained, activation=activation, device=device)
    return clip, chosen


def open_frames(
    terminal: Terminal, frames: Sequence[Path] | None, videos: Sequence[Path] | None
) -> FramesReader | None:
    """Open the frames files before a model is loaded for them; without any, the default name, which is said.

    Returns:
        None where ``videos`` are given, whose frames are extracted as the model wants them.

    Raises:
        UsageError: Both are given.
        InputError: A frames file is missing or damaged, or a folder of videos does not exist.
    """
    from figclip_cli.errors import InputError, UsageError
    from figclip_cli.frames import FramesReader

    if not videos:
        return FramesReader(list(frames) if frames else terminal.default(None, Path("frames.h5"), "frames"))
    if frames:
        raise UsageError("frames files and --videos contradict each other", "leave one of them out")
    absent = next((path for path in videos if not path.exists()), None)
    if absent is not None:
        raise InputError(f"{absent} does not exist", "name a folder of videos, or video files")
    return None


def frames_source(
    terminal: Terminal,
    opened: FramesReader | None,
    videos: Sequence[Path] | None,
    *,
    protocol: Protocol,
    clip: Clip,
    cache: Path | None = None,
) -> StoredClips:
    """Return the clips that a model looks at: those opened, or those of videos, extracted as the protocol asks.

    Args:
        opened: What :func:`open_frames` returned.
        cache: Folder whose ``.figclip`` keeps the frames of videos; None is the current folder, since frames are
            always kept.

    Raises:
        InputError: The frames are not as model and protocol want them, or no video can be decoded.
    """
    from figclip_cli.evaluate.visuals import StoredClips
    from figclip_cli.evaluate.visuals.videos import frames_of_videos

    place = "in the frames file" if opened is not None else "among the videos"
    if opened is None:
        opened = frames_of_videos(videos or (), protocol, clip, cache=cache or Path(), reporter=terminal)
    recipe = opened.recipe
    clip.check_frames(size=recipe.size, crop=recipe.crop, interpolation=recipe.interpolation, reporter=terminal)
    return StoredClips(opened, protocol, place=place)
