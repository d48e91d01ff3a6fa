"""The texts of each clip, as row numbers: what a batch refers to instead of strings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.sources import Source
from figclip_cli.errors import InputError, nearest
from figclip_cli.prompts import Negative, PromptEvent

MISSING = -1


class ClipRef(NamedTuple):
    """A clip of a source; two sources may both have a clip of one id."""

    source: int
    clip_id: str


@dataclass(frozen=True)
class ClipTexts:
    """The texts of one annotation of a clip, as rows of the run's table of distinct texts.

    Attributes:
        positives: (P,) int64, the prompt of each event; -1 where an event has none.
        negatives: (P, N) int64; -1 pads.
        kinds: (P, N) int64, the kind of each negative as a number; -1 pads.
    """

    positives: Tensor
    negatives: Tensor
    kinds: Tensor


def kinds_of_negatives(sources: Sequence[Source], options: AdaptOptions) -> tuple[str, ...]:
    """Return the kinds of negatives that are used, sorted.

    Raises:
        InputError: A kind that was asked for occurs nowhere.
    """
    if not options.hard_negatives:
        return ()
    present = {n.kind for source in sources for event in source.events for n in event.negatives}
    absent = [kind for kind in options.negative_kinds if kind not in present]
    if absent:
        raise InputError(f"the prompts have no negatives of the kind '{absent[0]}'", nearest(absent[0], present))
    return tuple(sorted(set(options.negative_kinds) or present))


def used_negatives(event: PromptEvent, kinds: Sequence[str]) -> list[Negative]:
    """Return an event's negatives of these kinds, without any that says what the prompt says."""
    return [one for one in event.negatives if one.kind in kinds and one.text != event.text]


def texts_of(sources: Sequence[Source], kinds: Sequence[str]) -> list[str]:
    """Return every text that training and validation need, with repetitions."""
    texts = []
    for source in sources:
        for event in source.events:
            texts.append(event.text)
            texts += [negative.text for negative in used_negatives(event, kinds)]
    return texts


def annotations_by_clip(
    sources: Sequence[Source], kinds: Sequence[str], rows: Callable[[Iterable[str]], Tensor]
) -> dict[ClipRef, list[ClipTexts]]:
    """Group prompts into one :class:`ClipTexts` per annotation, in annotation order.

    The frames have as many events as the annotation.

    Args:
        kinds: Kinds of negatives to use, in the order of their numbers.
        rows: Gives the row numbers of texts.
    """
    made: dict[ClipRef, list[ClipTexts]] = {}
    for number, source in enumerate(sources):
        grouped: dict[str, dict[int, list[PromptEvent]]] = defaultdict(lambda: defaultdict(list))
        for event in source.events:
            grouped[event.clip_id][event.annotation_index].append(event)
        for clip_id, by_annotation in grouped.items():
            annotations = [by_annotation[index] for index in sorted(by_annotation)]
            made[ClipRef(number, clip_id)] = [_clip_texts(one, source, kinds, rows) for one in annotations]
    return made


def _clip_texts(
    events: Sequence[PromptEvent], source: Source, kinds: Sequence[str], rows: Callable[[Iterable[str]], Tensor]
) -> ClipTexts:
    count = source.frames.recipe.events
    negatives = {event.event_index: used_negatives(event, kinds) for event in events}
    width = max(map(len, negatives.values()))
    made = ClipTexts(*(torch.full(shape, MISSING) for shape in ((count,), (count, width), (count, width))))
    for event in events:
        own = negatives[event.event_index]
        made.positives[event.event_index] = rows([event.text])[0]
        made.negatives[event.event_index, : len(own)] = rows(one.text for one in own)
        made.kinds[event.event_index, : len(own)] = torch.tensor([kinds.index(one.kind) for one in own])
    return made
