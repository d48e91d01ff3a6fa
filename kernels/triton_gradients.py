"""The large-batch path on a GPU, backward: scores are computed again, tile by tile.

The loss of a view, times its weight w and the upstream gradient u, has with respect to the score s_ij = scale * v_i.t_j

    u * w / pairs * G_ij,   G_ij = a * exp(s_ij - rows_i) + b * exp(s_ij - columns_j) - [t_j is v_i's own text]

as its gradient, where a and b are the shares of the two softmaxes, and G_in = a * exp(s_in - rows_i) for a private
negative. All other gradients are products with G: dv_i = scale * (sum_j G_ij t_j + sum_n G_in n_in),
dt_j = scale * sum_i G_ij v_i, dn_in = scale * G_in v_i, and d scale = sum_i (sum_j G_ij v_i.t_j + sum_n G_in v_i.n_in),
which is the sum over i of <dv_i, v_i> / scale: each times u * w / pairs, summed over views.

Two plans make the sums over j and i, in float32:

    own-rows  A program keeps a block of rows' sums in registers while all columns pass by, as FlashAttention does
              (arXiv 2205.14135). Needs no memory; a second pass with the sides swapped makes the texts' gradient.
    strips    A kernel writes G of some rows and columns into a workspace of bounded size, from which two matrix
              products of cuBLAS make both sums. With trained texts it multiplies 8 R C D numbers in all, not 10.
"""

# Triton's functions take what has no type in Python.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from .problem import Gradients, Needs, Problem, Sums
from .triton_config import (
    Config,
    Masks,
    add_product,
    backward_plan,
    check_device,
    config_for,
    descriptors,
    precision,
    unit_stride,
)
from .triton_tiles import INFINITY, LOG2E, block_and_run, crosses, dot_products, exclude, multiply_add, present

# G is multiplied in the features' dtype. float16 ends at 6e-8, which is not enough for probabilities over many columns:
# there it is held times this (|G| <= 1, and float16 ends at 65504).
UNITS = {torch.float16: 2.0**14}
FINISH_ROWS, FINISH_DEPTH = 16, 128


@triton.jit
def _sums_of(sums, index, count):
    """Return log-sum-exps in base 2; +inf, which makes probabilities 0, for what is absent or sums nothing."""
    if sums is None:
        value = tl.zeros_like(index).to(tl.float32) + INFINITY
    else:
        value = tl.load(sums + index, mask=index < count, other=INFINITY) * LOG2E
        value = tl.where(value == -INFINITY, INFINITY, value)
    return value


@triton.jit
def _score_gradients(scores, row_sums, column_sums, row_share, column_share, unit):
    """Return ``unit`` times the softmax terms of G, (M, N), from base-2 scores, which are -inf where left out.

    One exponential a score serves both probabilities, as 2**(s - row) = 2**(s - low) * 2**(low - row) with the lowest
    log-sum-exp of the tile as ``low``. No score is above its row's log-sum-exp, so both factors stay between 2**-126
    and 2**121 if the tile's log-sum-exps lie within 120; what is flushed to zero are probabilities under 2**-126.
    """
    low = tl.minimum(tl.min(row_sums), tl.min(column_sums))
    high = tl.maximum(
        tl.max(tl.where(row_sums == INFINITY, -INFINITY, row_sums)),
        tl.max(tl.where(column_sums == INFINITY, -INFINITY, column_sums)),
    )
    low = tl.where(low == INFINITY, 0.0, low)
    if high - low < 120.0:
        of_rows = unit * row_share * tl.exp2(low - row_sums)  # (M,)
        of_columns = unit * column_share * tl.exp2(low - column_sums)  # (N,)
        gradient = tl.exp2(scores - low) * (of_rows[:, None] + of_columns[None, :])  # (M, N)
    else:
        gradient = unit * row_share * tl.exp2(scores - row_sums[:, None])  # (M, N)
        gradient += unit * column_share * tl.exp2(scores - column_sums[None, :])
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


@triton.jit(do_not_specialize=["R", "C", "shift"])
def own_rows_products(
    rows_features, columns_features, scale, row_ids, column_ids, row_mask, column_mask, row_sums, column_sums,
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
    of_rows = _sums_of(row_sums, rows, R)
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
        of_columns = _sums_of(column_sums, columns, C)
        gradient = _score_gradients(scores, of_rows, of_columns, row_share, column_share, unit)  # (M, N)
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


@triton.jit(do_not_specialize=["R", "C", "shift", "blocks", "column_blocks"])
def strip_gradients(
    views, texts, view_tiles, text_tiles, scale, row_ids, column_ids, row_mask, column_mask, row_sums, column_sums,
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
        scores, _sums_of(row_sums, rows, R), _sums_of(column_sums, columns, C), row_share, column_share, unit
    )  # (M, N)
    if crosses(first_row, first_column, shift, M, N):
        gradient = _less_positives(gradient, first_row, first_column, R, C, row_mask, column_mask, shift, unit, M, N)
    at = workspace + rows.to(tl.int64)[:, None] * workspace_stride + columns[None, :]
    tl.store(at, gradient.to(workspace.dtype.element_ty), mask=(rows < R)[:, None] & (columns < C)[None, :])


@triton.jit(do_not_specialize=["R", "N"])
def finish_rows(
    products, views, scale, strength, row_sums, private, negatives,
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
        sums = _sums_of(row_sums, rows, R)  # (M,)
        for n in range(0, N):
            score = tl.load(private + at * N + n, mask=rows < R, other=-INFINITY)  # (M,)
            gradient = (unit * row_share * tl.exp2(score - sums))[:, None]  # (M, 1): unit * G_in
            negative_at = negatives + (at * negatives_row_stride + n * negatives_stride)[:, None] + depth[None, :]
            total += gradient * tl.load(negative_at, mask=inside, other=0.0).to(tl.float32)
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


@torch.no_grad()
def gradients(problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Compute the gradients of ``upstream`` () times the loss of a problem, which may be a strip of one.

    Args:
        problem: As given to :func:`.triton_tiles.log_sum_exps`.
        sums: What that returned; for a strip, with ``columns`` (V, C) over the rows of all strips.
        upstream: () on the problem's device.
        needs: Which gradients to compute. The others are none.

    Raises:
        RuntimeError: The tensors are neither on a CUDA device nor interpreted.
    """
    check_device(problem.texts)
    plan, _ = backward_plan(problem, needs)
    with torch.cuda.device_of(problem.texts):
        work = _Work.of(problem, sums, upstream, needs)
        for number, view in enumerate(map(unit_stride, problem.views)):
            if not (needs.views or needs.scale or needs.texts):
                work.finish(number, view, 0, None)
            elif plan == "strips":
                _strips(work, number, view)
            else:
                _own_rows(work, number, view)
        return work.gradients()


@dataclass(frozen=True)
class _Work:
    """A backward pass: what all its kernels read, and where its outputs are put together."""

    problem: Problem
    sums: Sums
    needs: Needs
    masks: Masks
    config: Config
    texts: Tensor  # (C, D)
    negatives: Tensor | None  # (R, N, D)
    strength: Tensor  # () upstream / pairs
    unit: float
    views_gradients: list[Tensor] | None  # V of (R, D)
    texts_products: Tensor | None  # (C, D) float32: sum over views of weight * unit * G.T @ view
    negatives_gradient: Tensor | None  # (R, N, D); float32 if several views add to it
    scale_parts: Tensor | None  # (V, slices of D, R) float32

    @classmethod
    def of(cls, problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> _Work:
        """Make room for the outputs."""
        texts, negatives, first = problem.texts, problem.negatives, problem.views[0]
        sum_dtype = torch.float32 if len(problem.views) > 1 else texts.dtype
        slices = triton.cdiv(texts.shape[1], FINISH_DEPTH)
        return cls(
            problem, sums, needs, Masks.of(problem), config_for(texts.device, texts.dtype), unit_stride(texts),
            None if negatives is None else unit_stride(negatives),
            upstream.to(torch.float32) / problem.pairs, UNITS.get(texts.dtype, 1.0),
            [first.new_empty(first.shape) for _ in problem.views] if needs.views else None,
            texts.new_empty(texts.shape, dtype=torch.float32) if needs.texts else None,
            None if negatives is None or not needs.negatives else negatives.new_empty(negatives.shape, dtype=sum_dtype),
            texts.new_empty(len(problem.views), slices, len(first), dtype=torch.float32) if needs.scale else None,
        )  # fmt: skip

    def finish(self, number: int, view: Tensor, start: int, products: Tensor | None) -> None:
        """Make the gradients of a view's rows from ``start`` on; as many as ``products`` (r, D) has, or all."""
        own = slice(start, view.shape[0] if products is None else start + products.shape[0])
        rows, width = own.stop - start, view.shape[1]
        negatives, negatives_gradient = self.negatives, self.negatives_gradient
        if self.views_gradients is None and self.scale_parts is None and negatives_gradient is None:
            return
        finish_rows[(triton.cdiv(rows, FINISH_ROWS), triton.cdiv(width, FINISH_DEPTH))](
            products, view[own], self.problem.scale, self.strength,
            self.sums.rows[number, own], None if negatives is None else self.sums.kept[number, own],
            None if negatives is None else negatives[own],
            None if self.views_gradients is None else self.views_gradients[number][own],
            None if negatives_gradient is None else negatives_gradient[own],
            None if self.scale_parts is None else self.scale_parts[number, :, own],
            rows, 0 if negatives is None else negatives.shape[1], width, view.stride(0),
            *((0, 0) if negatives is None else negatives.stride()[:2]),
            view.shape[0], self.problem.shares[0], self.problem.weights[number], self.unit,
            ADD=number > 0, M=FINISH_ROWS, K=FINISH_DEPTH, num_warps=4,
        )  # fmt: skip

    def gradients(self) -> Gradients:
        """Return the outputs in the inputs' dtypes."""
        texts = negatives = scale = None
        if self.texts_products is not None:
            texts = torch.empty_like(self.texts_products, dtype=self.texts.dtype)
            torch.mul(self.texts_products, self.strength * self.problem.scale / self.unit, out=texts)
        if self.negatives_gradient is not None:
            negatives = self.negatives_gradient.to(self.texts.dtype)
        if self.scale_parts is not None:
            scale = self.scale_parts.sum().to(self.problem.scale.dtype)
        views = None if self.views_gradients is None else tuple(self.views_gradients)
        return Gradients(views, texts, negatives, scale)


def _own_rows(work: _Work, number: int, view: Tensor) -> None:
    """Make a view's gradients, and its part of the texts', by passes that store no scores."""
    problem, masks, needs = work.problem, work.masks, work.needs
    tiles, width = work.config.own_rows, view.shape[1]
    slice_depth = min(work.config.slice_depth, max(16, triton.next_power_of_2(width)))
    row_sums, column_sums = work.sums.rows[number], work.sums.columns[number] if problem.symmetric else None
    row_share, column_share = problem.shares
    of_views = (view, masks.row_ids, masks.row_mask, row_sums, row_share)
    of_texts = (work.texts, masks.column_ids, masks.column_mask, column_sums, column_share)

    def products(out: Tensor, rows: tuple, columns: tuple, shift: int, weight: float, add: bool) -> None:
        own_rows_products[(triton.cdiv(len(rows[0]), tiles.block_rows), triton.cdiv(width, slice_depth))](
            rows[0], columns[0], problem.scale, rows[1], columns[1], rows[2], columns[2], rows[3], columns[3],
            out, len(rows[0]), len(columns[0]), width, shift, rows[0].stride(0), columns[0].stride(0),
            rows[4], columns[4], work.unit, weight,
            KINDS=masks.kinds, WHOLE=width <= slice_depth, EVEN=width % tiles.block_depth == 0,
            PRECISION=precision(view.dtype), ADD=add,
            M=tiles.block_rows, N=tiles.block_columns, K=tiles.block_depth, SLICE=slice_depth,
            **tiles.options(masks.kinds),
        )  # fmt: skip

    own = None
    if needs.views or needs.scale:
        own = view.new_empty(view.shape, dtype=torch.float32)
        products(own, of_views, of_texts, problem.offset, 1.0, False)
    work.finish(number, view, 0, own)
    if work.texts_products is not None:
        products(work.texts_products, of_texts, of_views, -problem.offset, problem.weights[number], number > 0)


def _strips(work: _Work, number: int, view: Tensor) -> None:
    """Make a view's gradients, and its part of the texts', by way of a workspace that holds G of some pairs.

    Rows and columns are both cut: a sum that grows strip by strip is read and written once a strip, and near-square
    strips do most multiplications in between.
    """
    texts, needs, tiles = work.texts, work.needs, work.config.weights
    rows, columns = view.shape[0], texts.shape[0]
    room = work.config.workspace_bytes // view.element_size()
    width = min(columns, max(work.config.strip_columns, room // rows // tiles.block_columns * tiles.block_columns))
    height = min(rows, max(1, room // width // tiles.block_rows) * tiles.block_rows)
    # Lines of whole 16 elements keep every one of them aligned, for the products too.
    workspace = view.new_empty(height, triton.cdiv(width, 16) * 16)
    asked = needs.views or needs.scale
    products = view.new_empty(height, view.shape[1], dtype=torch.float32) if asked else None
    for top in range(0, rows, height):
        own = slice(top, min(rows, top + height))
        sums = None if products is None else products[: own.stop - own.start]  # (r, D)
        for left in range(0, columns, width):
            others = slice(left, min(columns, left + width))
            strip = workspace[: own.stop - own.start, : others.stop - others.start]  # (r, c)
            _strip(work, number, view[own], own, others, strip)
            if sums is not None:
                add_product(sums, strip, texts[others], 1.0, left == 0)
            if work.texts_products is not None:
                weight, first = work.problem.weights[number], number == 0 and top == 0
                add_product(work.texts_products[others], strip.T, view[own], weight, first)
        if sums is not None:
            work.finish(number, view, top, sums)
    if products is None:
        work.finish(number, view, 0, None)


def _strip(work: _Work, number: int, view: Tensor, own: slice, others: slice, strip: Tensor) -> None:
    """Store ``unit`` * G of some rows, whose features are ``view`` (r, D), and columns into ``strip`` (r, c)."""
    problem, masks, config, tiles = work.problem, work.masks, work.config, work.config.weights
    texts = work.texts[others]  # (c, D)
    blocks = triton.cdiv(strip.shape[0], tiles.block_rows)
    column_blocks = triton.cdiv(strip.shape[1], tiles.block_columns)
    strip_gradients[(blocks * column_blocks,)](
        view, texts, *descriptors(view, texts, tiles, config), problem.scale, *masks.strip(own, others),
        work.sums.rows[number, own], work.sums.columns[number, others] if problem.symmetric else None,
        strip, *strip.shape, texts.shape[1], problem.offset + own.start - others.start, blocks, column_blocks,
        view.stride(0), texts.stride(0), strip.stride(0), *problem.shares, work.unit,
        KINDS=masks.kinds, EVEN=texts.shape[1] % tiles.block_depth == 0, PRECISION=precision(texts.dtype),
        GROUP=config.row_group, M=tiles.block_rows, N=tiles.block_columns, K=tiles.block_depth,
        **tiles.options(masks.kinds),
    )  # fmt: skip
