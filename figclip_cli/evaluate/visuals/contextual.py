"""Contextual event and video tokens as features of clips: the image tower, then a run's video contextualizer.

As in training (FiGCLIP, sections 3.2 and 3.3) the contextualizer reads the raw features of all stored frames of a clip,
and its tokens are divided by their lengths. The features of single frames are kept, and the tokens beside them under a
key of their own, which has the contextualizer's hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.evaluate.visuals.clips import ClipLook, StoredClips
from figclip_cli.evaluate.visuals.features import VisualFeatures, kept_features, visual_key
from figclip_cli.evaluate.visuals.frame_features import readable_frame_features
from figclip_cli.evaluate.visuals.packing import TOKEN
from figclip_cli.files import sha256_of_json
from figclip_cli.models.clip import Clip
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.reporting import SILENT, Reporter

CLIPS_AT_ONCE = 32
_CLIPS_READ = 8 * CLIPS_AT_ONCE  # whose frame features are in memory at once
_KEY_VERSION = 1


@dataclass(frozen=True)
class Contextualizer:
    """A run's contextualizer.

    Attributes:
        module: On the model's device, in evaluation mode.
        sha256: Hash of its file.
    """

    module: VideoContextualizer
    sha256: str


def contextual_features(
    clip: Clip,
    contextualizer: Contextualizer,
    source: StoredClips,
    looks: Sequence[ClipLook],
    *,
    precision: str = "fp32",
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> VisualFeatures:
    """Return unit-length tokens of distinct looks: an event's token, or the video token of a whole clip.

    Args:
        clip: With the run's adapter.
        contextualizer: Of the same run.
        cache: Frame features and tokens are kept in ``.figclip/visual-features/`` in this folder; None keeps nothing.

    Raises:
        InputError: The clips differ in length, or are longer than the contextualizer was built for.
        VerificationError: A feature or token is not finite, or zero.
    """
    source.reader.require_equal_lengths()

    def encode(wanted: Sequence[Any]) -> Iterator[tuple[int, Tensor | InputError]]:
        return _tokens_of_looks(clip, contextualizer.module, source, wanted, precision, cache)

    return kept_features(
        clip,
        source,
        looks,
        encode,
        key=contextual_key(clip, contextualizer, source, precision),
        packing=TOKEN,
        cache=cache,
        reporter=reporter,
    )


def contextual_key(clip: Clip, contextualizer: Contextualizer, source: StoredClips, precision: str) -> str:
    """Return 32 hex digits of all that a token depends on beside the pixels."""
    recipe = source.reader.recipe
    about = {
        "version": _KEY_VERSION,
        "frames": visual_key(clip, precision, raw=True),
        "contextualizer": contextualizer.sha256,
        "events": recipe.events,
        "frames_per_event": recipe.frames_per_event,
    }
    return sha256_of_json(about)[:32]


def _tokens_of_looks(
    clip: Clip,
    contextualizer: VideoContextualizer,
    source: StoredClips,
    looks: Sequence[ClipLook],
    precision: str,
    cache: Path | None,
) -> Iterator[tuple[int, Tensor | InputError]]:
    """Yield the number of each look with its token on the CPU, or with why the clip cannot be read."""
    numbers_of: dict[str, list[int]] = {}
    for number, (clip_id, _) in enumerate(looks):
        numbers_of.setdefault(clip_id, []).append(number)
    clip_ids = list(numbers_of)
    for start in range(0, len(clip_ids), _CLIPS_READ):
        part = clip_ids[start : start + _CLIPS_READ]
        frames = readable_frame_features(clip, source, part, precision=precision, cache=cache)
        for clip_id, why in frames.failed.items():
            yield from ((number, InputError(why, "extract again")) for number in numbers_of[clip_id])
        for first in range(0, len(frames.clip_ids), CLIPS_AT_ONCE):
            together = frames.clip_ids[first : first + CLIPS_AT_ONCE]
            videos, events = unit_tokens(contextualizer, frames.equal(together))
            for row, clip_id in enumerate(together):
                for number in numbers_of[clip_id]:
                    event = looks[number][1]
                    yield number, videos[row] if event is None else events[row, event]


@torch.no_grad()
def unit_tokens(contextualizer: VideoContextualizer, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Return the contextual tokens of at most :data:`CLIPS_AT_ONCE` clips.

    Args:
        contextualizer: On any device.
        frames: (n, P, T, D) raw frame features, all of them there.

    Returns:
        Video tokens (n, D) and event tokens (n, P, D), unit length, float32 on the CPU.

    Raises:
        InputError: The clips are longer than the contextualizer was built for.
    """
    # As with encoding, every batch has the same size, so that a clip's tokens do not depend on its neighbours.
    filled = torch.cat([frames, frames[-1:].expand(CLIPS_AT_ONCE - len(frames), -1, -1, -1)])
    try:
        video, events = contextualizer(filled.to(contextualizer.video_token.device))
    except ValueError as error:
        raise InputError(
            f"the run's contextualizer cannot read these frames: {error}", "extract as for the run"
        ) from error
    return F.normalize(video, dim=-1).cpu()[: len(frames)], F.normalize(events, dim=-1).cpu()[: len(frames)]
