"""Small pictures for the page of situations, out of a frames file and into the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from figclip_cli.errors import InputError
from figclip_cli.evaluate.situation_page.inputs import PageClip
from figclip_cli.frames import FramesReader

FRAMES_SHOWN = 2
_SIDE_PIXELS = 160
_JPEG_QUALITY = 80


@dataclass(frozen=True)
class Picture:
    """A picture as a data URI, and its time in the clip, in seconds."""

    uri: str
    seconds: float


@dataclass(frozen=True)
class EventPictures:
    """Pictures of one event, or a sentence that says why there are none."""

    pictures: tuple[Picture, ...] = ()
    missing: str = ""


class PagePictures:
    """Small pictures of clips, as data URIs.

    Args:
        frames: Where they come from; None for none.
        clip_ids: The clips of the page.

    Raises:
        InputError: The frames have none of the clips, or clips of different lengths.
    """

    def __init__(self, frames: FramesReader | None, clip_ids: Sequence[str]) -> None:
        self._frames = frames
        if frames is None:
            return
        frames.require_equal_lengths()
        self._there = set(frames.clip_ids)
        self._known = {row.clip_id: row for row in frames.clips}
        if not self._there.intersection(clip_ids):
            raise InputError(
                f"{frames.paths[0]} has frames of none of the {len(clip_ids)} clips shown", "is it of the same split?"
            )

    def of(self, clip: PageClip) -> list[EventPictures]:
        """Return pictures of each event, or why there are none.

        Raises:
            InputError: The frames were cut into another number of events, or are damaged.
        """
        if self._frames is None:
            return [EventPictures()] * len(clip.events)
        if clip.clip_id not in self._there:
            row = self._known.get(clip.clip_id)
            why = f"{row.status}: {row.reason}" if row else "the clip is not in the frames file"
            return [EventPictures(missing=f"No frames ({why}).")] * len(clip.events)
        self._frames.require_events(len(clip.events))
        pixels, times = self._frames.read(clip.clip_id), self._frames.pts_seconds(clip.clip_id)
        start = self._frames.row(clip.clip_id).start_seconds
        return [self._event(*event) for event in zip(pixels, times - start, strict=True)]

    @staticmethod
    def _event(pixels: npt.NDArray[np.uint8], seconds: npt.NDArray[np.float64]) -> EventPictures:
        shown = min(FRAMES_SHOWN, len(pixels))
        middles = [(2 * part + 1) * len(pixels) // (2 * shown) for part in range(shown)]
        return EventPictures(tuple(Picture(_data_uri(pixels[i]), float(seconds[i])) for i in middles))


def _data_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """Return a JPEG of at most 160 pixels a side as a URI that holds it."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE_PIXELS, _SIDE_PIXELS))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=_JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode("ascii")
