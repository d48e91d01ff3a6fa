"""Decode with PyAV, one thread, in presentation order, stopping after the last target."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import av
import numpy as np

from figclip_cli.frames.decoder import DecodedFrames, Picture
from figclip_cli.frames.probe import ClipError, VideoInfo
from figclip_cli.frames.sampling import Times

# Times made by division may fall a rounding error short of the frame they name.
ROUNDING_SECONDS = 1e-9
_QUARTER_TURN_DEGREES = 90


def decode_with_pyav(path: Path, info: VideoInfo, targets_seconds: Times) -> DecodedFrames:
    """Decode a file up to its last target.

    The frame for a target is known once the next one, or the end, has been seen; so one frame is held back, and
    only wanted ones are converted to RGB.

    Raises:
        ClipError: Not one frame can be decoded.
    """
    pts = np.full(len(targets_seconds), np.nan)
    pictures: list[Picture | None] = [None] * len(targets_seconds)
    done, reason = 0, ""
    held: av.VideoFrame | None = None

    def take(frame: av.VideoFrame, before_seconds: float) -> int:
        """Give ``frame`` to the targets before a time; return how many targets are done."""
        position, picture = done, None
        while position < len(targets_seconds) and targets_seconds[position] + ROUNDING_SECONDS < before_seconds:
            picture = upright_rgb(frame) if picture is None else picture
            pts[position], pictures[position] = _time(frame, info), picture
            position += 1
        return position

    try:
        for frame in _frames(path, info):
            if held is not None:
                done = take(held, _time(frame, info))
            if done == len(targets_seconds):
                break
            held = frame
    except av.error.FFmpegError as error:
        reason = f"decoding stopped: {error.strerror or type(error).__name__}"
    if held is None:
        raise ClipError(reason or "no frame can be decoded")
    if done < len(targets_seconds):
        end = max(
            _time(held, info) + info.frame_seconds, min(info.duration_seconds, info.end_seconds) if not reason else 0
        )
        done = take(held, end)
    if done < len(targets_seconds):
        reason = reason or f"the pictures end at {end:.2f} s of {info.duration_seconds:.2f} s"
    return DecodedFrames(pts, pictures, reason)


def _frames(path: Path, info: VideoInfo) -> Iterator[av.VideoFrame]:
    with av.open(os.fspath(path)) as container:
        stream = container.streams[info.stream_index]
        stream.thread_count = 1  # parallelism is by processes; threads inside them deadlock beside torch
        stream.thread_type = "NONE" if hasattr(stream, "thread_type") else stream.thread_type
        yield from (frame for frame in container.decode(stream) if frame.pts is not None)


def _time(frame: av.VideoFrame, info: VideoInfo) -> float:
    return float(info.seconds(frame.pts or 0))


def upright_rgb(frame: av.VideoFrame) -> Picture:
    """Return a frame as (H, W, 3) uint8 RGB, turned as its display matrix says."""
    picture = cast(Picture, frame.to_ndarray(format="rgb24"))
    turns = round(frame.rotation / _QUARTER_TURN_DEGREES) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
