"""The one launch that computes a call of few rows, forward.

One program holds the score matrix of a view in registers. It is bound by how fast one multiprocessor can read the
features, so the private negatives, the largest input, are read once for all views and four of them at a time.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .triton_small_gradients import pick

# The start of a running maximum: below every score, yet finite, so that a difference with it is never inf - inf.
_LOWEST: tl.constexpr = tl.constexpr(-3.0e38)


@triton.jit
def _loaded(pointer: tl.tensor, at: tl.tensor, inside: tl.tensor, WIDEN: tl.constexpr) -> tl.tensor:
    """Return features at offsets, 0 outside; as float32 where the interpreter could not multiply them."""
    tile = tl.load(pointer + at, inside, other=0.0)
    if WIDEN:
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def _products(
    view: tl.tensor,
    texts: tl.tensor,
    valid: tl.tensor,
    width: tl.tensor,
    view_stride: tl.tensor,
    text_stride: tl.tensor,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
) -> tl.tensor:
    """Return view @ texts.T, (P, P) float32; 0 where either is padding, whatever it holds."""
    row = tl.arange(0, BLOCK)[:, None]  # (P, 1)
    products = tl.zeros((BLOCK, BLOCK), tl.float32)
    for start in range(0, width, BLOCK_D):
        feature = start + tl.arange(0, BLOCK_D)[None, :]  # (1, d)
        inside = valid[:, None] & (feature < width)  # (P, d)
        left = _loaded(view, row * view_stride + feature, inside, WIDEN)  # (P, d)
        right = _loaded(texts, row * text_stride + feature, inside, WIDEN)  # (P, d)
        products = tl.dot(left, tl.trans(right), products, input_precision=PRECISION)  # (P, P)
    return products


@triton.jit
def _allowed(ids: tl.tensor, valid: tl.tensor, rows: tl.tensor, KINDS: tl.constexpr, BLOCK: tl.constexpr) -> tl.tensor:
    """Return (P, P) bool, true where a pair is scored: neither is padding, and different rows share no id."""
    index = tl.arange(0, BLOCK)
    allowed = valid[:, None] & valid[None, :]  # (P, P)
    for kind in tl.static_range(KINDS):
        own = tl.load(ids + index * KINDS + kind, index < rows, other=0)  # (P,)
        allowed &= (own[:, None] != own[None, :]) | (index[:, None] == index[None, :])  # (P, P)
    return allowed


@triton.jit
def _private(
    first: tl.tensor,
    second: tl.tensor,
    third: tl.tensor,
    fourth: tl.tensor,
    negatives: tl.tensor,
    present: tl.tensor,
    kept: tl.tensor,
    factor: tl.tensor,
    valid: tl.tensor,
    rows: tl.tensor,
    width: tl.tensor,
    count: tl.tensor,
    view_stride: tl.tensor,
    VIEWS: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_P: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return what private negatives add to the log-sum-exps of rows: three (P, 4), float32, by row and view.

    They are a maximum m of the scores s, the sum of exp(s - m) and the sum of exp(s - m) * s / scale. The largest input
    by far is read once for all views, four negatives of every row at a time. The scores are kept, (V, R, N).
    """
    row, place, view = tl.arange(0, BLOCK), tl.arange(0, 4), tl.arange(0, 4)
    maximum = tl.full((BLOCK, 4), _LOWEST, tl.float32)
    total = tl.zeros((BLOCK, 4), tl.float32)
    expected = tl.zeros((BLOCK, 4), tl.float32)
    for start in range(0, count, 4):
        negative = start + place  # (4,)
        there = valid[:, None] & (negative < count)[None, :]  # (P, 4)
        if present is not None:
            there &= tl.load(present + row[:, None] * count + negative[None, :], there, other=0) != 0
        products = tl.zeros((BLOCK, 4, 4), tl.float32)  # row, negative, view
        for begin in range(0, width, BLOCK_P):
            feature = begin + tl.arange(0, BLOCK_P)  # (d,)
            inside = (feature < width)[None, :]  # (1, d)
            at = ((row[:, None] * count + negative[None, :]) * width)[:, :, None]  # (P, 4, 1)
            tile = _loaded(negatives, at + feature[None, None, :], there[:, :, None] & inside[:, None, :], True)
            at = row[:, None] * view_stride + feature[None, :]  # (P, d)
            for each in tl.static_range(VIEWS):
                features = _loaded(pick(each, first, second, third, fourth), at, valid[:, None] & inside, True)
                part = tl.sum(tile * features[:, None, :], 2)[:, :, None]  # (P, 4, 1)
                products += tl.where(view[None, None, :] == each, part, 0.0)
        scores = tl.where(there[:, :, None], factor * products, -float("inf"))  # (P, 4, 4)
        if kept is not None:
            private = kept + VIEWS * rows * BLOCK
            at = ((view[None, None, :] * rows + row[:, None, None]) * count) + negative[None, :, None]  # (P, 4, 4)
            inside = (row < rows)[:, None, None] & (negative < count)[None, :, None] & (view < VIEWS)[None, None, :]
            tl.store(private + at, scores, inside)
        top = tl.maximum(maximum, tl.max(scores, 1))  # (P, 4)
        terms = tl.exp(scores - top[:, None, :])  # (P, 4, 4)
        shrink = tl.exp(maximum - top)  # (P, 4)
        total = total * shrink + tl.sum(terms, 1)
        expected = expected * shrink + tl.sum(terms * products, 1)
        maximum = top
    return maximum, total, expected


@triton.jit
def _log_sum_exp(
    scores: tl.tensor,
    products: tl.tensor,
    valid: tl.tensor,
    maximum: tl.tensor,
    total: tl.tensor,
    expected: tl.tensor,
    AXIS: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Return log-sum-exps along an axis of scores (P, P), continued from earlier terms, and softmax-mean products.

    Between them is what the log-sum-exps, as float32, were rounded by: near 100 up to 4e-6, which is much of a loss
    close to 0 and of its gradient. All are (P,) float32; inf, 0 and 0 for padding.
    """
    top = tl.maximum(maximum, tl.max(scores, AXIS))  # (P,)
    terms = tl.exp(scores - tl.expand_dims(top, AXIS))  # (P, P)
    shrink = tl.exp(maximum - top)  # (P,)
    total = tl.where(valid, total * shrink + tl.sum(terms, AXIS), 1.0)
    mean = (expected * shrink + tl.sum(terms * products, AXIS)) / total
    logarithm = tl.log(total)
    rounded = top + logarithm
    # Knuth's TwoSum: exact whichever of the two is larger.
    part = rounded - top
    rest = (top - (rounded - part)) + (logarithm - part)
    return tl.where(valid, rounded, float("inf")), tl.where(valid, rest, 0.0), tl.where(valid, mean, 0.0)


@triton.jit
def _directions(
    scores: tl.tensor,
    products: tl.tensor,
    valid: tl.tensor,
    factor: tl.tensor,
    maximum: tl.tensor,
    total: tl.tensor,
    expected: tl.tensor,
    SYMMETRIC: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Return positives, log-sum-exps of rows and columns, losses and their derivatives by the scale: (P,) each.

    After either log-sum-exps comes what these were rounded by.

    With products z, S = scale * z, so the derivative of a log-sum-exp is the softmax-mean of z, and that of a positive
    is its z: no division by a scale that may be 0.
    """
    index = tl.arange(0, BLOCK)
    diagonal = index[:, None] == index[None, :]  # (P, P)
    own = tl.where(valid, tl.sum(tl.where(diagonal, products, 0.0), 1), 0.0)  # (P,)
    # Not factor * own: fused with the sum that follows, it would not be the rounded score that the other sums hold.
    positives = tl.where(valid, tl.sum(tl.where(diagonal, scores, 0.0), 1), 0.0)
    by_row, row_rest, mean = _log_sum_exp(scores, products, valid, maximum, total, expected, 1)  # (P,)
    losses, slopes = (by_row - positives) + row_rest, mean - own
    by_column, column_rest = by_row, row_rest
    if SYMMETRIC:
        none = tl.zeros((BLOCK,), tl.float32)
        by_column, column_rest, mean = _log_sum_exp(scores, products, valid, none + _LOWEST, none, none, 0)  # (P,)
        losses = 0.5 * losses + 0.5 * ((by_column - positives) + column_rest)
        slopes = 0.5 * slopes + 0.5 * (mean - own)
    losses, slopes = tl.where(valid, losses, 0.0), tl.where(valid, slopes, 0.0)
    return positives, by_row, row_rest, by_column, column_rest, losses, slopes


@triton.jit
def _column(table: tl.tensor, this: tl.tensor) -> tl.tensor:
    """Return the column of a table (P, 4) that a mask (1, 4) selects: (P,)."""
    return tl.sum(tl.where(this, table, 0.0), 1)


@triton.jit(do_not_specialize=["rows", "count"])
def forward_kernel(
    first: tl.tensor, second: tl.tensor, third: tl.tensor, fourth: tl.tensor, texts: tl.tensor, negatives: tl.tensor,
    ids: tl.tensor, mask: tl.tensor, present: tl.tensor, scale: tl.tensor, plus: tl.tensor,
    loss: tl.tensor, per_view: tl.tensor, per_row: tl.tensor, sums: tl.tensor, kept: tl.tensor,
    rows: tl.tensor, width: tl.tensor, count: tl.tensor, view_stride: tl.tensor, text_stride: tl.tensor,
    weight0: tl.tensor, weight1: tl.tensor, weight2: tl.tensor, weight3: tl.tensor,
    VIEWS: tl.constexpr, KINDS: tl.constexpr, SYMMETRIC: tl.constexpr, SCALE: tl.constexpr,
    BLOCK: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_P: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
) -> None:  # fmt: skip
    """Compute a whole call: grid (1,).

    What is absent of negatives, ids, mask (of rows), present (negatives' mask) and plus is none; so is ``kept`` if no
    gradient will be asked for. Else it gets the scores (V, R, P), those of negatives (V, R, N), what float32 rounds off
    log-sum-exps (2, V, R), the derivative of the loss by the scale, and 1 / M for M pairs. ``sums`` is (3, V, R):
    positives, log-sum-exps of rows and of columns.
    """
    index = tl.arange(0, BLOCK)
    inside = index < rows  # (P,)
    valid = inside
    if mask is not None:
        valid = inside & (tl.load(mask + index, inside, other=0) != 0)
    factor = tl.load(scale)
    pairs = tl.maximum(tl.sum(valid.to(tl.float32), 0), 1.0)
    objective = pairs * 0.0  # a float32 from the start, as the loop over views wants it
    if plus is not None:
        objective = tl.load(plus).to(tl.float32)
    slope = pairs * 0.0
    maximum = tl.full((BLOCK, 4), _LOWEST, tl.float32)  # by row and view, as are the next two
    total = tl.zeros((BLOCK, 4), tl.float32)
    expected = tl.zeros((BLOCK, 4), tl.float32)
    if negatives is not None:
        maximum, total, expected = _private(
            first, second, third, fourth, negatives, present, kept, factor, valid, rows, width, count, view_stride,
            VIEWS, BLOCK, BLOCK_P,
        )  # fmt: skip
    for view in range(VIEWS):
        features = pick(view, first, second, third, fourth)
        products = _products(
            features, texts, valid, width, view_stride, text_stride, BLOCK, BLOCK_D, PRECISION, WIDEN
        )  # (P, P)
        scores = tl.where(_allowed(ids, valid, rows, KINDS, BLOCK), factor * products, -float("inf"))  # (P, P)
        at = view * rows + index  # (P,)
        if kept is not None:
            tl.store(kept + at[:, None] * BLOCK + index[None, :], scores, inside[:, None])
        this = tl.arange(0, 4)[None, :] == view  # (1, 4)
        earlier, terms, means = _column(maximum, this), _column(total, this), _column(expected, this)  # (P,)
        positives, by_row, row_rest, by_column, column_rest, losses, slopes = _directions(
            scores, products, valid, factor, earlier, terms, means, SYMMETRIC, BLOCK
        )  # (P,)
        tl.store(sums + at, positives, inside)
        tl.store(sums + VIEWS * rows + at, by_row, inside)
        if SYMMETRIC:
            tl.store(sums + 2 * VIEWS * rows + at, by_column, inside)
        if kept is not None:
            rests = kept + VIEWS * rows * (BLOCK + count) + at  # (P,)
            tl.store(rests, row_rest, inside)
            tl.store(rests + VIEWS * rows, column_rest, inside)
        tl.store(per_row + at, losses, inside)
        mean = tl.sum(losses, 0) / pairs
        tl.store(per_view + view, mean)
        weight = pick(view, weight0, weight1, weight2, weight3)
        objective += weight * mean
        slope += weight * tl.sum(slopes, 0) / pairs
    tl.store(loss, objective)
    if kept is not None:
        tail = kept + VIEWS * rows * (BLOCK + count + 2)
        tl.store(tail + 1, 1.0 / pairs)
        if SCALE:
            tl.store(tail, slope)
