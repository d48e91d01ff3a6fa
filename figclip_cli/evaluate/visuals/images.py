"""Images in folders, opened when they are needed, cut to a box where the benchmark does."""

from __future__ import annotations

import filecmp
import hashlib
import io
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, UnidentifiedImageError

from figclip_cli.errors import InputError
from figclip_cli.evaluate.visuals.source import Pixels
from figclip_cli.frames.preprocess import FILTERS, to_square_whole

Box = tuple[int, int, int, int]
ImageLook = tuple[str, Box | None]
_LARGEST_BOX = 4  # times the image
_BOX = "are these the images of the annotation?"


class ImageFiles:
    """Images under one or more folders.

    A look is a path as the benchmark writes it, with a box (x, y, width, height) in pixels or None. The path is tried
    under every folder, whole first, then without its leading folders.

    Args:
        roots: The folders.
        size: Side of the model's input in pixels.
        crop: How an image becomes a square.
        interpolation: How it is resized.

    Raises:
        InputError: A folder does not exist, or images are resized in no such way here.

    Attributes:
        shortened: How many names were found only without their leading folders.
    """

    unit = "images"
    reads_to_identify = True

    def __init__(
        self, roots: Sequence[Path], *, size: int, crop: str = "center", interpolation: str = "bicubic"
    ) -> None:
        absent = next((root for root in roots if not root.is_dir()), None)
        if absent is not None:
            what = "is a file, not a folder" if absent.exists() else "does not exist"
            raise InputError(f"the folder of images {absent} {what}", "pass --images FOLDER")
        if interpolation not in FILTERS:
            known = " or ".join(FILTERS)
            raise InputError(f"the model was trained on images resized by '{interpolation}'", f"known are {known}")
        self.roots = tuple(roots)
        self.size = size
        self.crop = crop
        self.interpolation = interpolation
        self._found: dict[str, Path | None] = {}
        self.shortened = 0

    def find(self, name: str) -> Path | None:
        """Return the file of a path, or None.

        Raises:
            InputError: Two folders have different files of that name.
        """
        if name not in self._found:
            self._found[name] = self._search(name)
        return self._found[name]

    def _search(self, name: str) -> Path | None:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", ".", "..")]
        for first in range(len(parts)):
            tail = Path(*parts[first:])
            there = [root / tail for root in self.roots if _is_file(root / tail)]
            if there:
                self.shortened += first > 0
                return _only(name, there)
        return None

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
        return f"image|{digest}|{look[1]}|{self.size}|{self.crop}|{self.interpolation}"

    def read(self, look: ImageLook) -> Pixels:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        name, box = look
        try:
            with Image.open(io.BytesIO(self._bytes(name))) as image:
                pixels = np.asarray(_cut(_in_rgb(image, name), box, name))
        except UnidentifiedImageError as error:
            raise InputError(f"image {name} is empty or of no known format", "fetch it again") from error
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            said = (" ".join(str(error).split()) or type(error).__name__)[:200]
            raise InputError(f"image {name} cannot be read: {said}", "fetch it again") from error
        return to_square_whole(pixels, self.size, self.crop, self.interpolation)[None]

    def _bytes(self, name: str) -> bytes:
        path = self.find(name)
        if path is None:
            raise InputError(f"image {name}: {self.why_missing(name)}", "pass the right --images FOLDER")
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"image {path} cannot be read: {error.strerror}", "see to its permissions") from error


def _in_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert as open_clip does: transparency is dropped, and a rotation in EXIF is not applied."""
    if image.mode.startswith(("I", "F")):  # PIL would cut these to 255
        raise InputError(f"image {name} has more than 8 bits a channel (mode {image.mode})", "convert it to 8 bits")
    return image.convert("RGB")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for the file system
        return False


def _only(name: str, there: Sequence[Path]) -> Path:
    """Return the first of several files, which must be copies of one another."""
    for other in there[1:]:
        if not filecmp.cmp(there[0], other, shallow=False):
            raise InputError(f"image {name} is in {there[0]} and another in {other}", "pass one folder, or rename one")
    return there[0]


def _cut(image: Image.Image, box: Box | None, name: str) -> Image.Image:
    """Cut to a box as PIL does: what lies outside the image is black."""
    if box is None:
        return image
    x, y, width, height = box
    if x >= image.width or y >= image.height or x + width <= 0 or y + height <= 0:
        raise InputError(f"image {name} has {image.width} x {image.height} pixels, its box {box} is outside", _BOX)
    if width > _LARGEST_BOX * image.width or height > _LARGEST_BOX * image.height:
        raise InputError(f"image {name} has {image.width} x {image.height} pixels, its box {box} is far larger", _BOX)
    return image.crop((x, y, x + width, y + height))
