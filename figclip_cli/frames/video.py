"""An open video: what it holds, found by reading its packets and decoding nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from av.stream import Discard

from figclip_cli.frames.sampling import Times

_MICROSECONDS = 1_000_000
_SEEKABLE = ("mov", "matroska")  # they carry an index; elsewhere a seek is a guess
_SEEK_MARGIN_SECONDS = 0.001


class ClipError(Exception):
    """A file that gives no frames; the text is the reason, in one line. Never leaves the worker."""


@dataclass(frozen=True)
class Packets:
    """Compressed frames in decode order, from the file's first or from a key frame before the part asked for.

    Attributes:
        ticks: (n,) int64 presentation times.
        keyframe: (n,) bool, decoding can begin here.
        shown: (n,) bool; False for what only others need, as before an edit list's start.
        sizes: (n,) int64 bytes.
    """

    ticks: npt.NDArray[np.int64]
    keyframe: npt.NDArray[np.bool_]
    shown: npt.NDArray[np.bool_]
    sizes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ticks)


@dataclass(frozen=True)
class VideoInfo:
    """The video stream of a file. Time zero is the container's start, as ffmpeg's ``-ss`` counts.

    Attributes:
        stream_index: Which stream of the file.
        time_base: Seconds per tick.
        start_seconds: Time of zero in the file's own clock.
        duration_seconds: What the header states, else where the last packet ends.
        end_seconds: Where the last packet read ends; the part asked for may end before the file does.
        frame_seconds: Duration of the last packet, or one over the average rate.
        width, height: Of the coded picture, before it is turned.
        pixel_aspect: Width of a coded pixel over its height.
        packets: What was read, or None where packets do not carry their presentation times.
    """

    stream_index: int
    time_base: Fraction
    start_seconds: float
    duration_seconds: float
    end_seconds: float
    frame_seconds: float
    width: int
    height: int
    pixel_aspect: float
    packets: Packets | None

    def seconds(self, ticks: npt.NDArray[np.int64] | int) -> Times:
        """Return seconds from the clip's start of times in ticks."""
        scaled = np.asarray(ticks, dtype=np.float64) * self.time_base.numerator / self.time_base.denominator
        return scaled - self.start_seconds

    def pixel_aspect_of(self, picture: npt.NDArray[np.uint8]) -> float:
        """Return width over height of the pixels of an upright (H, W, 3) picture, which may have been turned."""
        is_turned = self.width != self.height and picture.shape[:2] == (self.width, self.height)
        return 1.0 / self.pixel_aspect if is_turned else self.pixel_aspect

    @property
    def ticks(self) -> npt.NDArray[np.int64] | None:
        """Ascending times of the frames that are shown, where packets carry them."""
        packets = self.packets
        return None if packets is None else np.unique(packets.ticks[packets.shown])


class OpenVideo:
    """A file, its video stream and what its packets say; use :func:`open_video`.

    Attributes:
        path: The file.
        container, stream: PyAV's; others after :meth:`reopen`.
        is_seekable: Whether the container has an index to seek by.
        begins_midway: Whether ``info.packets`` begins at a key frame that may not be the file's first.
        info: What the packets say.
    """

    def __init__(self, path: Path, *, from_seconds: float, until_seconds: float | None) -> None:
        self.path = path
        self.begins_midway = False
        self._open()
        try:
            self.is_seekable = any(name in self.container.format.name for name in _SEEKABLE)
            self.info = self._read(from_seconds, until_seconds)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        self.container = av.open(os.fspath(self.path), metadata_errors="replace")
        try:
            self.stream = _video_stream(self.container)
        except BaseException:
            self.close()
            raise
        if self.stream.codec_context is None:
            self.close()
            raise ClipError("there is no decoder for its codec")
        for other in self.container.streams:
            if other.index != self.stream.index:
                other.discard = Discard.all  # its bytes are not even read where the container allows that
        self.stream.thread_count = 1  # parallelism is by processes; threads inside them deadlock beside torch
        self.stream.thread_type = "NONE"

    def reopen(self) -> None:
        """Go back to the first packet, whatever was read."""
        self.close()
        self._open()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def seek(self, tick: int) -> None:
        """Go to a key frame at or before a time."""
        self.container.seek(tick, stream=self.stream, backward=True)

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets from where the file stands; those without data mean nothing."""
        return (packet for packet in self.container.demux(self.stream) if packet.size)

    def _read(self, from_seconds: float, until_seconds: float | None) -> VideoInfo:
        start = (self.container.start_time or 0) / _MICROSECONDS
        base = self.stream.time_base or Fraction(1, _MICROSECONDS)
        until = None if until_seconds is None else (until_seconds + start) / float(base)
        if from_seconds > 0 and self.is_seekable:
            wanted = int((from_seconds + start - _SEEK_MARGIN_SECONDS) / float(base))
            self.seek(wanted)
            found = _PacketTable(self.packets(), until)
            if found.begins_at_keyframe_before(wanted):
                self.begins_midway = True
                return self._info(found, base, start)
            self.reopen()
        return self._info(_PacketTable(self.packets(), until), base, start)

    def _info(self, table: _PacketTable, base: Fraction, start: float) -> VideoInfo:
        if not table.timed:
            raise ClipError("the stream has no presentation times; put it into a container such as mp4 or mkv")
        rate = self.stream.average_rate or self.stream.guessed_rate
        frame_seconds = float(table.last_duration * base) or (1.0 / float(rate) if rate else 0.04)
        end = table.end + (0 if table.last_duration else round(frame_seconds / float(base)))
        end_seconds = float(end * base) - start if table.ticks else 0.0
        aspect = self.stream.sample_aspect_ratio
        return VideoInfo(
            stream_index=self.stream.index,
            time_base=base,
            start_seconds=start,
            duration_seconds=_stated_duration(self.container, self.stream, base) or end_seconds,
            end_seconds=end_seconds,
            frame_seconds=frame_seconds,
            width=self.stream.codec_context.width,
            height=self.stream.codec_context.height,
            pixel_aspect=float(aspect) if aspect else 1.0,
            packets=table.packets(),
        )


class _PacketTable:
    """Reads packets, to the end or until one that is decoded after a time and so shown after it too."""

    def __init__(self, packets: Iterator[av.Packet], until_tick: float | None) -> None:
        self.ticks: list[int] = []
        self._keyframe: list[bool] = []
        self._shown: list[bool] = []
        self._sizes: list[int] = []
        self._complete, self.timed, self.last_duration = True, False, 0
        self._end: int | None = None
        try:
            for packet in packets:
                if until_tick is not None and packet.dts is not None and packet.dts > until_tick:
                    break
                self._add(packet)
        except av.error.FFmpegError:
            self._complete = self._complete and bool(self.ticks)  # a torn tail: what came before it stands

    def _add(self, packet: av.Packet) -> None:
        self.timed = self.timed or packet.pts is not None or packet.dts is not None
        if packet.pts is None:
            self._complete = self._complete and packet.is_discard
            return
        self.ticks.append(packet.pts)
        self._keyframe.append(packet.is_keyframe)
        self._shown.append(not packet.is_discard)
        self._sizes.append(packet.size)
        duration = packet.duration or 0
        if not packet.is_discard and (self._end is None or packet.pts + duration > self._end):
            self._end, self.last_duration = packet.pts + duration, duration

    @property
    def end(self) -> int:
        return self._end or 0

    def begins_at_keyframe_before(self, tick: int) -> bool:
        return bool(self.ticks) and self._keyframe[0] and self.ticks[0] <= tick

    def packets(self) -> Packets | None:
        if not self._complete or not any(self._shown):
            return None
        return Packets(
            np.array(self.ticks, dtype=np.int64), np.array(self._keyframe), np.array(self._shown), np.array(self._sizes)
        )


@contextmanager
def open_video(path: Path, *, from_seconds: float = 0.0, until_seconds: float | None = None) -> Iterator[OpenVideo]:
    """Open a video and read its packets, all of them or those of a part.

    Args:
        path: The file.
        from_seconds: Where the part begins; what lies long before it is not read where the container has an index.
        until_seconds: Where the part ends.

    Raises:
        ClipError: The file is empty, is no video, or has no picture stream.
    """
    if path.stat().st_size == 0:
        raise ClipError("the file is empty")
    try:
        video = OpenVideo(path, from_seconds=from_seconds, until_seconds=until_seconds)
    except IndexError as error:  # PyAV lists the streams once
        raise ClipError("a stream begins midway that the header does not name") from error
    except (av.error.FFmpegError, OSError, ValueError, UnicodeError, OverflowError) as error:
        raise ClipError(_reason(error)) from error
    try:
        yield video
    finally:
        video.close()


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """Return the first stream of moving pictures; cover art is none."""
    for stream in container.streams.video:
        if "attached_pic" not in str(stream.disposition).lower():
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    raise ClipError(f"no video stream (only {', '.join(kinds)})" if kinds else "no video stream")


def _stated_duration(
    container: av.container.InputContainer, stream: av.VideoStream, time_base: Fraction
) -> float | None:
    """Return the header's duration: the stream's own, its DURATION tag (Matroska), or the container's."""
    if stream.duration and stream.duration > 0:
        return float(stream.duration * time_base)
    tag = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), None)
    if tag and tag.count(":") == 2:
        with suppress(ValueError):
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    return container.duration / _MICROSECONDS if container.duration and container.duration > 0 else None


def _reason(error: Exception) -> str:
    if isinstance(error, av.error.InvalidDataError):
        return "not a video, or its index is missing (an incomplete download)"
    return " ".join(str(error).split())[:200] or type(error).__name__
