"""What verbs that score or embed share: which model, with or without a run, and which clips it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.model_flags import (
    ACTIVATION_HELP,
    DEVICE_HELP,
    MODEL_HELP,
    PRETRAINED_HELP,
    Activation,
    Device,
    model_source,
)
from figclip_cli.console import Terminal
from figclip_cli.option_fields import flag

if TYPE_CHECKING:
    from figclip_cli.evaluate.protocols import Protocol
    from figclip_cli.evaluate.visuals import StoredClips
    from figclip_cli.frames import FramesReader
    from figclip_cli.models.clip import Clip
    from figclip_cli.models.source import ModelSource
    from figclip_cli.run_folder import RunFolder

VideosFlag = Annotated[
    list[Path] | None, typer.Option("--videos", help="Instead of frames: a folder of videos; repeat for several.")
]
NoCacheFlag = Annotated[bool, typer.Option("--no-cache", help="Keep no features in .figclip/ for the next time.")]


@dataclass(frozen=True)
class ScoredModelOptions:
    """Which model is scored; see each field's help."""

    run: Path | None = flag(None, "Run folder. Default: the newest in runs/.", None)
    base_only: bool = flag(False, "Use the base model alone.", None)
    model: str | None = flag(None, MODEL_HELP, None)
    pretrained: str | None = flag(None, PRETRAINED_HELP, None)
    activation: str | None = flag(None, ACTIVATION_HELP, None, choices=tuple(one.value for one in Activation))
    device: str = flag("auto", DEVICE_HELP, None, choices=tuple(one.value for one in Device))

    def source(self, terminal: Terminal) -> ModelSource:
        """Return where the base model comes from; without ``--model``, the default folder, which is said."""
        activation = None if self.activation is None else Activation(self.activation)
        return model_source(terminal, self.model, self.pretrained, activation)


def choose_run(terminal: Terminal, options: ScoredModelOptions) -> RunFolder | None:
    """Return the run that is asked for, else the newest finished one in ``runs/``, which is said; None for the base.

    Raises:
        UsageError: A run is named together with ``--base-only``.
    """
    from figclip_cli.errors import UsageError
    from figclip_cli.run_folder import RunFolder, newest_finished_run

    if options.base_only and options.run is not None:
        raise UsageError("--base-only and --run contradict each other", "leave one of them out")
    if options.base_only or options.run is not None:
        return None if options.run is None else RunFolder(options.run)
    newest = newest_finished_run()
    found = f"{newest.path} (default: the newest finished one)" if newest else "none in runs/, base alone"
    terminal.info(f"run: {found}")
    return newest


def load_scored(terminal: Terminal, run: RunFolder | None, options: ScoredModelOptions) -> Clip:
    """Load the base model: the run's own, found where ``--model`` says if it moved, or the one that is named.

    Raises:
        UsageError: Flags contradict each other, or no model is named and there is no default.
        InputError: The run is not finished, or the model is missing, damaged or not the run's.
    """
    from figclip_cli.errors import UsageError
    from figclip_cli.models.adapted import load_base
    from figclip_cli.models.clip import choose_device, load_clip

    where = choose_device(options.device)
    if run is None:
        return load_clip(options.source(terminal), device=where, reporter=terminal)
    if options.model is None and (options.pretrained is not None or options.activation is not None):
        name = "--pretrained" if options.pretrained is not None else "--activation"
        raise UsageError(
            f"{name} without --model: the run says what it started from", "name the --model, or leave it out"
        )
    source = None if options.model is None else options.source(terminal)
    return load_base(run, source=source, device=where, reporter=terminal)


def scored_model(terminal: Terminal, options: ScoredModelOptions) -> tuple[Clip, RunFolder | None]:
    """Return the base model and the run that goes with it: :func:`choose_run`, then :func:`load_scored`."""
    chosen = choose_run(terminal, options)
    return load_scored(terminal, chosen, options), chosen


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
