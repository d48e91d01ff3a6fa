"""A folder that gets its name only when it is whole: made beside it, then renamed."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from figclip_cli.errors import UsageError
from figclip_cli.files import clear, explaining_disk_errors, require_writable, sha256_of_file, write_text

REPORT_NAME = "figclip_export.json"
SUMS_NAME = "SHA256SUMS"
_UNFIT = ".unfit"


def check_folder(folder: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse a folder that must not be made or replaced, before work is spent on it.

    Args:
        inputs: What is read; it must not lie in the folder.

    Raises:
        UsageError: It is there, and either ``overwrite`` is false, or it is not an export of figclip, or holds what
            figclip did not write or what is read now; or it lies in an export.
        MachineError: It cannot be written there.
    """
    name = folder.name
    if name in ("", "..") or not name.isprintable():
        raise UsageError(f"{folder} is no name for a new folder", "name a folder that is not there yet")
    _refuse_inside(folder, inputs)
    require_writable(folder.parent / f"{name}.tmp")
    if not os.path.lexists(folder) or _is_empty(folder):
        return
    if not overwrite:
        raise UsageError(f"{folder} already exists", "pass --overwrite to replace it, or choose another name")
    if folder.is_symlink() or not (folder / REPORT_NAME).is_file():
        raise UsageError(f"{folder} is not an export of figclip, and is left alone", "choose another name")
    foreign = _foreign(folder)
    if foreign:
        raise UsageError(f"{folder} holds {foreign[0]}, which figclip did not write", "move it, or choose another name")


def _refuse_inside(folder: Path, inputs: Iterable[Path]) -> None:
    whole = folder.resolve()
    around = next((parent for parent in whole.parents if (parent / REPORT_NAME).is_file()), None)
    if around is not None:
        raise UsageError(f"{folder} would lie in the export {around}", "choose another folder")
    for path in inputs:
        if path.resolve().is_relative_to(whole):
            raise UsageError(f"{folder} holds {path}, which is read", "choose another folder")


def _foreign(folder: Path) -> list[str]:
    """Return the files of an export that are not in its list of hashes; what Python leaves there does not count."""
    sums = folder / SUMS_NAME
    listed = {line.partition("  ")[2] for line in sums.read_text("utf-8").splitlines()} if sums.is_file() else set()
    found = [path.relative_to(folder) for path in folder.rglob("*") if not path.is_dir()]
    own = {SUMS_NAME, *listed}
    return sorted(str(path) for path in found if path.as_posix() not in own and "__pycache__" not in path.parts)


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


@contextmanager
def folder_in_the_making(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside ``folder``, which is removed at the end unless :func:`give_name` was called on it.

    Those that a killed process left behind are removed too.

    Raises:
        MachineError: It cannot be made.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with explaining_disk_errors(folder):
        for left in folder.parent.glob(f".{glob.escape(folder.name)}.*.tmp"):
            made = re.fullmatch(r"(?:old\.)?(\d{1,9})\.tmp", left.name.removeprefix(f".{folder.name}."))
            if made is not None and not _is_alive(int(made[1])):
                clear(left)
        partial.mkdir(parents=True)
    try:
        with explaining_disk_errors(folder):
            yield partial
    finally:
        clear(partial)


def _is_alive(pid: int) -> bool:
    """Return whether a process of this number runs; another user's does."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def give_name(partial: Path, folder: Path) -> None:
    """Put a finished folder in its place; what stood there is kept until the new one does."""
    old = folder.with_name(f".{folder.name}.old.{os.getpid()}.tmp")
    if os.path.lexists(folder):
        folder.rename(old)
    try:
        partial.rename(folder)
    except BaseException:
        if old.exists() and not os.path.lexists(folder):
            old.rename(folder)
        raise
    clear(old)


def unfit(folder: Path) -> Path:
    """Return the name that a folder gets when it failed its comparison."""
    return folder.with_name(folder.name + _UNFIT)


def write_sums(folder: Path) -> None:
    """Write ``SHA256SUMS`` over every other file, as ``sha256sum --check SHA256SUMS`` reads it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SUMS_NAME)
    lines = [f"{sha256_of_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_text(folder / SUMS_NAME, "".join(lines))
