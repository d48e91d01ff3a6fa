"""How frame features become one feature of an event or a clip.

Public code uses three conventions that give different numbers, so the choice is named and travels with every
result. Names read left to right: ``mean-l2`` takes the mean, then divides by the L2 norm.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor

Pooling = Literal["mean-l2", "l2-mean-l2", "l2-mean"]
POOLINGS: tuple[str, ...] = get_args(Pooling)


def pool_frames(features: Tensor, *, pooling: Pooling = "mean-l2") -> Tensor:
    """Pool frame features over their last-but-one axis.

    Args:
        features: (..., frames, D) raw (not normalised) frame features.
        pooling: ``mean-l2``: mean of raw features, then L2 (VELOCITI, ViFi-CLIP); ``l2-mean-l2``: L2 per frame,
            mean, L2 (CLIP4Clip); ``l2-mean``: L2 per frame, mean, not normalised again (FitCLIP).

    Returns:
        (..., D), unit length except under ``l2-mean``.
    """
    if pooling == "mean-l2":
        return F.normalize(features.mean(dim=-2), dim=-1)
    mean = F.normalize(features, dim=-1).mean(dim=-2)
    return F.normalize(mean, dim=-1) if pooling == "l2-mean-l2" else mean


def pool_present_frames(features: Tensor, present: Tensor) -> Tensor:
    """Pool raw frame features by ``mean-l2`` over the frames that are there.

    Args:
        features: (..., frames, D) raw frame features.
        present: (..., frames) bool.

    Returns:
        (..., D), unit length; zeros where no frame is there.
    """
    # The sum has the direction of the mean, and the length is divided out.
    return F.normalize((features * present[..., None]).sum(dim=-2), dim=-1)
