"""Counts over blocks of scores: how many lie above a limit, by row or by column, and which lie between two limits.

Comparisons give one byte each. Eight of them are added as one int64, which is many times faster than adding booleans.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

_LANE = 255  # what a byte can count
_ROWS_PER_THREAD = 128


def padded(columns: int) -> int:
    """Return the width of a mask of so many columns."""
    return -(-columns // 8) * 8


class Masks:
    """Room for the comparisons of one block after another, so that none is allocated twice.

    Args:
        size: Most scores of a block, its columns :func:`padded`.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._room = [torch.zeros(size, dtype=torch.bool, device=device) for _ in range(2)]
        self._threads = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def above(self, scores: Tensor, limit: Tensor, which: int) -> Tensor:
        """Compare scores (n, m) with a limit that broadcasts to them.

        Args:
            which: 0 or 1, the room to use; what it held is overwritten.

        Returns:
            (n, m rounded up to 8) bool, contiguous; False in the added columns.
        """
        rows, columns = scores.shape
        width = padded(columns)
        mask = self._room[which][: rows * width].view(rows, width)
        mask[:, columns:] = False
        if scores.device.type == "cpu":
            self._compare(scores, limit.expand(rows, columns), mask[:, :columns])
        else:
            torch.gt(scores, limit, out=mask[:, :columns])
        return mask

    def _compare(self, scores: Tensor, limit: Tensor, mask: Tensor) -> None:
        """Compare with NumPy, which is faster here than torch but has no threads of its own."""
        rows = max(_ROWS_PER_THREAD, -(-len(scores) // self._threads))
        parts = [[part.numpy() for part in tensor.split(rows)] for tensor in (scores, limit, mask)]
        if self._pool is None or len(parts[0]) == 1:
            for a, b, out in zip(*parts, strict=True):
                np.greater(a, b, out=out)
        else:
            list(self._pool.map(np.greater, *parts))


def count(mask: Tensor, axis: int) -> Tensor:
    """Count along an axis of a mask (n, m) whose m is a multiple of 8; return int64, one for each row or column."""
    words = mask.view(torch.int64)
    sums = torch.stack([part.sum(dim=axis) for part in words.split(_LANE, dim=axis)])  # lanes of bytes: no carry
    lanes = sums.view(torch.uint8)  # (parts, m) if rows were added, (parts, 8 n) if columns were
    if axis == 0:
        return lanes.sum(dim=0)
    return lanes.view(len(sums), len(mask), 8).sum(dim=(0, 2))


def places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns, row by row, of what is set in a mask (n, m) whose m is a multiple of 8."""
    return _places(mask.view(torch.int64))


def differing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns, row by row, where two masks (n, m) differ; m is a multiple of 8."""
    return _places(torch.bitwise_xor(a.view(torch.int64), b.view(torch.int64)))


def _places(words: Tensor) -> tuple[Tensor, Tensor]:
    """Look for words that are not 0 first, then into their bytes: few are."""
    width = 8 * words.shape[1]
    flat_words = words.reshape(-1)
    found = flat_words.nonzero()[:, 0]
    which, byte = flat_words[found].view(torch.uint8).view(-1, 8).nonzero().unbind(dim=1)
    flat = found[which] * 8 + byte
    rows = torch.div(flat, width, rounding_mode="floor")
    return rows, flat - rows * width


def group_max(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct groups, ascending, and the largest value of each; values and groups are (n,)."""
    distinct, inverse = groups.unique(return_inverse=True)
    largest = values.new_full((len(distinct),), -torch.inf)
    return distinct, largest.scatter_reduce_(0, inverse, values, "amax")
