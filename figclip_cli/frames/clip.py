"""One clip, from a path to stored bytes; runs in a worker and never raises for a bad file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figclip_cli.frames.decoder import DecodedFrames, get_decoder
from figclip_cli.frames.preprocess import encode_jpeg, resize_and_crop
from figclip_cli.frames.probe import ClipError, VideoInfo, probe
from figclip_cli.frames.sampling import SamplingRecipe

# Headers round, and sound may run on after the last picture: less than this is no missing picture.
SHORT_TOLERANCE_SECONDS = 0.25


@dataclass(frozen=True)
class Source:
    """A video file and its clip id, which is the file's name without ending."""

    clip_id: str
    path: Path


@dataclass(frozen=True)
class ClipResult:
    """What became of one clip.

    Attributes:
        clip_id: Its id.
        source_path: Where it was read from, as printable text.
        status: ``ok``, ``short`` (some of its pictures are missing) or ``failed`` (all are).
        reason: Why, in one line; empty when ok.
        duration_seconds: As the header states; NaN when unknown.
        pts_seconds: P x T presentation times in order; NaN where there is no picture.
        pictures: P x T stored pictures, JPEG or raw bytes; empty where there is none.
    """

    clip_id: str
    source_path: str
    status: str
    reason: str
    duration_seconds: float
    pts_seconds: tuple[float, ...]
    pictures: tuple[bytes, ...]


def printable(path: Path) -> str:
    """Return a path as UTF-8 text; bytes that are none are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def process_clip(source: Source, recipe: SamplingRecipe) -> ClipResult:
    """Sample one clip. Whatever the file holds, this returns; a reason stands in for an error."""
    try:
        info = probe(source.path)
        targets = recipe.target_times_seconds(info.duration_seconds)
        decoded = get_decoder(recipe.decoder)(source.path, info, targets)
        pictures = _store(decoded, recipe)
    except ClipError as error:
        return failed(source, recipe, str(error))
    except OSError as error:
        return failed(source, recipe, f"cannot be read: {error.strerror or error}")
    status, reason = _status(info, decoded)
    times = tuple(float(time) for time in decoded.pts_seconds)
    return ClipResult(source.clip_id, printable(source.path), status, reason, info.duration_seconds, times, pictures)


def failed(source: Source, recipe: SamplingRecipe, reason: str) -> ClipResult:
    """Return the result of a clip without a single picture."""
    nothing = (float("nan"),) * recipe.frames
    reason = " ".join(reason.split())
    return ClipResult(
        source.clip_id, printable(source.path), "failed", reason, float("nan"), nothing, (b"",) * recipe.frames
    )


def _status(info: VideoInfo, decoded: DecodedFrames) -> tuple[str, str]:
    missing = info.duration_seconds - info.end_seconds
    tolerance = max(SHORT_TOLERANCE_SECONDS, 2 * info.frame_seconds)
    if missing > tolerance:
        return "short", f"the file ends at {info.end_seconds:.2f} s, its header says {info.duration_seconds:.2f} s"
    if np.isnan(decoded.pts_seconds).any():
        return "short", decoded.reason
    return "ok", ""


def _store(decoded: DecodedFrames, recipe: SamplingRecipe) -> tuple[bytes, ...]:
    stored: dict[int, bytes] = {}  # a frame that is shown at several targets is encoded once
    for picture in decoded.pictures:
        if picture is not None and id(picture) not in stored:
            square = resize_and_crop(picture, recipe.size)
            raw = recipe.storage == "raw"
            stored[id(picture)] = square.tobytes() if raw else encode_jpeg(square, recipe.jpeg_quality)
    return tuple(b"" if picture is None else stored[id(picture)] for picture in decoded.pictures)
