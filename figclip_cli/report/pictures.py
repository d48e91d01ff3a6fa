"""Small pictures of clips and events for a report: the bytes of the frames file where they are small JPEGs already."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from figclip_cli.errors import InputError
from figclip_cli.frames import FramesReader

_SIDE_PIXELS = 160
_QUALITY = 80
_JPEG = b"\xff\xd8\xff"
_OF_EVENT, _OF_CLIP = 2, 3


@dataclass(frozen=True)
class Frame:
    """One frame as a data URI, with its time in the clip, in seconds."""

    uri: str
    seconds: float


class FrameFiles:
    """Frames files, each known by the hash of its content: a result is shown with what it was computed from only.

    Args:
        paths: Files or patterns; each is a set of its own, and all together are one too.

    Raises:
        InputError: One is no frames file.
    """

    def __init__(self, paths: Sequence[Path | str]) -> None:
        self._readers = {reader.content_sha256: reader for reader in map(FramesReader, paths)}
        if len(self._readers) > 1:
            self._add_union(list(paths))
        self._there = {content: frozenset(reader.clip_ids) for content, reader in self._readers.items()}
        self._cut: dict[tuple[str, str, int | None], list[Frame]] = {}

    def _add_union(self, paths: list[Path | str]) -> None:
        try:
            union = FramesReader(paths)
        except InputError:  # of different recipes, or of the same clips: then they are no shards
            return
        self._readers[union.content_sha256] = union

    def reader(self, content_sha256: object) -> FramesReader | None:
        """Return the frames of a hash, None where they are not there."""
        return self._readers.get(content_sha256) if isinstance(content_sha256, str) else None

    def frames(self, reader: FramesReader, clip_id: str, event: int | None) -> list[Frame]:
        """Return two frames of an event, or three of a clip; none where the clip has no frames.

        Raises:
            InputError: The pictures are damaged.
        """
        key = reader.content_sha256, clip_id, event
        if key not in self._cut:
            self._cut[key] = _cut(reader, clip_id, event) if clip_id in self._there[reader.content_sha256] else []
        return self._cut[key]


def _cut(reader: FramesReader, clip_id: str, event: int | None) -> list[Frame]:
    stored, times = reader.stored(clip_id), reader.pts_seconds(clip_id).ravel()
    start = reader.row(clip_id).start_seconds
    each = len(stored) if event is None else reader.recipe.frames_per_event
    first = 0 if event is None else event * each
    if not 0 <= first < len(stored):
        return []
    shown = min(_OF_CLIP if event is None else _OF_EVENT, each)
    places = [first + (2 * part + 1) * each // (2 * shown) for part in range(shown)]
    pixels = None if _is_small_jpeg(reader, stored) else reader.read(clip_id)
    size = reader.recipe.size
    found = []
    for place in places:
        if pixels is None:
            data = stored[place]
        else:
            data = _thumbnail(Image.fromarray(pixels.reshape(-1, size, size, 3)[place]))
        uri = "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
        found.append(Frame(uri, float(times[place] - start)))
    return found


def _is_small_jpeg(reader: FramesReader, stored: Sequence[bytes]) -> bool:
    is_small = reader.recipe.storage == "jpeg" and reader.recipe.size <= _SIDE_PIXELS
    return is_small and all(picture.startswith(_JPEG) for picture in stored)


def _thumbnail(image: Image.Image) -> bytes:
    image.thumbnail((_SIDE_PIXELS, _SIDE_PIXELS))
    written = io.BytesIO()
    image.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
