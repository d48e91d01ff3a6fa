"""Raw features of every frame of clips, kept in ``.figclip`` like all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.evaluate.visuals.clips import StoredClips
from figclip_cli.evaluate.visuals.features import VisualFeatures, visual_features
from figclip_cli.evaluate.visuals.single_frames import SingleFrames
from figclip_cli.models.clip import Clip
from figclip_cli.reporting import SILENT, Reporter


@dataclass(frozen=True)
class FrameFeatures:
    """Raw (not normalised) features of the frames of clips.

    Attributes:
        clip_ids: Clips all of whose frames could be read, in the order asked.
        failed: The others, with the reason.
        width: D.
    """

    clip_ids: tuple[str, ...]
    failed: Mapping[str, str]
    width: int
    _features: VisualFeatures
    _rows: Mapping[str, tuple[int, int]]
    _clips: StoredClips

    def frames_of(self, clip_id: str) -> Tensor:
        """Return (F, D) float32 on the CPU, in the order of time."""
        return self._features.rows(*self._rows[clip_id])

    def pts_seconds(self, clip_id: str) -> npt.NDArray[np.float64]:
        """Return the (F,) presentation times of these frames, from the clip's file's start."""
        return self._clips.reader.pts_seconds(clip_id).ravel()

    def duration_seconds(self, clip_id: str) -> float:
        """Return how long the clip is."""
        return self._clips.reader.row(clip_id).duration_seconds

    def equal(self, clip_ids: Sequence[str]) -> Tensor:
        """Return (n, P, T, D) float32 of clips that have P events of T frames each.

        Raises:
            InputError: The clips differ in length.
        """
        reader = self._clips.reader
        reader.require_equal_lengths()
        shape = (len(clip_ids), reader.recipe.events, reader.recipe.frames_per_event, self.width)
        rows = [torch.arange(*self._rows[clip_id]) for clip_id in clip_ids]
        return self._features.take(torch.cat(rows) if rows else torch.zeros(0, dtype=torch.int64)).reshape(shape)


def frame_features(
    clip: Clip,
    clips: StoredClips,
    clip_ids: Sequence[str],
    *,
    precision: str = "fp32",
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> FrameFeatures:
    """Encode every frame of clips that was not encoded before with this model.

    Args:
        clip: The model, with its adapter where a run has one.
        clips: Where the frames are.
        clip_ids: Distinct ids; those that are not there are among the failed ones of the result.
        cache: Folder in whose ``.figclip`` features are kept; None keeps nothing.

    Raises:
        InputError: Not one clip could be read.
        VerificationError: The model gives a feature that is not finite, or zero.
    """
    found = readable_frame_features(clip, clips, clip_ids, precision=precision, cache=cache, reporter=reporter)
    if not found.clip_ids:
        failed = found.failed
        first = next(iter(failed), None)
        why = "no clip was asked for" if first is None else f"'{first}': {failed[first]}"
        raise InputError(f"not one of {len(failed)} clips could be read: {why}; {clips.example()}", "see to that first")
    return found


def readable_frame_features(
    clip: Clip,
    clips: StoredClips,
    clip_ids: Sequence[str],
    *,
    precision: str = "fp32",
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> FrameFeatures:
    """Do as :func:`frame_features`, also where not one clip could be read.

    Raises:
        VerificationError: The model gives a feature that is not finite, or zero.
    """
    source = SingleFrames(clips)
    failed = {clip_id: why for clip_id in clip_ids if (why := clips.why_missing(clip_id)) is not None}
    looks = [(clip_id, number) for clip_id in clip_ids if clip_id not in failed for number in source.numbers(clip_id)]
    found = visual_features(clip, source, looks, pooling=None, precision=precision, cache=cache, reporter=reporter)
    for (clip_id, _), why in found.failed.items():
        failed.setdefault(clip_id, why)
    rows: dict[str, tuple[int, int]] = {}
    for row, (clip_id, _) in enumerate(found.looks):
        rows[clip_id] = rows.get(clip_id, (row, row))[0], row + 1
    there = tuple(clip_id for clip_id in clip_ids if clip_id not in failed)
    return FrameFeatures(there, failed, clip.width, found, rows, clips)
