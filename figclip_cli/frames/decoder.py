"""The small interface between sampling and whatever decodes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from figclip_cli.frames.sampling import ROUNDING_SECONDS, Times
from figclip_cli.frames.video import OpenVideo, VideoInfo

Picture = npt.NDArray[np.uint8]

# What becomes of a wanted frame, an upright (H, W, 3) uint8 RGB picture: called once for each, as soon as it is there,
# so that full-size pictures never pile up.
Keep = Callable[[Picture], bytes]


@dataclass(frozen=True)
class DecodedFrames:
    """Frames at target times.

    Attributes:
        pts_seconds: (n,) presentation time of each frame from the file's start; NaN where there is none.
        kept: What ``keep`` made of each frame; None where the clip has no frame at that time.
        reason: Why frames are missing, in one line; empty when none is.
    """

    pts_seconds: Times
    kept: list[bytes | None]
    reason: str = ""


# Give the frames that a player shows at the target times, ascending, in seconds; a target that the clip does not reach
# has no frame, never a repeated one. The last argument is what ffmpeg decodes with, empty for the processor.
Decoder = Callable[[OpenVideo, Times, Keep, str], DecodedFrames]


def get_decoder(name: str) -> Decoder:
    """Return the decoder of a recipe."""
    from figclip_cli.frames.decoder_ffmpeg import decode_with_ffmpeg
    from figclip_cli.frames.decoder_pyav import decode_with_pyav

    return {"pyav": decode_with_pyav, "ffmpeg": decode_with_ffmpeg}[name]


def frames_for(
    info: VideoInfo, targets_seconds: Times, chosen: npt.NDArray[np.int64], last_tick: int, kept: dict[int, bytes]
) -> DecodedFrames:
    """Put frames to targets.

    Args:
        info: The file.
        targets_seconds: (n,) times.
        chosen: (n,) tick of the frame shown at each target, were the last one shown for ever.
        last_tick: Of the file's last frame.
        kept: What was kept of each frame, by tick.
    """
    last_shown_until = float(info.seconds(last_tick)) + info.frame_seconds
    end = max(last_shown_until, min(info.duration_seconds, info.end_seconds))
    reached = targets_seconds + ROUNDING_SECONDS < end
    pts = np.where(reached, info.seconds(chosen), np.nan)
    reason = "" if reached.all() else f"the pictures end at {end:.2f} s of {info.duration_seconds:.2f} s"
    return DecodedFrames(
        pts, [kept[tick] if there else None for tick, there in zip(chosen.tolist(), reached, strict=True)], reason
    )
