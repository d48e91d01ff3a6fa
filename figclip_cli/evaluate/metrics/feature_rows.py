"""Features that are read when they are needed."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor


class Rows(Protocol):
    """Features (n, width) float32, in memory or not."""

    @property
    def width(self) -> int:
        """D."""
        ...

    def __len__(self) -> int: ...

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows ``start`` to ``stop`` (exclusive)."""
        ...

    def take(self, index: Tensor) -> Tensor:
        """Return the rows of an int64 index (n,), in its order."""
        ...


class TensorRows:
    """Rows of a tensor in memory.

    Args:
        features: (n, D) float32.

    Raises:
        ValueError: Another shape or dtype.
    """

    def __init__(self, features: Tensor) -> None:
        if features.ndim != 2 or features.dtype != torch.float32:
            raise ValueError(f"features are {tuple(features.shape)} {features.dtype}, not (n, D) float32")
        self._features = features.detach()
        self.width = int(features.shape[1])

    def __len__(self) -> int:
        return len(self._features)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return rows ``start`` to ``stop`` (exclusive), without a copy."""
        return self._features[start:stop]

    def take(self, index: Tensor) -> Tensor:
        """Return the rows of an index."""
        return self._features.index_select(0, index.to(self._features.device))


class ArrayRows:
    """Rows of whatever slices like an array and is read then: an h5py dataset, a NumPy memory map.

    Args:
        array: (n, D) float32.

    Raises:
        ValueError: Another shape or dtype.
    """

    def __init__(self, array: Any) -> None:
        if len(array.shape) != 2 or array.dtype != np.float32:
            raise ValueError(f"features are {tuple(array.shape)} {array.dtype}, not (n, D) float32")
        self._array = array
        self.width = int(array.shape[1])

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def rows(self, start: int, stop: int) -> Tensor:
        """Read rows ``start`` to ``stop`` (exclusive)."""
        return torch.from_numpy(np.array(self._array[start:stop]))

    def take(self, index: Tensor) -> Tensor:
        """Read the rows of an index, each once and in the order of the file."""
        wanted, places = np.unique(index.cpu().numpy(), return_inverse=True)
        if not len(wanted):
            return torch.empty(0, self.width)
        first, last = int(wanted[0]), int(wanted[-1]) + 1
        if last - first <= 4 * len(wanted):  # one long slice is read faster than many rows
            return self.rows(first, last)[torch.from_numpy(wanted[places] - first)]
        return torch.from_numpy(np.array(self._array[wanted]))[torch.from_numpy(places)]
