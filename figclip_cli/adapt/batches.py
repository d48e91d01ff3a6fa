"""Batches: which clips each step sees, and their frames and texts as tensors.

What a step sees depends on (seed, epoch, step) alone: the order of clips, which of them a fractional weight shows,
and, where a clip was annotated more than once, the choice of annotation. Worker processes only read frames.

Shape letters: B clips, P events, T frames an event, N negatives, S pixels.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from figclip_cli.adapt.chance import stable_integer
from figclip_cli.adapt.layout import Layout, lay_out
from figclip_cli.adapt.options import steps_of_epoch
from figclip_cli.adapt.sources import Source
from figclip_cli.adapt.texts import ClipRef, ClipTexts
from figclip_cli.errors import FigclipError


@dataclass(frozen=True)
class JpegFrames:
    """Frames as they are stored: JPEG bytes one after another, (bytes,) uint8, and the length of each."""

    data: Tensor
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Batch:
    """One step's clips, as one process of a run sees them.

    Attributes:
        layout: Of all clips of the step.
        frames: This process's share of the frames, (F, S, S, 3) uint8, or as JPEG bytes.
        frame_counts: How many frames each process has, in order.
        epoch: The epoch, from 0.
        number: The step's number in its epoch, from 0.
        texts: (U, D) unit-length features of the layout's texts, where they were known before the step.
    """

    layout: Layout
    frames: Tensor | JpegFrames
    frame_counts: tuple[int, ...]
    epoch: int
    number: int
    texts: Tensor | None = None


Frames = Tensor | JpegFrames | FigclipError


class FrameDataset(Dataset[Frames]):
    """Frames of a clip; the files are opened in the process that reads them.

    An error on purpose is handed over as it is, because a worker's exceptions arrive as text.
    """

    def __init__(self, sources: Sequence[Source], *, as_jpeg: bool) -> None:
        self._readers = [source.frames for source in sources]
        self._as_jpeg = as_jpeg

    def __getitem__(self, ref: ClipRef) -> Frames:
        """Return (frames, S, S, 3) uint8, the stored JPEG bytes of each frame, or what went wrong."""
        reader = self._readers[ref.source]
        try:
            if self._as_jpeg:
                pictures = reader.stored(ref.clip_id)
                return JpegFrames(
                    torch.frombuffer(bytearray(b"".join(pictures)), dtype=torch.uint8), _lengths(pictures)
                )
            return torch.from_numpy(reader.read(ref.clip_id)).flatten(0, 1)
        except FigclipError as error:
            return type(error)(f"clip {ref.clip_id}: {error.message}", error.hint)

    def join(self, items: Sequence[Frames]) -> Tensor | JpegFrames | FigclipError:
        """Join the frames of several clips."""
        failed = next((item for item in items if isinstance(item, FigclipError)), None)
        if failed is not None:
            return failed
        stored = [item for item in items if isinstance(item, JpegFrames)]
        if self._as_jpeg:
            data = torch.cat([torch.empty(0, dtype=torch.uint8), *(item.data for item in stored)])
            return JpegFrames(data, tuple(length for item in stored for length in item.lengths))
        size = self._readers[0].recipe.size
        pixels = [item for item in items if isinstance(item, Tensor)]
        return torch.cat([torch.empty(0, size, size, 3, dtype=torch.uint8), *pixels])


def _lengths(pictures: Sequence[bytes]) -> tuple[int, ...]:
    return tuple(map(len, pictures))


class Batches:
    """All batches of a run, from any step on.

    Args:
        sources: Where frames are read from.
        texts: Annotations of each clip that is trained on.
        size: Clips of a step, over all processes.
        seed: Decides order and choices.
        rank: Number of this process.
        processes: How many share each step.
        workers: Processes that read frames; 0 reads them in this one.
        as_jpeg: Hand over JPEG bytes undecoded.
        pin_memory: Put frames where a GPU copies them from without waiting.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        texts: Mapping[ClipRef, Sequence[ClipTexts]],
        *,
        size: int,
        seed: int,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
        as_jpeg: bool = False,
        pin_memory: bool = False,
    ) -> None:
        self._sources, self._texts = sources, texts
        self._size, self._seed = size, seed
        self._rank, self._processes = rank, processes
        self._workers, self._pin_memory = workers, pin_memory
        self._dataset = FrameDataset(sources, as_jpeg=as_jpeg)
        # Asked for by the loader, its plan and the trainer, which may be in neighbouring epochs.
        self._order = lru_cache(maxsize=4)(self._drawn)
        self._passes: DataLoader[Frames] | None = None

    def order(self, epoch: int) -> list[tuple[ClipRef, ...]]:
        """Return the clips of each step of an epoch.

        A step shows no clip id twice, and a last step of one clip joins the last one that does not show it yet.
        """
        return self._order(epoch)

    def _drawn(self, epoch: int) -> list[tuple[ClipRef, ...]]:
        shown = [ref for number, source in enumerate(self._sources) for ref in self._shown(number, source, epoch)]
        generator = np.random.default_rng(stable_integer(self._seed, epoch, "order"))
        waiting = deque(shown[i] for i in generator.permutation(len(shown)))
        batches: list[tuple[ClipRef, ...]] = []
        while waiting:
            batches.append(_take_distinct(waiting, self._size))
        while len(batches) > 1 and len(batches[-1]) == 1:
            earlier = _last_without(batches[:-1], batches[-1][0].clip_id)
            if earlier is None:
                break
            batches[earlier] += batches.pop()
        return batches

    def steps(self, epochs: int) -> int:
        """Return how many steps the first ``epochs`` epochs have."""
        ids = [clip_id for source in self._sources for clip_id in source.clip_ids]
        if len(set(ids)) < len(ids) or any(source.weight != 1 for source in self._sources):
            return sum(len(self._drawn(epoch)) for epoch in range(epochs))
        return epochs * steps_of_epoch(len(ids), self._size)

    def _shown(self, number: int, source: Source, epoch: int) -> list[ClipRef]:
        """Return the clips of a source that an epoch shows, as often as the weight says.

        The part of a weight after the point walks through the clips in an order of its own, and goes on in the next
        epoch where it stopped: every clip has its turn.
        """
        refs = [ClipRef(number, clip_id) for clip_id in source.clip_ids]
        whole, rest = divmod(source.weight, 1)
        first, end = (math.floor(turn * rest * len(refs) + 1e-9) for turn in (epoch, epoch + 1))
        return refs * int(whole) + [self._in_turn(number, refs, place) for place in range(first, end)]

    def _in_turn(self, number: int, refs: Sequence[ClipRef], place: int) -> ClipRef:
        turn, position = divmod(place, len(refs))
        return refs[_permutation(stable_integer(self._seed, number, turn, "weight"), len(refs))[position]]

    def stream(self, epoch: int, number: int, epochs: int) -> Iterator[Batch]:
        """Yield all batches from step ``number`` of ``epoch`` to the end of epoch ``epochs - 1``."""
        plan = _Plan(self, epoch, number, epochs)
        return self._through(plan, self._loader(plan))

    def one_pass(self) -> Iterator[Batch]:
        """Yield the batches of the first epoch; workers stay for the next time."""
        plan = _Plan(self, 0, 0, 1)
        if self._passes is None:
            self._passes = self._loader(plan, stay=True)
        return self._through(plan, self._passes)

    def _loader(self, plan: _Plan, *, stay: bool = False) -> DataLoader[Frames]:
        return DataLoader(
            self._dataset,
            batch_sampler=_Shares(plan, self._share),
            num_workers=self._workers,
            multiprocessing_context="spawn" if self._workers else None,
            collate_fn=self._dataset.join,
            pin_memory=self._pin_memory,
            persistent_workers=stay and self._workers > 0,
        )

    def _through(self, plan: _Plan, loader: DataLoader[Frames]) -> Iterator[Batch]:
        for (epoch, number, refs), frames in zip(plan, loader, strict=True):
            if isinstance(frames, FigclipError):
                raise frames
            counts = tuple(sum(self._frames_of(ref) for ref in self._share(refs, rank)) for rank in self._ranks)
            yield Batch(self.layout(refs, epoch), frames, counts, epoch, number)

    def layout(self, refs: Sequence[ClipRef], epoch: int) -> Layout:
        """Return where the frames and texts of these clips belong."""
        recipes = [self._sources[ref.source].frames.recipe for ref in refs]
        return lay_out([ref.clip_id for ref in refs], recipes, [self._chosen(ref, epoch) for ref in refs])

    def _chosen(self, ref: ClipRef, epoch: int) -> ClipTexts:
        annotations = self._texts[ref]
        return annotations[stable_integer(self._seed, epoch, ref.clip_id) % len(annotations)]

    def _frames_of(self, ref: ClipRef) -> int:
        return self._sources[ref.source].frames.recipe.frames

    @property
    def _ranks(self) -> range:
        return range(self._processes)

    def _share(self, refs: Sequence[ClipRef], rank: int | None = None) -> Sequence[ClipRef]:
        """Return the clips that one process encodes: a stretch of the batch, as equal as can be."""
        rank = self._rank if rank is None else rank
        return refs[len(refs) * rank // self._processes : len(refs) * (rank + 1) // self._processes]


@lru_cache(maxsize=8)
def _permutation(seed: int, count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count)


def _take_distinct(waiting: deque[ClipRef], size: int) -> tuple[ClipRef, ...]:
    """Take the first ``size`` clips of distinct ids; the others stay, in order."""
    batch: dict[str, ClipRef] = {}
    passed: list[ClipRef] = []
    while waiting and len(batch) < size:
        ref = waiting.popleft()
        if ref.clip_id in batch:
            passed.append(ref)
        else:
            batch[ref.clip_id] = ref
    waiting.extendleft(reversed(passed))
    return tuple(batch.values())


def _last_without(batches: Sequence[Sequence[ClipRef]], clip_id: str) -> int | None:
    """Return the number of the last batch that does not show a clip id; None where all do."""
    numbers = reversed(range(len(batches)))
    return next((n for n in numbers if all(ref.clip_id != clip_id for ref in batches[n])), None)


class _Plan:
    """The steps from one on, each as (epoch, number, clips); can be gone through more than once."""

    def __init__(self, batches: Batches, epoch: int, number: int, epochs: int) -> None:
        self._batches, self._epoch, self._number, self._epochs = batches, epoch, number, epochs

    def __iter__(self) -> Iterator[tuple[int, int, tuple[ClipRef, ...]]]:
        for epoch in range(self._epoch, self._epochs):
            order = self._batches.order(epoch)
            for number in range(self._number if epoch == self._epoch else 0, len(order)):
                yield epoch, number, order[number]


class _Shares:
    """What this process reads for each step of a plan; the loader's sampler."""

    def __init__(self, plan: _Plan, share: Callable[[Sequence[ClipRef]], Sequence[ClipRef]]) -> None:
        self._plan, self._share = plan, share

    def __iter__(self) -> Iterator[list[ClipRef]]:
        for _, _, refs in self._plan:
            yield list(self._share(refs))
