"""Find the videos that the user means."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from figclip_cli.errors import InputError
from figclip_cli.frames.clip import Source, printable
from figclip_cli.frames.segments import read_segments

VIDEO_ENDINGS = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ogv")
)


def find_sources(paths: Sequence[Path], segments: Path | None = None) -> list[Source]:
    """Return the clips in folders (searched recursively) and files, sorted by clip id.

    A file named explicitly is taken whatever its ending. With a list of segments, its clips are returned instead,
    those without a file too.

    Raises:
        InputError: A path does not exist, there is no video, two files have one clip id, or the list is wrong.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _videos_in(path)
        elif path.exists():
            files.append(path)
        else:
            raise InputError(f"{printable(path)} does not exist", "name a folder of videos, or video files")
    if not files:
        names = ", ".join(printable(path) for path in paths)
        raise InputError(f"no video found in {names}", f"known endings: {' '.join(sorted(VIDEO_ENDINGS))}")
    by_id = _by_clip_id(files)
    if segments is None:
        return [Source(clip_id, by_id[clip_id]) for clip_id in sorted(by_id)]
    listed = read_segments(segments, [path for path in paths if path.is_dir()], by_id)
    return sorted(listed, key=lambda source: source.clip_id)


def _by_clip_id(files: Sequence[Path]) -> dict[str, Path]:
    by_id: dict[str, Path] = {}
    for file in dict.fromkeys(files):
        clip_id = printable(Path(file.stem))
        if clip_id in by_id and not _is_same(by_id[clip_id], file):
            raise InputError(
                f"two files have the clip id '{clip_id}': {printable(by_id[clip_id])} and {printable(file)}",
                "a clip id is the file's name without ending; rename one",
            )
        by_id[clip_id] = file
    return by_id


def _is_same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:  # a broken link
        return False


def _videos_in(folder: Path) -> Iterator[Path]:
    """Yield the videos of a folder and those below it, links to folders followed once."""
    visited: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, followlinks=True):
        status = Path(root).stat()
        if (status.st_dev, status.st_ino) in visited:
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if Path(name).suffix.lower() in VIDEO_ENDINGS)
