"""What is kept of a look: a row of unit length, since that is what a store of features holds.

Of pooled looks, two means from which all three pooling conventions follow: the mean of the raw frame features,
divided by its length, and the mean of the unit frame features, side by side; and the whole divided by its length. The
first half then has the length by which the whole was divided, so nothing is lost.

Of a look of one frame that is wanted raw, as the contextualizer wants it: the feature and a one, divided by their
length. What became of the one gives the length back.

Of a contextual token: itself, since it is of unit length.
"""

from __future__ import annotations

from typing import Final, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.models.pooling import Pooling

TOKEN: Final = "token"
Packing = Pooling | Literal["token"] | None


def columns(width: int, packing: Packing) -> int:
    """Return how long a row is, for features of ``width``."""
    if packing == TOKEN:
        return width
    return width + 1 if packing is None else 2 * width


def pack(frames: Tensor, pooling: Pooling | None) -> Tensor:
    """Return the row of a look with (n, D) raw frame features, (:func:`columns`,) float32.

    Args:
        pooling: Any of the three, which give the same row; None for a raw feature, where n is 1.
    """
    return _pack_raw(frames) if pooling is None else _pack_means(frames)


def unpack(packed: Tensor, packing: Packing) -> Tensor:
    """Return (..., D) float32 of rows that :func:`pack` made with the same pooling, or any other of the three.

    They are of unit length except under ``l2-mean`` and None. Equal to
    :func:`figclip_cli.models.pooling.pool_frames` of the frames, or to the one frame, to rounding. Tokens are as they
    were kept.
    """
    if packing == TOKEN:
        return packed
    return packed[..., :-1] / packed[..., -1:] if packing is None else _unpack_means(packed, packing)


def _pack_raw(frames: Tensor) -> Tensor:
    (frame,) = frames.float()
    return F.normalize(torch.cat([frame, frame.new_ones(1)]), dim=0)


def _pack_means(frames: Tensor) -> Tensor:
    """Return (2 D,) float32 of unit length from (n, D) raw frame features; NaN where a length is zero."""
    frames = frames.float()
    lengths = torch.linalg.vector_norm(frames, dim=-1, keepdim=True)
    mean = frames.mean(dim=0)
    both = torch.cat([mean / torch.linalg.vector_norm(mean), (frames / lengths).mean(dim=0)])
    return both / torch.linalg.vector_norm(both)


def _unpack_means(packed: Tensor, pooling: Pooling) -> Tensor:
    mean, mean_of_units = packed.chunk(2, dim=-1)
    if pooling == "mean-l2":
        return F.normalize(mean, dim=-1)
    if pooling == "l2-mean-l2":
        return F.normalize(mean_of_units, dim=-1)
    return mean_of_units / torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
