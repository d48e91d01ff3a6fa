"""One clip, from a path to stored bytes; runs in a worker and never raises for a bad file."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figclip_cli.frames.decoder import DecodedFrames, Picture, get_decoder
from figclip_cli.frames.preprocess import encode_jpeg, to_square
from figclip_cli.frames.sampling import SamplingRecipe
from figclip_cli.frames.video import ClipError, OpenVideo, open_video

STATUSES = ("ok", "short", "failed", "timeout")
# Headers round, and sound may run on after the last picture: less than this is no missing picture.
SHORT_TOLERANCE_SECONDS = 0.25
# VidSitu's names say the length of a clip; cutting at key frames moves it by this much and more.
NAMED_LENGTH_TOLERANCE_SECONDS = 1.0
_NAMED_PART = re.compile(r"_seg_(\d+(?:\.\d+)?)_(\d+(?:\.\d+)?)$")


@dataclass(frozen=True)
class Source:
    """A clip to sample: a file, or a part of one.

    Attributes:
        clip_id: Its id; by default the file's name without ending.
        path: The file.
        start_seconds: Where the part begins.
        end_seconds: Where the part ends; None is the file's end.
    """

    clip_id: str
    path: Path
    start_seconds: float = 0.0
    end_seconds: float | None = None


@dataclass(frozen=True)
class ClipResult:
    """What became of one clip.

    Attributes:
        clip_id: Its id.
        source_path: Where it was read from, as printable text.
        status: ``ok``, ``short`` (some of its pictures are missing), ``failed`` (all are) or ``timeout``.
        reason: Why, in one line; empty when ok.
        start_seconds: Where the clip begins in its file.
        duration_seconds: Of the clip, as the header or the list of segments states; NaN when unknown.
        pts_seconds: Presentation times in the file, in order; NaN where there is no picture.
        pictures: As many stored pictures, JPEG or raw bytes; empty where there is none.
    """

    clip_id: str
    source_path: str
    status: str
    reason: str
    start_seconds: float
    duration_seconds: float
    pts_seconds: tuple[float, ...]
    pictures: tuple[bytes, ...]


def printable(path: Path) -> str:
    """Return a path as UTF-8 text; bytes that are none are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def named_part_seconds(clip_id: str) -> tuple[float, float] | None:
    """Return (start, end) of a name such as VidSitu's ``v_ID_seg_60_70``, or None."""
    found = _NAMED_PART.search(clip_id)
    if not found or float(found[2]) <= float(found[1]):
        return None
    return float(found[1]), float(found[2])


def process_clip(source: Source, recipe: SamplingRecipe) -> ClipResult:
    """Sample one clip. Whatever the file holds, this returns; a reason stands in for an error."""
    try:
        with open_video(source.path, from_seconds=source.start_seconds, until_seconds=source.end_seconds) as video:
            return _sample(source, video, recipe)
    except (ClipError, ValueError) as error:
        return failed(source, recipe, str(error) or type(error).__name__)
    except FileNotFoundError:
        return failed(source, recipe, "the file does not exist")
    except OSError as error:
        return failed(source, recipe, f"cannot be read: {error.strerror or error}")
    except MemoryError:
        return failed(source, recipe, "not enough memory to decode it")


def _sample(source: Source, video: OpenVideo, recipe: SamplingRecipe) -> ClipResult:
    info, begin = video.info, source.start_seconds
    end = info.duration_seconds if source.end_seconds is None else source.end_seconds
    if begin >= min(end, info.duration_seconds):
        raise ClipError(f"the segment begins at {begin:.2f} s, the file ends at {info.duration_seconds:.2f} s")
    targets = begin + recipe.target_times_seconds(end - begin, frame_seconds=info.frame_seconds, clip_id=source.clip_id)

    def keep(picture: Picture) -> bytes:
        square = to_square(picture, recipe.size, recipe.crop, info.pixel_aspect_of(picture))
        return square.tobytes() if recipe.storage == "raw" else encode_jpeg(square, recipe.jpeg_quality)

    decoded = get_decoder(recipe.decoder)(video, targets, keep, recipe.hwaccel)
    if all(one is None for one in decoded.kept):
        raise ClipError(decoded.reason or "no frame can be decoded")
    status, reason = _status(source, video, decoded)
    return ClipResult(
        clip_id=source.clip_id,
        source_path=printable(source.path),
        status=status,
        reason=reason,
        start_seconds=begin,
        duration_seconds=end - begin,
        pts_seconds=tuple(float(time) for time in decoded.pts_seconds),
        pictures=tuple(one or b"" for one in decoded.kept),
    )


def failed(source: Source, recipe: SamplingRecipe, reason: str, status: str = "failed") -> ClipResult:
    """Return the result of a clip without a single picture."""
    return ClipResult(
        clip_id=source.clip_id,
        source_path=printable(source.path),
        status=status,
        reason=" ".join(reason.split()),
        start_seconds=source.start_seconds,
        duration_seconds=float("nan"),
        pts_seconds=(float("nan"),) * recipe.frames,
        pictures=(b"",) * recipe.frames,
    )


def _status(source: Source, video: OpenVideo, decoded: DecodedFrames) -> tuple[str, str]:
    info = video.info
    until = info.duration_seconds if source.end_seconds is None else source.end_seconds
    tolerance = max(SHORT_TOLERANCE_SECONDS, 2 * info.frame_seconds)
    if until - info.end_seconds > tolerance:
        what = "its header" if source.end_seconds is None else "the segment"
        return "short", f"the file ends at {info.end_seconds:.2f} s, {what} says {until:.2f} s"
    if np.isnan(decoded.pts_seconds).any():
        return "short", decoded.reason
    named = named_part_seconds(source.clip_id) if source.end_seconds is None and source.start_seconds == 0 else None
    if named and named[1] - named[0] - info.duration_seconds > NAMED_LENGTH_TOLERANCE_SECONDS:
        return "short", f"the name says {named[1] - named[0]:g} s, the file has {info.duration_seconds:.2f} s"
    return "ok", ""
