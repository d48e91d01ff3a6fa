"""Where the frames and texts of a batch of clips belong, as small tensors made on the CPU.

Shape letters: B clips, P events, T frames an event, N negatives, R events that have a prompt, U distinct texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from figclip_cli.adapt.texts import MISSING, ClipTexts
from figclip_cli.frames import SamplingRecipe


@dataclass(frozen=True)
class Layout:
    """Where frames and texts belong; the same in every process of a run.

    What would make a GPU wait for the CPU in a step, such as which events have a prompt, is worked out beforehand.

    Attributes:
        clip_ids: B clip ids.
        frame_index: (B, P, T) int64 rows of the batch's frames; -1 where a clip has fewer events or frames.
        positives: (B, P) int64 rows of ``text_rows``, -1 where an event has no prompt. Equal texts have equal rows.
        negatives: (B, P, N) int64 rows of ``text_rows``, -1 where there is no negative.
        kinds: (B, P, N) int64 number of each negative's kind, -1 where there is no negative.
        events: (R,) int64, which of the B P events have a prompt, counted through.
        text_rows: (U,) int64 rows of the run's table of texts that the batch needs, sorted and distinct.
        clip_numbers: (B,) int64, equal where two clips have one id.
        prompt_numbers: (B,) int64, equal where two clips have the same prompts, in any order: their mean is one text.
        is_dense: No clip has fewer events or frames than another: ``frame_index`` counts from 0.
    """

    clip_ids: tuple[str, ...]
    frame_index: Tensor
    positives: Tensor
    negatives: Tensor
    kinds: Tensor
    events: Tensor
    text_rows: Tensor
    clip_numbers: Tensor
    prompt_numbers: Tensor
    is_dense: bool

    def to(self, device: torch.device) -> Layout:
        """Return the layout with its tensors on a device; ``text_rows`` stay, they look things up on the CPU."""
        moving = {k: v for k, v in vars(self).items() if isinstance(v, Tensor) and k != "text_rows"}
        moved: dict[str, Any] = {k: v.to(device, non_blocking=True) for k, v in moving.items()}
        return replace(self, **moved)


def lay_out(clip_ids: Sequence[str], recipes: Sequence[SamplingRecipe], texts: Sequence[ClipTexts]) -> Layout:
    """Return the layout of a batch.

    Args:
        clip_ids: B clip ids.
        recipes: How the frames of each clip were sampled; its frames come in this order, one clip after another.
        texts: The texts of each clip.
    """
    clips, events = len(clip_ids), max(recipe.events for recipe in recipes)
    width = max(one.negatives.shape[1] for one in texts)
    index = torch.full((clips, events, max(recipe.frames_per_event for recipe in recipes)), MISSING)
    positives = torch.full((clips, events), MISSING)
    negatives, kinds = (torch.full((clips, events, width), MISSING) for _ in range(2))
    first = 0
    for row, (recipe, own) in enumerate(zip(recipes, texts, strict=True)):
        count, of_event = recipe.events, recipe.frames_per_event
        index[row, :count, :of_event] = first + torch.arange(recipe.frames).view(count, of_event)
        first += recipe.frames
        positives[row, :count] = own.positives
        negatives[row, :count, : own.negatives.shape[1]] = own.negatives
        kinds[row, :count, : own.kinds.shape[1]] = own.kinds
    text_rows, (positives, negatives) = _compact(positives, negatives)
    number_of = {clip_id: number for number, clip_id in enumerate(dict.fromkeys(clip_ids))}
    return Layout(
        clip_ids=tuple(clip_ids),
        frame_index=index,
        positives=positives,
        negatives=negatives,
        kinds=kinds,
        events=(positives.flatten() != MISSING).nonzero().flatten(),
        text_rows=text_rows,
        clip_numbers=torch.tensor([number_of[clip_id] for clip_id in clip_ids]),
        prompt_numbers=torch.unique(positives.sort(dim=1).values, dim=0, return_inverse=True)[1],
        is_dense=first == index.numel(),
    )


def _compact(*rows: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return the distinct rows that occur, sorted, and each tensor in terms of their positions; -1 stays."""
    distinct = torch.unique(torch.cat([one.flatten() for one in rows]))
    distinct = distinct[distinct != MISSING]
    return distinct, [torch.where(one == MISSING, MISSING, torch.searchsorted(distinct, one)) for one in rows]
