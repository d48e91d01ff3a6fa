"""One file of features: how it is written, what is believed of it, and how rows are read.

Rows are read with ``pread`` and not through a memory map. A map of a file in large pages makes most of the file
resident after a few hundred scattered rows; and a mapped file that another machine cuts or removes kills the
process, where a read that fails is an error of one line.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.models.tensors import save_tensors

Hashes = npt.NDArray[np.uint64]  # (n, 2)

SMALL_ROWS = 2048  # a shard with fewer is read whole: its file may be merged away under a reader
_HASH_BYTES = 16
_LENGTH_TOLERANCE = 1e-3
_ROWS_TRIED = 64
_FORMAT = "figclip features"
_FORMAT_VERSION = 1


def content_hashes(contents: Sequence[str]) -> Hashes:
    """Return (n, 2) uint64: 16 bytes of the SHA-256 of each text, or of what names an image or clip by its content."""
    digests = (hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:_HASH_BYTES] for text in contents)
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)


def rows_not_unit(features: Tensor) -> int:
    """Return how many rows of (n, D) are not finite and of unit length to 1e-3."""
    off = (torch.linalg.vector_norm(features.float(), dim=-1) - 1).abs()
    return int((~(off <= _LENGTH_TOLERANCE)).sum())  # NaN is not <= anything


class FileRows:
    """Rows of a (n, D) float32 table in an open file; safe to use in forked processes.

    The file stays open, so its rows stay readable when it is renamed or removed on a local disk.
    """

    def __init__(self, file: Path, width: int) -> None:
        self._file = file
        self._width = width
        self._descriptor = os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        (length,) = struct.unpack("<Q", os.pread(self._descriptor, 8, 0))
        header = json.loads(os.pread(self._descriptor, length, 8))
        self._start = 8 + length + int(header["features"]["data_offsets"][0])

    def read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return (len(rows), D) float32; neighbours in ascending order are read at once.

        Raises:
            InputError: The file cannot be read, is cut, or holds a row that is not finite and of unit length.
        """
        features = torch.empty(len(rows), self._width)
        if not len(rows):
            return features
        view = features.numpy().data.cast("B")
        stride = 4 * self._width
        ends = np.append(np.flatnonzero(np.diff(rows) != 1) + 1, len(rows)).tolist()
        try:
            for begin, end in zip([0, *ends], ends, strict=False):
                self._fill(view[begin * stride : end * stride], self._start + int(rows[begin]) * stride)
        except OSError as error:
            raise InputError(f"features {self._file} cannot be read: {error}", "run it again") from error
        wrong = rows_not_unit(features)
        if wrong:
            raise InputError(
                f"features {self._file} are damaged: {wrong} of {len(rows)} rows are not of unit length",
                "remove the file; what it held is then encoded anew",
            )
        return features

    def _fill(self, view: memoryview, offset: int) -> None:
        while view:
            count = os.preadv(self._descriptor, [view], offset)
            if not count:
                raise OSError("it is cut short")
            view, offset = view[count:], offset + count


@dataclass(frozen=True)
class Shard:
    """Features of some items: texts, clips or images.

    Attributes:
        hashes: Content hash of each item.
        features: (n, D) float32 in memory, or in a file.
    """

    hashes: Hashes
    features: Tensor | FileRows

    def __len__(self) -> int:
        return len(self.hashes)

    def read(self, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return (len(rows), D) float32; see :meth:`FileRows.read`."""
        if isinstance(self.features, FileRows):
            return self.features.read(rows)
        return self.features[torch.from_numpy(rows)]


def write_shard(folder: Path, model_key: str, shard: Shard) -> Path:
    """Write a shard that is in memory, whole or not at all, under a name that its content decides.

    A sound file of that name is left alone: a process on another machine may be reading it.

    Raises:
        MachineError: The disk is full or the folder cannot be written.
        OSError, SafetensorError: It cannot be written for another reason.
    """
    assert isinstance(shard.features, Tensor)
    hashes = torch.from_numpy(shard.hashes.view(np.uint8).reshape(-1, _HASH_BYTES).copy())
    digest = hashlib.sha256(hashes.numpy().data)
    digest.update(shard.features.contiguous().numpy().data)
    file = folder / f"{digest.hexdigest()[:32]}.safetensors"
    try:
        open_shard(file, model_key, shard.features.shape[1])
    except (InputError, FileNotFoundError):
        save_tensors(file, {"hashes": hashes, "features": shard.features}, _about(model_key))
    return file


def open_shard(file: Path, model_key: str, width: int) -> Shard:
    """Open a shard; a small one is read whole, of a large one a sample of rows is checked.

    Raises:
        InputError: It is damaged, of another model, or not what it says.
        FileNotFoundError: It is gone, as small shards are when another process has merged them.
    """
    try:
        hashes = _hashes(file, model_key, width)
        rows = FileRows(file, width)
    except FileNotFoundError:
        raise
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, struct.error) as error:
        # torch opens the file a second time, by its name, and has an error of its own for one that went away meanwhile.
        if not file.exists():
            raise FileNotFoundError(file) from error
        raise InputError(f"features {file} cannot be used: {error}", "remove the file") from error
    count = len(hashes)
    if count < SMALL_ROWS:
        return Shard(hashes, rows.read(np.arange(count)))
    rows.read(np.unique(np.linspace(0, count - 1, _ROWS_TRIED).astype(np.int64)))
    return Shard(hashes, rows)


def _hashes(file: Path, model_key: str, width: int) -> Hashes:
    if not file.exists():  # the library's own error for this is no FileNotFoundError in every release
        raise FileNotFoundError(file)
    with safe_open(file, framework="pt") as opened:
        if json.loads(opened.metadata()["figclip"]) != _about(model_key):
            raise ValueError("they are of another model or version")
        hashes = opened.get_tensor("hashes").clone()
        features = opened.get_slice("features")
        count = len(hashes)
        shapes = [list(hashes.shape), features.get_shape()]
        if hashes.dtype != torch.uint8 or features.get_dtype() != "F32":
            raise ValueError(f"the types are {hashes.dtype} and {features.get_dtype()}")
        if not count or shapes != [[count, _HASH_BYTES], [count, width]]:
            raise ValueError(f"the shapes are {shapes[0]} and {shapes[1]}, the width is {width}")
    return hashes.numpy().view("<u8")


def _about(model_key: str) -> dict[str, Any]:
    return {"format": _FORMAT, "format_version": _FORMAT_VERSION, "model": model_key}
