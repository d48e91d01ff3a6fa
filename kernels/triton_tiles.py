"""The large-batch path on a GPU, forward: one pass over the score matrix, which is never stored.

A program owns a block of rows and a run of column tiles. It computes a tile of scores like a matrix product and folds
it at once into both softmaxes: into the rows' sums, which stay in registers for the run, and into partial sums of the
columns, one a row block, which a small kernel merges (:mod:`.triton_merge`). Inside, scores are in base 2 (a GPU's
exponential is), outside in nats. Nothing is atomic, so equal inputs give equal bits.

The online log-sum-exp is Milakov and Gimelshein's (arXiv 1805.02867), tiling it over the contrastive loss is
Inf-CL's (arXiv 2410.17243).
"""

# Triton's functions take what has no type in Python.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from .problem import Gradients, Needs, Problem, Sums
from .triton_config import (
    Config,
    Masks,
    check_device,
    config_for,
    descriptors,
    is_interpreted,
    precision,
    processors,
    unit_stride,
)
from .triton_merge import INFINITY, LOG2E, absorb, merge_sums, present

# The interpreter multiplies bfloat16 as the integers that hold its bits; widening first is exact.
INTERPRETED = tl.constexpr(is_interpreted())
# See `_shared_base_sums`.
POOREST = tl.constexpr(2.0**-87)
PAIRS = 32  # private negatives scored by one program
# What one launch may take for partial sums of columns, which with all rows at once would grow with R * C: rows are cut
# into chunks, of one group of row blocks at the least.
PARTS_BYTES = 32 << 20


@triton.jit
def multiply_add(left, right, total, PRECISION: tl.constexpr):
    """Return left (M, K) @ right (K, N) + total (M, N), summed in float32."""
    if INTERPRETED:
        left = left.to(tl.float32)
        right = right.to(tl.float32)
    return tl.dot(left, right, total, input_precision=PRECISION)


@triton.jit
def dot_products(
    rows_at, columns_at, row_tiles, column_tiles, first_row, first_column, D,
    EVEN: tl.constexpr, PRECISION: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Return the (M, N) dot products of a block of rows and a block of columns over all of D.

    ``rows_at`` (M, 1) and ``columns_at`` (1, N) point at their first features; ``row_tiles`` and ``column_tiles`` are
    tensor descriptors that are used in their place, or none. ``EVEN`` says that D is a multiple of K.
    """
    total = tl.zeros((M, N), tl.float32)
    depth = tl.arange(0, K)
    for start in range(0, D, K):
        if row_tiles is not None:
            left = row_tiles.load([first_row, start])  # (M, K)
            right = column_tiles.load([first_column, start]).T  # (K, N)
        elif EVEN:
            left = tl.load(rows_at + (start + depth)[None, :])  # (M, K)
            right = tl.load(columns_at + (start + depth)[:, None])  # (K, N)
        else:
            inside = start + depth < D
            left = tl.load(rows_at + (start + depth)[None, :], mask=inside[None, :], other=0.0)
            right = tl.load(columns_at + (start + depth)[:, None], mask=inside[:, None], other=0.0)
        total = multiply_add(left, right, total, PRECISION)
    return total


@triton.jit
def exclude(
    scores, first_row, first_column, R, C, row_ids, column_ids, row_mask, column_mask, shift,
    KINDS: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Return scores (M, N) with -inf where a pair is left out; row i's positive is column i + ``shift``."""
    # Whole tiles without masks skip all this, and so do not hold the indices in registers.
    if KINDS > 0 or row_mask is not None:
        scores = _exclude(
            scores, first_row, first_column, R, C, row_ids, column_ids, row_mask, column_mask, shift, KINDS, M, N
        )
    elif (first_row + M > R) | (first_column + N > C):
        scores = _exclude(scores, first_row, first_column, R, C, None, None, None, None, shift, 0, M, N)
    return scores


@triton.jit
def _exclude(
    scores, first_row, first_column, R, C, row_ids, column_ids, row_mask, column_mask, shift,
    KINDS: tl.constexpr, M: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    rows = first_row + tl.arange(0, M)  # (M,)
    columns = first_column + tl.arange(0, N)  # (N,)
    # Adding is cheaper than choosing.
    scores += tl.where(present(columns, C, column_mask), 0.0, -INFINITY)[None, :]
    scores += tl.where(present(rows, R, row_mask), 0.0, -INFINITY)[:, None]
    if KINDS > 0:
        other = (rows + shift)[:, None] != columns[None, :]  # (M, N)
        for kind in tl.static_range(KINDS):
            of_rows = tl.load(row_ids + rows.to(tl.int64) * KINDS + kind, mask=rows < R, other=0)  # (M,)
            of_columns = tl.load(column_ids + columns.to(tl.int64) * KINDS + kind, mask=columns < C, other=0)  # (N,)
            scores = tl.where((of_rows[:, None] == of_columns[None, :]) & other, -INFINITY, scores)  # (M, N)
    return scores


@triton.jit
def _positives(scores, first_row, first_column, shift, M: tl.constexpr, N: tl.constexpr):
    """Return the scores (M,) on the diagonal of a tile (M, N), 0 where it leaves the tile."""
    own = (first_row + shift + tl.arange(0, M))[:, None] == (first_column + tl.arange(0, N))[None, :]
    return tl.sum(tl.where(own, scores, 0.0), 1)


@triton.jit
def crosses(first_row, first_column, shift, M: tl.constexpr, N: tl.constexpr):
    """Return whether a tile holds a positive."""
    first = first_row + shift
    return (first < first_column + N) & (first_column < first + M)


@triton.jit
def block_and_run(program, blocks, runs, GROUP: tl.constexpr):
    """Return the row block and the run of a program. Neighbours share columns and few row blocks: both stay in L2."""
    group = program // (GROUP * runs)
    first = group * GROUP
    height = tl.minimum(blocks - first, GROUP)
    within = program % (GROUP * runs)
    return first + within % height, within // height


@triton.jit
def _poorest(totals, first, count, mask, B: tl.constexpr):
    """Return the smallest of some rows' or columns' sums (B,), of those that are present."""
    if mask is not None:
        totals = tl.where(present(first + tl.arange(0, B), count, mask), totals, 1.0)
    elif first + B > count:
        totals = tl.where(first + tl.arange(0, B) < count, totals, 1.0)
    return tl.min(totals)


@triton.jit
def _shared_base_sums(scores):
    """Return a base, and the sums of 2**(score - base) of a tile by row (M,) and by column (N,).

    One exponential a score serves both sums, as all share the tile's highest score as their base. A score below that
    base by more than 126 becomes zero (float32 ends there, and the hardware flushes what is smaller). A sum of at
    least 2**-87 then lost at most 256 powers under 2**-126: less than 2**-31 of itself, where float32 rounds by
    2**-24. A sum that is smaller, or of no score at all, is not to be used.
    """
    top = tl.max(scores)
    powers = tl.exp2(scores - tl.where(top == -INFINITY, 0.0, top))  # (M, N)
    return top, tl.sum(powers, 1), tl.sum(powers, 0)  # what is not used is not computed


@triton.jit
def _own_base_sums(scores, AXIS: tl.constexpr):
    """Return the highest score along an axis, which may be -inf, and the sum of 2**(score - highest)."""
    base = tl.max(scores, AXIS)
    safe = tl.where(base == -INFINITY, 0.0, base)
    return base, tl.sum(tl.exp2(scores - tl.expand_dims(safe, AXIS)), AXIS)


@triton.jit
def _private_scores(
    block, views, negatives, negatives_mask, private, factor, R, N, D,
    view_stride, negatives_row_stride, negatives_stride, PAIRS: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Store ``PAIRS`` of the (R, N) scores of rows with their private negatives, in base 2."""
    pair = block.to(tl.int64) * PAIRS + tl.arange(0, PAIRS)  # (P,)
    inside = pair < R.to(tl.int64) * N
    row = pair // N
    depth = tl.arange(0, K)
    view_at = views + (row * view_stride)[:, None] + depth[None, :]  # (P, K)
    negative_at = negatives + (row * negatives_row_stride + pair % N * negatives_stride)[:, None] + depth[None, :]
    total = tl.zeros((PAIRS, K), tl.float32)
    for start in range(0, D, K):
        within = inside[:, None] & (start + depth < D)[None, :]
        view = tl.load(view_at + start, mask=within, other=0.0).to(tl.float32)
        total += view * tl.load(negative_at + start, mask=within, other=0.0).to(tl.float32)
    scores = tl.sum(total, 1) * factor  # (P,)
    if negatives_mask is not None:
        scores = tl.where(tl.load(negatives_mask + pair, mask=inside, other=0) != 0, scores, -INFINITY)
    tl.store(private + pair, scores, mask=inside)


@triton.jit(
    do_not_specialize=["R", "C", "N", "offset", "blocks", "runs", "tiles_per_run"],
    do_not_specialize_on_alignment=["row_ids", "row_mask", "negatives_mask", "private"],
)
def tile_sums(
    views, texts, view_tiles, text_tiles, scale, row_ids, column_ids, row_mask, column_mask,
    negatives, negatives_mask, own_scores, row_parts, column_parts, private,
    R, C, N, D, offset, blocks, runs, tiles_per_run, view_stride, text_stride, negatives_row_stride, negatives_stride,
    KINDS: tl.constexpr, SYMMETRIC: tl.constexpr, EVEN: tl.constexpr, PRECISION: tl.constexpr,
    GROUP: tl.constexpr, PAIRS: tl.constexpr, M: tl.constexpr, N_COLUMNS: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Store in base 2 a view's scores of positives (R,), its partial sums and its private scores.

    The partial sums are by row (2, runs, R) and by column (2, blocks, C): bases, then totals. Programs past
    ``blocks * runs`` store private scores (R, N).
    """
    program = tl.program_id(0)
    factor = tl.load(scale) * LOG2E
    if program >= blocks * runs:
        if negatives is not None:
            _private_scores(
                program - blocks * runs, views, negatives, negatives_mask, private, factor, R, N, D,
                view_stride, negatives_row_stride, negatives_stride, PAIRS, K,
            )  # fmt: skip
    else:
        block, run = block_and_run(program, blocks, runs, GROUP)
        first_row = block * M
        rows = first_row + tl.arange(0, M)  # (M,)
        row_at = tl.minimum(rows, R - 1)
        view_at = views + (row_at.to(tl.int64) * view_stride)[:, None]  # (M, 1)
        base = tl.full((M,), -INFINITY, tl.float32)
        total = tl.zeros((M,), tl.float32)
        for tile in range(run * tiles_per_run, tl.minimum((run + 1) * tiles_per_run, tl.cdiv(C, N_COLUMNS))):
            first_column = tile * N_COLUMNS
            column_at = tl.minimum(first_column + tl.arange(0, N_COLUMNS), C - 1)  # (N,)
            text_at = texts + (column_at.to(tl.int64) * text_stride)[None, :]  # (1, N)
            scores = factor * dot_products(
                view_at, text_at, view_tiles, text_tiles, first_row, first_column, D, EVEN, PRECISION, M, N_COLUMNS, K
            )  # (M, N)
            if crosses(first_row, first_column, offset, M, N_COLUMNS):
                positive = _positives(scores, first_row, first_column, offset, M, N_COLUMNS)
                here = (rows + offset >= first_column) & (rows + offset < first_column + N_COLUMNS) & (rows < R)
                tl.store(own_scores + rows, positive, mask=here)
            scores = exclude(
                scores, first_row, first_column, R, C, row_ids, column_ids, row_mask, column_mask, offset,
                KINDS, M, N_COLUMNS,
            )  # fmt: skip
            top, row_total, column_total = _shared_base_sums(scores)
            poorest = _poorest(row_total, first_row, R, row_mask, M)
            if SYMMETRIC:
                poorest = tl.minimum(poorest, _poorest(column_total, first_column, C, column_mask, N_COLUMNS))
            row_base, column_base = tl.zeros_like(row_total) + top, tl.zeros_like(column_total) + top
            if poorest < POOREST:
                # Rare, so the scores are made again: kept until here they would take a quarter of all registers.
                scores = factor * dot_products(
                    view_at, text_at, view_tiles, text_tiles, first_row, first_column, D, EVEN, PRECISION,
                    M, N_COLUMNS, K,
                )  # fmt: skip
                scores = exclude(
                    scores, first_row, first_column, R, C, row_ids, column_ids, row_mask, column_mask, offset,
                    KINDS, M, N_COLUMNS,
                )  # fmt: skip
                row_base, row_total = _own_base_sums(scores, 1)
                if SYMMETRIC:
                    column_base, column_total = _own_base_sums(scores, 0)
            base, total = absorb(base, total, row_base, row_total)
            if SYMMETRIC:
                columns = first_column + tl.arange(0, N_COLUMNS)  # (N,)
                at = block.to(tl.int64) * C + columns
                tl.store(column_parts + at, column_base, mask=columns < C)
                tl.store(column_parts + blocks.to(tl.int64) * C + at, column_total, mask=columns < C)
        at = run.to(tl.int64) * R + rows
        tl.store(row_parts + at, base, mask=rows < R)
        tl.store(row_parts + runs.to(tl.int64) * R + at, total, mask=rows < R)


def _tiles_per_run(blocks: int, tiles: int, config: Config, device: torch.device) -> int:
    """Return how many column tiles one program takes: many save partial sums, few keep all multiprocessors busy."""
    programs_wanted = 8 * processors(device)
    return max(1, min(config.tiles_per_run, blocks * tiles // programs_wanted))


@torch.no_grad()
def log_sum_exps(problem: Problem) -> Sums:
    """Compute positives and log-sum-exps of a problem, which may be a strip of one.

    Works on CUDA tensors, and on CPU tensors where Triton interprets its kernels. ``positives``, ``rows`` and
    ``columns`` are float64, so that their differences are exact where a loss is close to 0. ``kept`` holds the private
    scores (V, R, N) in base 2, float32, -inf where a negative is missing.

    Besides them, of temporaries there are, with r rows a chunk (see ``PARTS_BYTES``):

        row parts     (2, runs, r) float32, a run being up to ``tiles_per_run`` tiles of columns
        column parts  (2, r / block_rows, C) float32
        own scores    (r,) float32

    which for 65,536 rows and columns of bfloat16 on sm_90 are 4, 32 and 0 MiB.

    Raises:
        RuntimeError: The tensors are neither on a CUDA device nor interpreted.
    """
    check_device(problem.texts)
    config = config_for(problem.texts.device, problem.texts.dtype)
    views, rows, columns = len(problem.views), problem.views[0].shape[0], problem.texts.shape[0]
    count = 0 if problem.negatives is None else problem.negatives.shape[1]
    positives = problem.scale.new_empty(views, rows, dtype=torch.float64)
    private = positives.new_empty((views, rows, count) if count else 0, dtype=torch.float32)
    column_sums = positives.new_empty(views, columns if problem.symmetric else 0)
    sums = Sums(positives, torch.empty_like(positives), column_sums, private)
    texts = unit_stride(problem.texts)
    negatives = None if problem.negatives is None else unit_stride(problem.negatives)
    masks = Masks.of(problem)
    height = _chunk_rows(rows, columns, config)
    with torch.cuda.device_of(texts):
        for number, view in enumerate(map(unit_stride, problem.views)):
            for top in range(0, rows, height):
                _chunk(
                    problem, config, masks, sums, number, view, texts, negatives, slice(top, min(rows, top + height))
                )
    return sums


def _chunk_rows(rows: int, columns: int, config: Config) -> int:
    """Return how many rows one launch takes: whole groups of row blocks, as many as ``PARTS_BYTES`` has room for."""
    group = config.row_group * config.forward.block_rows
    room = PARTS_BYTES // (8 * columns) * config.forward.block_rows
    return min(rows, max(group, room // group * group))


def _chunk(
    problem: Problem,
    config: Config,
    masks: Masks,
    sums: Sums,
    number: int,
    view: Tensor,
    texts: Tensor,
    negatives: Tensor | None,
    own: slice,
) -> None:
    """Fill in the sums of some rows of a view, and add these rows to the columns' sums."""
    tiles, symmetric = config.forward, problem.symmetric
    rows, columns = own.stop - own.start, texts.shape[0]
    view, of_rows = view[own], masks.strip(own, slice(None))
    negatives = None if negatives is None else negatives[own]  # (r, N, D)
    count = 0 if negatives is None else negatives.shape[1]
    private = sums.kept[number, own] if count else None
    blocks = triton.cdiv(rows, tiles.block_rows)
    tiles_per_run = _tiles_per_run(blocks, triton.cdiv(columns, tiles.block_columns), config, texts.device)
    runs = triton.cdiv(columns, tiles.block_columns * tiles_per_run)
    own_scores = sums.kept.new_empty(rows)
    row_parts = own_scores.new_empty(2, runs, rows)
    column_parts = own_scores.new_empty(2, blocks, columns) if symmetric else None
    tile_sums[(blocks * runs + triton.cdiv(rows * count, PAIRS),)](
        view, texts, *descriptors(view, texts, tiles, config), problem.scale, *of_rows,
        negatives, None if masks.negatives_mask is None else masks.negatives_mask[own],
        own_scores, row_parts, column_parts, private,
        rows, columns, count, texts.shape[1], problem.offset + own.start, blocks, runs, tiles_per_run,
        view.stride(0), texts.stride(0), *((0, 0) if negatives is None else negatives.stride()[:2]),
        KINDS=masks.kinds, SYMMETRIC=symmetric, EVEN=texts.shape[1] % tiles.block_depth == 0,
        PRECISION=precision(texts.dtype), GROUP=config.row_group, PAIRS=PAIRS,
        M=tiles.block_rows, N_COLUMNS=tiles.block_columns, K=tiles.block_depth,
        **tiles.options(masks.kinds),
    )  # fmt: skip
    merge_sums[(triton.cdiv(rows, 128) + (triton.cdiv(columns, 128) if symmetric else 0),)](
        own_scores, row_parts, column_parts, private, of_rows[2], of_rows[3],
        sums.positives[number, own], sums.rows[number, own], sums.columns[number] if symmetric else None,
        rows, columns, count, blocks, runs, int(own.start > 0), PARTS=16, B=128, num_warps=4,
    )  # fmt: skip


def gradients(problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Compute the gradients of ``upstream`` times the loss. See :func:`.triton_gradients.gradients`."""
    from . import triton_gradients

    return triton_gradients.gradients(problem, sums, upstream, needs)
