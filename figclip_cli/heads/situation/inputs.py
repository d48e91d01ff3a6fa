"""What a head looks at: the base model or a run, frames, and the features that follow from them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.files import sha256_of_file
from figclip_cli.heads.frame_features import FrameFeatures, event_features, frame_features
from figclip_cli.heads.situation.examples import StoredFeatures
from figclip_cli.heads.situation.options import PLAIN, TOKENS
from figclip_cli.models.adapted import attach_run, load_contextualizer
from figclip_cli.models.clip import Clip
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder


@dataclass(frozen=True)
class SeenModel:
    """A model whose features a head reads.

    Attributes:
        clip: With its adapter, where there is a run.
        contextualizer: Makes event tokens; None pools frames.
        facts: Names and hashes, for ``config.json``.
        precision: Of the towers' arithmetic.
    """

    clip: Clip
    contextualizer: VideoContextualizer | None
    facts: Mapping[str, Any]
    precision: str

    @property
    def features(self) -> str:
        """``tokens`` or ``plain``."""
        return PLAIN if self.contextualizer is None else TOKENS


def seen_model(clip: Clip, run: RunFolder | None, *, features: str | None = None, precision: str = "fp32") -> SeenModel:
    """Attach a run to its base model, in place.

    Args:
        features: ``tokens`` or ``plain``; None is ``tokens`` where the run has a contextualizer.

    Raises:
        UsageError: Tokens are asked for, and there is no contextualizer.
        InputError: The run is not finished, or a file of it is damaged.
    """
    config = None if run is None else run.load_config()
    has_contextualizer = bool(config and config["contextualizer"])
    if features == TOKENS and not has_contextualizer:
        what = "the base model" if run is None else str(run.path)
        raise UsageError(f"--features tokens: {what} has no contextualizer", "pass --features plain")
    uses_tokens = has_contextualizer if features is None else features == TOKENS
    source = clip.source.as_dict()
    if Path(clip.source.model).is_dir():
        source["model"] = os.fspath(Path(clip.source.model).resolve())
    facts: dict[str, Any] = {
        "name": clip.name,
        "source": source,
        "sha256": clip.sha256,
        "preprocess_cfg": clip.preprocess.as_dict(),
        "quick_gelu": clip.model_config["quick_gelu"],
        "run": None,
        "adapter_sha256": None,
        "contextualizer_sha256": None,
    }
    if run is None:
        return SeenModel(clip, None, facts, precision)
    facts |= {"run": os.fspath(run.path.resolve()), "adapter_sha256": sha256_of_file(run.adapter_file)}
    adapted = attach_run(clip, run)
    if not uses_tokens:
        return SeenModel(adapted, None, facts, precision)
    facts["contextualizer_sha256"] = sha256_of_file(run.contextualizer_file)
    return SeenModel(adapted, load_contextualizer(run, device=clip.device), facts, precision)


# What must be the same for a head to be of use; names and places may change.
_LASTING = {
    "sha256": "another base model",
    "adapter_sha256": "another run",
    "contextualizer_sha256": "another contextualizer",
    "preprocess_cfg": "another preprocessing",
    "quick_gelu": "another activation",
}


def refuse_other_model(found: Mapping[str, Any], trained_on: Mapping[str, Any], head: Path) -> None:
    """Refuse a model whose features are not those that a head was trained on.

    Raises:
        InputError: Says what differs.
    """
    for key, what in _LASTING.items():
        if found.get(key) != trained_on.get(key):
            where = trained_on.get("run") or trained_on["source"]["model"]
            raise InputError(f"the head {head} was trained on {what}", f"name {where} with --run or --model")


def frames_facts(clips: StoredClips) -> dict[str, Any]:
    """Return what frames a head was trained on, for ``config.json``.

    Raises:
        InputError: The clips do not have five events, or differ in length.
    """
    reader = clips.reader
    reader.require_equal_lengths()
    reader.require_events(len(EVENTS))
    return {"recipe": reader.recipe.as_dict(), "recipe_sha256": reader.recipe.sha256}


# What must be the same; how pictures are decoded and stored may differ.
_LASTING_OF_FRAMES = ("events", "frames_per_event", "size", "policy", "fps", "crop", "interpolation")


def refuse_other_frames(clips: StoredClips, trained_on: Mapping[str, Any], head: Path) -> None:
    """Refuse frames that were chosen or cut in another way than those that a head was trained on.

    Raises:
        InputError: Names what differs.
    """
    own, theirs = frames_facts(clips)["recipe"], trained_on["recipe"]
    differing = [key for key in _LASTING_OF_FRAMES if own.get(key) != theirs.get(key)]
    if differing:
        shown = ", ".join(f"{key} {theirs.get(key)}, here {own.get(key)}" for key in differing)
        raise InputError(f"the head {head} was trained on other frames: {shown}", "extract as for its training")


def features_of(
    model: SeenModel,
    clips: StoredClips,
    clip_ids: Sequence[str],
    *,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> tuple[StoredFeatures, FrameFeatures]:
    """Encode clips; those that cannot be read are in ``failed`` of the second.

    Raises:
        InputError: Not one clip could be read, or they are longer than the contextualizer was built for.
    """
    frames = frame_features(model.clip, clips, clip_ids, precision=model.precision, cache=cache, reporter=reporter)
    return StoredFeatures(event_features(frames, frames.clip_ids, model.contextualizer, reporter=reporter)), frames
