"""The small interface between sampling and whatever decodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from figclip_cli.frames.probe import VideoInfo
from figclip_cli.frames.sampling import Times

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class DecodedFrames:
    """Frames at target times.

    Attributes:
        pts_seconds: (n,) presentation time of each frame from the clip's start; NaN where there is none.
        pictures: n pictures (H, W, 3) uint8 RGB, upright; None where the clip has no frame at that time.
        reason: Why frames are missing, in one line; empty when none is.
    """

    pts_seconds: Times
    pictures: list[Picture | None]
    reason: str = ""


# Give the frames that a player shows at the target times, in seconds; a target that the clip does not reach has no
# frame, never a repeated one.
Decoder = Callable[[Path, VideoInfo, Times], DecodedFrames]


def get_decoder(name: str) -> Decoder:
    """Return the decoder of a recipe."""
    from figclip_cli.frames.decoder_ffmpeg import decode_with_ffmpeg
    from figclip_cli.frames.decoder_pyav import decode_with_pyav

    return {"pyav": decode_with_pyav, "ffmpeg": decode_with_ffmpeg}[name]
