"""What ``embed`` and ``search`` read beside clips: files of texts, and folders of images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import (
    check_text,
    parse_json_lines,
    read_text,
    refuse_repeated,
    require_str,
    shown_value,
)
from figclip_cli.evaluate.visuals import ImageFiles
from figclip_cli.evaluate.visuals.images import ImageLook
from figclip_cli.files import sha256_of_file

IMAGE_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))
_TEXTS = "file of texts"
_TEXTS_HINT = 'a .txt has one text a line, a .jsonl one object a line with "text" and, if you like, "id"'


@dataclass(frozen=True)
class Texts:
    """Texts of a file.

    Attributes:
        ids: The number of the line, from 1, or what the file says.
        texts: One for each id; the same text may come again.
        sha256: Hash of the file's bytes.
    """

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    sha256: str


def read_texts(path: Path) -> Texts:
    """Read a .txt with one text a line, or a .jsonl with objects that have ``text`` and may have ``id``.

    Raises:
        InputError: The file is missing, empty, of another kind, has an empty line between others, or repeats an id.
    """
    content = read_text(path, _TEXTS, _TEXTS_HINT)
    where = f"{_TEXTS} {path}"
    ending = path.suffix.lower()
    if ending not in (".txt", ".jsonl"):
        raise InputError(f"{where} is no .txt or .jsonl", _TEXTS_HINT)
    lines = content.rstrip().split("\n") if content.strip() else []
    empty = next((number for number, line in enumerate(lines, start=1) if not line.strip()), None)
    if empty is not None or not lines:
        said = f"{where} is empty" if empty is None else f"{where}, line {empty}: empty"
        raise InputError(said, "a row of features is made for each line; remove empty ones")
    if ending == ".txt":
        pairs = [(str(number), line.strip()) for number, line in enumerate(lines, start=1)]
    else:
        pairs = [_text_of(record, where, number) for number, record in parse_json_lines(content, where, _TEXTS_HINT)]
    for number, (_, text) in enumerate(pairs, start=1):
        check_text(text, f"{where}, line {number}")
    ids = tuple(name for name, _ in pairs)
    refuse_repeated(ids, where)
    return Texts(ids, tuple(text for _, text in pairs), sha256_of_file(path))


def _text_of(record: dict[str, Any], where: str, number: int) -> tuple[str, str]:
    place = f"{where}, line {number}"
    name = record.get("id", str(number))
    if isinstance(name, int) and not isinstance(name, bool) and name.bit_length() <= 64:
        name = str(name)
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise InputError(f"{place}: 'id' is {shown_value(name)}, expected a printable text", _TEXTS_HINT)
    return name.strip(), require_str(record, "text", place)


def image_names(folder: Path) -> list[str]:
    """Return the images of a folder and those below it, by their path from it, sorted; links are followed once.

    Raises:
        InputError: The folder is missing, cannot be listed, or has no image.
    """
    if not folder.is_dir():
        raise InputError(f"the folder of images {folder} does not exist", "pass --images FOLDER")
    names = sorted(file.relative_to(folder).as_posix() for file in _images_below(folder))
    if not names:
        raise InputError(f"no image found in {folder}", f"known endings: {' '.join(sorted(IMAGE_ENDINGS))}")
    return names


def _images_below(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise InputError(f"the folder {error.filename} cannot be listed: {error.strerror}", "see to its permissions")

    visited: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in names if Path(name).suffix.lower() in IMAGE_ENDINGS)


class ImagesOfFolder(ImageFiles):
    """Images by their exact path below one folder, unlike those of a benchmark.

    Attributes:
        contents: What names each image by its content, noted when it is first read.
    """

    def __init__(self, folder: Path, *, size: int, crop: str, interpolation: str) -> None:
        super().__init__([folder], size=size, crop=crop, interpolation=interpolation)
        self.contents: dict[str, str] = {}

    def find(self, name: str) -> Path | None:
        """Return the file of a path, or None."""
        path = self.roots[0] / name
        return path if path.is_file() else None

    def identity(self, look: ImageLook) -> str:
        """See :class:`~figclip_cli.evaluate.visuals.source.LookSource`."""
        self.contents[look[0]] = found = super().identity(look)
        return found
