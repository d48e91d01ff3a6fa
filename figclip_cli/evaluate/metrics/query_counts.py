"""What is counted for the queries of one direction while blocks of scores pass by."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from figclip_cli.evaluate.metrics.counting import Masks, count, differing, group_max, places
from figclip_cli.evaluate.metrics.exact_scores import (
    PLAIN,
    Block,
    Precision,
    exact_scores_of,
    float32_products_of,
    largest_errors,
    limits,
)

_NO_INDEX = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class Tile:
    """Products of some texts and some videos.

    Attributes:
        texts: R texts.
        videos: C videos.
        products: (R, C) bfloat16 or float32; minus infinity where a text meets its own video.
        precision: How the products were computed. Those of float64 are exact scores.
        rows: Which of all texts the rows are.
        columns: Which of all videos the columns are.
        video_of_row: (R,) int64, ascending.
    """

    texts: Block
    videos: Block
    products: Tensor
    precision: Precision
    rows: slice
    columns: slice
    video_of_row: Tensor

    def is_hard(self, pairs: int) -> bool:
        """Return whether so many pairs in doubt cost more than products of the next precision."""
        return pairs > self.precision.doubt * self.products.numel()

    @cached_property
    def group_of_row(self) -> Tensor:
        """(R,) int64, the rows' videos numbered from 0."""
        return torch.unique_consecutive(self.video_of_row, return_inverse=True)[1]

    @cached_property
    def best_of_group(self) -> Tensor:
        """(groups, C) float32, the best product of each video's texts."""
        products = self.products.float()
        best = products.new_full((int(self.group_of_row[-1]) + 1, products.shape[1]), -torch.inf)
        return best.index_reduce_(0, self.group_of_row, products, "amax")


class Counts(NamedTuple):
    """What a tile has for each query: numbers of wrong items above and at the query's score, and the best of them."""

    greater: Tensor
    tied: Tensor
    best_scores: Tensor | None = None
    best: Tensor | None = None


@dataclass
class Queries:
    """Counters of all queries of a direction, n of them.

    Attributes:
        axis: 1 where texts, the rows of a tile, are the queries; 0 where videos are.
        own: (n,) float32, the exact score of each query's right item.
        names: (candidates,) int64, how a candidate is named as a best wrong item; None where none is asked for.
        grouped: Whether a video's texts count as one item that scores their best.
        greater, tied: (n,) int64.
        best_scores: (n,) float32, minus infinity before there is one.
        best: (n,) int64.
    """

    axis: int
    own: Tensor
    names: Tensor | None = None
    grouped: bool = False
    greater: Tensor = field(init=False)
    tied: Tensor = field(init=False)
    best_scores: Tensor = field(init=False)
    best: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.greater, self.tied = (torch.zeros(len(self.own), dtype=torch.int64, device=self.own.device) for _ in "gt")
        self.best_scores = torch.full_like(self.own, -torch.inf)
        self.best = torch.full_like(self.greater, _NO_INDEX)

    def add(self, part: slice, counts: Counts) -> None:
        """Take in what a tile has for some queries."""
        self.greater[part] += counts.greater
        self.tied[part] += counts.tied
        if counts.best_scores is None or counts.best is None:
            return
        known, best = self.best_scores[part], self.best[part]  # views
        best.copy_(
            torch.where(
                counts.best_scores == known,
                torch.minimum(best, counts.best),
                torch.where(counts.best_scores > known, counts.best, best),
            )
        )
        torch.maximum(known, counts.best_scores, out=known)


class Examination:
    """A tile, seen from the side of the queries of one direction."""

    def __init__(self, queries: Queries, tile: Tile, masks: Masks) -> None:
        by_row = queries.axis == 1
        self.queries, self.tile, self.masks = queries, tile, masks
        self.part, self._others = (tile.rows, tile.columns) if by_row else (tile.columns, tile.rows)
        self._own = queries.own[self.part]
        self._sides = (tile.texts, tile.videos) if by_row else (tile.videos, tile.texts)
        self._shape = (-1, 1) if by_row else (1, -1)

    def counts(self) -> Counts | None:
        """Return what the tile has; None where its precision leaves too much in doubt."""
        counts = self._exact_counts() if self.tile.precision.is_exact else self._settled_counts()
        if counts is None or self.queries.names is None:
            return counts
        best = self._exact_best() if self.tile.precision.is_exact else self._settled_best()
        return None if best is None else Counts(counts.greater, counts.tied, *best)

    def _exact_counts(self) -> Counts:
        scores = self.tile.best_of_group if self.queries.grouped else self.tile.products
        above, at_least = map(self._count, self._above(scores, self._own, _below(self._own)))
        return Counts(above, at_least - above)

    def _settled_counts(self) -> Counts | None:
        """Count products that are surely above, and score those in doubt exactly."""
        errors = largest_errors(*self._sides, self.tile.precision)
        low, high = limits(self._own, errors, self.tile.precision)
        above, not_below = self._above(self.tile.products, high, low)
        rows, columns = differing(above, not_below)
        if self.tile.is_hard(len(rows)):
            return None
        if self.queries.grouped:  # a video that is surely above stays so whatever its other texts score
            (above,) = self._above(self.tile.best_of_group, high)
            undecided = ~above[self.tile.group_of_row[rows], columns]
            rows, columns = rows[undecided], columns[undecided]
        scores = self._scores(rows, columns)
        if scores is None:
            return None
        of_query = self._query_of(rows, columns)
        if self.queries.grouped:
            width = self.tile.products.shape[1]
            groups, scores = group_max(scores, self.tile.group_of_row[rows] * width + columns)
            of_query = groups % width
        own = self._own.index_select(0, of_query)
        return Counts(self._count(above) + self._tally(of_query, scores > own), self._tally(of_query, scores == own))

    def _scores(self, rows: Tensor, columns: Tensor) -> Tensor | None:
        """Return scores of pairs that are exact wherever the comparison with the query's own score needs it."""
        if not self.tile.precision.is_rough:
            return exact_scores_of(self.tile.texts, self.tile.videos, rows, columns)
        scores = float32_products_of(self.tile.texts.features, self.tile.videos.features, rows, columns)
        low, high = limits(self._own, largest_errors(*self._sides, PLAIN), PLAIN)
        of_query = self._query_of(rows, columns)
        return self._made_exact(
            scores, rows, columns, (scores > low.index_select(0, of_query)) & (scores <= high.index_select(0, of_query))
        )

    def _made_exact(self, scores: Tensor, rows: Tensor, columns: Tensor, which: Tensor) -> Tensor | None:
        which = which.nonzero()[:, 0]
        if len(which) > PLAIN.doubt * self.tile.products.numel():
            return None
        scores[which] = exact_scores_of(self.tile.texts, self.tile.videos, rows[which], columns[which])
        return scores

    def _exact_best(self) -> tuple[Tensor, Tensor]:
        products = self.tile.products
        scores = products.amax(dim=self.queries.axis)
        at_best = (products == scores.view(self._shape)) & (products > -torch.inf)
        names = self._names().view(1, -1) if self.queries.axis == 1 else self._names().view(-1, 1)
        return scores, torch.where(at_best, names, _NO_INDEX).amin(dim=self.queries.axis)

    def _settled_best(self) -> tuple[Tensor, Tensor] | None:
        """Score exactly what may reach the best of this tile or of those before."""
        errors = largest_errors(*self._sides, self.tile.precision)
        least = self._least(self.tile.products.amax(dim=self.queries.axis).float(), errors, self.tile.precision)
        (kept,) = self._above(self.tile.products, limits(least, errors, self.tile.precision)[0])
        rows, columns = places(kept)
        if self.tile.is_hard(len(rows)):
            return None
        if self.tile.precision.is_rough:
            rows, columns = self._plainly_best(rows, columns)
        which = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
        scores = self._made_exact(self._own.new_empty(len(rows)), rows, columns, which)
        if scores is None:
            return None
        of_query, names = self._query_of(rows, columns), self._names()[columns if self.queries.axis == 1 else rows]
        best_scores = self._best_by_query(scores, of_query)
        at_best = scores == best_scores[of_query]
        best = names.new_full((len(best_scores),), _NO_INDEX)
        return best_scores, best.scatter_reduce_(0, of_query[at_best], names[at_best], "amin")

    def _plainly_best(self, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
        """Leave out pairs that plain products show to be below the best."""
        products = float32_products_of(self.tile.texts.features, self.tile.videos.features, rows, columns)
        of_query, errors = self._query_of(rows, columns), largest_errors(*self._sides, PLAIN)
        least = self._least(self._best_by_query(products, of_query), errors, PLAIN)
        kept = products > limits(least, errors, PLAIN)[0][of_query]
        return rows[kept], columns[kept]

    def _least(self, products: Tensor, errors: Tensor, precision: Precision) -> Tensor:
        """Return (n,) what each query's best score is at least, given a product of each and what is known."""
        return torch.maximum(self.queries.best_scores[self.part], limits(products, errors, precision)[0])

    def _best_by_query(self, values: Tensor, of_query: Tensor) -> Tensor:
        return torch.full_like(self._own, -torch.inf).scatter_reduce_(0, of_query, values, "amax")

    def _query_of(self, rows: Tensor, columns: Tensor) -> Tensor:
        return rows if self.queries.axis == 1 else columns

    def _names(self) -> Tensor:
        assert self.queries.names is not None
        return self.queries.names[self._others]

    def _above(self, products: Tensor, *limits: Tensor) -> list[Tensor]:
        return self.masks.above(products, [limit.view(self._shape) for limit in limits])

    def _count(self, mask: Tensor) -> Tensor:
        return count(mask, self.queries.axis)[: len(self._own)]

    def _tally(self, of_query: Tensor, which: Tensor) -> Tensor:
        return torch.bincount(of_query, which.double(), minlength=len(self._own)).long()


def _below(scores: Tensor) -> Tensor:
    """Return the next smaller float32 numbers."""
    return torch.nextafter(scores, torch.full_like(scores, -torch.inf))
