"""Images and texts that an export is compared on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.frames import FramesReader

COUNT = 8
TEXTS = (
    "a photo of a dog",
    "In this photo, the action is walk, the walker is man with short hair, scene is apartment.",
    "In this photo, the action is push, the pusher is a woman in red, the thing pushed is the old car.",
    "a person is connecting something to system",
    "the second man looks at the first man",
    "a",
    "eleven small boats on a grey sea, seen from above, late in the evening, with lights on the far shore",
    "Ärger über 3 cafés & 2 naïve façades!",
)


def sample_images(size: int, *, frames: Sequence[Path] = ()) -> Tensor:
    """Return (8, size, size, 3) uint8: frames spread over a frames file, else seeded pictures.

    Args:
        size: Side in pixels.
        frames: Frames files; without them the pictures are smooth random colours under fine noise, so that
            every frequency a patch embedding can see is present.

    Raises:
        InputError: The frames have another size or none is ok.
    """
    if frames:
        return _stored_frames(FramesReader(list(frames)), size)
    generator = np.random.default_rng(0)
    pictures = []
    for _ in range(COUNT):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + generator.integers(-24, 25, smooth.shape, dtype=np.int16)
        pictures.append(noisy.clip(0, 255).astype(np.uint8))
    return torch.from_numpy(np.stack(pictures))


def _stored_frames(reader: FramesReader, size: int) -> Tensor:
    if reader.recipe.size != size:
        raise InputError(f"the frames are {reader.recipe.size} pixels, the model takes {size}", "leave out --frames")
    if not reader.clip_ids:
        raise InputError("the frames file has no ok clip", "leave out --frames")
    spread = np.linspace(0, len(reader.clip_ids) - 1, COUNT).round().astype(int)
    pictures = []
    for position, index in enumerate(spread):
        clip_frames = reader.read(reader.clip_ids[index])
        flat = clip_frames.reshape(-1, *clip_frames.shape[2:])
        pictures.append(flat[position * (len(flat) - 1) // max(1, COUNT - 1)])
    return torch.from_numpy(np.stack(pictures))
