"""Ranks by counting over blocks of scores, from features that may be larger than memory.

No score matrix is kept. Each block's product serves both directions: a text's own video is ranked by counting along
the block's rows, a video's own text by counting along its columns. A fast product decides the pairs whose score is
farther from the query's own than its error can be; only the few others are scored exactly. So ranks are those of the
exact scores that :mod:`figclip_cli.evaluate.metrics.exact_scores` defines.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.evaluate.metrics.counting import Masks, padded
from figclip_cli.evaluate.metrics.exact_scores import (
    Block,
    Precision,
    Products,
    exact_scores,
    make_block,
    precisions,
)
from figclip_cli.evaluate.metrics.feature_rows import ArrayRows, Rows, TensorRows
from figclip_cli.evaluate.metrics.query_counts import Counts, Examination, Queries, Tile
from figclip_cli.evaluate.metrics.ranking import MultiCaption, Ranks, Ties, make_ranks
from figclip_cli.evaluate.metrics.workers import Workers
from figclip_cli.reporting import SILENT, Reporter

__all__ = ["DIRECTIONS", "ArrayRows", "Direction", "Rows", "TensorRows", "streamed_ranks"]

Direction = Literal["t2v", "v2t"]
DIRECTIONS: tuple[Direction, ...] = ("t2v", "v2t")
# Above this a sum of products could overflow.
_LARGEST_SCORE = 2.0**120
_LONGEST_PAUSE = 64
_TEXTS_PER_BLOCK, _VIDEOS_PER_BLOCK = 4096, 1024
_FEWEST_TEXTS_PER_BLOCK, _BLOCKS_PER_THREAD = 256, 2


def streamed_ranks(
    texts: Rows,
    videos: Rows,
    video_of_text: npt.NDArray[np.int64],
    *,
    ties: Ties,
    multi_caption: MultiCaption,
    directions: Sequence[Direction] = DIRECTIONS,
    with_best: bool = False,
    device: str | torch.device = "cpu",
    reporter: Reporter = SILENT,
    texts_per_block: int | None = None,
    videos_per_block: int | None = None,
) -> dict[str, Ranks]:
    """Rank videos for texts (``t2v``) and texts for videos (``v2t``) by exact scores, block by block.

    The result is that of :func:`~figclip_cli.evaluate.metrics.ranking.text_to_video_ranks` and
    :func:`~figclip_cli.evaluate.metrics.ranking.video_to_text_ranks` on the matrix of exact scores. It takes memory
    for a block and for some numbers of each text and video. Where videos have several texts, a block holds all texts
    of a video under ``max-per-video``, more than ``texts_per_block`` if there are.

    A video without a text is a candidate of ``t2v`` and nothing else: ``v2t`` has no query for it (its queries are
    the videos that have texts, in ascending order), and it is no candidate of ``max-per-video``.

    Args:
        texts: (N, D) features. Scores are dot products; features need not be of unit length.
        videos: (M, D) features.
        video_of_text: (N,) row of each text's own video.
        ties: What a tie counts.
        multi_caption: Definition of ``v2t`` where a video has several texts.
        directions: What to compute; both come from one pass of products.
        with_best: Also find each query's best wrong item: a video, but a text in ``v2t`` under ``min-rank``.
        device: Where products are computed.
        texts_per_block: Texts whose scores are computed at once, on each of torch's threads; 4096, or fewer where
            that keeps all threads busy. It does not change the result.
        videos_per_block: The same of videos, 1024.

    Raises:
        InputError: Nothing to rank, or a feature is not finite, or so large that scores could overflow.
        ValueError: Shapes do not fit, or ``video_of_text`` names a video that is not there.
    """
    _check(texts, videos, video_of_text)
    grouped = multi_caption == "max-per-video"
    search = _Search(texts, videos, video_of_text, torch.device(device), (texts_per_block, videos_per_block))
    with torch.inference_mode(), torch.autocast(search.device.type, enabled=False), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta|index_reduce")
        search.measure()
        queries = {name: search.queries(name, with_best=with_best, grouped=grouped) for name in directions}
        search.run(list(queries.values()), reporter)
        return {name: search.ranks(name, found, ties, grouped=grouped) for name, found in queries.items()}


def _check(texts: Rows, videos: Rows, video_of_text: npt.NDArray[np.int64]) -> None:
    if not len(texts) or not len(videos):
        raise InputError("there is nothing to rank: no texts or no videos", "give at least one of each")
    if texts.width != videos.width or video_of_text.shape != (len(texts),):
        raise ValueError(f"texts ({len(texts)}, {texts.width}), videos ({len(videos)}, {videos.width}) and own videos "
                         f"{video_of_text.shape} do not fit")  # fmt: skip
    if int(video_of_text.min()) < 0 or int(video_of_text.max()) >= len(videos):
        raise ValueError("video_of_text names a video that is not there")


class _Sizes:
    """What is kept of each feature of a side: see :class:`Block`."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.lengths, self.losses = (torch.empty(count, dtype=torch.float64, device=device) for _ in range(2))

    def keep(self, part: slice, block: Block, kind: str) -> None:
        """Keep what was measured of some features; refuse those that are not finite."""
        self.lengths[part], self.losses[part] = block.lengths, block.losses
        if not bool(block.lengths.isfinite().all()):
            row = part.start + int((~block.features.isfinite()).any(dim=1).nonzero()[0])
            raise InputError(f"the feature of a {kind} is not finite (row {row})", "the model or its input is damaged")

    def block(self, part: slice, features: Tensor) -> Block:
        """Return some features with what is known of them."""
        return Block(features, self.lengths[part], self.losses[part])


class _Choice:
    """Which precisions to try for a block: one that left too much in doubt is not tried again for some blocks."""

    def __init__(self, precisions: Sequence[Precision]) -> None:
        self._precisions = precisions
        self._first, self._paused, self._pause = 0, 0, 1

    def attempts(self) -> Sequence[Precision]:
        """Return what to try for the next block, in turn."""
        return self._precisions[self._first :]

    def was(self, tried: Sequence[Precision], chosen: Precision) -> None:
        """Say which one did for a block."""
        if chosen != tried[0]:
            self._first, self._paused = self._precisions.index(chosen), self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        elif self._paused:
            self._paused -= 1
            self._first = self._first if self._paused else 0
        else:
            self._pause = 1


class _Room(NamedTuple):
    """What a thread keeps from block to block."""

    products: Products
    masks: Masks


@dataclass(frozen=True)
class _Work:
    """A block of texts and videos to count in, and how."""

    texts: Block
    videos: Block
    rows: slice
    columns: slice
    video_of_row: Tensor
    queries: Sequence[Queries]
    precisions: Sequence[Precision]

    def do(self, room: _Room) -> tuple[_Work, Precision, list[Counts]]:
        """Return what was found, with the first precision that leaves little in doubt."""
        own = ((self.video_of_row >= self.columns.start) & (self.video_of_row < self.columns.stop)).nonzero()[:, 0]
        for precision in self.precisions:
            products = room.products.make(self.texts, self.videos, precision)
            products[own, self.video_of_row[own] - self.columns.start] = -torch.inf
            tile = Tile(self.texts, self.videos, products, precision, self.rows, self.columns, self.video_of_row)
            found = self._examine(tile, room.masks)
            if found is not None:
                return self, precision, found
        raise AssertionError("the last precision leaves nothing in doubt")

    def _examine(self, tile: Tile, masks: Masks) -> list[Counts] | None:
        found = []
        for queries in self.queries:
            counts = Examination(queries, tile, masks).counts()
            if counts is None:
                return None
            found.append(counts)
        return found


class _Search:
    """One pass over all blocks. Texts are taken in the order of their videos."""

    def __init__(
        self,
        texts: Rows,
        videos: Rows,
        video_of_text: npt.NDArray[np.int64],
        device: torch.device,
        block_sizes: tuple[int | None, int | None],
    ) -> None:
        order = np.argsort(video_of_text, kind="stable")
        self._texts, self._videos, self.device = texts, videos, device
        self._videos_per_block = block_sizes[1] or _VIDEOS_PER_BLOCK
        self._texts_per_block = block_sizes[0] or self._default_texts_per_block()
        self._order = torch.from_numpy(order)
        self._in_order = bool((order[1:] > order[:-1]).all())
        self._video_of_text = torch.from_numpy(np.ascontiguousarray(video_of_text[order])).to(device)
        self._text_sizes, self._video_sizes = _Sizes(len(texts), device), _Sizes(len(videos), device)
        self._own = torch.empty(len(texts), device=device)

    def _default_texts_per_block(self) -> int:
        """Return so many that each of several threads has blocks to do."""
        threads = torch.get_num_threads()
        blocks = -(-len(self._videos) // self._videos_per_block)
        even = -(-len(self._texts) * blocks // (_BLOCKS_PER_THREAD * threads)) if threads > 1 else _TEXTS_PER_BLOCK
        return min(max(even, _FEWEST_TEXTS_PER_BLOCK), _TEXTS_PER_BLOCK)

    def _read_texts(self, part: slice) -> Tensor:
        read = self._texts.rows(part.start, part.stop) if self._in_order else self._texts.take(self._order[part])
        return read.to(self.device)

    def _read_videos(self, part: slice) -> Tensor:
        return self._videos.rows(part.start, part.stop).to(self.device)

    def measure(self) -> None:
        """Measure all features and score each text with its own video."""
        video_parts = _slices(len(self._videos), self._videos_per_block)
        text_parts = _slices(len(self._texts), self._videos_per_block)
        with Workers(self.device, lambda: None) as workers:
            videos = ((part, self._read_videos(part)) for part in video_parts)
            for part, block in workers.in_order(lambda item, _: (item[0], make_block(item[1])), videos):
                self._video_sizes.keep(part, block, "video")
            texts = ((part, self._read_texts(part), *self._read_own(part)) for part in text_parts)
            for part, block, own in workers.in_order(_measured, texts):
                self._text_sizes.keep(part, block, "text")
                self._own[part] = own
        if float(self._text_sizes.lengths.max() * self._video_sizes.lengths.max()) > _LARGEST_SCORE:
            raise InputError("features are so large that scores overflow", "divide them by a constant")

    def _read_own(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return the videos of some texts and their lengths."""
        own = self._video_of_text[part]
        return self._videos.take(own.cpu()).to(self.device), self._video_sizes.lengths[own]

    def queries(self, direction: Direction, *, with_best: bool, grouped: bool) -> Queries:
        """Return the queries of a direction before anything is counted."""
        if direction == "t2v":
            names = torch.arange(len(self._videos), device=self.device)
            return Queries(1, self._own, names if with_best else None)
        own = torch.full((len(self._videos),), -torch.inf, device=self.device)
        own.scatter_reduce_(0, self._video_of_text, self._own, "amax")
        own[own.isneginf()] = torch.finfo(own.dtype).max  # a video without a text: nothing is above that
        names = self._video_of_text if grouped else self._order.to(self.device)
        several = bool((self._video_of_text[1:] == self._video_of_text[:-1]).any())
        return Queries(0, own, names if with_best else None, grouped=grouped and several)

    def run(self, queries: Sequence[Queries], reporter: Reporter) -> None:
        """Count over all blocks."""
        text_parts = self._text_parts(whole_videos=any(one.grouped for one in queries))
        video_parts = _slices(len(self._videos), self._videos_per_block)
        size = max(part.stop - part.start for part in text_parts) * padded(video_parts[0].stop)
        choice = _Choice(precisions(self.device, self._texts.width, len(self._texts) * len(self._videos)))
        work = self._work(text_parts, video_parts, queries, choice)
        with (
            reporter.track("rank", len(self._texts), "texts") as progress,
            Workers(self.device, lambda: _Room(Products(size, self.device), Masks(size, self.device))) as workers,
        ):
            for done, precision, found in workers.in_order(_Work.do, work):
                choice.was(done.precisions, precision)
                for one, counts in zip(queries, found, strict=True):
                    one.add(done.rows if one.axis == 1 else done.columns, counts)
                if done.columns == video_parts[-1]:
                    progress.advance(done.rows.stop - done.rows.start)

    def _work(
        self, text_parts: list[slice], video_parts: list[slice], queries: Sequence[Queries], choice: _Choice
    ) -> Iterator[_Work]:
        videos: Block | None = None
        for rows in text_parts:
            texts = self._text_sizes.block(rows, self._read_texts(rows))
            for columns in video_parts:
                if videos is None or len(video_parts) > 1:
                    videos = self._video_sizes.block(columns, self._read_videos(columns))
                yield _Work(texts, videos, rows, columns, self._video_of_text[rows], queries, choice.attempts())

    def _text_parts(self, *, whole_videos: bool) -> list[slice]:
        if not whole_videos:
            return _slices(len(self._texts), self._texts_per_block)
        video_of_text, parts, start = self._video_of_text.cpu().numpy(), [], 0
        ends = np.append(np.flatnonzero(np.diff(video_of_text)) + 1, len(video_of_text))  # of each video's texts
        while start < len(video_of_text):
            fitting = int(np.searchsorted(ends, start + self._texts_per_block, side="right")) - 1
            fitting = max(fitting, int(np.searchsorted(ends, start, side="right")))  # at least one video
            parts.append(slice(start, int(ends[fitting])))
            start = parts[-1].stop
        return parts

    def ranks(self, direction: Direction, queries: Queries, ties: Ties, *, grouped: bool) -> Ranks:
        """Return the result for queries that are counted."""
        if direction == "t2v":
            picked, candidates = torch.argsort(self._order), len(self._videos)
        else:
            picked = torch.unique_consecutive(self._video_of_text).cpu()
            candidates = len(picked) if grouped else len(self._texts)
        greater, tied = queries.greater.cpu()[picked], queries.tied.cpu()[picked]
        ranks = make_ranks(greater.numpy(), tied.numpy(), ties, candidates)
        if queries.names is None:
            return ranks
        best, scores = queries.best.cpu()[picked], queries.best_scores.cpu()[picked]
        best[scores.isneginf()] = -1
        own = queries.own.cpu()[picked]
        return replace(ranks, best_wrong=best.numpy(), own_scores=own.numpy(), best_wrong_scores=scores.numpy())


def _measured(item: tuple[slice, Tensor, Tensor, Tensor], _: None) -> tuple[slice, Block, Tensor]:
    part, features, own_videos, lengths = item
    texts = make_block(features)
    return part, texts, exact_scores(features, own_videos, texts.lengths * lengths)


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
