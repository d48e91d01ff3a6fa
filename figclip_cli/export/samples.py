"""Pictures and texts that an export is compared on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.files import sha256_of_file
from figclip_cli.frames import FramesReader
from figclip_cli.models.tokens import cleaned
from figclip_cli.prompts import read_prompts
from figclip_cli.run_folder import RunFolder

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


@dataclass(frozen=True)
class Samples:
    """What every export of a run is compared on.

    Attributes:
        images: (n, S, S, 3) uint8.
        texts: The texts.
        images_from: ``frames`` of a frames file, or ``generated``.
        texts_from: ``prompts`` of a prompts file beside the built-in ones, or ``built in``.
    """

    images: Tensor
    texts: tuple[str, ...]
    images_from: str
    texts_from: str

    def describe(self) -> dict[str, object]:
        """Return the counts and where they are from, as plain JSON values."""
        return {
            "images": len(self.images),
            "images_from": self.images_from,
            "texts": len(self.texts),
            "texts_from": self.texts_from,
        }


def draw_samples(size: int, *, frames: Sequence[Path] = (), prompts: Path | None = None) -> Samples:
    """Return pictures and texts spread over the files, where they are given.

    Args:
        size: Side of the model's input in pixels.
        frames: Frames files; without them the pictures are smooth random colours under fine noise, so that
            every frequency a patch embedding can see is present.
        prompts: A prompts file; its texts are added to the built-in ones.

    Raises:
        InputError: A file cannot be read, the frames have another size, or none is ok.
    """
    images = _stored_frames(FramesReader(list(frames)), size) if frames else _generated(size)
    spoken = _stored_texts(prompts) if prompts else ()
    return Samples(images, (*TEXTS, *spoken), "frames" if frames else "generated", "prompts" if spoken else "built in")


def own_frames(run: RunFolder, path: Path) -> tuple[Path, ...]:
    """Return ``path`` if it is a frames file that the run was adapted on, so that a stray one is never looked at."""
    if not path.is_file():
        return ()
    used = {source["frames"]["content_sha256"] for source in run.load_config()["sources"]}
    with FramesReader([path]) as reader:
        return (path,) if reader.content_sha256 in used else ()


def own_prompts(run: RunFolder, path: Path) -> Path | None:
    """Return ``path`` if it is a prompts file that the run was adapted on."""
    used = {source["prompts"]["sha256"] for source in run.load_config()["sources"]}
    return path if path.is_file() and sha256_of_file(path) in used else None


def _generated(size: int) -> Tensor:
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
    pictures = []
    for position, index in enumerate(_spread(len(reader.clip_ids))):
        clip_frames = reader.read(reader.clip_ids[index])
        flat = clip_frames.reshape(-1, *clip_frames.shape[2:])
        pictures.append(flat[position * (len(flat) - 1) // max(1, COUNT - 1)])
    return torch.from_numpy(np.stack(pictures))


def _stored_texts(path: Path) -> tuple[str, ...]:
    events = read_prompts(path).events
    # Cleaned as open_clip does it before it makes tokens, which other libraries' tokenizers do not.
    return tuple(dict.fromkeys(cleaned(events[index].text) for index in _spread(len(events)))) if events else ()


def _spread(count: int) -> list[int]:
    spread: list[int] = np.linspace(0, count - 1, COUNT).round().astype(int).tolist()
    return spread
