"""Files on disk: written whole or not at all, hashed, and never overwritten by accident."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, MachineError, UsageError

_BLOCK_BYTES = 1 << 20
_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # as Rust writes it
_LONGEST_NAME_BYTES = 255  # of a part of a path, on every file system in use


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
        MachineError: The disk is full, or the folder cannot be made or written.
    """
    temporary = _temporary_beside(path)
    with explaining_disk_errors(path):
        make_folder(path.parent)
        try:
            yield temporary
            flush_to_disk(temporary)
            temporary.chmod(_FILE_MODE)  # some libraries make files that only their owner can read
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _temporary_beside(path: Path) -> Path:
    """Return a name for the time of writing; that of a long name has its hash, since it must not be longer."""
    name = f".{path.name}.{os.getpid()}.tmp"
    if len(os.fsencode(name)) > _LONGEST_NAME_BYTES:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.{os.getpid()}.tmp"
    return path.with_name(name)


def shortened(name: str, most_bytes: int) -> str:
    """Return a name of at most ``most_bytes`` bytes of UTF-8: a longer one ends with a hash of all of it."""
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= most_bytes:
        return name
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    return f"{encoded[: most_bytes - len(digest) - 1].decode('utf-8', 'ignore')}-{digest}"


def make_folder(folder: Path) -> None:
    """Make a folder and those above it; nothing happens when it is there.

    Raises:
        MachineError: It cannot be made.
    """
    with explaining_disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError as error:  # as in /proc, where nobody can make a folder
            raise _explained(error, error.errno, folder) from error


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
        number = _OS_ERROR.search(str(error))
        if "No space left" in str(error) or "StorageFull" in str(error):
            raise _explained(error, errno.ENOSPC, path) from error
        if number is None:
            raise
        raise _explained(error, int(number[1]), path) from error


def _explained(error: Exception, number: int | None, path: Path) -> Exception:
    text = str(error)
    if number == errno.ENOSPC or "No space left" in text or f"errno = {errno.ENOSPC}" in text:
        return MachineError(f"no space left on the device that holds {path}", "free some space, then run it again")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return MachineError(f"{path} cannot be written: {os.strerror(number)}", "choose another place")
    if number == errno.ENAMETOOLONG:
        return UsageError(f"{path} cannot be made: {os.strerror(number)}", "choose a shorter name")
    if number in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ELOOP):
        return MachineError(f"{path} cannot be made: {os.strerror(number)}", "choose another place")
    if number in (errno.EDQUOT, errno.EIO, errno.EFBIG):
        return MachineError(f"{path} cannot be written: {os.strerror(number)}", "see to the disk, then run it again")
    return error


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Refuse to write over ``path`` unless told to.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false, or its name is too long.
        MachineError: It cannot be told whether ``path`` exists.
    """
    if _status(path) is not None and not overwrite:
        raise UsageError(f"{path} already exists", "pass --overwrite to replace it, or choose another name")


def check_output(path: Path, *, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Refuse, before work is spent on it, a file that must not or cannot be written.

    Args:
        overwrite: Whether a file that exists may be replaced; one of ``inputs`` never is.
        inputs: What the command reads; see :func:`named_files`.

    Raises:
        UsageError: ``path`` is one of ``inputs``, is no ordinary file, exists, or its name is too long.
        MachineError: Its folder is none, cannot be made, or cannot be written.
    """
    if _status(path) is not None and any(_is_same(path, one) for one in inputs):
        raise UsageError(f"{path} is an input of this command", "choose another name")
    require_writable(path)
    refuse_existing(path, overwrite=overwrite)


def refuse_same_outputs(**outputs: Path | None) -> None:
    """Refuse two outputs of one command that are the same file, whether it is there already or not.

    Args:
        outputs: What each is called, with its path or None.

    Raises:
        UsageError: Names the two.
    """
    taken: dict[Path, str] = {}
    for name, path in outputs.items():
        if path is None:
            continue
        other = taken.setdefault(path.resolve(), name)
        if other != name:
            said = f"the {other.replace('_', ' ')} and the {name.replace('_', ' ')}"
            raise UsageError(f"{said} would both be {path}", "give one of them another name")


def require_writable(path: Path) -> None:
    """Refuse a file that could not be written; nothing is made or left behind.

    Raises:
        UsageError: ``path`` is a folder or a device, or its name is too long.
        MachineError: Its folder is none, cannot be made, or cannot be written.
    """
    status = _status(path)
    if status is not None and not stat.S_ISREG(status.st_mode):
        what = "a folder, not a file" if stat.S_ISDIR(status.st_mode) else "no ordinary file"
        raise UsageError(f"{path} is {what}", "name a file that can be written")
    if any(len(os.fsencode(part)) > _LONGEST_NAME_BYTES for part in path.parts):
        raise _explained(OSError(), errno.ENAMETOOLONG, path)
    with explaining_disk_errors(path):
        folder = next(parent for parent in path.absolute().parents if _status(parent) is not None)
        if not folder.is_dir():
            raise MachineError(f"{path} cannot be made: {folder} is no folder", "choose another place")
        try:
            tempfile.TemporaryFile(dir=folder).close()  # permissions do not tell of read-only disks and of quotas
        except FileNotFoundError as error:
            raise _explained(error, error.errno, path) from error


def named_files(*given: Path | str | Sequence[Path] | None) -> list[Path]:
    """Return what flags name as one list, with the files that a pattern such as ``frames-*.h5`` stands for."""
    found: list[Path] = []
    for one in given:
        for name in one if isinstance(one, Sequence) and not isinstance(one, str) else (one,):
            if name is not None:
                found += [Path(name), *(Path(match) for match in glob.glob(str(name)) if match != str(name))]
    return found


def _status(path: Path) -> os.stat_result | None:
    """Return the status of what is about to be written, None where there is nothing."""
    with explaining_disk_errors(path):
        try:
            return path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError as error:  # a zero byte, which a configuration file can hold
            raise UsageError(f"{path} cannot be a file's name: {error}", "choose another name") from error


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # there is none; whoever reads it says so
        return False


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
        InputError: There is no such file, it is a folder, or it must not be read.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # a name with a zero byte is a ValueError
        raise InputError(f"{what} {path} does not exist", hint) from error
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror}", hint) from error
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{what} {path} is a folder, not a file", hint)
    if not os.access(path, os.R_OK):
        raise InputError(f"{what} {path} cannot be read: {os.strerror(errno.EACCES)}", hint)
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


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with sorted keys, whole or not at all."""
    write_text(path, json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


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
    except (RecursionError, ValueError) as error:  # a whole number of thousands of digits is a ValueError
        why = "is nested too deep" if isinstance(error, RecursionError) else "has a number of too many digits"
        raise InputError(f"{what} {path} {why}", "is it the right file?") from error
