"""Counts over blocks of scores: how many lie above a limit, by row or by column, and which lie between two limits.

Comparisons give one byte each. Eight of them are added as one int64, which is many times faster than adding booleans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_LANE = 255  # what a byte can count
_STRIP = 1 << 18  # products that stay in a core's cache while they are compared


def padded(columns: int) -> int:
    """Return the width of a mask of so many columns."""
    return -(-columns // 8) * 8


class Masks:
    """Room for the comparisons of one block after another, so that none is allocated twice.

    Args:
        size: Most scores of a block, its columns :func:`padded`.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._room = [torch.empty(size, dtype=torch.bool, device=device) for _ in range(2)]

    def above(self, products: Tensor, limits: Sequence[Tensor]) -> list[Tensor]:
        """Compare products (n, m) with up to two limits that broadcast to them.

        Args:
            products: float32, or bfloat16 for a float32 limit.

        Returns:
            For each limit (n, :func:`padded` m) bool, contiguous, False in the added columns; the next call
            overwrites it.
        """
        rows, columns = products.shape
        width = padded(columns)
        masks = [room[: rows * width].view(rows, width) for room, _ in zip(self._room, limits, strict=False)]
        for mask in masks:
            mask[:, columns:] = False
        numbers, limits = _comparable(products, limits)
        limits = [limit.expand(rows, columns) for limit in limits]
        inner = [mask[:, :columns] for mask in masks]
        height = max(1, _STRIP // columns) if products.device.type == "cpu" else rows
        for start in range(0, rows, height):
            strip = slice(start, start + height)
            _compare(numbers[strip], [limit[strip] for limit in limits], [mask[strip] for mask in inner])
        return masks


def _comparable(products: Tensor, limits: Sequence[Tensor]) -> tuple[Tensor, Sequence[Tensor]]:
    """Return numbers that compare as these do; those of bfloat16 as integers where no limit is negative.

    A bfloat16 is the upper half of a float32, and where one of two floats is positive their bits compare like
    integers. A bfloat16 is above a positive float32 if and only if it is above that number's upper half.
    """
    if products.dtype == torch.bfloat16 and all(bool((limit > 0).all()) for limit in limits):
        return products.view(torch.int16), [(limit.view(torch.int32) >> 16).to(torch.int16) for limit in limits]
    return products, limits


def _compare(numbers: Tensor, limits: Sequence[Tensor], masks: Sequence[Tensor]) -> None:
    numbers = numbers.float() if numbers.dtype == torch.bfloat16 else numbers
    for limit, mask in zip(limits, masks, strict=True):
        if numbers.device.type == "cpu":
            np.greater(numbers.numpy(), limit.numpy(), out=mask.numpy())  # several times faster than torch
        else:
            torch.gt(numbers, limit, out=mask)


def count(mask: Tensor, axis: int) -> Tensor:
    """Count along an axis of a mask (n, m) whose m is a multiple of 8; return int64, one for each row or column."""
    words = mask.view(torch.int64)
    sums = torch.stack([part.sum(dim=axis) for part in words.split(_LANE, dim=axis)])  # lanes of bytes: no carry
    lanes = sums.view(torch.uint8)  # (parts, m) if rows were added, (parts, 8 n) if columns were
    if axis == 0:
        return lanes.sum(dim=0)
    return lanes.view(len(sums), len(mask), 8).sum(dim=(0, 2))


def places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns, row by row, of what is set in a mask (n, m)."""
    flat = mask.reshape(-1)
    # NumPy is several times faster here.
    found = flat.nonzero()[:, 0] if flat.device.type != "cpu" else torch.from_numpy(np.flatnonzero(flat.numpy()))
    rows = torch.div(found, mask.shape[1], rounding_mode="floor")
    return rows, found - rows * mask.shape[1]


def differing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows and columns, row by row, where two masks (n, m) differ; m is a multiple of 8."""
    return places(torch.bitwise_xor(a.view(torch.int64), b.view(torch.int64)).view(torch.bool))


def group_max(values: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distinct groups, ascending, and the largest value of each; values and groups are (n,)."""
    distinct, inverse = groups.unique(return_inverse=True)
    largest = values.new_full((len(distinct),), -torch.inf)
    return distinct, largest.scatter_reduce_(0, inverse, values, "amax")
