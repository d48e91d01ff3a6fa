"""The one launch that computes every gradient of a call of few rows.

It reads the masked scores that the forward pass kept, S = scale * view @ texts.T with -inf where a pair is left out.
With w the view's weight, M the number of pairs that are not padding, and shares a and b of the two directions, the
gradient of upstream * loss with respect to a score is

    G_ij = upstream * w / M * C_ij,   C_ij = a * exp(S_ij - rows_i) + b * exp(S_ij - columns_j) - [i = j],

and with respect to a private score of row i it is upstream * w / M * a * exp(S_in - rows_i). A program forms the C it
needs, in [-1, 1], multiplies it with features, and applies the factors to the float32 result: float16 neither
overflows nor loses small gradients on the way. Source: the derivative of a log-sum-exp is a softmax.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def pick(view: tl.tensor, first: tl.tensor, second: tl.tensor, third: tl.tensor, fourth: tl.tensor) -> tl.tensor:
    """Return the argument of a view: pointers to separate tensors cannot be indexed."""
    chosen = first
    if view == 1:
        chosen = second
    if view == 2:
        chosen = third
    if view == 3:
        chosen = fourth
    return chosen


@triton.jit
def _coefficients(
    kept: tl.tensor,
    rows_sums: tl.tensor,
    columns_sums: tl.tensor,
    rest: tl.tensor,
    view: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    rows: tl.tensor,
    VIEWS: tl.constexpr,
    SYMMETRIC: tl.constexpr,
    BLOCK: tl.constexpr,
) -> tl.tensor:
    """Return C (r, c), float32, of a view's rows (r,) and columns (c,); 0 where a pair is left out.

    What float32 rounded off the log-sum-exps is subtracted by itself: C_ii is the difference of a probability near 1
    and 1, so their last bits count.
    """
    inside = (row < rows)[:, None] & (column < rows)[None, :]  # (r, c)
    at = (view * rows + row[:, None]) * BLOCK + column[None, :]  # (r, c)
    # Triton 3.2 cannot pipeline a load whose `other` is not 0.
    scores = tl.where(inside, tl.load(kept + at, inside, other=0.0), -float("inf"))  # (r, c)
    by_row = tl.load(rows_sums + view * rows + row, row < rows, other=0.0)  # (r,)
    own = (row[:, None] == column[None, :]) & (scores > -float("inf"))  # (r, c); not where a row is padding
    less = tl.load(rest + view * rows + row, row < rows, other=0.0)  # (r,)
    softmax = tl.exp((scores - by_row[:, None]) - less[:, None])  # (r, c)
    if SYMMETRIC:
        by_column = tl.load(columns_sums + view * rows + column, column < rows, other=0.0)  # (c,)
        less = tl.load(rest + (VIEWS + view) * rows + column, column < rows, other=0.0)  # (c,)
        softmax = 0.5 * softmax + 0.5 * tl.exp((scores - by_column[None, :]) - less[None, :])  # (r, c)
    return softmax - own.to(tl.float32)


@triton.jit
def _private_share(
    private: tl.tensor,
    rows_sums: tl.tensor,
    rest: tl.tensor,
    view: tl.tensor,
    row: tl.tensor,
    negative: tl.tensor,
    rows: tl.tensor,
    count: tl.tensor,
    SYMMETRIC: tl.constexpr,
) -> tl.tensor:
    """Return a * exp(S_in - rows_i), (r,) float32, of one negative of rows (r,); 0 where it is missing."""
    inside = row < rows  # (r,)
    scores = tl.load(private + (view * rows + row) * count + negative, inside, other=-float("inf"))  # (r,)
    by_row = tl.load(rows_sums + view * rows + row, inside, other=float("inf"))  # (r,)
    less = tl.load(rest + view * rows + row, inside, other=0.0)  # (r,)
    softmax = tl.exp((scores - by_row) - less)  # (r,)
    if SYMMETRIC:
        softmax *= 0.5
    return softmax


@triton.jit
def _features(
    pointer: tl.tensor,
    row: tl.tensor,
    feature: tl.tensor,
    rows_sums: tl.tensor,
    rows: tl.tensor,
    width: tl.tensor,
    stride: tl.tensor,
) -> tl.tensor:
    """Return features (r, d) as float32; 0 for padded rows, whose log-sum-exp is inf, whatever they hold."""
    present = tl.load(rows_sums + row, row < rows, other=float("inf")) < float("inf")  # (r,)
    inside = present[:, None] & (feature < width)[None, :]  # (r, d)
    return tl.load(pointer + row[:, None] * stride + feature[None, :], inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["rows_sums", "columns_sums", "rows", "count"])
def gradients_kernel(
    first: tl.tensor, second: tl.tensor, third: tl.tensor, fourth: tl.tensor, texts: tl.tensor, negatives: tl.tensor,
    scale: tl.tensor, upstream: tl.tensor, rows_sums: tl.tensor, columns_sums: tl.tensor, kept: tl.tensor,
    of_views: tl.tensor, of_texts: tl.tensor, of_negatives: tl.tensor, of_scale: tl.tensor,
    rows: tl.tensor, width: tl.tensor, count: tl.tensor, view_stride: tl.tensor, text_stride: tl.tensor,
    weight0: tl.tensor, weight1: tl.tensor, weight2: tl.tensor, weight3: tl.tensor,
    VIEWS: tl.constexpr, SYMMETRIC: tl.constexpr, BLOCK: tl.constexpr, BLOCK_R: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_D: tl.constexpr, PRECISION: tl.constexpr,
) -> None:  # fmt: skip
    """Compute one block of one gradient: grid (blocks of rows, slices of features, jobs).

    The jobs are the views, then the texts, then the negatives by their place in a row, as far as their outputs exist.
    """
    own = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)  # (r,) rows of the output
    feature = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)  # (d,)
    job = tl.program_id(2)
    inside = (own < rows)[:, None] & (feature < width)[None, :]  # (r, d)
    private = kept + VIEWS * rows * BLOCK
    rest = private + VIEWS * rows * count
    tail = rest + 2 * VIEWS * rows
    if of_scale is not None:  # noqa: SIM102 - known when compiled, unlike the next
        if job + tl.program_id(0) + tl.program_id(1) == 0:
            # dscale = sum over all scores of G * S / scale; the forward pass summed it for an upstream of 1.
            tl.store(of_scale, tl.load(upstream) * tl.load(tail))
    factor = tl.load(upstream) * tl.load(scale) * tl.load(tail + 1)  # upstream * scale / M
    total = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    if of_views is not None:
        if job < VIEWS:
            # dv_i = scale * (sum_j G_ij t_j + sum_n G_in negative_in)
            for start in range(0, rows, BLOCK_K):
                column = start + tl.arange(0, BLOCK_K)  # (k,)
                mixed = _coefficients(
                    kept, rows_sums, columns_sums, rest, job, own, column, rows, VIEWS, SYMMETRIC, BLOCK
                )  # (r, k)
                other = _features(texts, column, feature, rows_sums, rows, width, text_stride)  # (k, d)
                total = tl.dot(mixed, other, total, input_precision=PRECISION)  # (r, d)
            if negatives is not None:
                for n in range(count):
                    share = _private_share(private, rows_sums, rest, job, own, n, rows, count, SYMMETRIC)
                    share = share[:, None]  # (r, 1)
                    at = (own[:, None] * count + n) * width + feature[None, :]  # (r, d)
                    total += share * tl.load(negatives + at, inside & (share > 0), other=0.0).to(tl.float32)
            weight = pick(job, weight0, weight1, weight2, weight3)
            at = (job * rows + own[:, None]) * width + feature[None, :]  # (r, d)
            tl.store(of_views + at, (weight * factor * total).to(of_views.dtype.element_ty), inside)
        job -= VIEWS
    if of_texts is not None:
        if job == 0:
            # dt_j = scale * sum over views and i of G_ij v_i
            for view in range(VIEWS):
                other = pick(view, first, second, third, fourth)
                weight = pick(view, weight0, weight1, weight2, weight3)
                for start in range(0, rows, BLOCK_K):
                    row = start + tl.arange(0, BLOCK_K)  # (k,)
                    mixed = _coefficients(
                        kept, rows_sums, columns_sums, rest, view, row, own, rows, VIEWS, SYMMETRIC, BLOCK
                    )  # (k, r)
                    of_rows = _features(other, row, feature, rows_sums, rows, width, view_stride)  # (k, d)
                    total = tl.dot(tl.trans(weight * mixed), of_rows, total, input_precision=PRECISION)  # (r, d)
            at = own[:, None] * width + feature[None, :]  # (r, d)
            tl.store(of_texts + at, (factor * total).to(of_texts.dtype.element_ty), inside)
        job -= 1
    if of_negatives is not None:  # noqa: SIM102
        if job >= 0:
            # dnegative_in = scale * sum over views of G_in v_i
            for view in range(VIEWS):
                other = pick(view, first, second, third, fourth)
                other = _features(other, own, feature, rows_sums, rows, width, view_stride)  # (r, d)
                weight = pick(view, weight0, weight1, weight2, weight3)
                share = _private_share(private, rows_sums, rest, view, own, job, rows, count, SYMMETRIC)  # (r,)
                total += (weight * share)[:, None] * other  # (r, d)
            at = (own[:, None] * count + job) * width + feature[None, :]  # (r, d)
            tl.store(of_negatives + at, (factor * total).to(of_negatives.dtype.element_ty), inside)
