"""Validation during training: can events of held-out clips be told from one another, and from their hard negatives?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from figclip_cli.adapt.layout import Layout
from figclip_cli.adapt.objective import clip_views
from figclip_cli.adapt.texts import MISSING
from figclip_cli.models.contextualizer import VideoContextualizer


@dataclass(frozen=True)
class EventScores:
    """What is measured of held-out events; R rows, one per event that has a prompt.

    Attributes:
        views: By ``clip`` and ``vc``, (R, D) unit-length features of events.
        texts: (R, D) unit-length features of their prompts.
        text_numbers: (R,) integers, equal where two prompts are.
        margins: By view, for each negative of each event: similarity to the prompt minus that to the negative.
        margin_kinds: The kind of each of these negatives, as a number.
        margin_rows: The event of each of these negatives.
    """

    views: dict[str, Tensor]
    texts: Tensor
    text_numbers: Tensor
    margins: dict[str, Tensor]
    margin_kinds: Tensor
    margin_rows: Tensor


@torch.no_grad()
def score_events(
    features: Tensor, layout: Layout, texts: Tensor, contextualizer: VideoContextualizer | None
) -> EventScores:
    """Score the events of some clips.

    Args:
        features: (F, D) raw frame features.
        layout: Where they belong, on the features' device.
        texts: (U, D) unit-length features of the layout's texts.
    """
    views = clip_views(features, layout, contextualizer).events  # (B, P, D) each
    present = layout.positives != MISSING  # (B, P)
    own = layout.positives[present]  # (R,)
    negatives = layout.negatives[present]  # (R, N)
    there = negatives != MISSING
    rows = torch.arange(len(own), device=own.device)[:, None].expand_as(negatives)[there]  # (M,)
    margins, kept = {}, {}
    for name, view in views.items():
        event = view[present].float()  # (R, D)
        to_own = (event * texts[own]).sum(-1)  # (R,)
        margins[name] = (to_own[rows] - (event[rows] * texts[negatives[there]]).sum(-1)).cpu()
        kept[name] = event.cpu()
    text_numbers = layout.text_rows[own.cpu()]
    kinds = layout.kinds[present][there]
    return EventScores(kept, texts[own].cpu(), text_numbers, margins, kinds.cpu(), rows.cpu())


def validation_metrics(parts: Iterable[EventScores], kinds: Sequence[str]) -> dict[str, float]:
    """Return the metrics of all held-out events together.

    Retrieval ranks, for each event's prompt, all held-out events (t2v). Events of an equal prompt do not count as
    wrong; of the others, one that scores the same counts as half. A negative is told when the event's prompt scores
    higher; ties are not told. ``hard_negative_accuracy`` is the share of events whose every negative is told.

    Args:
        parts: Scores of the clips, a part at a time.
        kinds: Names of the kinds of negatives, by number.

    Returns:
        Per view (``vc_`` marks the contextualizer's): ``event_recall_at_1`` and ``_at_5``, ``event_mrr`` (mean
        reciprocal rank), ``hard_negative_accuracy``, and ``told/KIND``, the share of negatives told. All are from 0
        to 1.
    """
    scores = list(parts)
    texts = torch.cat([one.texts for one in scores])  # (R, D)
    numbers = torch.cat([one.text_numbers for one in scores])  # (R,)
    counts = [len(one.texts) for one in scores]
    firsts = [sum(counts[:i]) for i in range(len(counts))]
    margin_rows = torch.cat([one.margin_rows + first for one, first in zip(scores, firsts, strict=True)])
    margin_kinds = torch.cat([one.margin_kinds for one in scores])
    metrics: dict[str, float] = {}
    for view in scores[0].views:
        prefix = "" if view == "clip" else f"{view}_"
        ranks = event_ranks(texts, torch.cat([one.views[view] for one in scores]), numbers)
        metrics[f"{prefix}event_recall_at_1"] = float((ranks < 1).double().mean())
        metrics[f"{prefix}event_recall_at_5"] = float((ranks < 5).double().mean())
        metrics[f"{prefix}event_mrr"] = float((1 / (ranks + 1)).mean())
        told = torch.cat([one.margins[view] for one in scores]) > 0
        if len(told):
            metrics |= {f"{prefix}{name}": value for name, value in _told(told, margin_rows, margin_kinds, kinds)}
    return metrics


def _told(told: Tensor, rows: Tensor, kind_numbers: Tensor, kinds: Sequence[str]) -> Iterable[tuple[str, float]]:
    events = torch.unique(rows)
    missed = torch.unique(rows[~told])
    yield "hard_negative_accuracy", 1.0 - len(missed) / len(events)
    for number, kind in enumerate(kinds):
        of_kind = told[kind_numbers == number]
        if len(of_kind):
            yield f"told/{kind}", float(of_kind.double().mean())


def event_ranks(texts: Tensor, events: Tensor, numbers: Tensor, block: int = 1024) -> Tensor:
    """Return the 0-based rank of each text's own event, (R,) float64.

    Args:
        texts: (R, D) unit-length.
        events: (R, D) unit-length; event i belongs to text i.
        numbers: (R,) integers; events whose text is equal are not counted.
        block: Texts scored at once.
    """
    ranks = torch.empty(len(texts), dtype=torch.float64)
    for start in range(0, len(texts), block):
        part = slice(start, start + block)
        scores = texts[part] @ events.T  # (block, R)
        own = scores[torch.arange(len(scores)), torch.arange(start, start + len(scores))][:, None]
        other = numbers[part, None] != numbers[None, :]
        higher = ((scores > own) & other).sum(1).double()
        equal = ((scores == own) & other).sum(1).double()
        ranks[part] = higher + 0.5 * equal
    return ranks
