"""Folders that the demo makes, and no other, may be replaced by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figclip_cli.errors import UsageError
from figclip_cli.files import clear, read_json, write_json

_MARKER = "figclip-demo.json"


def new_folder(path: Path, *, overwrite: bool, settings: Mapping[str, Any] | None = None) -> None:
    """Make an empty folder, or keep one that was begun with the same settings.

    Args:
        path: The folder.
        overwrite: Replace what an earlier demo made.
        settings: What a folder that is gone on with must have been begun with; None never goes on.

    Raises:
        UsageError: Something else is in the folder; without ``overwrite``, an earlier demo or one of other settings.
    """
    marker = path / _MARKER
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        ours = path.is_dir() and marker.is_file()
        if not overwrite:
            begun = read_json(marker, "demo folder's settings") if ours and settings is not None else None
            if begun is not None and begun == settings:
                return
            if begun:
                raise UsageError(
                    f"{path} was begun with other settings, or by another version",
                    "name another folder, or pass --overwrite to lose what is in it",
                )
            raise UsageError(f"{path} already exists", "pass --overwrite, or name another folder")
        if not ours:
            raise UsageError(f"{path} was not made by the demo and is not replaced", "name another folder")
        clear(path)
    path.mkdir(parents=True, exist_ok=True)
    write_json(marker, dict(settings or {}))
