"""Find the videos that the user means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from figclip_cli.errors import InputError
from figclip_cli.frames.clip import Source, printable

VIDEO_ENDINGS = frozenset(
    (".mp4", ".mkv", ".webm", ".avi", ".mov", ".ts", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv", ".3gp", ".ogv")
)


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Return the videos in folders (searched recursively) and files, sorted by clip id.

    A file named explicitly is taken whatever its ending.

    Raises:
        InputError: A path does not exist, there is no video, or two files have one clip id.
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
    by_id: dict[str, Path] = {}
    for file in dict.fromkeys(files):
        clip_id = printable(Path(file.stem))
        if clip_id in by_id and not by_id[clip_id].samefile(file):
            raise InputError(
                f"two files have the clip id '{clip_id}': {printable(by_id[clip_id])} and {printable(file)}",
                "a clip id is the file's name without ending; rename one",
            )
        by_id[clip_id] = file
    return [Source(clip_id, by_id[clip_id]) for clip_id in sorted(by_id)]


def _videos_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(root, name) for name in sorted(names) if Path(name).suffix.lower() in VIDEO_ENDINGS]
    return found
