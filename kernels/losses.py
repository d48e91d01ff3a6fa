"""From log-sum-exps to losses: shared by every path that does not fuse it."""

from __future__ import annotations

from torch import Tensor

from .problem import Problem, Sums


def losses(problem: Problem, sums: Sums) -> tuple[Tensor, Tensor]:
    """Return the sum over pairs divided by the count of pairs, by view, and the loss of each pair.

    Returns:
        (V,) mean loss of each view, or with rows spread over processes the part of the rows held here;
        (V, R) loss of each row's pair, 0 for a padded row.
    """
    rows = sums.rows.shape[1]
    of_row, of_column = problem.shares
    per_row = of_row * (sums.rows - sums.positives)  # (V, R)
    if problem.symmetric:
        own = sums.columns[:, problem.offset : problem.offset + rows]  # (V, R)
        per_row = per_row + of_column * (own - sums.positives)  # (V, R)
    if problem.row_mask is not None:
        per_row = per_row.masked_fill(~problem.row_mask, 0.0)
    return per_row.sum(1) / problem.pairs, per_row


def weighted(problem: Problem, per_view: Tensor) -> Tensor:
    """Return the sum of (V,) losses times the views' weights, without a copy from the host."""
    if problem.weights == (1.0,):
        return per_view.sum()
    total = per_view[0] * problem.weights[0]
    for view, weight in enumerate(problem.weights[1:], start=1):
        total = total + per_view[view] * weight
    return total
