"""The arithmetic of an adapted linear layer: ``y = x W^T + b`` plus ``s (x A^T) B^T`` on some parts of y.

W is frozen, so the backward pass owes only dx, dA and dB. Two exact ways are here. With N rows, and counting
multiplications of r-sized products:

* merged: ``y = x (W + s B A)^T + b``. Nothing but x is kept. The two merges, one for y and one for dx, cost
  r D_in D_out each, whatever N is.
* low-rank: ``y = x W^T + b``, to which ``s (x A^T) B^T`` is added in place. It costs N r (D_in + D_out) more in the
  forward pass and N r D_in for dx, and saves the recomputed x A^T, N r D_in.

Here D_out is the width of one adapted chunk of y. So merging is cheaper above N = 2 D_in D_out / (D_in + D_out)
rows, which is N = D for q, k and v. It needs float32: a merged weight rounded to bfloat16 would swallow an update
much smaller than the weight, and dropout acts on the low-rank input alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Gradients = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Update:
    """Where the update goes: the output is cut into equal chunks, and some of them have a low-rank part.

    Attributes:
        rank: Rows of A, and columns of B, for each adapted chunk.
        scale: s, the factor of B A.
        places: Numbers of the adapted chunks; A and B hold their parts in this order.
    """

    rank: int
    scale: float
    places: tuple[int, ...]

    def chunks(self, a: Tensor, b: Tensor) -> list[tuple[slice, slice, Tensor, Tensor]]:
        """Return (columns of y, columns of x A^T, A (r, D_in), B (width, r)) of each adapted chunk."""
        width = b.shape[0] // len(self.places)
        parts = []
        for position, place in enumerate(self.places):
            low = slice(position * self.rank, (position + 1) * self.rank)
            own = b[position * width : (position + 1) * width]
            parts.append((slice(place * width, (place + 1) * width), low, a[low], own))
        return parts


def merged_weight(weight: Tensor, a: Tensor, b: Tensor, update: Update) -> Tensor:
    """Return W + s B A, (D_out, D_in), as a new tensor of W's type.

    Args:
        weight: W, (D_out, D_in).
        a: A, (G r, D_in) for G adapted chunks.
        b: B, (G width, r).
    """
    merged = weight.clone()
    for columns, _, own_a, own_b in update.chunks(a, b):
        merged[columns].addmm_(own_b, own_a, alpha=update.scale)
    return merged


class _Merged(torch.autograd.Function):
    """The merged way; the merged weight is made again for dx, which is cheaper than keeping it."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, update: Update
    ) -> Tensor:
        ctx.save_for_backward(x, weight, a, b)
        ctx.update = update
        return F.linear(x, merged_weight(weight, a, b, update), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Gradients:
        x, weight, a, b = ctx.saved_tensors
        needs_x, _, _, needs_a, needs_b, _ = ctx.needs_input_grad
        dx = dy @ merged_weight(weight, a, b, ctx.update) if needs_x else None
        if not (needs_a or needs_b):
            return dx, None, None, None, None, None
        fan_in, width = a.shape[1], b.shape[0] // len(ctx.update.places)
        # Per row: 4 products of r with one of the sides, against one of the full sides.
        gradients = _from_low_rank if 2 * a.shape[0] * (fan_in + width) <= b.shape[0] * fan_in else _from_full
        da, db = gradients(dy, x, a, b, ctx.update)
        return dx, None, None, da, db, None


def _from_low_rank(dy: Tensor, x: Tensor, a: Tensor, b: Tensor, update: Update) -> tuple[Tensor, Tensor]:
    """Return dA and dB through (N, r) tensors."""
    return _low_rank_gradients(dy, x, x @ a.t(), b, update, _pull_back(dy, a, b, update))


def _from_full(dy: Tensor, x: Tensor, a: Tensor, b: Tensor, update: Update) -> tuple[Tensor, Tensor]:
    """Return dA and dB through the gradient of the full (width, D_in) weight of each chunk."""
    da, db = torch.empty_like(a), []
    for columns, low, own_a, own_b in update.chunks(a, b):
        full = dy[:, columns].t() @ x
        torch.mm(own_b.t(), full, out=da[low])
        db.append(full @ own_a.t())
    return da.mul_(update.scale), torch.cat(db).mul_(update.scale)


def _pull_back(dy: Tensor, a: Tensor, b: Tensor, update: Update) -> Tensor:
    """Return the gradient of x A^T, (N, G r)."""
    low_gradient = dy.new_empty(dy.shape[0], a.shape[0])
    for columns, low, _, own_b in update.chunks(a, b):
        torch.mm(dy[:, columns], own_b, out=low_gradient[:, low])
    return low_gradient.mul_(update.scale)


def _low_rank_gradients(
    dy: Tensor, x: Tensor, projected: Tensor, b: Tensor, update: Update, low_gradient: Tensor
) -> tuple[Tensor, Tensor]:
    db = torch.empty_like(b)
    width = b.shape[0] // len(update.places)
    for position, place in enumerate(update.places):
        low = projected[:, position * update.rank : (position + 1) * update.rank]
        columns = dy[:, place * width : (place + 1) * width]
        torch.mm(columns.t(), low, out=db[position * width : (position + 1) * width])
    return low_gradient.t() @ x, db.mul_(update.scale)


class _LowRank(torch.autograd.Function):
    """The low-rank way; ``dropped`` is what the low-rank path reads instead of x, if it is not x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dropped: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        a: Tensor,
        b: Tensor,
        update: Update,
    ) -> Tensor:
        y = F.linear(x, weight, bias)
        read = x if dropped is None else dropped
        projected = read @ a.t()  # (N, G r)
        for columns, low, _, own_b in update.chunks(a, b):
            y[:, columns].addmm_(projected[:, low], own_b.t(), alpha=update.scale)
        ctx.save_for_backward(read, projected, weight, a, b)
        ctx.update, ctx.same = update, dropped is None
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Gradients:
        read, projected, weight, a, b = ctx.saved_tensors
        needs_x, needs_dropped = ctx.needs_input_grad[:2]
        low_gradient = _pull_back(dy, a, b, ctx.update)
        da, db = _low_rank_gradients(dy, read, projected, b, ctx.update, low_gradient)
        dx = dy @ weight if needs_x else None
        if dx is not None and ctx.same:
            dx.addmm_(low_gradient, a)
        return dx, (low_gradient @ a if needs_dropped else None), None, None, da, db, None


def lora_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, update: Update, *, dropout: float = 0.0
) -> Tensor:
    """Compute ``x W^T + b`` plus ``s (dropout(x) A^T) B^T`` on the adapted chunks, the cheaper of the two ways.

    Args:
        x: (..., D_in). Under ``torch.autocast`` it is cast as ``F.linear`` casts it.
        weight: W, (D_out, D_in), frozen: it gets no gradient.
        bias: b, (D_out,), frozen.
        a: A, (G r, D_in) for G adapted chunks.
        b: B, (G width, r).
        dropout: Probability, active if above 0.

    Returns:
        (..., D_out).
    """
    low_precision = x.dtype not in (torch.float32, torch.float64)
    if torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(x.device.type)
        low_precision = dtype != torch.float32
        x, weight, a, b = (tensor.to(dtype) for tensor in (x, weight, a, b))
        bias = None if bias is None else bias.to(dtype)
    rows = x.reshape(-1, x.shape[-1])
    width = b.shape[0] // len(update.places)
    if dropout == 0.0 and not low_precision and merging_pays(rows.shape[0], weight.shape[1], width):
        y = _Merged.apply(rows, weight, bias, a, b, update)
    else:
        dropped = F.dropout(rows, dropout) if dropout > 0.0 else None
        y = _LowRank.apply(rows, dropped, weight, bias, a, b, update)
    return y.view(*x.shape[:-1], weight.shape[0])


def merging_pays(rows: int, fan_in: int, width: int) -> bool:
    """Return whether the merged way is cheaper than the low-rank one; see the top of this file."""
    return rows * (fan_in + width) > 2 * fan_in * width
