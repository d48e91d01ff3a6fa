"""Clips read through a run's contextualizer: what that needs, and what a result says of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.protocols import Protocol
from figclip_cli.evaluate.task_options import TOKENS
from figclip_cli.evaluate.visuals import ImageFiles, StoredClips
from figclip_cli.evaluate.visuals.contextual import Contextualizer
from figclip_cli.files import sha256_of_file
from figclip_cli.models.adapted import load_contextualizer, require_contextualizer
from figclip_cli.models.clip import Clip
from figclip_cli.models.contextualizer import ContextualizerConfig
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

_FLAG = f"--features {TOKENS}"
_POOLING = "mean-l2"  # of the base, as training pools frames
_WHOLE = (1.0,)


def refuse_misfit(
    features: str,
    run: RunFolder | None,
    protocol: Protocol,
    *,
    scales: Sequence[float] = _WHOLE,
    uses_images: bool = False,
) -> None:
    """Refuse, before anything is loaded, tokens where there can be none; pooled frames always pass.

    Args:
        features: ``plain`` or ``tokens``.
        scales: At which the run is evaluated.
        uses_images: Whether images are looked at, not clips.

    Raises:
        UsageError: There is no run, or the choices contradict each other.
        InputError: The run is not finished or has no contextualizer.
    """
    if features != TOKENS:
        return
    if uses_images:
        raise UsageError(f"{_FLAG} is for clips; a contextualizer does not read images", f"leave {_FLAG} out")
    if run is None:
        raise UsageError(
            f"{_FLAG} needs a run; the base model alone has no contextualizer", "name one with --run, or leave it out"
        )
    if tuple(scales) != _WHOLE:
        raise UsageError(
            f"{_FLAG} and --scales contradict each other: a contextualizer reads the frames of the whole run",
            "leave one of them out",
        )
    if protocol.num_frames is not None or protocol.fps:
        what = f"the protocol '{protocol.name}' chooses frames" if not protocol.changed else "--num-frames chooses some"
        raise UsageError(
            f"{_FLAG} reads all stored frames of a clip, {what}", "choose --protocol figclip, without --num-frames"
        )
    if protocol.pooling != _POOLING:
        raise UsageError(
            f"{_FLAG} was trained beside frames pooled by {_POOLING}, not {protocol.pooling}",
            f"leave --pooling out, or {_FLAG}",
        )
    require_contextualizer(run)


def contextualizer_for(
    features: str,
    run: RunFolder | None,
    clip: Clip,
    source: ImageFiles | StoredClips,
    looks: Sequence[Any],
    protocol: Protocol,
    *,
    scales: Sequence[float] = _WHOLE,
    reporter: Reporter = SILENT,
) -> Contextualizer | None:
    """Return the contextualizer that reads the clips of the adapted model, or None where frames are pooled.

    Args:
        clip: The base model.
        looks: Events of clips and whole clips.

    Raises:
        UsageError: As for :func:`refuse_misfit`.
        InputError: The run's contextualizer is missing or damaged, or cannot read these clips.
    """
    refuse_misfit(features, run, protocol, scales=scales, uses_images=isinstance(source, ImageFiles))
    if features != TOKENS:
        return None
    assert run is not None and isinstance(source, StoredClips)
    _refuse_untrained(run, looks)
    module = load_contextualizer(run, device=clip.device)
    if module.config.width != clip.width:
        raise InputError(
            f"{run.contextualizer_file} reads features of width {module.config.width}, {clip.name} has {clip.width}",
            "is the run folder as figclip adapt left it?",
        )
    _check_shape(source, module.config, reporter)
    return Contextualizer(module, sha256_of_file(run.contextualizer_file))


def reading_facts(contextualizer: Contextualizer | None) -> dict[str, Any]:
    """Return what a result says of how its clips were read."""
    if contextualizer is None:
        return {"contextualizer": False}
    sizes = contextualizer.module.config
    return {
        "contextualizer": True,
        "clips_read_by": {
            "base": f"image tower, frames pooled by {_POOLING}",
            "adapted": "image tower and video contextualizer, event and video tokens",
        },
        "contextualizer_built_for": {"events": sizes.max_events, "frames_per_event": sizes.max_frames_per_event},
    }


def _refuse_untrained(run: RunFolder, looks: Sequence[Any]) -> None:
    config = run.load_config()
    for kind, asked in (
        ("video", any(event is None for _, event in looks)),
        ("event", any(e is not None for _, e in looks)),
    ):
        if asked and not config[f"vc_{kind}_weight"]:
            other = "events" if kind == "video" else "whole clips"
            raise InputError(
                f"{run.path} was trained with --vc-{kind}-weight 0: its {kind} tokens mean nothing",
                f"leave {_FLAG} out, or look at {other}",
            )


def _check_shape(source: StoredClips, sizes: ContextualizerConfig, reporter: Reporter) -> None:
    """Refuse clips with more events or frames than there are positions for; say where there are fewer."""
    source.reader.require_equal_lengths()
    recipe = source.reader.recipe
    has = f"{source.reader.paths[0]} has {recipe.events} events of {recipe.frames_per_event} frames"
    built = f"{sizes.max_events} of {sizes.max_frames_per_event}"
    sampling = f"--events {sizes.max_events} --frames-per-event {sizes.max_frames_per_event}"
    if recipe.events > sizes.max_events or recipe.frames_per_event > sizes.max_frames_per_event:
        raise InputError(
            f"{has}, the run's contextualizer was trained on at most {built}", f"extract the frames with {sampling}"
        )
    if (recipe.events, recipe.frames_per_event) != (sizes.max_events, sizes.max_frames_per_event):
        reporter.warn(f"{has}, the run's contextualizer was trained on up to {built}: {sampling} extracts these")
