"""A picture of what a frames file holds: a row of frames for each clip, the time under each frame."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from figclip_cli.errors import UsageError
from figclip_cli.files import replacing
from figclip_cli.frames.preprocess import decode_jpeg
from figclip_cli.frames.reader import FramesReader

_TILE, _TEXT, _GAP = 112, 18, 4
MAX_SHEET_CLIPS, MAX_COLUMNS = 200, 20


def write_contact_sheet(reader: FramesReader, clip_ids: Sequence[str], path: Path) -> None:
    """Write a PNG or JPEG with the frames of some clips, of any status; a missing frame is grey, a damaged one red.

    Raises:
        UsageError: Too many clips, none, or a name that is no picture's.
        InputError: There is no such clip.
    """
    if not 1 <= len(clip_ids) <= MAX_SHEET_CLIPS:
        raise UsageError(f"a sheet shows 1 to {MAX_SHEET_CLIPS} clips, not {len(clip_ids)}", "show fewer")
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"--sheet {path} is no .png or .jpg", "the name's ending says how it is written")
    strips = [_strip(reader, clip_id) for clip_id in clip_ids]
    sheet = Image.new("RGB", (max(strip.width for strip in strips), sum(strip.height for strip in strips)), "white")
    top = 0
    for strip in strips:
        sheet.paste(strip, (0, top))
        top += strip.height
    with replacing(path) as temporary:
        sheet.save(temporary, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=92)


def _strip(reader: FramesReader, clip_id: str) -> Image.Image:
    """Draw the title, the frames and the times of one clip."""
    pictures, times = reader.stored(clip_id), reader.pts_seconds(clip_id).ravel()
    row = reader.row(clip_id)
    columns = max(1, min(MAX_COLUMNS, len(pictures)))
    rows = math.ceil(len(pictures) / columns)
    cell = _TILE + _GAP
    image = Image.new("RGB", (columns * cell + _GAP, _TEXT + rows * (_TILE + _TEXT) + _GAP), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=11)
    title = f"{clip_id}   {row.status}" + (f": {row.reason}" if row.reason else f", {row.duration_seconds:.2f} s")
    draw.text((_GAP, 3), title.replace("\n", " "), fill="black", font=font)
    for number, picture in enumerate(pictures):
        left = _GAP + number % columns * cell
        top = _TEXT + number // columns * (_TILE + _TEXT)
        image.paste(_tile(reader, picture), (left, top))
        shown = "-" if np.isnan(times[number]) else f"{times[number]:.2f} s"
        draw.text((left + 2, top + _TILE + 1), shown, fill="black", font=font)
    return image


def _tile(reader: FramesReader, picture: bytes) -> Image.Image:
    if not picture:
        return Image.new("RGB", (_TILE, _TILE), (200, 200, 200))
    size = reader.recipe.size
    raw = reader.recipe.storage == "raw"
    try:
        pixels = np.frombuffer(picture, np.uint8).reshape(size, size, 3) if raw else decode_jpeg(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return Image.new("RGB", (_TILE, _TILE), (200, 80, 80))
    return Image.fromarray(pixels).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
