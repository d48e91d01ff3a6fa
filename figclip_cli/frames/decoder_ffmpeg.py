"""Decode with the ffmpeg program, through ffmpeg-python; the same frames as PyAV gives.

The program cannot be asked for "the frame shown at t", so the frames are chosen here, from the times in the file's
packets, and then asked for by exactly those times. What comes out reports its own times, which must be the ones
asked for; where they are not, every frame's time is listed by decoding once more, and chosen from.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

import ffmpeg
import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError, UsageError
from figclip_cli.frames.decoder import DecodedFrames, Keep, frames_for
from figclip_cli.frames.sampling import Times, shown_at
from figclip_cli.frames.video import ClipError, OpenVideo

Ticks = npt.NDArray[np.int64]
_SHOWN = re.compile(rb"\bn:\s*\d+\s+pts:\s*(-?\d+)\b")
_FRAMES_A_RUN = 1000  # the list of times must fit one argument of a command line
_MAX_HEADER_BYTES = 64


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


def check_hwaccel(name: str) -> None:
    """Make sure that ffmpeg can decode on a device here.

    Raises:
        UsageError: This ffmpeg does not know the name, or the device does not answer.
    """
    run = [ffmpeg_program(), "-hide_banner", "-v", "error"]
    listed = subprocess.run([*run, "-hwaccels"], capture_output=True, text=True, check=False).stdout.split()[3:]
    if name not in listed:
        raise UsageError(
            f"this ffmpeg knows no --hwaccel {name}", f"it knows {', '.join(listed) or 'none'}; or leave the flag out"
        )
    source = ["-f", "lavfi", "-i", "nullsrc=s=64x64:d=0.1", "-f", "null", "-"]
    tried = subprocess.run([*run, "-init_hw_device", name, *source], capture_output=True, text=True, check=False)
    if tried.returncode:
        said = (tried.stderr.strip().splitlines() or ["it gave no reason"])[0]
        raise UsageError(f"--hwaccel {name} does not work on this machine: {said}", "leave the flag out")


def decode_with_ffmpeg(video: OpenVideo, targets_seconds: Times, keep: Keep, hwaccel: str = "") -> DecodedFrames:
    """Decode the frames shown at the targets.

    Raises:
        ClipError: Not one frame can be decoded.
    """
    info = video.info
    with _printable_name(video.path) as path:
        program = _Program(path, video, keep, hwaccel)
        if info.ticks is not None:
            chosen = info.ticks[shown_at(info.seconds(info.ticks), targets_seconds)]
            kept = program.frames_at(chosen)
            if set(kept) == set(chosen.tolist()):
                return frames_for(info, targets_seconds, chosen, int(info.ticks[-1]), kept)
        ticks = program.all_ticks()
        if len(ticks) == 0:
            raise ClipError("no frame can be decoded")
        chosen = ticks[shown_at(info.seconds(ticks), targets_seconds)]
        kept = program.frames_at(chosen)
        if set(kept) != set(chosen.tolist()):
            raise ClipError("ffmpeg returned other frames than were asked for")
        return frames_for(info, targets_seconds, chosen, int(ticks[-1]), kept)


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


class _Program:
    """Runs of the program on one file."""

    def __init__(self, path: Path, video: OpenVideo, keep: Keep, hwaccel: str) -> None:
        self._path, self._info, self._keep = path, video.info, keep
        self._begins_midway = video.begins_midway
        self._options = {"hwaccel": hwaccel} if hwaccel else {"threads": 1}

    def frames_at(self, chosen: Ticks) -> dict[int, bytes]:
        """Return what was kept of each frame that came out, by its time in ticks."""
        distinct = np.unique(chosen)
        kept: dict[int, bytes] = {}
        for begin in range(0, len(distinct), _FRAMES_A_RUN):
            part = distinct[begin : begin + _FRAMES_A_RUN]
            condition = "+".join(f"eq(pts,{tick})" for tick in part)
            stream = self._input(float(self._info.seconds(int(part[0]))))
            stream = stream.filter("select", condition).filter("showinfo", checksum=0)
            out = {"format": "image2pipe", "vcodec": "ppm", "pix_fmt": "rgb24", "fps_mode": "passthrough"}
            data, ticks = self._run(stream.output("pipe:", **out, **{"frames:v": len(part)}))
            for tick, one in zip(ticks, data, strict=False):  # a failure midway may leave a time without its frame
                kept.setdefault(tick, one)
        return kept

    def all_ticks(self) -> Ticks:
        """Return the times of all frames, ascending, by decoding every one."""
        stream = self._input(0.0).filter("showinfo", checksum=0)
        _, ticks = self._run(stream.output("pipe:", format="null", fps_mode="passthrough"))
        return np.unique(np.array(ticks, dtype=np.int64))

    def _input(self, from_seconds: float) -> ffmpeg.nodes.FilterableStream:
        # copyts keeps the file's own clock, the one the packets speak of
        options = {**self._options, "copyts": None}
        if from_seconds > 0 and self._begins_midway:
            options |= {"ss": f"{from_seconds:.6f}", "noaccurate_seek": None}
        return ffmpeg.input(f"file:{os.fspath(self._path)}", **options)[str(self._info.stream_index)]

    def _run(self, output: ffmpeg.nodes.OutputStream) -> tuple[list[bytes], list[int]]:
        """Run ffmpeg; a failure midway is no error here, since what came out is checked by its times."""
        process = ffmpeg.run_async(
            output.global_args("-nostdin"), cmd=ffmpeg_program(), pipe_stdout=True, pipe_stderr=True
        )
        log: list[bytes] = []
        reader = threading.Thread(target=lambda: log.append(process.stderr.read()), daemon=True)
        reader.start()
        try:
            data = [self._keep(picture) for picture in _pictures(process.stdout)]
        except BaseException:
            process.kill()
            raise
        finally:
            process.wait()
            reader.join()
            process.stdout.close()
            process.stderr.close()
        return data, [int(tick) for tick in _SHOWN.findall(b"".join(log))]


def _pictures(pipe: IO[bytes]) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield the (H, W, 3) pictures of a stream of PPM files; each says its own size. A torn last one is left out."""
    while header := pipe.readline(_MAX_HEADER_BYTES):
        sizes = pipe.readline(_MAX_HEADER_BYTES).split()
        if header != b"P6\n" or len(sizes) != 2 or pipe.readline(_MAX_HEADER_BYTES) != b"255\n":
            return
        width, height = int(sizes[0]), int(sizes[1])
        data = pipe.read(width * height * 3)
        if len(data) < width * height * 3:
            return
        yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
