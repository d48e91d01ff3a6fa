"""Videos whose every frame says its own number, as a bar code of eight bits, made by ffmpeg."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import ffmpeg
import imageio_ffmpeg
import numpy as np

from figclip_cli.frames.decoder import get_decoder
from figclip_cli.frames.video import open_video

BITS = 8
WIDTH, HEIGHT = 128, 64


def bar_code(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw a number as vertical bars, most significant on the left, with a dark lower left corner."""
    bits = [(number >> (BITS - 1 - bit)) & 1 for bit in range(BITS)]
    edges = np.linspace(0, width, BITS + 1).round().astype(int)
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for bit, (left, right) in zip(bits, zip(edges[:-1], edges[1:], strict=True), strict=True):
        picture[:, left:right] = 225 if bit else 30
    return picture


def read_bar_code(picture: np.ndarray) -> int:
    """Return the number that an upright picture shows."""
    width = picture.shape[1]
    centres = (np.arange(BITS) + 0.5) * width / BITS
    middle = picture[picture.shape[0] // 2]
    bits = [middle[int(c) - 1 : int(c) + 2].mean() > 128 for c in centres]
    return sum(int(bit) << (BITS - 1 - place) for place, bit in enumerate(bits))


class Decoded(NamedTuple):
    """What a decoder gave, with the full pictures."""

    pts_seconds: np.ndarray
    pictures: list
    reason: str


def decode(path, targets, decoder="pyav", **part) -> Decoded:
    """Decode the frames shown at some times."""
    pictures = []

    def keep(picture):
        pictures.append(picture.copy())
        return str(len(pictures) - 1).encode()

    with open_video(path, **part) as video:
        decoded = get_decoder(decoder)(video, np.asarray(targets), keep, "")
    found = [None if kept is None else pictures[int(kept)] for kept in decoded.kept]
    return Decoded(decoded.pts_seconds, found, decoded.reason)


def probe(path):
    """Return what a file's packets say."""
    with open_video(path) as video:
        return video.info


def make_video(path: Path, frames: int = 50, rate: float = 25, *, size=(WIDTH, HEIGHT), filters=(), **output) -> Path:
    """Write a bar-code video; ``filters`` are (name, *arguments) and ``output`` ffmpeg's output options."""
    data = b"".join(bar_code(number, *size).tobytes() for number in range(frames))
    stream = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{size[0]}x{size[1]}", r=rate)
    for name, *arguments in filters:
        stream = stream.filter(name, *arguments)
    options = {"vcodec": "libx264", "pix_fmt": "yuv420p", **output}
    out = stream.output(str(path), **options)
    ffmpeg.run(out, cmd=imageio_ffmpeg.get_ffmpeg_exe(), input=data, quiet=True, overwrite_output=True)
    return path


def remux(source: Path, target: Path, *, inputs=None, **output) -> Path:
    """Copy a video into another container or with other metadata, without decoding."""
    stream = ffmpeg.input(str(source), **(inputs or {})).output(str(target), c="copy", **output)
    ffmpeg.run(stream, cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True, overwrite_output=True)
    return target


def cut(source: Path, target: Path, share: float = 0.6) -> Path:
    """Keep the first bytes of a file, as a broken download does."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target
