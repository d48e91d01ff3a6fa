"""From a decoded picture to stored bytes: what open_clip's evaluation transform does before scaling to floats.

The three ways to a square are its ``resize_mode`` shortest, squash and longest (open_clip, ``transform.py``).
"""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from figclip_cli.frames.decoder import Picture

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_INNER = 0.875  # 224 of 256
_BICUBIC_REACH = 2.0  # source pixels that one output pixel sees to each side, at scale 1


def to_square_whole(picture: Picture, size: int, crop: str, interpolation: str) -> Picture:
    """Resize all of a picture and cut or pad it to a square, to the bit as open_clip's evaluation transform does.

    Args:
        picture: (H, W, 3) uint8 RGB.
        size: Side in pixels.
        crop: As of :func:`to_square`.
        interpolation: ``bicubic`` or ``bilinear``, antialiased.

    Returns:
        (size, size, 3) uint8.
    """
    height, width = picture.shape[:2]
    new = _resized_shape(width, height, size, crop)
    resized = np.asarray(Image.fromarray(picture).resize(new, FILTERS[interpolation]))
    if crop == "letterbox":
        return _padded(resized, size)
    left, top = round((new[0] - size) / 2.0), round((new[1] - size) / 2.0)
    return np.ascontiguousarray(resized[top : top + size, left : left + size])


def _resized_shape(width: float, height: float, size: int, crop: str) -> tuple[int, int]:
    """Return width and height that a picture is resized to before it is cut or padded."""
    if crop == "squash":
        return size, size
    if crop == "letterbox":
        scale = max(height, width) / size
        return max(1, round(width / scale)), max(1, round(height / scale))
    short = round(size / _INNER) if crop == "center-0.875" else size
    long = int(short * max(height, width) / min(height, width))
    return (short, long) if width <= height else (long, short)


def to_square(picture: Picture, size: int, crop: str = "center", pixel_aspect: float = 1.0) -> Picture:
    """Resize with antialiased bicubic and cut or pad to a square.

    Of a ``center`` crop only the columns or rows that are kept are resized, from a picture cut to what they see;
    that differs from resizing everything by at most 1 of 255, in about one value of 10,000.

    Args:
        picture: (H, W, 3) uint8 RGB.
        size: Side in pixels.
        crop: ``center``, ``center-0.875``, ``squash`` or ``letterbox``.
        pixel_aspect: Width of a pixel over its height; what is displayed is H x (W * pixel_aspect).

    Returns:
        (size, size, 3) uint8. Sizes and offsets round as torchvision's Resize and CenterCrop do.
    """
    height, width = picture.shape[0], picture.shape[1] * pixel_aspect
    new = _resized_shape(width, height, size, crop)
    if crop == "squash":
        return _resized(picture, new)
    if crop == "letterbox":
        return _padded(_resized(picture, new), size)
    return _center(picture, new, size)


def _resized(picture: Picture, new: tuple[int, int]) -> Picture:
    if new == (picture.shape[1], picture.shape[0]):
        return picture
    return np.asarray(Image.fromarray(picture).resize(new, Image.Resampling.BICUBIC))


def _center(picture: Picture, new: tuple[int, int], size: int) -> Picture:
    """Resize to ``new`` = (width, height) and keep the centre square, without computing the rest."""
    left, top = round((new[0] - size) / 2.0), round((new[1] - size) / 2.0)
    if new == (picture.shape[1], picture.shape[0]):
        return picture[top : top + size, left : left + size]
    columns, x = _seen(picture.shape[1], new[0], left, size)
    rows, y = _seen(picture.shape[0], new[1], top, size)
    image = Image.fromarray(np.ascontiguousarray(picture[rows, columns]))
    box = (x[0], y[0], x[1], y[1])
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))


def _seen(length: int, new_length: int, first: int, count: int) -> tuple[slice, tuple[float, float]]:
    """Return which source pixels outputs ``first`` to ``first + count`` see, and their own extent within these."""
    scale = length / new_length
    begin, end = first * scale, (first + count) * scale
    reach = _BICUBIC_REACH * max(scale, 1.0) + 1.0
    start, stop = max(0, math.floor(begin - reach)), min(length, math.ceil(end + reach))
    return slice(start, stop), (begin - start, min(end - start, float(stop - start)))


def _padded(picture: Picture, size: int) -> Picture:
    square = np.zeros((size, size, 3), dtype=np.uint8)
    top, left = (size - picture.shape[0]) // 2, (size - picture.shape[1]) // 2
    square[top : top + picture.shape[0], left : left + picture.shape[1]] = picture[:size, :size]
    return square


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """Encode (S, S, 3) uint8 RGB as JPEG with full colour resolution."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> Picture:
    """Decode JPEG bytes to (S, S, 3) uint8 RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
