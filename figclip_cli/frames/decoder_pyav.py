"""Decode with PyAV, one thread: only the packets that wanted frames need, else everything up to the last target."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Literal, cast

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import PictureType

from figclip_cli.frames.decoder import DecodedFrames, Keep, Picture, frames_for
from figclip_cli.frames.packet_plan import Run, can_skip_unreferenced, plan_runs, restarts_at_keyframes
from figclip_cli.frames.sampling import ROUNDING_SECONDS, Times, shown_at
from figclip_cli.frames.video import ClipError, OpenVideo, Packets

SkipType = Literal["DEFAULT", "NONREF"]

_QUARTER_TURN_DEGREES = 90
_SEEK_RATHER_THAN_READ_BYTES = 4_000_000


class _PlanFailedError(Exception):
    """The file does not do what its packets promise; it must be decoded in order."""


def decode_with_pyav(video: OpenVideo, targets_seconds: Times, keep: Keep, hwaccel: str = "") -> DecodedFrames:
    """Decode the frames shown at the targets.

    The packets say which frames there are, so the frames to get are known before anything is decoded. Every one of
    them must then come out with its very time; otherwise the file is decoded from the start, frame by frame.

    Raises:
        ClipError: Not one frame can be decoded.
    """
    info = video.info
    if info.packets is not None and info.ticks is not None:
        chosen = info.ticks[shown_at(info.seconds(info.ticks), targets_seconds)]
        try:
            kept = _decode_planned(video, info.packets, chosen, keep)
            return frames_for(info, targets_seconds, chosen, int(info.ticks[-1]), kept)
        except (_PlanFailedError, av.error.FFmpegError):
            pass
    video.reopen()
    return _decode_in_order(video, targets_seconds, keep)


def _decode_planned(video: OpenVideo, packets: Packets, chosen: npt.NDArray[np.int64], keep: Keep) -> dict[int, bytes]:
    """Return what was kept of each chosen frame, by tick."""
    context = video.stream.codec_context
    wanted = np.isin(packets.ticks, chosen) & packets.shown
    skip: SkipType = "NONREF" if can_skip_unreferenced(context.codec.canonical_name, context.extradata) else "DEFAULT"
    kept: dict[int, bytes] = {}
    cursor = _Cursor(video, packets)
    for run in plan_runs(packets, wanted, restarts=restarts_at_keyframes(context.codec.canonical_name)):
        ticks = set(packets.ticks[run.first : run.last + 1][wanted[run.first : run.last + 1]].tolist())
        for frame in _decode_run(video, cursor, run, wanted, skip):
            if frame.pts is not None and frame.pts in ticks and frame.pts not in kept:
                if frame.is_corrupt:
                    raise _PlanFailedError
                kept[frame.pts] = keep(upright_rgb(frame))
    if set(kept) != set(chosen.tolist()):
        raise _PlanFailedError
    return kept


def _decode_run(
    video: OpenVideo, cursor: _Cursor, run: Run, wanted: npt.NDArray[np.bool_], skip: SkipType
) -> Iterator[av.VideoFrame]:
    """Yield what a run gives; a run that begins in the file's middle must begin with a picture that stands alone."""
    first_tick = int(cursor.packets.ticks[run.first])
    alone = run.first == 0 and not video.begins_midway
    for number, packet in cursor.read(run):
        context = video.stream.codec_context  # reading may have opened the file anew
        context.skip_frame = "DEFAULT" if wanted[number] or number == run.first else skip
        for frame in context.decode(packet):
            alone = alone or (frame.pts == first_tick and frame.pict_type == PictureType.I)
            yield frame
    context = video.stream.codec_context
    for frame in context.decode(None):
        alone = alone or (frame.pts == first_tick and frame.pict_type == PictureType.I)
        yield frame
    context.flush_buffers()
    if not alone:  # the mark of a stream that refreshes its picture bit by bit
        raise _PlanFailedError


class _Cursor:
    """Reads runs of packets by number, by reading on or by seeking."""

    def __init__(self, video: OpenVideo, packets: Packets) -> None:
        self.packets = packets
        self._video = video
        self._numbers = {tick: number for number, tick in reversed(list(enumerate(packets.ticks.tolist())))}
        self._ahead: Iterator[tuple[int, av.Packet]] = iter(())
        self._next: int | None = None

    def read(self, run: Run) -> Iterator[tuple[int, av.Packet]]:
        """Yield the packets of a run; runs come in ascending order.

        Raises:
            _PlanFailedError: The file gives other packets than it gave before.
        """
        if self._next is None or self.packets.sizes[self._next : run.first].sum() > _SEEK_RATHER_THAN_READ_BYTES:
            self._ahead = self._from(run.first)
        for number, packet in self._ahead:
            self._next = number + 1
            if number >= run.first:
                yield number, packet
            if number == run.last:
                return
        raise _PlanFailedError

    def _from(self, first: int) -> Iterator[tuple[int, av.Packet]]:
        if self._video.is_seekable:
            self._video.seek(int(self.packets.ticks[first]))
            found = self._numbered(first)
            if found is not None:
                return found
        self._video.reopen()
        found = self._numbered(first)
        if found is None:
            raise _PlanFailedError
        return found

    def _numbered(self, first: int) -> Iterator[tuple[int, av.Packet]] | None:
        """Number the packets from the next known one on, unless that is already behind ``first``."""
        packets = self._video.packets()
        for packet in packets:
            number = self._numbers.get(packet.pts)
            if number is not None:
                return self._checked(chain([packet], packets), number) if number <= first else None
        return None

    def _checked(self, packets: Iterator[av.Packet], number: int) -> Iterator[tuple[int, av.Packet]]:
        for packet in packets:
            if number >= len(self.packets) or packet.pts != self.packets.ticks[number]:
                return
            yield number, packet
            number += 1


def _decode_in_order(video: OpenVideo, targets_seconds: Times, keep: Keep) -> DecodedFrames:
    """Decode every frame up to the last target.

    The frame for a target is known once the next one, or the end, has been seen; so one frame is held back.
    """
    info = video.info
    pts = np.full(len(targets_seconds), np.nan)
    kept: list[bytes | None] = [None] * len(targets_seconds)
    done, reason = 0, ""
    held: av.VideoFrame | None = None

    def take(frame: av.VideoFrame, before_seconds: float) -> int:
        """Give ``frame`` to the targets before a time; return how many targets are done."""
        position, data = done, None
        while position < len(targets_seconds) and targets_seconds[position] + ROUNDING_SECONDS < before_seconds:
            data = keep(upright_rgb(frame)) if data is None else data
            pts[position], kept[position] = info.seconds(frame.pts or 0), data
            position += 1
        return position

    try:
        for frame in video.container.decode(video.stream):
            if frame.pts is None or (held is not None and frame.pts <= (held.pts or 0)):
                continue  # a damaged stream may give a frame too late; a player drops it
            if held is not None:
                done = take(held, float(info.seconds(frame.pts)))
            if done == len(targets_seconds):
                break
            held = frame
    except av.error.FFmpegError as error:
        reason = f"decoding stopped: {error.strerror or type(error).__name__}"
    if held is None:
        raise ClipError(reason or "no frame can be decoded")
    if done < len(targets_seconds):
        stated = min(info.duration_seconds, info.end_seconds) if not reason else 0
        end = max(float(info.seconds(held.pts or 0)) + info.frame_seconds, stated)
        done = take(held, end)
    if done < len(targets_seconds):
        reason = reason or f"the pictures end at {end:.2f} s of {info.duration_seconds:.2f} s"
    return DecodedFrames(pts, kept, reason)


def upright_rgb(frame: av.VideoFrame) -> Picture:
    """Return a frame as (H, W, 3) uint8 RGB, turned as its display matrix says."""
    picture = cast(Picture, frame.to_ndarray(format="rgb24"))
    turns = round(frame.rotation / _QUARTER_TURN_DEGREES) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
