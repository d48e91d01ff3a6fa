"""Clips that have both frames and prompts, and batches of them.

What a batch holds depends on (seed, epoch) alone: the order of clips and, where a clip was annotated more than
once, the choice of annotation. Worker processes only read.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from figclip_cli.errors import InputError
from figclip_cli.frames import FramesReader
from figclip_cli.models.text_features import TextFeatures
from figclip_cli.prompts import PromptEvent, PromptsFile

MISSING = -1
_TIME_TOLERANCE_SECONDS = 0.5


@dataclass(frozen=True)
class Coverage:
    """How much of the annotation has frames.

    Attributes:
        prompts: Clips in the prompts file.
        frames: Clips in the frames file whose status is ok.
        not_ok: Clips in both whose frames are short or failed.
        used: Clips in both, which are trained on.
    """

    prompts: int
    frames: int
    not_ok: int
    used: int

    def describe(self) -> str:
        """Return one line for a person."""
        line = f"{self.used} of {self.prompts} annotated clips have frames ({100 * self.used / self.prompts:.1f} %)"
        return line + (f"; {self.not_ok} more are short or failed" if self.not_ok else "")


@dataclass(frozen=True)
class ClipTexts:
    """The texts of one annotation of a clip, as rows of the text table.

    Attributes:
        positives: (P,) int64, the prompt of each event; -1 where an event has none.
        negatives: (P, N) int64; -1 pads.
    """

    positives: Tensor
    negatives: Tensor


@dataclass(frozen=True)
class Batch:
    """One step's clips.

    Attributes:
        clip_ids: B clip ids.
        frames: (B, P, T, size, size, 3) uint8.
        positives: (B, P) int64 rows of the text table, -1 where an event has no prompt.
        negatives: (B, P, N) int64 rows, -1 where there is no negative.
    """

    clip_ids: tuple[str, ...]
    frames: Tensor
    positives: Tensor
    negatives: Tensor


def clips_in_common(frames: FramesReader, prompts: PromptsFile) -> tuple[list[str], Coverage]:
    """Return the sorted clip ids that have ok frames and prompts.

    Raises:
        InputError: There is none.
    """
    annotated = {event.clip_id for event in prompts.events}
    usable = set(frames.clip_ids)
    not_ok = sum(clip.clip_id in annotated and clip.status != "ok" for clip in frames.clips)
    common = sorted(annotated & usable)
    if not common:
        raise InputError(
            f"frames and prompts have no clip in common: {_example(usable)} in the frames, "
            f"{_example(annotated)} in the prompts",
            "clip ids are the video files' names without ending; both files must speak of the same clips",
        )
    return common, Coverage(len(annotated), len(usable), not_ok, len(common))


def _example(clip_ids: set[str]) -> str:
    return f"'{min(clip_ids)}' and {len(clip_ids) - 1} more" if clip_ids else "no usable clip"


def check_event_times(frames: FramesReader, events: Sequence[PromptEvent], clip_ids: Sequence[str]) -> None:
    """Refuse prompts of times at which their frames were not taken.

    Event e of a clip is trained on the frames of its part e, as in VidSitu, whose events are the five parts of a clip.
    Annotation that names other times would be trained on other frames than it speaks of.

    Raises:
        InputError: A frame lies outside its event's times by more than half a second.
    """
    used = set(clip_ids)
    outside: list[str] = []
    timed = [e for e in events if e.clip_id in used and e.start_seconds is not None and e.end_seconds is not None]
    for event in timed:
        pts = frames.pts_seconds(event.clip_id)
        if event.event_index < len(pts):
            taken = pts[event.event_index] - frames.row(event.clip_id).start_seconds
            assert event.start_seconds is not None and event.end_seconds is not None
            early, late = event.start_seconds - _TIME_TOLERANCE_SECONDS, event.end_seconds + _TIME_TOLERANCE_SECONDS
            if taken.min() < early or taken.max() > late:
                outside.append(
                    f"event {event.event_index} of clip {event.clip_id} is {event.start_seconds:g} to "
                    f"{event.end_seconds:g} s, its frames are of {taken.min():.2f} to {taken.max():.2f} s"
                )
    if outside:
        raise InputError(
            f"{len(outside)} of {len(timed)} events have frames of other times: {outside[0]}",
            "extract each event's part with --segments, or the clip with as many equal --events as the annotation has",
        )


def texts_of(events: Sequence[PromptEvent], *, hard_negatives: bool) -> list[str]:
    """Return every text that training needs, with repetitions."""
    texts = [event.text for event in events]
    if hard_negatives:
        texts += [negative.text for event in events for negative in event.negatives]
    return texts


def annotations_by_clip(
    events: Sequence[PromptEvent], features: TextFeatures, *, events_per_clip: int, hard_negatives: bool
) -> dict[str, list[ClipTexts]]:
    """Group prompts into one :class:`ClipTexts` per annotation, in annotation order.

    Raises:
        InputError: A prompt names an event that the frames do not have.
    """
    grouped: dict[str, dict[int, list[PromptEvent]]] = defaultdict(lambda: defaultdict(list))
    for event in events:
        if event.event_index >= events_per_clip:
            raise InputError(
                f"prompts name event {event.event_index} of clip {event.clip_id}, frames have {events_per_clip}",
                "extract the frames with as many --events as the annotation has",
            )
        grouped[event.clip_id][event.annotation_index].append(event)
    width = max((len(event.negatives) for event in events), default=0) if hard_negatives else 0
    return {
        clip_id: [_clip_texts(annotations[index], features, events_per_clip, width) for index in sorted(annotations)]
        for clip_id, annotations in grouped.items()
    }


def _clip_texts(events: Sequence[PromptEvent], features: TextFeatures, events_per_clip: int, width: int) -> ClipTexts:
    positives = torch.full((events_per_clip,), MISSING)
    negatives = torch.full((events_per_clip, width), MISSING)
    for event in events:
        positives[event.event_index] = features.row_of[event.text]
        rows = features.rows(negative.text for negative in event.negatives[:width])
        negatives[event.event_index, : len(rows)] = rows
    return ClipTexts(positives, negatives)


class ClipDataset(Dataset[tuple[str, Tensor, Tensor, Tensor]]):
    """Clips for one epoch; the frames file is opened in the process that reads it."""

    def __init__(self, frames: FramesReader, texts: dict[str, list[ClipTexts]], seed: int) -> None:
        self._frames = frames
        self._texts = texts
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, clip_id: str) -> tuple[str, Tensor, Tensor, Tensor]:
        annotations = self._texts[clip_id]
        chosen = annotations[stable_integer(self._seed, self.epoch, clip_id) % len(annotations)]
        return clip_id, torch.from_numpy(self._frames.read(clip_id)), chosen.positives, chosen.negatives


class ClipBatches:
    """All batches of an epoch, in an order that (seed, epoch) decides."""

    def __init__(self, dataset: ClipDataset, clip_ids: Sequence[str], *, size: int, seed: int, workers: int) -> None:
        self._dataset = dataset
        self._clip_ids = list(clip_ids)
        self._size = size
        self._seed = seed
        self._workers = workers

    def __len__(self) -> int:
        return len(self.order(0))

    def order(self, epoch: int) -> list[list[str]]:
        """Return the clip ids of each batch. A last batch of one clip joins the batch before it."""
        generator = np.random.default_rng(stable_integer(self._seed, epoch, "order"))
        shuffled = [self._clip_ids[i] for i in generator.permutation(len(self._clip_ids))]
        batches = [shuffled[i : i + self._size] for i in range(0, len(shuffled), self._size)]
        if len(batches) > 1 and len(batches[-1]) == 1:
            single = batches.pop()
            batches[-1] += single
        return batches

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """Yield the batches of an epoch."""
        self._dataset.epoch = epoch
        yield from DataLoader(
            self._dataset,
            batch_sampler=self.order(epoch),
            num_workers=self._workers,
            multiprocessing_context="spawn" if self._workers else None,
            collate_fn=_collate,
        )


def _collate(items: list[tuple[str, Tensor, Tensor, Tensor]]) -> Batch:
    clip_ids, frames, positives, negatives = zip(*items, strict=True)
    return Batch(tuple(clip_ids), torch.stack(frames), torch.stack(positives), torch.stack(negatives))


def stable_integer(*parts: object) -> int:
    """Return 63 bits that depend on ``parts`` alone, not on the process or the platform."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
