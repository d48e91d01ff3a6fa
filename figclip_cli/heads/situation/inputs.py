"""What a head looks at: the base model or a run, frames, and the features that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.heads.frame_features import FrameFeatures, event_features, frame_features
from figclip_cli.heads.seen_frames import frames_facts, frames_that_differ
from figclip_cli.heads.seen_model import SeenModel
from figclip_cli.heads.situation.examples import StoredFeatures
from figclip_cli.reporting import SILENT, Reporter


def situation_frames(clips: StoredClips) -> dict[str, Any]:
    """Return what frames a head is trained on, for ``config.json``.

    Raises:
        InputError: The clips do not have five events, or differ in length.
    """
    clips.reader.require_equal_lengths()
    clips.reader.require_events(len(EVENTS))
    return frames_facts(clips)


def refuse_other_frames(clips: StoredClips, trained_on: Mapping[str, Any], head: Path | str) -> None:
    """Refuse frames that were chosen or cut in another way than those that a head is trained on.

    Args:
        head: Whose frames those are, for the message.

    Raises:
        InputError: Names what differs.
    """
    situation_frames(clips)
    differing = frames_that_differ(clips, trained_on)
    if differing:
        whose = f"the head {head} was trained on" if isinstance(head, Path) else f"{clips.reader.paths[0]}: {head} has"
        raise InputError(f"{whose} other frames: {differing}", "extract as for its training")


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
