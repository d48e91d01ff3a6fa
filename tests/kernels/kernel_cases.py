"""Problems with every switch, and what they come to in float64."""

from __future__ import annotations

from dataclasses import replace

import torch
from figclip_kernels import reference
from figclip_kernels.losses import losses, weighted
from figclip_kernels.problem import Gradients, Problem, Sums
from torch import Tensor


def random_problem(
    rows: int = 5,
    width: int = 7,
    *,
    columns: int | None = None,
    offset: int = 0,
    views: int = 1,
    negatives: int = 0,
    missing_negatives: bool = False,
    kinds: int = 0,
    padding: bool = False,
    symmetric: bool = True,
    scale: float = 10.0,
    normalize: bool = True,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    seed: int = 0,
) -> Problem:
    """Make a problem; with ``columns`` a strip of one. Ids collide often, padding strikes about a third."""
    generator = torch.Generator().manual_seed(seed)
    columns = rows if columns is None else columns

    def features(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        if normalize:
            values = torch.nn.functional.normalize(values, dim=-1)
        return values.to(dtype).to(device)

    ids = torch.randint(0, max(2, columns // 2), (columns, kinds), generator=generator).to(device) if kinds else None
    mask = (torch.rand(columns, generator=generator) > 0.3).to(device) if padding else None
    own = slice(offset, offset + rows)
    return Problem(
        views=tuple(features(rows, width) for _ in range(views)),
        texts=features(columns, width),
        scale=torch.tensor(scale, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=device),
        negatives=features(rows, negatives, width) if negatives else None,
        negatives_mask=(torch.rand(rows, negatives, generator=generator) > 0.4).to(device)
        if negatives and missing_negatives
        else None,
        row_ids=None if ids is None else ids[own],
        column_ids=ids,
        row_mask=None if mask is None else mask[own],
        column_mask=mask,
        offset=offset,
        weights=(1.0, 0.25, 0.5, 2.0)[:views],
        symmetric=symmetric,
    )


def in_float64(problem: Problem) -> Problem:
    """Return the same problem with the same, possibly already rounded, values in float64."""
    return replace(
        problem,
        views=tuple(view.detach().double() for view in problem.views),
        texts=problem.texts.detach().double(),
        scale=problem.scale.detach().double(),
        negatives=None if problem.negatives is None else problem.negatives.detach().double(),
    )


def expected(problem: Problem, upstream: float = 1.0) -> tuple[Tensor, Tensor, Sums, Gradients]:
    """Return loss, losses by pair, log-sum-exps and the gradients of ``upstream * loss``, by autograd in float64.

    Only for whole problems (offset 0, as many rows as columns).
    """
    exact = in_float64(problem)
    leaves = [*exact.views, exact.texts, exact.scale, *([] if exact.negatives is None else [exact.negatives])]
    for leaf in leaves:
        leaf.requires_grad_()
    sums = reference.log_sum_exps(exact)
    per_view, per_row = losses(exact, sums)
    loss = weighted(exact, per_view)
    grads = torch.autograd.grad(upstream * loss, leaves)
    count = len(exact.views)
    gradients = Gradients(
        views=tuple(grads[:count]),
        texts=grads[count],
        scale=grads[count + 1],
        negatives=None if exact.negatives is None else grads[-1],
    )
    detached = Sums(*(each.detach() for each in (sums.positives, sums.rows, sums.columns, sums.kept)))
    return loss.detach(), per_row.detach(), detached, gradients
