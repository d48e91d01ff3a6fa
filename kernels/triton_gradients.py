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

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton
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
from .triton_gradient_kernels import finish_rows, own_rows_products, strip_gradients

# G is multiplied in the features' dtype. float16 ends at 6e-8, which is not enough for probabilities over many columns:
# there it is held times this (|G| <= 1, and float16 ends at 65504).
UNITS = {torch.float16: 2.0**14}
FINISH_ROWS, FINISH_DEPTH = 16, 128
_ROUNDING_BYTES = 8 << 20


@torch.no_grad()
def gradients(problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Compute the gradients of ``upstream`` () times the loss of a problem, which may be a strip of one.

    Args:
        problem: As given to :func:`.triton_tiles.log_sum_exps`.
        sums: What that returned; for a strip, with ``columns`` (V, C) over the rows of all strips.
        upstream: () on the problem's device.
        needs: Which gradients to compute. The others are none.

    Besides the outputs there are these temporaries, in bytes; M is 2**20. The last column is for 65,536 rows and
    columns of 512 bfloat16 features, one view, on sm_90, where inputs and outputs are 128 M each:

        sum of the texts' gradient    4 C D, which becomes the output: half of it is more than that        64 M
        workspace of strips           ``Config.workspace_bytes``                                           16 M
        products of a strip           4 D rows of a strip (with own-rows: 4 R D)                            2 M
        log-sum-exps                  16 V (R + C), and a third more for a moment                           3 M
        parts of the scale's          4 V R ceil(D / 128)                                                   1 M
        sum of negatives' gradients   4 R N D if several views add to it, else none: half becomes the output
        rounding                      ``_ROUNDING_BYTES``, after the workspace is free                      8 M

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
    row_halves: Tensor  # (V, R, 2) float32
    column_halves: Tensor | None  # (V, C, 2) float32, if symmetric
    private: Tensor  # (V, R, N) scores in base 2
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
            problem, _halves(sums.rows), _halves(sums.columns) if problem.symmetric else None, sums.kept, needs,
            Masks.of(problem), config_for(texts.device, texts.dtype), unit_stride(texts),
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
            self.row_halves[number, own], None if negatives is None else self.private[number, own],
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
            texts = _rounded(self.texts_products, self.strength * self.problem.scale / self.unit, self.texts.dtype)
        if self.negatives_gradient is not None:
            negatives = _rounded(self.negatives_gradient, None, self.texts.dtype)
        if self.scale_parts is not None:
            scale = self.scale_parts.sum().to(self.problem.scale.dtype)
        views = None if self.views_gradients is None else tuple(self.views_gradients)
        return Gradients(views, texts, negatives, scale)


def _halves(sums: Tensor) -> Tensor:
    """Return the whole parts w of log-sum-exps (V, n) in base 2, and 2**(w - log-sum-exp): (V, n, 2) float32.

    Those that sum nothing, -inf, become +inf like those of padding, which makes probabilities 0.
    """
    base = sums.double() * math.log2(math.e)
    base.masked_fill_(base == -math.inf, math.inf)
    halves = torch.empty(*base.shape, 2, dtype=torch.float32, device=base.device)
    whole = base.floor()
    halves[..., 0] = whole
    halves[..., 1] = whole.sub_(base).nan_to_num_(nan=0.0).exp2_()  # inf - inf is nan
    return halves


def _rounded(total: Tensor, factor: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return ``total``, times a factor if there is one, in a dtype no wider than its own, in the memory of ``total``.

    A rounded row ends before the half of where its own began, so rows that are still to be read stay as they are.
    """
    if total.dtype == dtype:
        return total if factor is None else total.mul_(factor)
    rounded = total.view(-1).view(dtype)[: total.numel()].view(total.shape)
    step = max(1, _ROUNDING_BYTES // max(1, total[:1].numel() * total.element_size()))
    for start in range(0, len(total), step):
        rows = total[start : start + step]
        rounded[start : start + step] = rows.clone() if factor is None else rows * factor
    return rounded


def _own_rows(work: _Work, number: int, view: Tensor) -> None:
    """Make a view's gradients, and its part of the texts', by passes that store no scores."""
    problem, masks, needs = work.problem, work.masks, work.needs
    tiles, width = work.config.own_rows, view.shape[1]
    slice_depth = min(work.config.slice_depth, max(16, triton.next_power_of_2(width)))
    row_sums, column_sums = work.row_halves[number], None if work.column_halves is None else work.column_halves[number]
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
        work.row_halves[number, own], None if work.column_halves is None else work.column_halves[number, others],
        strip, *strip.shape, texts.shape[1], problem.offset + own.start - others.start, blocks, column_blocks,
        view.stride(0), texts.stride(0), strip.stride(0), *problem.shares, work.unit,
        KINDS=masks.kinds, EVEN=texts.shape[1] % tiles.block_depth == 0, PRECISION=precision(texts.dtype),
        GROUP=config.row_group, M=tiles.block_rows, N=tiles.block_columns, K=tiles.block_depth,
        **tiles.options(masks.kinds),
    )  # fmt: skip
