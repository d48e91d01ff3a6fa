"""Segments on a line, as centre and length or as start and end, and how far they overlap."""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-8


def start_end(segments: Tensor) -> Tensor:
    """Return start and end (..., 2) of centre and length (..., 2)."""
    centre, length = segments.unbind(-1)
    return torch.stack([centre - length / 2, centre + length / 2], dim=-1)


def centre_length(segments: Tensor) -> Tensor:
    """Return centre and length (..., 2) of start and end (..., 2)."""
    start, end = segments.unbind(-1)
    return torch.stack([(start + end) / 2, end - start], dim=-1)


def generalised_iou(segments: Tensor, others: Tensor) -> Tensor:
    """Return the generalised IoU of segments (Rezatofighi et al., CVPR 2019), from -1 to 1.

    It is the IoU less the share of the hull that neither of the two covers.

    Args:
        segments: (..., 2) start and end; the two are broadcast.
        others: (..., 2) start and end.
    """
    (start, end), (other_start, other_end) = segments.unbind(-1), others.unbind(-1)
    both = (end.minimum(other_end) - start.maximum(other_start)).clamp_min(0)
    union = (end - start) + (other_end - other_start) - both
    hull = end.maximum(other_end) - start.minimum(other_start)
    return both / union.clamp_min(_EPSILON) - (hull - union) / hull.clamp_min(_EPSILON)
