"""What a file holds, found by reading its packets and decoding nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from figclip_cli.frames.sampling import Times

_MICROSECONDS = 1_000_000


class ClipError(Exception):
    """A file that gives no frames; the text is the reason, in one line. Never leaves the worker."""


@dataclass(frozen=True)
class VideoInfo:
    """The video stream of a file. Time zero is the container's start, as ffmpeg's ``-ss`` counts.

    Attributes:
        stream_index: Which stream of the file.
        time_base: Seconds per tick of ``ticks``.
        start_seconds: Time of zero in the file's own clock.
        duration_seconds: What the header states, else where the last packet ends.
        end_seconds: Where the last packet ends.
        frame_seconds: Duration of the last packet, or one over the average rate.
        ticks: (n,) ascending presentation times in ticks, or None where packets do not carry them.
    """

    stream_index: int
    time_base: Fraction
    start_seconds: float
    duration_seconds: float
    end_seconds: float
    frame_seconds: float
    ticks: npt.NDArray[np.int64] | None

    def seconds(self, ticks: npt.NDArray[np.int64] | int) -> Times:
        """Return seconds from the clip's start of times in ticks."""
        scaled = np.asarray(ticks, dtype=np.float64) * self.time_base.numerator / self.time_base.denominator
        return scaled - self.start_seconds


def probe(path: Path) -> VideoInfo:
    """Read a file's packets.

    Raises:
        ClipError: The file is empty, is no video, or has no picture stream.
    """
    if path.stat().st_size == 0:
        raise ClipError("the file is empty")
    try:
        with av.open(os.fspath(path)) as container:
            return _probe_container(container)
    except (av.error.FFmpegError, OSError, ValueError, UnicodeError) as error:
        raise ClipError(_reason(error)) from error


def video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Return the first stream of moving pictures; cover art is none."""
    for stream in container.streams.video:
        if "attached_pic" not in str(stream.disposition).lower():
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise ClipError(f"no video stream (only {', '.join(kinds)})" if kinds else "no video stream")


def _probe_container(container: av.container.InputContainer) -> VideoInfo:
    stream = video_stream(container)
    time_base = stream.time_base or Fraction(1, _MICROSECONDS)
    ticks: list[int] = []
    complete, timed, end, last_duration = True, False, 0, 0
    try:
        for packet in container.demux(stream):
            if packet.size == 0 or packet.is_discard:
                continue
            timed = timed or packet.pts is not None or packet.dts is not None
            if packet.pts is None:
                complete = False
                continue
            ticks.append(packet.pts)
            if packet.pts + (packet.duration or 0) > end or len(ticks) == 1:
                end, last_duration = packet.pts + (packet.duration or 0), packet.duration or 0
    except av.error.FFmpegError:
        complete = complete and bool(ticks)  # a torn tail: what came before it stands
    if not timed:
        raise ClipError("the stream has no presentation times; put it into a container such as mp4 or mkv")
    rate = stream.average_rate or stream.guessed_rate
    frame_seconds = float(last_duration * time_base) or (1.0 / float(rate) if rate else 0.04)
    if ticks and not last_duration:
        end += round(frame_seconds / float(time_base))
    start = (container.start_time or 0) / _MICROSECONDS
    end_seconds = float(end * time_base) - start if ticks else 0.0
    return VideoInfo(
        stream_index=stream.index,
        time_base=time_base,
        start_seconds=start,
        duration_seconds=_stated_duration(container, stream, time_base) or end_seconds,
        end_seconds=end_seconds,
        frame_seconds=frame_seconds,
        ticks=np.unique(np.array(ticks, dtype=np.int64)) if complete and ticks else None,
    )


def _stated_duration(
    container: av.container.InputContainer, stream: av.VideoStream, time_base: Fraction
) -> float | None:
    """Return the header's duration: the stream's own, its DURATION tag (Matroska), or the container's."""
    if stream.duration:
        return float(stream.duration * time_base)
    tag = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), None)
    if tag and tag.count(":") == 2:
        hours, minutes, seconds = tag.split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return container.duration / _MICROSECONDS if container.duration else None


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "not a video, or its index is missing (an incomplete download)"
    return " ".join(str(error).split())[:200] or type(error).__name__
