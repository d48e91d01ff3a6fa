"""Which query is to find which event: the cheapest assignment (Carion et al., ECCV 2020; PDVC, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from torch import Tensor

from figclip_cli.heads.dense.segments import generalised_iou, start_end

FOCAL_ALPHA, FOCAL_GAMMA = 0.25, 2.0


@dataclass(frozen=True)
class MatchingWeights:
    """What the class, the L1 distance and the generalised IoU weigh."""

    of_class: float = 2.0
    of_l1: float = 2.0
    of_giou: float = 4.0


@torch.no_grad()
def matching_cost(logits: Tensor, segments: Tensor, targets: Tensor, weights: MatchingWeights) -> Tensor:
    """Return what each pair costs, (Q, n).

    Args:
        logits: (Q,) that a query has an event.
        segments: (Q, 2) centre and length.
        targets: (n, 2) centre and length.
    """
    probability = logits.sigmoid()
    # What the focal loss of a query gains by being an event instead of none.
    event = FOCAL_ALPHA * (1 - probability) ** FOCAL_GAMMA * -F.logsigmoid(logits)
    none = (1 - FOCAL_ALPHA) * probability**FOCAL_GAMMA * -F.logsigmoid(-logits)
    distance = (segments[:, None] - targets[None]).abs().sum(-1)
    overlap = generalised_iou(start_end(segments)[:, None], start_end(targets)[None])
    return weights.of_class * (event - none)[:, None] + weights.of_l1 * distance - weights.of_giou * overlap


def match(logits: Tensor, segments: Tensor, targets: Sequence[Tensor], weights: MatchingWeights) -> Tensor:
    """Assign each event to a query of its own at the least cost; of too many events some have none.

    Args:
        logits: (B, Q).
        segments: (B, Q, 2) centre and length.
        targets: For each of B videos (n, 2).

    Returns:
        (m, 3) int64 on the CPU: video, query, and the event counted within its video; sorted by video and query.
    """
    found = [np.zeros((0, 3), dtype=np.int64)]
    for video, own in enumerate(targets):
        cost = matching_cost(logits[video], segments[video], own, weights).double().cpu().numpy()
        query, event = linear_sum_assignment(np.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=-1e6))
        found.append(np.stack([np.full_like(query, video), query, event], axis=1))
    return torch.from_numpy(np.concatenate(found).astype(np.int64))
