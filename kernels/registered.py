"""The operation as torch's own, ``torch.ops.figclip.contrastive_loss``: what torch.compile and torch.export see.

Compilers look at shapes here and leave the arithmetic to the paths, so a graph that holds the loss stays whole. Eager
code takes the shorter way through :mod:`figclip_kernels.op`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import paths
from .autocast import without_autocast
from .choose import explain, say
from .problem import Needs, Problem, Sums, refuse_second_order

_INPUTS = (
    "Tensor[] views, Tensor texts, Tensor scale, Tensor? negatives, Tensor? negatives_mask, Tensor? ids,"
    " Tensor? row_mask, float[] weights, bool symmetric, str backend, bool[] needs"
)
_SUMS = "Tensor positives, Tensor rows, Tensor columns, Tensor kept"
torch.library.define(
    "figclip::contrastive_loss",
    f"({_INPUTS}) -> (Tensor loss, Tensor per_view, Tensor per_row, {_SUMS})",
)
torch.library.define(
    "figclip::contrastive_loss_backward",
    f"(Tensor upstream, {_SUMS}, {_INPUTS}) -> Tensor[]",
)
_FORWARD = torch.ops.figclip.contrastive_loss
_BACKWARD = torch.ops.figclip.contrastive_loss_backward


def contrastive_loss(problem: Problem, plus: Tensor | None, backend: str, needs: Needs) -> tuple[Tensor, ...]:
    """Return loss (), losses by view and by pair, log-sum-exps by row and by column, as part of a graph."""
    loss, per_view, per_row, _, rows, columns, _ = _FORWARD(
        list(problem.views),
        problem.texts,
        problem.scale,
        problem.negatives,
        problem.negatives_mask,
        problem.row_ids,
        problem.row_mask,
        list(problem.weights),
        problem.symmetric,
        backend,
        [needs.views, needs.texts, needs.negatives, needs.scale],
    )
    rows, columns = (each.to(problem.accumulator) for each in (rows, columns))
    return (loss if plus is None else loss + plus), per_view, per_row, rows, columns


def _problem(
    views: Sequence[Tensor],
    texts: Tensor,
    scale: Tensor,
    negatives: Tensor | None,
    negatives_mask: Tensor | None,
    ids: Tensor | None,
    row_mask: Tensor | None,
    weights: Sequence[float],
    symmetric: bool,
) -> Problem:
    return Problem(
        views=tuple(views),
        texts=texts,
        scale=scale,
        negatives=negatives,
        negatives_mask=negatives_mask,
        row_ids=ids,
        column_ids=ids,
        row_mask=row_mask,
        column_mask=row_mask,
        weights=tuple(weights),
        symmetric=symmetric,
    )


def _path(problem: Problem, backend: str) -> str:
    """Return a path that does its backward pass apart."""
    path, _ = explain(problem, backend)
    return "cpu" if path in ("cpu_small", "reference") else path


@torch.library.impl("figclip::contrastive_loss", "default")
def _forward(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, backend, needs = arguments
    problem = _problem(*tensors)
    path = _path(problem, backend)
    say(path, problem, "in a compiled graph")
    with without_autocast(problem.texts.device.type):
        loss, per_view, per_row, sums = paths.forward(path, problem, None, Needs(*needs))
    # An operation's outputs must not share memory with one another.
    sums_of_their_own = (each.clone() for each in (sums.positives, sums.rows, sums.columns))
    return loss.clone(), per_view.clone(), per_row.clone(), *sums_of_their_own, sums.kept


@torch.library.register_fake("figclip::contrastive_loss")
def _shapes_forward(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, backend, needs = arguments
    problem = _problem(*tensors)
    views, rows, columns = len(problem.views), problem.views[0].shape[0], problem.texts.shape[0]
    kept, dtype = paths.kept(_path(problem, backend), problem, Needs(*needs))
    empty = problem.texts.new_empty
    return (
        empty((), dtype=problem.accumulator),
        empty(views, dtype=problem.accumulator),
        empty(views, rows, dtype=problem.accumulator),
        empty(views, rows, dtype=dtype),
        empty(views, rows, dtype=dtype),
        empty(views, columns if problem.symmetric else 0, dtype=dtype),
        empty(kept, dtype=problem.accumulator),
    )


@torch.library.impl("figclip::contrastive_loss_backward", "default")
def _backward(upstream: Tensor, *arguments: Any) -> list[Tensor]:
    positives, rows, columns, kept, *tensors, backend, needs = arguments
    problem = _problem(*tensors)
    sums = Sums(positives, rows, columns, kept)
    with without_autocast(problem.texts.device.type):
        got = paths.gradients(_path(problem, backend), problem, sums, upstream, Needs(*needs))
    none = problem.texts.new_empty(0)
    ours = [got.scale, got.texts, got.negatives, *(got.views or ())]
    return [none.clone() if each is None else each for each in ours]


@torch.library.register_fake("figclip::contrastive_loss_backward")
def _shapes_backward(upstream: Tensor, *arguments: Any) -> list[Tensor]:
    *tensors, _, needs = arguments[4:]
    problem, wanted = _problem(*tensors), Needs(*needs)
    empty = problem.texts.new_empty
    return [
        torch.empty_like(problem.scale) if wanted.scale else empty(0),
        empty(problem.texts.shape) if wanted.texts else empty(0),
        empty(problem.negatives.shape) if wanted.negatives and problem.negatives is not None else empty(0),
        *(empty(view.shape) for view in problem.views if wanted.views),
    ]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    views, texts, scale, negatives, negatives_mask, ids, row_mask, weights, symmetric, backend, needs = inputs
    ctx.rest = (weights, symmetric, backend, needs)
    ctx.save_for_backward(*output[3:], texts, scale, negatives, negatives_mask, ids, row_mask, *views)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Any, ...]:
    if not torch.compiler.is_compiling():
        refuse_second_order()
    positives, rows, columns, kept, texts, scale, negatives, negatives_mask, ids, row_mask, *views = ctx.saved_tensors
    weights, symmetric, backend, (of_views, of_texts, of_negatives, of_scale) = ctx.rest
    if upstream is None:
        return ([None] * len(views), *(None,) * 10)
    got = _BACKWARD(
        upstream, positives, rows, columns, kept, views, texts, scale, negatives, negatives_mask, ids, row_mask,
        weights, symmetric, backend, [of_views, of_texts, of_negatives, of_scale],
    )  # fmt: skip
    return (
        list(got[3:]) if of_views else [None] * len(views),
        got[1] if of_texts else None,
        got[0] if of_scale else None,
        got[2] if of_negatives else None,
        *(None,) * 7,
    )


torch.library.register_autograd("figclip::contrastive_loss", _gradients, setup_context=_keep)
