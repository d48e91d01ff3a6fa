"""The kernels of the large-batch path on a GPU, backward; :mod:`.triton_gradients` says what they compute.

Log-sum-exps come as ``halves`` (n, 2), float32: their whole part w in base 2, and f = 2**(w - log-sum-exp), so that a
probability is 2**(score - w) * f. A positive's G is the difference of a probability near 1 and 1, so its last bits
count: less a whole number a score stays exact, less another score's logarithm it would not.
"""

# Triton's functions take what has no type in Python.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

from .triton_merge import INFINITY, LOG2E, present
from .triton_tiles import block_and_run, crosses, dot_products, exclude, multiply_add


@triton.jit
def _sums_of(halves, index, count):
    """Return the whole parts of log-sum-exps; +inf, which makes probabilities 0, where absent."""
    if halves is None:
        value = tl.zeros_like(index).to(tl.float32) + INFINITY
    else:
        value = tl.load(halves + 2 * index, mask=index < count, other=INFINITY)
    return value


@triton.jit
def _factors_of(halves, index, count):
    """Return the factors that belong to the whole parts of log-sum-exps."""
    if halves is None:
        value = tl.zeros_like(index).to(tl.float32)
    else:
        value = tl.load(halves + 2 * index + 1, mask=index < count, other=0.0)
    return value


@triton.jit
def _score_gradients(
    scores, first_row, first_column, R, C, row_halves, column_halves, row_share, column_share, unit,
    M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Return ``unit`` times the softmax terms of G, (M, N), from base-2 scores, which are -inf where left out.

    One exponential a score serves both probabilities, as 2**(s - row) = 2**(s - low) * 2**(low - row) with the lowest
    log-sum-exp of the tile as ``low``. No score is above its row's log-sum-exp, so both factors stay between 2**-126
    and 2**122 if the tile's log-sum-exps lie within 120; what is flushed to zero are probabilities under 2**-126.
    """
    rows = first_row + tl.arange(0, M)  # (M,)
    columns = first_column + tl.arange(0, N)  # (N,)
    row_sums = _sums_of(row_halves, rows, R)  # (M,)
    column_sums = _sums_of(column_halves, columns, C)  # (N,)
    low = tl.minimum(tl.min(row_sums), tl.min(column_sums))
    high = tl.maximum(
        tl.max(tl.where(row_sums == INFINITY, -INFINITY, row_sums)),
        tl.max(tl.where(column_sums == INFINITY, -INFINITY, column_sums)),
    )
    low = tl.where(low == INFINITY, 0.0, low)
    of_rows = unit * row_share * _factors_of(row_halves, rows, R)  # (M,)
    of_columns = unit * column_share * _factors_of(column_halves, columns, C)  # (N,)
    if high - low < 120.0:
        of_rows *= tl.exp2(low - row_sums)
        of_columns *= tl.exp2(low - column_sums)
        gradient = tl.exp2(scores - low) * (of_rows[:, None] + of_columns[None, :])  # (M, N)
    else:
        gradient = of_rows[:, None] * tl.exp2(scores - row_sums[:, None])  # (M, N)
        gradient += of_columns[None, :] * tl.exp2(scores - column_sums[None, :])
    return gradient


@triton.jit
def _less_positives(
    gradient, first_row, first_column, R, C, row_mask, column_mask, shift, unit, M: tl.constexpr, N: tl.constexpr
):
    """Return a tile (M, N) less ``unit`` at each row's own column, unless padding."""
    rows = first_row + tl.arange(0, M)  # (M,)
    columns = first_column + tl.arange(0, N)  # (N,)
    own = (rows + shift)[:, None] == columns[None, :]  # (M, N)
    own = own & present(rows, R, row_mask)[:, None] & present(columns, C, column_mask)[None, :]
    return gradient - tl.where(own, unit, 0.0)


@triton.jit(do_not_specialize=["R", "C", "shift"], do_not_specialize_on_alignment=["row_halves", "column_halves"])
def own_rows_products(
    rows_features, columns_features, scale, row_ids, column_ids, row_mask, column_mask, row_halves, column_halves,
    products, R, C, D, shift, row_stride, column_stride, row_share, column_share, unit, weight,
    KINDS: tl.constexpr, WHOLE: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr, ADD: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, SLICE: tl.constexpr,
):  # fmt: skip
    """Store, or add, ``weight`` * ``unit`` * sum_j G_ij column_j into ``products`` (R, D), float32.

    Rows are the views' and columns the texts', or with the sides swapped the other way round. A program makes a
    block of rows and a slice of features. ``WHOLE`` says that one slice holds all features: a block of columns is
    then read once for both its products.
    """
    first_row = tl.program_id(0) * M
    rows = first_row + tl.arange(0, M)  # (M,)
    features_at = rows_features + (tl.minimum(rows, R - 1).to(tl.int64) * row_stride)[:, None]  # (M, 1)
    depth = tl.program_id(1) * SLICE + tl.arange(0, SLICE)  # (S,)
    factor = tl.load(scale) * LOG2E
    total = tl.zeros((M, SLICE), tl.float32)
    if WHOLE:
        left = tl.load(features_at + depth[None, :], mask=(depth < D)[None, :], other=0.0)  # (M, S)
    for first_column in range(0, C, N):
        columns = first_column + tl.arange(0, N)  # (N,)
        columns_at = columns_features + tl.minimum(columns, C - 1).to(tl.int64) * column_stride  # (N,)
        right = tl.load(columns_at[:, None] + depth[None, :], mask=(depth < D)[None, :], other=0.0)  # (N, S)
        if WHOLE:
            scores = multiply_add(left, tl.trans(right), tl.zeros((M, N), tl.float32), PRECISION)  # (M, N)
        else:
            scores = dot_products(
                features_at, columns_at[None, :], None, None, first_row, first_column, D, EVEN, PRECISION, M, N, K
            )
        scores = exclude(
            scores * factor, first_row, first_column, R, C, row_ids, column_ids, row_mask, column_mask, shift,
            KINDS, M, N,
        )  # fmt: skip
        gradient = _score_gradients(
            scores, first_row, first_column, R, C, row_halves, column_halves, row_share, column_share, unit, M, N
        )  # (M, N)
        if crosses(first_row, first_column, shift, M, N):
            gradient = _less_positives(
                gradient, first_row, first_column, R, C, row_mask, column_mask, shift, unit, M, N
            )
        total = multiply_add(gradient.to(right.dtype), right, total, PRECISION)  # (M, S)
    at = products + rows.to(tl.int64)[:, None] * D + depth[None, :]
    inside = (rows < R)[:, None] & (depth < D)[None, :]
    total *= weight
    if ADD:
        total += tl.load(at, mask=inside, other=0.0)
    tl.store(at, total, mask=inside)


@triton.jit(
    do_not_specialize=["R", "C", "shift", "blocks", "column_blocks"],
    do_not_specialize_on_alignment=["row_ids", "row_mask", "row_halves", "column_halves"],
)
def strip_gradients(
    views, texts, view_tiles, text_tiles, scale, row_ids, column_ids, row_mask, column_mask, row_halves, column_halves,
    workspace, R, C, D, shift, blocks, column_blocks, view_stride, text_stride, workspace_stride,
    row_share, column_share, unit,
    KINDS: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr, GROUP: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Store ``unit`` * G of R rows and C columns into ``workspace`` (R, C), in the features' dtype."""
    block, column_block = block_and_run(tl.program_id(0), blocks, column_blocks, GROUP)
    first_row, first_column = block * M, column_block * N
    row_at = tl.minimum(first_row + tl.arange(0, M), R - 1)  # (M,)
    column_at = tl.minimum(first_column + tl.arange(0, N), C - 1)  # (N,)
    view_at = views + (row_at.to(tl.int64) * view_stride)[:, None]  # (M, 1)
    text_at = texts + (column_at.to(tl.int64) * text_stride)[None, :]  # (1, N)
    scores = dot_products(
        view_at, text_at, view_tiles, text_tiles, first_row, first_column, D, EVEN, PRECISION, M, N, K
    )  # (M, N)
    scores = exclude(
        scores * (tl.load(scale) * LOG2E), first_row, first_column, R, C, row_ids, column_ids, row_mask, column_mask,
        shift, KINDS, M, N,
    )  # fmt: skip
    rows = first_row + tl.arange(0, M)  # (M,)
    columns = first_column + tl.arange(0, N)  # (N,)
    gradient = _score_gradients(
        scores, first_row, first_column, R, C, row_halves, column_halves, row_share, column_share, unit, M, N
    )  # (M, N)
    if crosses(first_row, first_column, shift, M, N):
        gradient = _less_positives(gradient, first_row, first_column, R, C, row_mask, column_mask, shift, unit, M, N)
    at = workspace + rows.to(tl.int64)[:, None] * workspace_stride + columns[None, :]
    tl.store(at, gradient.to(workspace.dtype.element_ty), mask=(rows < R)[:, None] & (columns < C)[None, :])


@triton.jit(
    do_not_specialize=["R", "N", "parts_stride"],
    do_not_specialize_on_alignment=["row_halves", "private", "scale_parts"],
)
def finish_rows(
    products, views, scale, strength, row_halves, private, negatives,
    views_gradient, negatives_gradient, scale_parts,
    R, N, D, view_stride, negatives_row_stride, negatives_stride, parts_stride, row_share, weight, unit,
    ADD: tl.constexpr, M: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Make the gradients of some rows from ``products`` (R, D) = ``unit`` * sum_j G_ij t_j; each output may be none.

    ``views_gradient`` (R, D); ``negatives_gradient`` (R, N, D), to which ``ADD`` adds; ``scale_parts`` (D / K, R), of
    which a line is ``parts_stride`` long.
    ``strength`` is u / pairs, ``weight`` the view's.
    """
    rows = tl.program_id(0) * M + tl.arange(0, M)  # (M,)
    depth = tl.program_id(1) * K + tl.arange(0, K)  # (K,)
    inside = (rows < R)[:, None] & (depth < D)[None, :]  # (M, K)
    at = rows.to(tl.int64)
    power = tl.load(strength) * weight / unit
    factor = power * tl.load(scale)
    view = tl.load(views + (at * view_stride)[:, None] + depth[None, :], mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((M, K), tl.float32)
    if products is not None:
        total += tl.load(products + at[:, None] * D + depth[None, :], mask=inside, other=0.0)
    if negatives is not None:
        sums, factors = _sums_of(row_halves, rows, R), _factors_of(row_halves, rows, R)  # (M,)
        for n in range(0, N):
            score = tl.load(private + at * N + n, mask=rows < R, other=-INFINITY)  # (M,)
            gradient = (unit * row_share * factors * tl.exp2(score - sums))[:, None]  # (M, 1): unit * G_in
            negative_at = negatives + (at * negatives_row_stride + n * negatives_stride)[:, None] + depth[None, :]
            # What a missing negative holds, which may be nan, is not read.
            wanted = inside & (gradient > 0.0)
            total += gradient * tl.load(negative_at, mask=wanted, other=0.0).to(tl.float32)
            if negatives_gradient is not None:
                out = negatives_gradient + ((at * N + n) * D)[:, None] + depth[None, :]  # (M, K)
                value = factor * gradient * view  # dn_in = scale * G_in v_i
                if ADD:
                    value += tl.load(out, mask=inside, other=0.0)
                tl.store(out, value.to(negatives_gradient.dtype.element_ty), mask=inside)
    if views_gradient is not None:  # dv_i = scale * (sum_j G_ij t_j + sum_n G_in n_in)
        out = views_gradient + at[:, None] * D + depth[None, :]
        tl.store(out, (factor * total).to(views_gradient.dtype.element_ty), mask=inside)
    if scale_parts is not None:  # d scale: a row's part over these features is <dv_i, v_i> / scale
        part = tl.sum(power * total * view, 1)  # (M,)
        tl.store(scale_parts + tl.program_id(1).to(tl.int64) * parts_stride + rows, part, mask=rows < R)
