"""Two means of a look's frames in one row of unit length, from which all three pooling conventions follow.

What is kept is the mean of the raw frame features, divided by its length, and the mean of the unit frame features,
side by side; and the whole divided by its length, since a store of features holds rows of unit length. The first
half then has the length by which the whole was divided, so nothing is lost.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.models.pooling import Pooling


def pack(frames: Tensor) -> Tensor:
    """Return (2 D,) float32 of unit length from (n, D) raw frame features; NaN where a length is zero."""
    frames = frames.float()
    lengths = torch.linalg.vector_norm(frames, dim=-1, keepdim=True)
    mean = frames.mean(dim=0)
    both = torch.cat([mean / torch.linalg.vector_norm(mean), (frames / lengths).mean(dim=0)])
    return both / torch.linalg.vector_norm(both)


def unpack(packed: Tensor, pooling: Pooling) -> Tensor:
    """Return (..., D) float32 from (..., 2 D); of unit length except under ``l2-mean``.

    Equal to :func:`figclip_cli.models.pooling.pool_frames` of the frames, to rounding.
    """
    mean, mean_of_units = packed.chunk(2, dim=-1)
    if pooling == "mean-l2":
        return F.normalize(mean, dim=-1)
    if pooling == "l2-mean-l2":
        return F.normalize(mean_of_units, dim=-1)
    return mean_of_units / torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
