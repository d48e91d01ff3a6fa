"""Read ``frames.h5``: one file or several, opened lazily in each process, every claim of the file checked."""

from __future__ import annotations

import glob
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from PIL import Image

from figclip_cli.errors import FigclipError, InputError
from figclip_cli.files import require_file, sha256_of_json
from figclip_cli.frames.preprocess import decode_jpeg
from figclip_cli.frames.sampling import SamplingRecipe
from figclip_cli.frames.store import FRAMES_FORMAT, FRAMES_FORMAT_VERSION

_TEXT_COLUMNS = ("clip_id", "source_path", "status", "reason")
_VERSION_OF_ANY_LENGTH = 1  # the format version whose texts could have any length
_NUMBER_COLUMNS = ("start_seconds", "duration_seconds")


@dataclass(frozen=True)
class ClipRow:
    """One clip of a frames file; ``status`` is ok, short, failed or timeout."""

    clip_id: str
    source_path: str
    status: str
    reason: str
    start_seconds: float
    duration_seconds: float


@dataclass(frozen=True)
class ShardOf:
    """Which share of which list of clips a file holds."""

    index: int
    count: int
    listed_sha256: str


class FramesReader:
    """Frames of all clips in one or more files of one recipe.

    Instances can be sent to other processes; each opens the files for itself on first read.

    Args:
        paths: A path, several, or a glob pattern.

    Raises:
        InputError: A file is missing, unfinished, damaged or of another recipe, or a clip occurs twice.

    Attributes:
        recipe: How the frames were made.
        clips: Every clip, whatever its status.
        clip_ids: Ids of the ok clips, in stored order.
        content_sha256: Hash of everything stored.
        paths: The files.
        shards: What share each file is; None for a whole one.
    """

    def __init__(self, paths: Path | str | Sequence[Path | str]) -> None:
        self.paths = _expand(paths)
        self._open: dict[Path, h5py.File] = {}
        self._opened_by = os.getpid()
        self._place: dict[str, tuple[Path, int]] = {}
        rows: list[ClipRow] = []
        self._content: dict[Path, str] = {}
        self.shards: dict[Path, ShardOf | None] = {}
        for path in self.paths:
            with _explaining_damage(path), _opened(path) as file:
                recipe = _check(file, path)
                if path == self.paths[0]:
                    self.recipe = recipe
                elif recipe.sha256 != self.recipe.sha256:
                    raise InputError(
                        f"{path} has another sampling recipe than {self.paths[0]}", "extract them with the same flags"
                    )
                self._content[path] = _attribute_text(file, "content_sha256")
                self.shards[path] = _shard(file)
                for index, row in enumerate(_rows(file)):
                    if row.clip_id in self._place:
                        other = self._place[row.clip_id][0]
                        raise InputError(f"clip '{row.clip_id}' is in {other} and in {path}", "leave one file out")
                    self._place[row.clip_id] = (path, index)
                    rows.append(row)
        self.clips = tuple(rows)
        self._rows = {row.clip_id: row for row in rows}
        self.clip_ids = tuple(row.clip_id for row in rows if row.status == "ok")
        hashes = list(self._content.values())
        self.content_sha256 = hashes[0] if len(hashes) == 1 else sha256_of_json(hashes)

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}}

    def __enter__(self) -> FramesReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the files; reading opens them again."""
        for file in self._open.values():
            file.close()
        self._open = {}

    def read(self, clip_id: str) -> npt.NDArray[np.uint8]:
        """Return the frames of an ok clip, (events, frames, size, size, 3) uint8 RGB; one event at a fixed rate.

        Raises:
            InputError: There is no such ok clip, or its pictures are damaged.
        """
        _, _, path = self._locate(clip_id)
        size = self.recipe.size
        with _explaining_damage(path):
            if self.recipe.storage == "raw":
                pixels = self._raw_pixels(clip_id)
            else:
                pixels = np.stack([decode_jpeg(data) for data in self.stored(clip_id)])
            return pixels.reshape(self.recipe.events, -1, size, size, 3)

    def pts_seconds(self, clip_id: str) -> npt.NDArray[np.float64]:
        """Return the (events, frames) presentation times of a clip's frames, in seconds from its file's start."""
        file, index, _ = self._locate(clip_id, ok_only=False)
        if not self.recipe.is_ragged:
            return np.asarray(file["pts"][index])
        first, count = self._frames_of(file, index)
        return np.asarray(file["pts"][first : first + count])[None]

    def require_equal_lengths(self) -> None:
        """Refuse files whose clips have different numbers of frames.

        Raises:
            InputError: They were extracted at a fixed rate.
        """
        if self.recipe.is_ragged:
            raise InputError(
                f"{self.paths[0]} was extracted with --fps, so its clips differ in length",
                "extract with --events and --frames-per-event for this",
            )

    def require_events(self, events: int) -> None:
        """Refuse frames that were cut into another number of events: an event would be looked at in other seconds.

        Args:
            events: Into how many the annotation cuts a clip.

        Raises:
            InputError: The numbers differ.
        """
        if events != self.recipe.events:
            raise InputError(
                f"the annotation has {events} events a clip, {self.paths[0]} has {self.recipe.events}",
                f"extract the frames with --events {events}",
            )

    def row(self, clip_id: str) -> ClipRow:
        """Return what is known of a clip, whatever its status."""
        self._locate(clip_id, ok_only=False)
        return self._rows[clip_id]

    def content_of_file(self, clip_id: str) -> str:
        """Return the hash of everything in the file that holds a clip."""
        self._locate(clip_id, ok_only=False)
        return self._content[self._place[clip_id][0]]

    def stored(self, clip_id: str) -> list[bytes]:
        """Return the pictures of a clip as they are stored, JPEG or raw bytes; empty where there is none."""
        file, index, path = self._locate(clip_id, ok_only=False)
        with _explaining_damage(path):
            first, count = self._frames_of(file, index)
            if self.recipe.storage == "raw":
                pixels, sizes = self._raw_pixels(clip_id), self.stored_sizes(clip_id)
                return [pixels[number].tobytes() if size else b"" for number, size in enumerate(sizes)]
            offsets = file["jpeg_offsets"][first : first + count + 1]
            data = file["jpeg_bytes"][offsets[0] : offsets[-1]].tobytes()
            return [data[a - offsets[0] : b - offsets[0]] for a, b in zip(offsets[:-1], offsets[1:], strict=True)]

    def stored_sizes(self, clip_id: str) -> list[int]:
        """Return how many bytes each picture of a clip has as it is stored, without reading them; 0 is none."""
        file, index, _ = self._locate(clip_id, ok_only=False)
        first, count = self._frames_of(file, index)
        if self.recipe.storage == "raw":
            there = ~np.isnan(self.pts_seconds(clip_id).ravel())
            return (there * self.recipe.size**2 * 3).tolist()
        return np.diff(file["jpeg_offsets"][first : first + count + 1]).tolist()

    def _raw_pixels(self, clip_id: str) -> npt.NDArray[np.uint8]:
        """Return (frames, size, size, 3), zeros where there is no frame."""
        file, index, _ = self._locate(clip_id, ok_only=False)
        first, count = self._frames_of(file, index)
        size = self.recipe.size
        pixels = file["pixels"][first : first + count] if self.recipe.is_ragged else file["pixels"][index]
        return np.asarray(pixels).reshape(count, size, size, 3)

    def _frames_of(self, file: h5py.File, index: int) -> tuple[int, int]:
        """Return the number of a clip's first frame, counted over the file, and how many it has."""
        if not self.recipe.is_ragged:
            return index * self.recipe.frames, self.recipe.frames
        first, end = file["frame_offsets"][index : index + 2]
        return int(first), int(end - first)

    def _locate(self, clip_id: str, *, ok_only: bool = True) -> tuple[h5py.File, int, Path]:
        if clip_id not in self._place or (ok_only and clip_id not in self._ok):
            kind = "ok clip" if ok_only else "clip"
            raise InputError(f"no {kind} '{clip_id}' in {self.paths[0]}", "its status is in the extraction report")
        if self._opened_by != os.getpid():  # a forked child must not use its parent's handles
            self._open, self._opened_by = {}, os.getpid()
        path, index = self._place[clip_id]
        if path not in self._open:
            self._open[path] = _opened(path)
        return self._open[path], index, path

    @property
    def _ok(self) -> frozenset[str]:
        if "_ok_ids" not in self.__dict__:
            self._ok_ids = frozenset(self.clip_ids)
        return self._ok_ids


@contextmanager
def _explaining_damage(path: Path) -> Iterator[None]:
    """Turn whatever HDF5 says of a damaged file, in any of its many ways, into one line."""
    try:
        yield
    except FigclipError:
        raise
    except (
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OverflowError,
        MemoryError,
        Image.DecompressionBombError,
    ) as error:
        said = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise InputError(f"{path} is damaged: {said}", "extract again") from error


def _expand(paths: Path | str | Sequence[Path | str]) -> list[Path]:
    given = [paths] if isinstance(paths, (str, Path)) else list(paths)
    expanded: list[Path] = []
    for item in given:
        matches = sorted(glob.glob(str(item))) if any(c in str(item) for c in "*?[") and not Path(item).exists() else []
        expanded += [Path(match) for match in matches] or [Path(item)]
    for path in expanded:
        require_file(path, "frames file", "make it with figclip extract-frames")
    return list(dict.fromkeys(expanded))


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except OSError as error:
        if "lock file" in str(error):  # some network disks refuse locks, which a reader does not need
            hint = "set HDF5_USE_FILE_LOCKING=FALSE if nothing is writing to it"
            raise InputError(f"{path} cannot be locked", hint) from error
        raise InputError(f"{path} is not a readable HDF5 file", "is it complete? extract again") from error


def _check(file: h5py.File, path: Path) -> SamplingRecipe:
    """Check that a file is what it claims; hostile or damaged ones end here, in one line."""
    if "format" not in file.attrs or _attribute_text(file, "format") != FRAMES_FORMAT:
        raise InputError(f"{path} is not a frames file", "make one with figclip extract-frames")
    version = file.attrs.get("format_version")
    if version not in (_VERSION_OF_ANY_LENGTH, FRAMES_FORMAT_VERSION):
        raise InputError(
            f"{path} has format version {version}, this version reads {FRAMES_FORMAT_VERSION}", "extract again"
        )
    if not file.attrs.get("completed"):
        raise InputError(f"{path} is unfinished", "extract again")
    recipe = SamplingRecipe.from_dict(json.loads(_attribute_text(file, "recipe")), str(path))
    problem = _problem(file, recipe)
    if problem:
        raise InputError(f"{path} is damaged: {problem}", "extract again")
    return recipe


def _problem(file: h5py.File, recipe: SamplingRecipe) -> str:
    """Return what is wrong with the datasets, or nothing."""
    clips = len(file["clip_id"])
    for name in (*_TEXT_COLUMNS, *_NUMBER_COLUMNS):
        if file[name].shape != (clips,):
            return f"{name} has shape {file[name].shape}, expected ({clips},)"
    if any(file[name].dtype != np.float64 for name in _NUMBER_COLUMNS):
        return "a column of times holds no float64"
    if any(h5py.check_string_dtype(file[name].dtype) is None for name in _TEXT_COLUMNS):
        return "a text column holds no text"
    if any(_is_of_any_length(file[name].dtype) for name in _TEXT_COLUMNS) and not _may_be_of_any_length(file):
        return "a text column holds texts of any length"
    expected: tuple[int, ...] = (clips, recipe.events, recipe.frames_per_event)
    if recipe.is_ragged:
        frame_offsets = file["frame_offsets"]
        if frame_offsets.shape != (clips + 1,) or frame_offsets.dtype != np.int64:
            return f"frame_offsets has shape {frame_offsets.shape} and type {frame_offsets.dtype}"
        if not _ascend(frame_offsets[:], len(file["pts"])):
            return "frame_offsets do not fit pts"
        expected = (len(file["pts"]),)
    if file["pts"].shape != expected or file["pts"].dtype != np.float64:
        return f"pts has shape {file['pts'].shape} and type {file['pts'].dtype}, expected {expected} float64"
    if recipe.storage == "raw":
        pixels = file["pixels"]
        if pixels.shape != (*expected, recipe.size, recipe.size, 3) or pixels.dtype != np.uint8:
            return f"pixels has shape {pixels.shape} and type {pixels.dtype}"
        return ""
    data, offsets = file["jpeg_bytes"], file["jpeg_offsets"]
    if data.ndim != 1 or data.dtype != np.uint8:
        return f"jpeg_bytes has shape {data.shape} and type {data.dtype}"
    if offsets.shape != (math.prod(expected) + 1,) or offsets.dtype != np.int64:
        return f"jpeg_offsets has shape {offsets.shape} and type {offsets.dtype}"
    return "" if _ascend(offsets[:], len(data)) else "jpeg_offsets do not fit jpeg_bytes"


def _attribute_text(file: h5py.File, name: str) -> str:
    """Return an attribute's text, whether its length is fixed or not.

    Raises:
        TypeError: A file whose texts have fixed lengths has one that does not; see ``store._fixed_length``.
    """
    stored = file.attrs.get_id(name).dtype
    if h5py.check_string_dtype(stored) is None or (_is_of_any_length(stored) and not _may_be_of_any_length(file)):
        raise TypeError(f"the attribute {name} is no text of fixed length")
    value = file.attrs[name]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


def _is_of_any_length(stored: np.dtype[Any]) -> bool:
    information = h5py.check_string_dtype(stored)
    return information is not None and information.length is None


def _may_be_of_any_length(file: h5py.File) -> bool:
    return bool(file.attrs.get("format_version") == _VERSION_OF_ANY_LENGTH)


def _ascend(offsets: npt.NDArray[np.int64], end: int) -> bool:
    return bool(offsets[0] == 0 and offsets[-1] == end and (offsets[1:] >= offsets[:-1]).all())


def _shard(file: h5py.File) -> ShardOf | None:
    if "shard_index" not in file.attrs:
        return None
    values = file.attrs
    listed = _attribute_text(file, "listed_sha256")
    return ShardOf(int(values["shard_index"]), int(values["shard_count"]), listed)


def _rows(file: h5py.File) -> list[ClipRow]:
    columns = [file[name].asstr(errors="surrogateescape")[:] for name in _TEXT_COLUMNS]
    columns += [file[name][:].tolist() for name in _NUMBER_COLUMNS]
    return [ClipRow(*row) for row in zip(*columns, strict=True)]
