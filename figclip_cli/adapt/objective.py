"""The four contrastive terms of the method (FiGCLIP, section 3.3), from features to one scalar.

    total = sum of w_term * term over CLIP-event, VC-event (w 1) and CLIP-video, VC-video (w 0.25)

Hard negatives enter the two event terms. Shape letters: B clips, P events, T frames, N negatives, D width, F frames,
U distinct texts, R rows that have a prompt (R <= B P).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from figclip_kernels import contrastive_loss
from torch import Tensor

from figclip_cli.adapt.layout import Layout
from figclip_cli.adapt.texts import MISSING
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.pooling import pool_present_frames

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


@dataclass(frozen=True)
class Views:
    """What is scored against the texts of a batch.

    Attributes:
        events: By ``clip`` and ``vc``, (B, P, D) unit-length features of events.
        videos: By ``clip`` and ``vc``, (B, D) unit-length features of clips.
    """

    events: dict[str, Tensor]
    videos: dict[str, Tensor]


def clip_views(features: Tensor, layout: Layout, contextualizer: VideoContextualizer | None) -> Views:
    """Return the features of events and clips.

    Args:
        features: (F, D) raw frame features.
        layout: On the features' device.
        contextualizer: The VC; without it there are only ``clip`` views.
    """
    there = layout.frame_index != MISSING  # (B, P, T)
    if layout.is_dense:
        frames = features.unflatten(0, layout.frame_index.shape)  # (B, P, T, D)
    else:
        frames = features[layout.frame_index.clamp_min(0)]  # (B, P, T, D)
    events = {"clip": pool_present_frames(frames, there)}  # (B, P, D)
    videos = {"clip": pool_present_frames(frames.flatten(1, 2), there.flatten(1, 2))}  # (B, D)
    if contextualizer is not None:
        video_token, event_tokens = contextualizer(frames, there.any(-1), there)
        events["vc"] = F.normalize(event_tokens, dim=-1)
        videos["vc"] = F.normalize(video_token, dim=-1)
    return Views(events, videos)


def objective(
    features: Tensor,
    contextualizer: VideoContextualizer | None,
    *,
    layout: Layout,
    texts: Tensor,
    logit_scale: Tensor | float,
    weights: Mapping[str, float],
    natural_negatives: bool = True,
) -> Terms:
    """Compute the total loss of a batch.

    Args:
        features: (F, D) raw frame features, with gradients.
        contextualizer: The VC; without it its two terms are left out.
        layout: Where frames and texts belong, on the features' device.
        texts: (U, D) unit-length features of the batch's distinct texts.
        logit_scale: Inverse temperature, exponentiated. A number is used up to 100; a tensor, which asks for a
            gradient, as it is: :func:`figclip_cli.adapt.step.clamp_temperature` keeps it in bounds.
        weights: Of ``clip_event``, ``vc_event``, ``clip_video`` and ``vc_video``; 0 leaves a term out.
        natural_negatives: Whether other events of the same clip are negatives in the event terms.
    """
    views = clip_views(features, layout, contextualizer)
    terms = contrastive_terms(
        views, layout, texts, logit_scale=logit_scale, weights=weights, natural_negatives=natural_negatives
    )
    # A term of weight zero leaves its features without a gradient; the towers want one all the same.
    return replace(terms, total=terms.total + features.sum() * 0.0)


def contrastive_terms(
    views: Views,
    layout: Layout,
    texts: Tensor,
    *,
    logit_scale: Tensor | float,
    weights: Mapping[str, float],
    natural_negatives: bool = True,
) -> Terms:
    """Score views against texts; the second half of :func:`objective`, with the same arguments.

    Args:
        views: What :func:`clip_views` returns.
    """
    # A trained scale is kept in bounds after each step: a bound in here would have no gradient at the bound.
    if isinstance(logit_scale, Tensor):
        scale = logit_scale
    else:
        scale = torch.full((), min(logit_scale, MAX_LOGIT_SCALE), device=texts.device)
    present = layout.positives != MISSING  # (B, P)
    event_texts = texts[layout.positives.clamp_min(0)]  # (B, P, D)
    total: Tensor | None = None
    parts: dict[str, Tensor] = {}
    names = [name for name in views.events if weights[f"{name}_event"]]
    if names:
        private = layout.negatives.flatten(0, 1)[layout.events]  # (R, N)
        event = contrastive_loss(
            [views.events[name].flatten(0, 1)[layout.events] for name in names],
            event_texts.flatten(0, 1)[layout.events],
            negatives=texts[private.clamp_min(0)],
            negatives_mask=private != MISSING,
            ids=_event_ids(layout, natural_negatives).flatten(0, 1)[layout.events],
            weights=[weights[f"{name}_event"] for name in names],
            logit_scale=scale,
        )
        total = event.loss
        parts |= {f"{name}_event": event.per_view[i] for i, name in enumerate(names)}
    names = [name for name in views.videos if weights[f"{name}_video"]]
    if names:
        video = contrastive_loss(
            [views.videos[name] for name in names],
            F.normalize((event_texts * present[..., None]).sum(1), dim=-1),  # (B, D)
            ids=torch.stack([layout.prompt_numbers, layout.clip_numbers], dim=1),
            weights=[weights[f"{name}_video"] for name in names],
            logit_scale=scale,
            plus=total,
        )
        total = video.loss
        parts |= {f"{name}_video": video.per_view[i] for i, name in enumerate(names)}
    assert total is not None, "options without a term of weight above 0 are refused"
    return Terms(total, parts)


def _event_ids(layout: Layout, natural_negatives: bool) -> Tensor:
    """Return (B, P, 2) integers; two rows that are equal in a column are not each other's negative.

    Column 0 is the text. Column 1 is the clip where other events of a clip are no negatives, else the event of the
    clip, which differs from another row only where a clip is in the batch twice.
    """
    clips, events = layout.positives.shape
    of_clip = layout.clip_numbers[:, None].expand(clips, events)
    if natural_negatives:
        of_clip = of_clip * events + torch.arange(events, device=of_clip.device)
    return torch.stack([layout.positives, of_clip], dim=-1)
