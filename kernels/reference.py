"""The definition in plain torch: autograd makes the gradients, float64 stays float64, any device.

Every other path must equal this one. It stores the score matrix of every view.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .problem import Problem, Sums, excluded_pairs


def log_sum_exps(problem: Problem) -> Sums:
    """Compute the log-sum-exps of a problem, with autograd through all of it."""
    dtype = problem.accumulator
    rows, columns = problem.views[0].shape[0], problem.texts.shape[0]
    views = torch.stack(problem.views).to(dtype)  # (V, R, D)
    scores = problem.scale * (views @ problem.texts.to(dtype).T)  # (V, R, C)
    positives = scores.diagonal(problem.offset, 1, 2)[:, :rows]  # (V, R)
    excluded = excluded_pairs(problem, slice(0, rows), slice(0, columns))  # (R, C)
    if excluded is not None:
        scores = scores.masked_fill(excluded, float("-inf"))
    to_text = torch.cat([scores, *_private(problem, views)], dim=2)  # (V, R, C + N)
    by_row = _log_sum_exp(to_text, 2, problem.row_mask)  # (V, R)
    by_column = scores.new_empty(len(views), 0)
    if problem.symmetric:
        by_column = _log_sum_exp(scores, 1, problem.column_mask)  # (V, C)
    if problem.row_mask is not None:
        positives = positives.masked_fill(~problem.row_mask, 0.0)
    return Sums(positives, by_row, by_column, scores.new_empty(0))


def _private(problem: Problem, views: Tensor) -> list[Tensor]:
    """Return the scores with private negatives, (V, R, N), or nothing."""
    if problem.negatives is None:
        return []
    private = problem.scale * torch.einsum("vrd,rnd->vrn", views, problem.negatives.to(views.dtype))
    if problem.negatives_mask is not None:
        private = private.masked_fill(~problem.negatives_mask, float("-inf"))
    return [private]


def _log_sum_exp(scores: Tensor, dim: int, mask: Tensor | None) -> Tensor:
    """Return the log-sum-exp along ``dim``; +inf, without a gradient, where ``mask`` is false."""
    if mask is None:
        return scores.logsumexp(dim)
    padding = ~mask
    # A column of nothing but -inf has a log-sum-exp whose gradient is nan: put zeros there first.
    other = padding[None, :, None] if dim == 2 else padding[None, None, :]
    return scores.masked_fill(other, 0.0).logsumexp(dim).masked_fill(padding, float("inf"))
