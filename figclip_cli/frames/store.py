"""Write ``frames.h5``. The format is documented in ``docs/file-formats.md``."""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import numpy.typing as npt

from figclip_cli import __version__
from figclip_cli.files import canonical_json, explaining_disk_errors, replacing
from figclip_cli.frames.clip import ClipResult
from figclip_cli.frames.sampling import SamplingRecipe

FRAMES_FORMAT = "figclip-frames"
FRAMES_FORMAT_VERSION = 2

Pictures = Callable[[int], Sequence[bytes]]


def write_frames(
    path: Path,
    recipe: SamplingRecipe,
    clips: Sequence[ClipResult],
    sizes: Sequence[Sequence[int]],
    pictures: Pictures,
    *,
    shard: Mapping[str, Any] | None = None,
) -> str:
    """Write a frames file, whole or not at all; return its content hash.

    Args:
        clips: Results in stored order, without pictures.
        sizes: Bytes of each picture of each clip, 0 where there is none.
        pictures: Gives the stored pictures of clip number i; called once for each, in order.
        shard: Attributes that say which share of which clips this is.

    Raises:
        MachineError: The disk is full.
    """
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # of a program that was killed; we hold the lock
        stale.unlink(missing_ok=True)
    with replacing(path) as temporary, explaining_disk_errors(path), h5py.File(temporary, "w", libver="v110") as file:
        digest = hashlib.sha256()
        _write_clips(file, recipe, clips, digest)
        if recipe.storage == "jpeg":
            _write_jpeg(file, sizes, pictures, digest)
        else:
            _write_raw(file, recipe, sizes, pictures, digest)
        attributes: dict[str, Any] = {
            **(shard or {}),
            "format": FRAMES_FORMAT,
            "format_version": FRAMES_FORMAT_VERSION,
            "tool_version": __version__,
            "recipe": canonical_json(recipe.as_dict()),
            "recipe_sha256": recipe.sha256,
            "content_sha256": digest.hexdigest(),
            "completed": True,
        }
        for name, value in attributes.items():
            if isinstance(value, str):
                [encoded] = _fixed_length([value])
                file.attrs.create(name, encoded, dtype=_text_type(encoded.dtype.itemsize))
            else:
                file.attrs[name] = value
    return digest.hexdigest()


def _fixed_length(texts: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Return texts as fields of one length.

    HDF5 keeps those of any length in a heap, in which a damaged file can make it run round for ever.
    """
    encoded = [text.encode("utf-8", "surrogateescape") for text in texts]
    return np.array(encoded, dtype=f"S{max([1, *map(len, encoded)])}")


def _text_type(length: int) -> np.dtype[Any]:
    return cast("np.dtype[Any]", h5py.string_dtype("utf-8", length))


def _write_clips(file: h5py.File, recipe: SamplingRecipe, clips: Sequence[ClipResult], digest: hashlib._Hash) -> None:
    for name in ("clip_id", "source_path", "status", "reason"):
        encoded = _fixed_length([getattr(clip, name) for clip in clips])
        file.create_dataset(name, data=encoded.astype(_text_type(encoded.dtype.itemsize)))
    for name in ("start_seconds", "duration_seconds"):
        file.create_dataset(name, data=np.array([getattr(clip, name) for clip in clips], dtype=np.float64))
    pts = np.array([time for clip in clips for time in clip.pts_seconds], dtype=np.float64)
    if recipe.is_ragged:
        counts = [len(clip.pts_seconds) for clip in clips]
        file.create_dataset("frame_offsets", data=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64))
    else:
        pts = pts.reshape(len(clips), recipe.events, recipe.frames_per_event)
    file.create_dataset("pts", data=pts).attrs["units"] = "seconds"
    digest.update(canonical_json([[clip.clip_id, clip.status] for clip in clips]).encode())
    digest.update(pts.tobytes())


def _write_jpeg(file: h5py.File, sizes: Sequence[Sequence[int]], pictures: Pictures, digest: hashlib._Hash) -> None:
    offsets = np.concatenate([[0], np.cumsum([size for clip in sizes for size in clip], dtype=np.int64)])
    data = file.create_dataset("jpeg_bytes", shape=(int(offsets[-1]),), dtype=np.uint8)
    file.create_dataset("jpeg_offsets", data=offsets.astype(np.int64))
    position = 0
    for number in range(len(sizes)):
        block = b"".join(pictures(number))
        if block:
            data[position : position + len(block)] = np.frombuffer(block, np.uint8)
        position += len(block)
        digest.update(block)


def _write_raw(
    file: h5py.File,
    recipe: SamplingRecipe,
    sizes: Sequence[Sequence[int]],
    pictures: Pictures,
    digest: hashlib._Hash,
) -> None:
    one: tuple[int, ...] = (recipe.size, recipe.size, 3)
    empty = bytes(recipe.size * recipe.size * 3)
    if recipe.is_ragged:
        total = sum(len(clip) for clip in sizes)
        data = file.create_dataset("pixels", shape=(total, *one), chunks=(1, *one) if total else None, dtype=np.uint8)
    else:
        one = (recipe.events, recipe.frames_per_event, *one)
        chunks = (1, *one) if sizes else None
        data = file.create_dataset("pixels", shape=(len(sizes), *one), chunks=chunks, dtype=np.uint8)
    position = 0
    for number in range(len(sizes)):
        block = b"".join(picture or empty for picture in pictures(number))
        rows = np.frombuffer(block, np.uint8).reshape(-1, *one)
        if len(rows):
            data[position : position + len(rows)] = rows
        position += len(rows)
        digest.update(block)
