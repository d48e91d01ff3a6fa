"""Losses that hold the adapted image tower to its base, so that it keeps what CLIP knows.

``feature`` is the mean cosine distance between adapted and base features of the same frames (feature distillation).
``geometry`` is the mean squared difference of the cosine similarities between all pairs of frames (relational
distillation, arXiv 1904.05068): features may turn, but together. ``video`` is the mean cosine distance between the
pooled features of whole clips: events may move apart within a clip, as the method wants them to, while the clip as a
whole stays where plain captions find it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.adapt.layout import Layout
from figclip_cli.adapt.objective import clip_views


def anchor_loss(
    adapted: Tensor, base: Tensor, weights: Mapping[str, float], layout: Layout
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of anchor losses, with gradients, and each one's unweighted detached value.

    Args:
        adapted: (F, D) raw features of frames.
        base: (F, D) raw features of the same frames by the base model.
        weights: Of ``feature``, ``geometry`` and ``video``; 0 leaves one out.
        layout: Which frames are of which clip.
    """
    base = base.detach()
    unit, unit_base = F.normalize(adapted, dim=-1), F.normalize(base, dim=-1)  # (F, D)
    losses: dict[str, Tensor] = {}
    if weights.get("feature"):
        losses["feature"] = (1.0 - (unit * unit_base).sum(-1)).mean()
    if weights.get("geometry") and len(unit) > 1:
        change = unit @ unit.T - unit_base @ unit_base.T  # (F, F); its diagonal is zero
        losses["geometry"] = change.square().sum() / (len(unit) * (len(unit) - 1))
    if weights.get("video"):
        clips, base_clips = (clip_views(frames, layout, None).videos["clip"] for frames in (adapted, base))  # (B, D)
        losses["video"] = (1.0 - (clips * base_clips).sum(-1)).mean()
    total = sum((weights[kind] * loss for kind, loss in losses.items()), torch.zeros((), device=adapted.device))
    return total, {f"anchor_{kind}": loss.detach() for kind, loss in losses.items()}
