"""What a head is told: of each decoder layer which queries have events, where these are, and how many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.heads.dense.head import Found
from figclip_cli.heads.dense.matching import FOCAL_ALPHA, FOCAL_GAMMA, MatchingWeights, match
from figclip_cli.heads.dense.segments import generalised_iou, start_end

CLASS, L1, GIOU, COUNT, CAPTION = PARTS = ("class", "l1", "giou", "count", "caption")


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the focal loss of each logit (Lin et al., ICCV 2017), alpha 0.25 and gamma 2, without a reduction.

    Args:
        logits: Of any shape.
        labels: Of the same shape, 0 or 1, float.
    """
    probability = logits.sigmoid()
    wrong = probability * (1 - labels) + (1 - probability) * labels
    alpha = FOCAL_ALPHA * labels + (1 - FOCAL_ALPHA) * (1 - labels)
    plain = F.binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return alpha * wrong**FOCAL_GAMMA * plain


def count_targets(targets: Sequence[Tensor], most: int) -> Tensor:
    """Return how many events videos have, at most ``most``, (B,) int64."""
    return torch.tensor([min(len(own), most) for own in targets], dtype=torch.int64)


def set_losses(found: Found, targets: Sequence[Tensor], weights: MatchingWeights) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses of one decoder layer, without their weights, and who is matched.

    Sums over events are divided by the number of events, as is the focal loss, which sums over all queries.

    Args:
        found: What the layer says of B videos.
        targets: For each video (n, 2) centre and length.

    Returns:
        The losses by name, and (m, 3) as :func:`.matching.match` gives it.
    """
    matched = match(found.logits, found.segments, targets, weights)
    video, query, event = (column.to(found.logits.device) for column in matched.unbind(1))
    starts = torch.tensor([0, *(len(own) for own in targets)], device=video.device).cumsum(0)
    wanted = torch.cat(list(targets))[starts[video] + event]
    labels = torch.zeros_like(found.logits)
    labels[video, query] = 1.0
    segments = found.segments[video, query]
    events = max(1, len(wanted))
    counts = count_targets(targets, found.counts.shape[1] - 1).to(video.device)
    losses = {
        CLASS: focal_loss(found.logits, labels).sum() / events,
        L1: (segments - wanted).abs().sum() / events,
        GIOU: (1 - generalised_iou(start_end(segments), start_end(wanted))).sum() / events,
        COUNT: F.cross_entropy(found.counts, counts),
    }
    return losses, matched
