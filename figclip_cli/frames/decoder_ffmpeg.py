"""Decode with the ffmpeg program, through ffmpeg-python; the same frames as PyAV gives.

The program cannot be asked for "the frame shown at t", so the frames are chosen here, from the times in the file's
packets, and then asked for by exactly those times. What comes out reports its own times, which must be the ones
asked for; where they are not, every frame's time is listed by decoding once more, and chosen from.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import ffmpeg
import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError
from figclip_cli.frames.decoder import DecodedFrames, Picture
from figclip_cli.frames.probe import ClipError, VideoInfo
from figclip_cli.frames.sampling import Times, shown_at

Ticks = npt.NDArray[np.int64]
_SHOWN = re.compile(rb"\bn:\s*\d+\s+pts:\s*(-?\d+)\b.*?\bs:(\d+)x(\d+)\b")
_END_TOLERANCE_SECONDS = 1e-9


@cache
def ffmpeg_program() -> str:
    """Return the ffmpeg on the PATH, else the one that imageio-ffmpeg carries.

    Raises:
        InputError: There is neither.
    """
    found = shutil.which("ffmpeg")
    if found:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise InputError("no ffmpeg program was found", "install ffmpeg, or use --decoder pyav") from error


def decode_with_ffmpeg(path: Path, info: VideoInfo, targets_seconds: Times) -> DecodedFrames:
    """Decode the frames shown at the targets.

    Raises:
        ClipError: Not one frame can be decoded.
    """
    with _printable_name(path) as path:
        return _decode(path, info, targets_seconds)


@contextmanager
def _printable_name(path: Path) -> Iterator[Path]:
    """Yield the path, or a link to it under a plain name: ffmpeg-python takes no name that is not UTF-8."""
    try:
        os.fspath(path).encode()
        yield path
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = Path(folder, "clip")
            link.symlink_to(path.resolve())
            yield link


def _decode(path: Path, info: VideoInfo, targets_seconds: Times) -> DecodedFrames:
    pictures: dict[int, Picture] = {}
    ticks = info.ticks
    if ticks is not None:
        wanted = ticks[shown_at(info.seconds(ticks), targets_seconds)]
        pictures = _pictures_at(path, info, wanted)
    if ticks is None or set(pictures) != set(wanted.tolist()):
        ticks = _all_ticks(path, info)
        if len(ticks) == 0:
            raise ClipError("no frame can be decoded")
        wanted = ticks[shown_at(info.seconds(ticks), targets_seconds)]
        pictures = _pictures_at(path, info, wanted)
        if set(pictures) != set(wanted.tolist()):
            raise ClipError("ffmpeg returned other frames than were asked for")
    end = max(float(info.seconds(ticks[-1])) + info.frame_seconds, min(info.duration_seconds, info.end_seconds))
    reached = targets_seconds + _END_TOLERANCE_SECONDS < end
    pts = np.where(reached, info.seconds(wanted), np.nan)
    reason = "" if reached.all() else f"the pictures end at {end:.2f} s of {info.duration_seconds:.2f} s"
    chosen = [pictures[tick] if there else None for tick, there in zip(wanted.tolist(), reached, strict=True)]
    return DecodedFrames(pts, chosen, reason)


def _stream(path: Path, info: VideoInfo) -> ffmpeg.nodes.FilterableStream:
    # copyts keeps the file's own clock, the one the packets speak of
    return ffmpeg.input(f"file:{os.fspath(path)}", threads=1, copyts=None)[str(info.stream_index)]


def _pictures_at(path: Path, info: VideoInfo, wanted: Ticks) -> dict[int, Picture]:
    """Return the upright RGB picture of each time that ffmpeg gave out, by its time in ticks."""
    distinct = np.unique(wanted)
    condition = "+".join(f"eq(pts,{tick})" for tick in distinct)
    stream = _stream(path, info).filter("select", condition).filter("showinfo", checksum=0)
    out, log = _run(stream.output("pipe:", format="rawvideo", pix_fmt="rgb24", fps_mode="passthrough"))
    pictures: dict[int, Picture] = {}
    position = 0
    for tick, width, height in _shown(log):
        count = width * height * 3
        data = out[position : position + count]
        if len(data) == count:
            pictures[tick] = np.frombuffer(data, np.uint8).reshape(height, width, 3)
        position += count
    return pictures


def _all_ticks(path: Path, info: VideoInfo) -> Ticks:
    """Return the times of all frames, ascending, by decoding every one."""
    stream = _stream(path, info).filter("showinfo", checksum=0)
    _, log = _run(stream.output("pipe:", format="null", fps_mode="passthrough"))
    return np.unique(np.array([tick for tick, _, _ in _shown(log)], dtype=np.int64))


def _shown(log: bytes) -> list[tuple[int, int, int]]:
    return [(int(tick), int(width), int(height)) for tick, width, height in _SHOWN.findall(log)]


def _run(output: ffmpeg.nodes.OutputStream) -> tuple[bytes, bytes]:
    """Run ffmpeg; a failure midway is no error here, since what came out is checked by its times."""
    try:
        out, log = ffmpeg.run(
            output.global_args("-nostdin"), cmd=ffmpeg_program(), capture_stdout=True, capture_stderr=True
        )
    except ffmpeg.Error as error:
        out, log = error.stdout or b"", error.stderr or b""
    return out, log
