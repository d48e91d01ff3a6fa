"""Tiled path in plain torch: for CPUs, and for any device without Triton. Large score matrices are never stored whole.

The scores are made tile by tile, small enough to stay in the processor's caches between the matrix product that
makes them and the one that uses them. They are turned into powers of two, not of e: on a CPU torch's ``exp2`` takes
a third of the time of its ``exp``, and the factor log2(e) goes into the smaller side of the product.

No running maximum is kept. A float32 spans 2^-126 to 2^127, so with one constant ``shift`` for all scores of a view

    z_i = sum_j 2^(s_ij - shift)

is exact to rounding as long as it lies between 2^-80 and 2^90: terms below 2^-126 are lost, and 2^18 of them are
2^-28 of the least sum. Whether that holds is checked of every row, column and positive, at a cost of 2R + C. Where it
does not (features that are not of unit length, temperatures far off), all is done again with the maximum of each tile.

A pair's loss is log(z_i / 2^(s_ii - shift)) and its probability 2^(s_ii - shift) / z_i, so the power of a positive must
be the very one that is in the sum: close to a loss of zero all digits hang on that. Sums leave as float64 logarithms,
from which they come back unharmed.

As many tiles as a budget allows are kept for the backward pass; the others are made again there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .problem import Gradients, Needs, Problem, Sums, excluded_pairs

TILE_ROWS, TILE_COLUMNS = 1024, 512
# For the tiles kept and the views' gradients together; all else that a call needs is a few tiles.
MEMORY_BUDGET_BYTES = 72 * 2**20

LOG2E = math.log2(math.e)
COMFORT_BITS = 60.0  # positives between 2^-60 and 2^60 need no shift
LOWEST_BITS, HIGHEST_BITS = -80.0, 90.0
_SAMPLE = 64


def log_sum_exps(problem: Problem, keep: bool = True) -> Sums:
    """Compute the log-sum-exps of a problem, as float64.

    Args:
        problem: On any device; float64 features are scored in float64, all others in float32.
        keep: Whether :func:`gradients` follows, which needs what is kept.
    """
    rows = len(problem.views[0])
    kept = problem.texts.new_empty(kept_numel(problem) if keep else 0, dtype=problem.accumulator)
    sums = torch.stack([_log_sums(problem, view, kept) for view in range(len(problem.views))])  # (V, 2R + C)
    by_row, positives, by_column = sums[:, :rows], sums[:, rows : 2 * rows], sums[:, 2 * rows :]
    if problem.row_mask is not None and problem.column_mask is not None:
        by_row.masked_fill_(~problem.row_mask, float("inf"))
        positives.masked_fill_(~problem.row_mask, 0.0)
        if problem.symmetric:
            by_column.masked_fill_(~problem.column_mask, float("inf"))
    return Sums(positives, by_row, by_column, kept)


def gradients(problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Compute the gradients of ``upstream`` times the loss.

    Args:
        problem: As given to :func:`log_sum_exps`.
        sums: What that returned; with rows spread over processes, ``columns`` over all of them.
        upstream: () gradient of what follows the loss.
        needs: Which gradients are asked for.
    """
    dtype = problem.accumulator
    texts = torch.zeros_like(problem.texts, dtype=dtype) if needs.texts else None  # (C, D)
    negatives = None
    if needs.negatives and problem.negatives is not None:
        negatives = torch.zeros_like(problem.negatives, dtype=dtype)  # (R, N, D)
    scale = torch.zeros_like(problem.scale) if needs.scale else None  # ()
    views = []
    share_of_pair = upstream.to(dtype) / problem.pairs  # ()
    for view, features in enumerate(problem.views):
        own = None
        if needs.views or needs.scale:
            own = torch.zeros(features.shape, dtype=dtype, device=features.device)  # (R, D), less the factor scale
        _add_gradients_of_view(problem, view, sums, share_of_pair * problem.weights[view], own, texts, negatives)
        if own is None:
            continue
        if scale is not None:
            # S is linear in the scale and in v_i: the derivative by it is sum_i <dv_i, v_i> / scale.
            for rows in _slices(len(own), TILE_ROWS):
                scale += torch.sum(own[rows] * features[rows])
        views.append(own.mul_(problem.scale).to(features.dtype))
    return Gradients(
        views=tuple(views) if needs.views else None,
        texts=None if texts is None else texts.to(problem.texts.dtype),
        negatives=None if negatives is None else negatives.to(problem.texts.dtype),
        scale=scale,
    )


def kept_numel(problem: Problem) -> int:
    """Return how many numbers are kept for the backward pass.

    They are the shift of each view, nan where maxima were taken; the powers of private negatives, (V, R, N); and those
    of as many tiles as the budget holds.
    """
    views, rows, columns = len(problem.views), problem.views[0].shape[0], problem.texts.shape[0]
    private = 0 if problem.negatives is None else problem.negatives.shape[1]
    budget = MEMORY_BUDGET_BYTES // problem.accumulator.itemsize - views * problem.views[0].numel()
    return views + views * rows * private + min(max(budget, 0), views * rows * columns)


class _Scores:
    """The scores of one view: powers of two less the shift, or with no shift as they are, in nats.

    Left-out pairs are 0 as a power, -inf as a score.
    """

    def __init__(self, problem: Problem, view: int, kept: Tensor, shift: float | None) -> None:
        self.problem = problem
        self.shift = shift
        self.unit = 1.0 if shift is None else LOG2E  # of a score, in a nat
        self._features = problem.views[view]
        self._factor = problem.scale * self.unit  # ()
        rows, columns = len(self._features), len(problem.texts)
        private = rows * (0 if problem.negatives is None else problem.negatives.shape[1])
        heads = len(problem.views) + view * private
        self._private = kept[heads : heads + private]
        self._tiles = kept[len(problem.views) * (1 + private) :][view * rows * columns :]
        if shift is None or not len(kept):
            self._private = self._tiles = kept[:0]
        self._scratch = problem.texts.new_empty(0, dtype=problem.accumulator)

    def scaled(self, rows: slice) -> Tensor:
        """Return (r, D) features times the scale, so that a product with a text is a score."""
        return self._features[rows].to(self.problem.accumulator) * self._factor

    def texts(self, columns: slice) -> Tensor:
        """Return (c, D) texts in the accumulator's dtype."""
        return self.problem.texts[columns].to(self.problem.accumulator)

    def negatives(self, rows: slice) -> Tensor:
        """Return (r, N, D) private negatives in the accumulator's dtype."""
        assert self.problem.negatives is not None
        return self.problem.negatives[rows].to(self.problem.accumulator)

    def pairs(self, scaled: Tensor, rows: slice, columns: slice) -> Tensor:
        """Compute a tile, (r, c), where it will be kept or else in place of the tile before."""
        tile = self.kept_pairs(rows, columns)
        if tile is None:
            height, width = len(scaled), columns.stop - columns.start
            if len(self._scratch) < height * width:
                self._scratch = scaled.new_empty(height * width)
            tile = self._scratch[: height * width].view(height, width)
        torch.mm(scaled, self.texts(columns).T, out=tile)
        excluded = excluded_pairs(self.problem, rows, columns)
        if excluded is not None:
            tile.masked_fill_(excluded, float("-inf"))
        return self._to_powers(tile)

    def kept_pairs(self, rows: slice, columns: slice) -> Tensor | None:
        """Return the place of a tile, (r, c), among those kept, or none."""
        height, width = rows.stop - rows.start, columns.stop - columns.start
        start = rows.start * len(self.problem.texts) + height * columns.start
        end = start + height * width
        return self._tiles[start:end].view(height, width) if end <= len(self._tiles) else None

    def private(self, scaled: Tensor, rows: slice) -> Tensor:
        """Compute (r, N) scores of private negatives, and keep them."""
        scores = torch.bmm(scaled[:, None], self.negatives(rows).transpose(1, 2))[:, 0]  # (r, N)
        if self.problem.negatives_mask is not None:
            scores.masked_fill_(~self.problem.negatives_mask[rows], float("-inf"))
        if self.problem.row_mask is not None:
            # Padding may hold anything finite: a power of it could be inf, and inf times a factor of 0 is not 0.
            scores.masked_fill_(~self.problem.row_mask[rows, None], float("-inf"))
        self._to_powers(scores)
        place = self.kept_private(rows)
        return scores if place is None else place.copy_(scores)

    def kept_private(self, rows: slice) -> Tensor | None:
        """Return the place of (r, N) private negatives among what is kept, or none."""
        assert self.problem.negatives is not None
        if not len(self._private):
            return None
        return self._private.view(-1, self.problem.negatives.shape[1])[rows]

    def _to_powers(self, scores: Tensor) -> Tensor:
        if self.shift is None:
            return scores
        return (scores.sub_(self.shift) if self.shift else scores).exp2_()


def _log_sums(problem: Problem, view: int, kept: Tensor) -> Tensor:
    """Return [rows, positives, columns] of a view, (2R + C) log-sum-exps in nats."""
    shift = _shift(problem, view)
    sums = _sums_of_powers(_Scores(problem, view, kept, shift))
    if problem.row_mask is not None and problem.column_mask is not None:
        masks = (problem.row_mask, problem.row_mask, problem.column_mask)
        sums.masked_fill_(~torch.cat(masks)[: len(sums)], 1.0)
    low, high = (float(end) for end in sums.aminmax())
    in_range = low >= 2.0**LOWEST_BITS and high <= 2.0**HIGHEST_BITS  # false for nan
    if len(kept):
        kept[view] = shift if in_range else math.nan
    if not in_range:
        return _log_sums_with_maxima(_Scores(problem, view, kept, None))
    return sums.double().log2_().add_(shift).div_(LOG2E)


def _shift(problem: Problem, view: int) -> float:
    """Return the shift of a view in bits: 0 in all but odd cases, which saves a pass over the scores.

    A sample of the positives is enough, as its fitness is checked.
    """
    rows = len(problem.views[view])
    own = problem.texts[problem.offset : problem.offset + rows]  # (R, D)
    step = max(1, rows // _SAMPLE)
    sample = (problem.views[view][::step].float() * own[::step].float()).sum(1)
    low, high = (float(end) * float(problem.scale) * LOG2E for end in sample.aminmax())
    middle = (low + high) / 2
    return 0.0 if max(-low, high) <= COMFORT_BITS or not math.isfinite(middle) else float(round(middle))


def _sums_of_powers(scores: _Scores) -> Tensor:
    """Return [rows, positives, columns] of a view, (2R + C) sums of powers, and keep the tiles that fit."""
    problem = scores.problem
    height, width = len(problem.views[0]), len(problem.texts)
    sums = problem.texts.new_zeros(2 * height + width * problem.symmetric, dtype=problem.accumulator)
    by_row, positives, by_column = sums[:height], sums[height : 2 * height], sums[2 * height :]
    for rows in _slices(height, TILE_ROWS):
        scaled = scores.scaled(rows)  # (r, D)
        of_rows = by_row[rows]
        for columns in _slices(width, TILE_COLUMNS):
            tile = scores.pairs(scaled, rows, columns)  # (r, c)
            of_rows += tile.sum(1)
            if problem.symmetric:
                by_column[columns].add_(tile.sum(0))
            for own, diagonal in _positives(problem, tile, rows, columns):
                positives[own].copy_(diagonal)
        if problem.negatives is not None:
            of_rows += scores.private(scaled, rows).sum(1)
    return sums


def _log_sums_with_maxima(scores: _Scores) -> Tensor:
    """Return [rows, positives, columns] whatever the scores' range: tiles by their maxima, merged as logarithms."""
    problem = scores.problem
    height, width = len(problem.views[0]), len(problem.texts)
    sums = problem.texts.new_full((2 * height + width * problem.symmetric,), -math.inf, dtype=torch.float64)
    by_row, positives, by_column = sums[:height], sums[height : 2 * height], sums[2 * height :]
    for rows in _slices(height, TILE_ROWS):
        scaled = scores.scaled(rows)  # (r, D)
        for columns in _slices(width, TILE_COLUMNS):
            tile = scores.pairs(scaled, rows, columns)  # (r, c)
            for own, diagonal in _positives(problem, tile, rows, columns):
                positives[own] = diagonal.double()
            # Maxima are exact, what follows is of the order of one: float64 keeps a loss close to zero.
            by_row[rows] = torch.logaddexp(by_row[rows], _log_sum_exp(tile, 1))
            if problem.symmetric:
                by_column[columns] = torch.logaddexp(by_column[columns], _log_sum_exp(tile, 0))
        if problem.negatives is not None:
            by_row[rows] = torch.logaddexp(by_row[rows], _log_sum_exp(scores.private(scaled, rows), 1))
    return sums


def _log_sum_exp(tile: Tensor, dim: int) -> Tensor:
    """Return the log-sum-exp of a tile as float64, of sums in the tile's dtype; -inf of nothing but -inf."""
    maximum = tile.amax(dim, keepdim=True)
    maximum.masked_fill_(maximum == -math.inf, 0.0)
    total = (tile - maximum).exp_().sum(dim)
    return total.double().log_().add_(maximum.squeeze(dim))


def _add_gradients_of_view(
    problem: Problem,
    view: int,
    sums: Sums,
    share: Tensor,
    own: Tensor | None,
    texts: Tensor | None,
    negatives: Tensor | None,
) -> None:
    """Add what comes of a view to its own gradient over the scale (R, D), and to those of texts and negatives."""
    shift = float(sums.kept[view])
    scores = _Scores(problem, view, sums.kept, None if math.isnan(shift) else shift)
    derivatives = _Derivatives(scores, sums.rows[view], sums.columns[view], share)
    for rows in _slices(len(problem.views[view]), TILE_ROWS):
        scaled = scores.scaled(rows)  # (r, D)
        for columns in _slices(len(problem.texts), TILE_COLUMNS):
            tile = scores.kept_pairs(rows, columns)
            if tile is None:
                tile = scores.pairs(scaled, rows, columns)  # (r, c)
            by_score = derivatives.pairs(tile, rows, columns)  # (r, c)
            # dv_i = scale sum_j G_ij t_j and dt_j = scale sum_i G_ij v_i, with G_ij the derivative by score ij.
            if own is not None:
                own[rows].addmm_(by_score, scores.texts(columns))
            if texts is not None:
                texts[columns].addmm_(by_score.T, scaled, alpha=1.0 / scores.unit)
        if problem.negatives is not None:
            kept = scores.kept_private(rows)
            by_score = derivatives.private(scores.private(scaled, rows) if kept is None else kept, rows)  # (r, N)
            if own is not None:
                own[rows, None].baddbmm_(by_score[:, None], scores.negatives(rows))
            if negatives is not None:
                negatives[rows].addcmul_(by_score[:, :, None], scaled[:, None], value=1.0 / scores.unit)


class _Derivatives:
    """The derivative of the loss by each score: share * (of_row p_row + of_column p_column - 1 if a positive)."""

    def __init__(self, scores: _Scores, by_row: Tensor, by_column: Tensor, share: Tensor) -> None:
        self._problem = scores.problem
        self._are_powers = scores.shift is not None
        self._by_row, self._by_column = by_row, by_column
        self._share = share
        self._of_row, self._of_column = (share * each for each in scores.problem.shares)
        self._scratch = share.new_empty(0)
        if scores.shift is not None:
            # p_row = 2^(s - shift) 2^(shift - rows): a factor for each row and column in place of exponentials.
            self._row_factors = self._of_row * torch.exp2(scores.shift - by_row * LOG2E).to(share.dtype)  # (R,)
            self._column_factors = self._of_column * torch.exp2(scores.shift - by_column * LOG2E).to(share.dtype)

    def pairs(self, tile: Tensor, rows: slice, columns: slice) -> Tensor:
        """Return the (r, c) derivatives by a tile of scores, in place of those before."""
        if not self._are_powers:
            out = torch.exp(tile - self._by_row[rows, None]).mul_(self._of_row)
            if self._problem.symmetric:
                out += torch.exp(tile - self._by_column[columns]).mul_(self._of_column)
            out = out.to(tile.dtype)
        else:
            if len(self._scratch) < tile.numel():
                self._scratch = tile.new_empty(tile.numel())
            out = self._scratch[: tile.numel()].view(tile.shape)
            if self._problem.symmetric:
                torch.add(self._row_factors[rows, None], self._column_factors[columns], out=out).mul_(tile)
            else:
                torch.mul(tile, self._row_factors[rows, None], out=out)
        for own, positives in _positives(self._problem, out, rows, columns):
            mask = self._problem.row_mask
            positives.sub_(self._share if mask is None else self._share * mask[own])
        return out

    def private(self, tile: Tensor, rows: slice) -> Tensor:
        """Return the (r, N) derivatives by the scores of private negatives."""
        if self._are_powers:
            return tile * self._row_factors[rows, None]
        return torch.exp(tile - self._by_row[rows, None]).mul_(self._of_row).to(tile.dtype)


def _positives(problem: Problem, tile: Tensor, rows: slice, columns: slice) -> list[tuple[slice, Tensor]]:
    """Return which rows have their positive in a tile, and a view of these; an empty list if none."""
    diagonal = rows.start + problem.offset - columns.start
    if not -tile.shape[0] < diagonal < tile.shape[1]:
        return []
    positives = tile.diagonal(diagonal)
    first = rows.start + max(0, -diagonal)
    return [(slice(first, first + len(positives)), positives)]


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]
