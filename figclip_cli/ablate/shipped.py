"""Specifications that come with the package, by name. Nothing here imports torch or numpy."""

from __future__ import annotations

from pathlib import Path

from figclip_cli.errors import UsageError, nearest

FOLDER = Path(__file__).with_name("specs")


def spec_names() -> list[str]:
    """Return the names of all that are shipped."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def spec_file(named: str) -> Path:
    """Return a specification's file: the one that is named, or the shipped one of that name.

    Raises:
        UsageError: It is neither a file nor the name of one that is shipped.
    """
    if named in spec_names():
        return FOLDER / f"{named}.toml"
    path = Path(named)
    try:
        is_there = path.exists()
    except (OSError, ValueError):  # a name that is too long, or has a zero byte
        is_there = False
    if not is_there and path.suffix != ".toml":
        raise UsageError(f"there is no spec '{named[:200]}'", nearest(named[:200], spec_names()))
    return path
