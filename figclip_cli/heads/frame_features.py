"""Event and video tokens of clips, as a head sees them, made of the features of single frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from figclip_cli.evaluate.visuals.contextual import CLIPS_AT_ONCE, unit_tokens
from figclip_cli.evaluate.visuals.frame_features import FrameFeatures, frame_features
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.pooling import pool_frames
from figclip_cli.reporting import SILENT, Reporter

__all__ = ["EventFeatures", "FrameFeatures", "event_features", "frame_features"]


@dataclass(frozen=True)
class EventFeatures:
    """Clips as a head sees them.

    Attributes:
        clip_ids: n clip ids.
        videos: (n, D) float32, unit length: the contextualizer's video token, or the pooled frames.
        events: (n, P, D) float32, unit length: its event tokens, or each event's pooled frames.
        frames: Where the features of single frames are.
    """

    clip_ids: tuple[str, ...]
    videos: Tensor
    events: Tensor
    frames: FrameFeatures


@torch.no_grad()
def event_features(
    frames: FrameFeatures,
    clip_ids: Sequence[str],
    contextualizer: VideoContextualizer | None = None,
    *,
    reporter: Reporter = SILENT,
) -> EventFeatures:
    """Make event and video tokens of clips.

    Args:
        clip_ids: Some of ``frames.clip_ids``.
        contextualizer: Makes the tokens (FiGCLIP, section 3.2); None pools frames instead, ``mean-l2``.

    Raises:
        InputError: The clips differ in length, or are longer than the contextualizer was built for.
    """
    videos, events = [], []
    with reporter.track("make event tokens", len(clip_ids), "clips") as progress:
        for start in range(0, len(clip_ids), CLIPS_AT_ONCE):
            part = list(clip_ids[start : start + CLIPS_AT_ONCE])
            video, event = _tokens(frames.equal(part), contextualizer)
            videos.append(video)
            events.append(event)
            progress.advance(len(part))
    return EventFeatures(tuple(clip_ids), torch.cat(videos), torch.cat(events), frames)


def _tokens(frames: Tensor, contextualizer: VideoContextualizer | None) -> tuple[Tensor, Tensor]:
    """Return video tokens (n, D) and event tokens (n, P, D), unit length, of raw (n, P, T, D)."""
    if contextualizer is None:
        return pool_frames(frames.flatten(1, 2), pooling="mean-l2"), pool_frames(frames, pooling="mean-l2")
    return unit_tokens(contextualizer, frames)
