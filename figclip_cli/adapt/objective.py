"""The four contrastive terms of the method (FiGCLIP, section 3.3), from features to one scalar.

    total = CLIP-event + VC-event + w (CLIP-video + VC-video),  w = 0.25

Hard negatives enter the two event terms. Shape letters: B clips, P events, T frames, N negatives, D width,
R rows that have a prompt (R <= B P).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from figclip_kernels import contrastive_loss
from torch import Tensor

from figclip_cli.adapt.data import MISSING
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.pooling import pool_frames

MAX_LOGIT_SCALE = 100.0


@dataclass(frozen=True)
class Terms:
    """Loss of a step.

    Attributes:
        total: Scalar with gradients.
        parts: Unweighted detached value of each term by name.
    """

    total: Tensor
    parts: dict[str, Tensor]


def objective(
    features: Tensor,
    contextualizer: VideoContextualizer | None,
    *,
    text_table: Tensor,
    positives: Tensor,
    negatives: Tensor,
    logit_scale: float,
    video_weight: float,
) -> Terms:
    """Compute the total loss of a batch.

    Args:
        features: (B, P, T, D) raw frame features, with gradients.
        contextualizer: The VC; without it its two terms are left out.
        text_table: (n, D) unit-length text features, frozen.
        positives: (B, P) rows of the table, -1 where an event has no prompt.
        negatives: (B, P, N) rows of the table, -1 pads.
        logit_scale: Inverse temperature; at most 100 is used.
        video_weight: Weight of the video terms.
    """
    scale = min(logit_scale, MAX_LOGIT_SCALE)
    present = positives != MISSING  # (B, P)
    event_texts = text_table[positives.clamp_min(0)]  # (B, P, D)
    video_texts = F.normalize((event_texts * present[..., None]).sum(1), dim=-1)  # (B, D)

    event_views = [pool_frames(features)]  # (B, P, D)
    video_views = [pool_frames(features.flatten(1, 2))]  # (B, D)
    names = ["clip"]
    if contextualizer is not None:
        video_token, event_tokens = contextualizer(features, present)
        event_views.append(F.normalize(event_tokens, dim=-1))
        video_views.append(F.normalize(video_token, dim=-1))
        names.append("vc")

    private = negatives[present]  # (R, N)
    event = contrastive_loss(
        [view[present] for view in event_views],
        event_texts[present],
        negatives=text_table[private.clamp_min(0)],
        negatives_mask=private != MISSING,
        ids=positives[present],  # equal texts have equal rows in the table
        logit_scale=scale,
    )
    video = contrastive_loss(video_views, video_texts, ids=_equal_rows(positives), logit_scale=scale)
    parts = {f"{name}_event": event.per_view[i] for i, name in enumerate(names)}
    parts |= {f"{name}_video": video.per_view[i] for i, name in enumerate(names)}
    return Terms(event.loss + video_weight * video.loss, parts)


def _equal_rows(positives: Tensor) -> Tensor:
    """Return (B,) integers, equal where two clips have the same prompts throughout."""
    return torch.unique(positives, dim=0, return_inverse=True)[1]
