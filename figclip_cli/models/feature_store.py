"""A folder of features that many runs share: each text, clip or image is found by the hash of its content.

Shards are written once and never changed, so any number of processes may read and write at once without locks.
Two that encode the same item at the same time keep it twice, which does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch import Tensor

from figclip_cli.errors import FigclipError, InputError
from figclip_cli.models.feature_shards import SMALL_ROWS, Hashes, Shard, open_shard, write_shard
from figclip_cli.reporting import Reporter

PIECE_ROWS = 50_000  # rows of one shard: what an interrupted run loses at most, and what is held in memory
MOST_SMALL_SHARDS = 32
_HEADER_BYTES = 4096
_WRITE_ERRORS = (FigclipError, OSError, SafetensorError)


def locate(shards: Sequence[Shard], wanted: Hashes) -> npt.NDArray[np.int64]:
    """Return where each hash is in the shards laid end to end, (n,) int64; -1 where it is in none."""
    if not shards:
        return np.full(len(wanted), -1)
    known = np.concatenate([shard.hashes for shard in shards])
    order = np.argsort(known[:, 0], kind="stable")
    at = np.searchsorted(known[order, 0], wanted[:, 0])
    candidates = order[np.minimum(at, len(order) - 1)]
    # Two items whose first 8 bytes agree by chance hide one another: the hidden one is encoded anew, never confused.
    return np.where((known[candidates] == wanted).all(axis=1), candidates, -1)


class FeatureStore:
    """The shards of one base model.

    Attributes:
        folder: Where they are; None keeps everything in memory.
    """

    def __init__(self, folder: Path | None, model_key: str, width: int, reporter: Reporter) -> None:
        self.folder = folder
        self._model_key = model_key
        self._width = width
        self._reporter = reporter
        self._writable = folder is not None

    def shards(self) -> list[Shard]:
        """Open every sound shard, in the order of names; a damaged or foreign one costs a warning."""
        if self.folder is None:
            return []
        try:
            files = sorted(self.folder.glob("*.safetensors"))
        except OSError as error:
            self._reporter.warn(f"features in {self.folder} cannot be listed: {error}")
            return []
        return [shard for shard in map(self._opened, files) if shard is not None]

    def add(self, hashes: Hashes, features: Tensor) -> Shard:
        """Keep new features, (n, D) float32 of unit length, as one shard.

        A folder that cannot be written costs one warning; the features then stay in memory.
        """
        shard = Shard(hashes, features)
        if self.folder is None or not self._writable:
            return shard
        try:
            file = write_shard(self.folder, self._model_key, shard)
            if len(shard) >= SMALL_ROWS:
                return open_shard(file, self._model_key, self._width)
        except _WRITE_ERRORS as error:
            self._writable = False
            self._reporter.warn(f"features are not kept for next time: {error}")
            return shard
        self._merge_small(self.folder)
        return shard

    def _opened(self, file: Path) -> Shard | None:
        try:
            return open_shard(file, self._model_key, self._width)
        except FileNotFoundError:
            return None
        except InputError as error:
            self._reporter.warn(f"{error.message}; what it held is encoded anew unless they are elsewhere")
            return None

    def _merge_small(self, folder: Path) -> None:
        """Make one shard of the smallest when there are many; large ones, which others may be reading, stay."""
        try:
            sizes = {file: file.stat().st_size for file in folder.glob("*.safetensors")}
            most_bytes = _HEADER_BYTES + SMALL_ROWS * (4 * self._width + 16)
            small = sorted((size, file) for file, size in sizes.items() if size < most_bytes)
            if len(small) > MOST_SMALL_SHARDS:
                self._merge(folder, [file for _, file in small])
        except _WRITE_ERRORS as error:
            self._reporter.detail(f"small files of features are not merged: {error}")

    def _merge(self, folder: Path, files: Sequence[Path]) -> None:
        parts: dict[Path, Shard] = {}
        for file in files:
            shard = self._opened(file)
            if shard is not None and sum(map(len, parts.values())) + len(shard) <= PIECE_ROWS:
                parts[file] = shard
        if len(parts) < 2:
            return
        hashes = np.concatenate([shard.hashes for shard in parts.values()])
        features = torch.cat([shard.read(np.arange(len(shard))) for shard in parts.values()])
        _, first = np.unique(hashes, axis=0, return_index=True)
        merged = Shard(hashes[first], features[torch.from_numpy(first)])
        written = write_shard(folder, self._model_key, merged)
        for file in parts:
            if file != written:  # a part that held all that the others hold is what was written
                file.unlink(missing_ok=True)
