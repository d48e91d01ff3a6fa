"""Whether a name that a user typed is a file or a folder, whatever the name holds."""

from __future__ import annotations

import stat
from pathlib import Path


def is_there(path: Path | str) -> bool:
    """Say whether something is at ``path``; a name that cannot be one (a zero byte, too long) is not there."""
    return _mode(path) is not None


def is_folder(path: Path | str) -> bool:
    """Say whether ``path`` is a folder; a name that cannot be one is none."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: Path | str) -> int | None:
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return None
