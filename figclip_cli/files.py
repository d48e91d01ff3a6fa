"""Files on disk: written whole or not at all, hashed, and never overwritten by accident."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, MachineError, UsageError

_BLOCK_BYTES = 1 << 20


def _default_file_mode() -> int:
    """Return the permissions that a new file has under the process's umask."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


_FILE_MODE = _default_file_mode()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it over ``path`` only when the block succeeds.

    The data is on the disk before the rename, so a crash leaves the old file or the new one, never a torn
    one. Parent folders are made.

    Raises:
        MachineError: The disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explaining_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            flush_to_disk(temporary)
            temporary.chmod(_FILE_MODE)  # some libraries make files that only their owner can read
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def flush_to_disk(path: Path) -> None:
    """Make the kernel write the file's data out; ENOSPC that was postponed surfaces here."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def explaining_disk_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's write errors about ``path`` into a :class:`MachineError`.

    h5py reports a full disk as an ``OSError`` without ``errno`` whose text carries the number, and the
    libraries in Rust (safetensors) as an exception of their own: both are recognised by their text.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _explained(error, error.errno, path) from error
    except Exception as error:
        if "No space left" in str(error) or "StorageFull" in str(error):
            raise _explained(error, errno.ENOSPC, path) from error
        raise


def _explained(error: Exception, number: int | None, path: Path) -> Exception:
    text = str(error)
    if number == errno.ENOSPC or "No space left" in text or f"errno = {errno.ENOSPC}" in text:
        return MachineError(f"no space left on the device that holds {path}", "free some space, then run it again")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(f"{path} cannot be written: {os.strerror(number)}", "choose another place")
    if number in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return MachineError(f"{path} cannot be made: {os.strerror(number)}", "choose another place")
    if number in (errno.EDQUOT, errno.EIO):
        return MachineError(f"{path} cannot be written: {os.strerror(number)}", "see to the disk, then run it again")
    return error


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over ``path`` unless told to.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false.
    """
    if path.exists() and not overwrite:
        raise UsageError(f"{path} already exists", "pass --overwrite to replace it, or choose another name")


def clear(path: Path) -> None:
    """Remove a file or a whole folder; nothing happens when there is none."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def require_file(path: Path, what: str, hint: str) -> Path:
    """Return ``path`` if it is a file.

    Args:
        what: What the file is to the user, for example ``"frames file"``.

    Raises:
        InputError: There is no such file, or it is a folder.
    """
    if not path.exists():
        raise InputError(f"{what} {path} does not exist", hint)
    if path.is_dir():
        raise InputError(f"{what} {path} is a folder, not a file", hint)
    return path


def sha256_of_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def canonical_json(value: Any) -> str:
    """Return one line of JSON with sorted keys: equal values give equal text. NaN is refused."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def sha256_of_json(value: Any) -> str:
    """Return the hex SHA-256 of :func:`canonical_json`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys, whole or not at all."""
    with replacing(path) as temporary:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path, what: str) -> Any:
    """Read a JSON file.

    Raises:
        InputError: The file is missing, not UTF-8 or not JSON; the message names line and column.
    """
    require_file(path, what, "check the path")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{what} {path} is not JSON ({place}: {error.msg})", "is the file complete?") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} is not UTF-8 text", "is it the right file?") from error
