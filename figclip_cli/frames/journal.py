"""What a run has done so far, in a folder beside its output: append-only, and safe to cut off at any byte.

``recipe.json`` says what is being made, ``pixels.bin`` holds the stored pictures of all clips one after another, and
``clips.jsonl`` has one line per finished clip. A clip counts once its line is complete; its bytes were written
before it. HDF5 cannot promise that: a file that was not closed may not open again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from figclip_cli.errors import UsageError
from figclip_cli.files import canonical_json, clear, explaining_disk_errors, make_folder
from figclip_cli.frames.clip import ClipResult, Source
from figclip_cli.frames.sampling import SamplingRecipe


@dataclass(frozen=True)
class JournalEntry:
    """A finished clip: its result without pictures, and where they are in ``pixels.bin``.

    Attributes:
        result: Without ``pictures``.
        offset: First byte of its pictures.
        sizes: Bytes of each picture, 0 where there is none.
        stamp: Size and modification time of the source file, to notice a changed one.
        part: Start and end in seconds that were asked for, to notice a changed list of segments.
    """

    result: ClipResult
    offset: int
    sizes: tuple[int, ...]
    stamp: tuple[int, int] | None
    part: tuple[float, float | None]


def source_stamp(source: Source) -> tuple[int, int] | None:
    """Return (bytes, mtime_ns) of a source, or None where it is gone."""
    try:
        status = source.path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class Journal:
    """An open journal; use :func:`open_journal`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._pixels: BinaryIO = (folder / "pixels.bin").open("ab")
        self._recover()
        self._lines: BinaryIO = (folder / "clips.jsonl").open("ab")

    def _recover(self) -> None:
        """Read what is whole, and cut the torn rest off both files."""
        self.entries, good_lines, self._end = _whole_entries(self._folder)
        if (self._folder / "clips.jsonl").is_file():
            os.truncate(self._folder / "clips.jsonl", good_lines)
        os.truncate(self._folder / "pixels.bin", self._end)

    @staticmethod
    def peek(output: Path, recipe: SamplingRecipe) -> dict[str, JournalEntry]:
        """Return what an interrupted run of an output finished, changing nothing; empty for another recipe."""
        folder = journal_folder(output)
        named = folder / "recipe.json"
        if not named.is_file() or named.read_text(encoding="utf-8") != canonical_json(recipe.as_dict()):
            return {}
        return _whole_entries(folder)[0]

    def append(self, source: Source, stamp: tuple[int, int] | None, result: ClipResult) -> None:
        """Add a finished clip.

        Raises:
            MachineError: The disk is full; what was added before stays.
        """
        sizes = tuple(len(picture) for picture in result.pictures)
        part = (source.start_seconds, source.end_seconds)
        entry = JournalEntry(_without_pictures(result), self._end, sizes, stamp, part)
        with explaining_disk_errors(self._folder):
            self._pixels.write(b"".join(result.pictures))
            self._pixels.flush()
            self._lines.write(_format(entry))
            self._lines.flush()
        self._end += sum(sizes)
        self.entries[result.clip_id] = entry

    def pictures(self, entry: JournalEntry) -> list[bytes]:
        """Return the stored pictures of a clip."""
        with (self._folder / "pixels.bin").open("rb") as file:
            file.seek(entry.offset)
            return [file.read(size) for size in entry.sizes]

    def close(self) -> None:
        """Close both files; a full disk may make even this fail, which loses nothing that was flushed."""
        for file in (self._pixels, self._lines):
            try:
                file.close()
            except OSError:
                continue


@contextmanager
def open_journal(output: Path, recipe: SamplingRecipe, *, overwrite: bool) -> Iterator[Journal]:
    """Open the journal of an output, taking up what an interrupted run left; hold its lock meanwhile.

    Raises:
        UsageError: Another program is writing this output, or the interrupted run had another recipe.
        MachineError: The folder cannot be written.
    """
    folder = journal_folder(output)
    with explaining_disk_errors(output):
        make_folder(folder)
        with (folder / "lock").open("w") as lock:
            _lock(lock.fileno(), output)
            _check_recipe(folder, recipe, overwrite=overwrite)
            journal = Journal(folder)
            try:
                yield journal
            finally:
                journal.close()


def journal_folder(output: Path) -> Path:
    """Return where the journal of an output is."""
    return output.with_name(f".{output.name}.partial")


def remove_journal(output: Path) -> None:
    """Remove the journal of a finished output."""
    clear(journal_folder(output))


def _lock(descriptor: int, output: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has no flock; there two programs on one output are not noticed
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UsageError(f"another program is writing {output}", "wait for it, or choose another --output") from error


def _check_recipe(folder: Path, recipe: SamplingRecipe, *, overwrite: bool) -> None:
    file = folder / "recipe.json"
    wanted = canonical_json(recipe.as_dict())
    if file.is_file() and file.read_text(encoding="utf-8") not in ("", wanted):  # empty: killed while writing it
        if not overwrite:
            raise UsageError(
                f"an interrupted run left {folder} with another recipe",
                "run it with the same flags to go on, or pass --overwrite to start anew",
            )
        for name in ("clips.jsonl", "pixels.bin"):
            clear(folder / name)
    file.write_text(wanted, encoding="utf-8")


def _whole_entries(folder: Path) -> tuple[dict[str, JournalEntry], int, int]:
    """Return complete lines whose pictures are all there, and how many bytes of both files they take."""
    entries: dict[str, JournalEntry] = {}
    lines, pixels = folder / "clips.jsonl", folder / "pixels.bin"
    written = pixels.stat().st_size if pixels.is_file() else 0
    good_lines = good_pixels = 0
    if lines.is_file():
        with lines.open("rb") as file:
            for line in file:
                entry = _parse(line)
                if entry is None or entry.offset + sum(entry.sizes) > written:
                    break
                entries[entry.result.clip_id] = entry
                good_lines, good_pixels = file.tell(), entry.offset + sum(entry.sizes)
    return entries, good_lines, good_pixels


def _without_pictures(result: ClipResult) -> ClipResult:
    values = {**result.__dict__, "pictures": ()}
    return ClipResult(**values)


def times_as_json(result: ClipResult) -> dict[str, Any]:
    """Return the fields of a result that may be NaN, which JSON writes as null."""
    duration = result.duration_seconds
    return {
        "duration_seconds": None if duration != duration else duration,
        "pts_seconds": [None if time != time else time for time in result.pts_seconds],
    }


def _format(entry: JournalEntry) -> bytes:
    values: dict[str, Any] = {**entry.result.__dict__, "pictures": None, **times_as_json(entry.result)}
    line = {"result": values, "offset": entry.offset, "sizes": entry.sizes, "stamp": entry.stamp, "part": entry.part}
    return canonical_json(line).encode() + b"\n"


def _parse(line: bytes) -> JournalEntry | None:
    if not line.endswith(b"\n"):
        return None
    try:
        document = json.loads(line)
        values = document["result"]
        values["pictures"] = ()
        values["pts_seconds"] = tuple(_nan(time) for time in values["pts_seconds"])
        values["duration_seconds"] = _nan(values["duration_seconds"])
        stamp = tuple(document["stamp"]) if document["stamp"] else None
        part = (document["part"][0], document["part"][1])
        return JournalEntry(ClipResult(**values), document["offset"], tuple(document["sizes"]), stamp, part)
    except (ValueError, KeyError, TypeError, IndexError):
        return None


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
