"""From a decoded picture to stored bytes: exactly what open_clip's evaluation transform does before scaling."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from figclip_cli.frames.decoder import Picture


def resize_and_crop(picture: Picture, size: int) -> Picture:
    """Resize the short side to ``size`` with antialiased bicubic, then cut the centre square.

    Args:
        picture: (H, W, 3) uint8 RGB.
        size: Side in pixels.

    Returns:
        (size, size, 3) uint8. Rounding is that of torchvision's Resize and CenterCrop.
    """
    height, width = picture.shape[:2]
    short, long = min(height, width), int(size * max(height, width) / min(height, width))
    image = Image.fromarray(picture)
    if short != size:
        new_width, new_height = (size, long) if width <= height else (long, size)
        image = image.resize((new_width, new_height), Image.Resampling.BICUBIC)
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def encode_jpeg(picture: Picture, quality: int) -> bytes:
    """Encode (S, S, 3) uint8 RGB as JPEG with full colour resolution."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> Picture:
    """Decode JPEG bytes to (S, S, 3) uint8 RGB."""
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))
