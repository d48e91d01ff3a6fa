"""Images in folders, opened when they are needed, cut to a box where the benchmark does."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from figclip_cli.errors import InputError
from figclip_cli.evaluate.visuals.source import Pixels
from figclip_cli.frames.preprocess import to_square

Box = tuple[int, int, int, int]
ImageLook = tuple[str, Box | None]


class ImageFiles:
    """Images under one or more folders.

    A look is a path as the benchmark writes it, with a box (x, y, width, height) in pixels or None. The path is tried
    under every folder, whole first, then without its leading folders.

    Args:
        roots: The folders.
        size: Side of the model's input in pixels.
        crop: How an image becomes a square.

    Raises:
        InputError: A folder does not exist.
    """

    unit = "images"

    def __init__(self, roots: Sequence[Path], *, size: int, crop: str) -> None:
        absent = next((root for root in roots if not root.is_dir()), None)
        if absent is not None:
            raise InputError(f"the folder of images {absent} does not exist", "pass --images FOLDER")
        self.roots = tuple(roots)
        self.size = size
        self.crop = crop

    def find(self, name: str) -> Path | None:
        """Return the file of a path, or None."""
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", "..")]
        tails = [Path(*parts[first:]) for first in range(len(parts))]
        return next((root / tail for tail in tails for root in self.roots if (root / tail).is_file()), None)

    def why_missing(self, name: str) -> str | None:
        """Return why an image cannot be looked at, or None; it is not opened."""
        return None if self.find(name) else "not in " + ", ".join(map(str, self.roots))

    def check(self, looks: Sequence[ImageLook]) -> None:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`; any image may be there."""

    def example(self) -> str:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        return "looked for in " + ", ".join(map(str, self.roots))

    def identity(self, look: ImageLook) -> str:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        digest = hashlib.sha256(self._bytes(look[0])).hexdigest()
        return f"image|{digest}|{look[1]}|{self.size}|{self.crop}"

    def read(self, look: ImageLook) -> Pixels:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        name, box = look
        try:
            with Image.open(io.BytesIO(self._bytes(name))) as image:
                pixels = np.asarray(_cut(image.convert("RGB"), box, name))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            said = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise InputError(f"image {name} cannot be read: {said}", "fetch it again") from error
        return to_square(pixels, self.size, self.crop)[None]

    def _bytes(self, name: str) -> bytes:
        path = self.find(name)
        if path is None:
            raise InputError(f"image {name}: {self.why_missing(name)}", "pass the right --images FOLDER")
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"image {path} cannot be read: {error.strerror}", "see to its permissions") from error


def _cut(image: Image.Image, box: Box | None, name: str) -> Image.Image:
    """Cut to a box as PIL does: what lies outside the image is black."""
    if box is None:
        return image
    x, y, width, height = box
    if x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        raise InputError(f"image {name} has {image.width} x {image.height} pixels, its box {box} is outside", "")
    return image.crop((x, y, x + width, y + height))
