"""Few rows on a CPU: the whole score matrix at once, in as few operations as can be.

At a hundred rows an operation of torch costs as much to start as to run. The forward pass is two fused softmaxes and
goes as far as the derivative by each score, which is kept; the backward pass is left with the products. Nothing is
asked of the range of the scores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .problem import Gradients, Needs, Problem, Sums, excluded_pairs

MAX_ROWS = 256


def suits(problem: Problem) -> bool:
    """Return whether this path can compute a problem: a whole one (R = C, offset 0) of few rows."""
    return problem.offset == 0 and problem.views[0].shape[0] == problem.texts.shape[0] <= MAX_ROWS


def forward(problem: Problem, details: bool = True) -> tuple[Tensor, Tensor, Sums]:
    """Compute losses, and the derivative of them by each score.

    Args:
        problem: One that :func:`suits`.
        details: Whether log-sum-exps are wanted; else those returned are (V, 0).

    Returns:
        (V,) mean loss of each view; (V, R) loss of each pair, 0 for a padded row; sums, of which ``kept`` is
        (V, R, C + N) and ``positives`` are (V, 0).
    """
    dtype = problem.accumulator
    texts = _as(problem.texts, dtype)  # (C, D)
    negatives = None if problem.negatives is None else _as(problem.negatives, dtype)  # (R, N, D)
    excluded = _excluded(problem)  # (R, C)
    views = [_Softmaxes(problem, _as(view, dtype), texts, negatives, excluded) for view in problem.views]
    per_row = _stack([view.losses() for view in views])  # (V, R)
    by_row = by_column = none = per_row[:, :0]
    if details:
        by_row = _log_sums([view.positives - view.rows.diagonal() for view in views], problem.row_mask)
        if problem.symmetric:
            by_column = _log_sums([view.positives - view.columns.diagonal() for view in views], problem.column_mask)
    kept = _stack([view.derivatives() for view in views])  # (V, R, C + N)
    return per_row.sum(1) / problem.pairs, per_row, Sums(none, by_row, by_column, kept)


def gradients(problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Compute the gradients of ``upstream`` times the loss from what :func:`forward` kept."""
    dtype = problem.accumulator
    texts = _as(problem.texts, dtype)  # (C, D)
    negatives = None if problem.negatives is None else _as(problem.negatives, dtype)  # (R, N, D)
    of_texts = torch.zeros_like(texts) if needs.texts else None  # (C, D)
    of_negatives = torch.zeros_like(negatives) if needs.negatives and negatives is not None else None  # (R, N, D)
    scale = torch.zeros_like(problem.scale) if needs.scale else None  # ()
    share = upstream * problem.scale / problem.pairs  # ()
    views = []
    for features, weight, kept in zip(problem.views, problem.weights, sums.kept, strict=True):
        features = _as(features, dtype)  # (R, D)
        by_product = kept * (share * weight)  # (R, C + N) derivatives by <v_i, t_j>, that is scale G_ij
        pairs, private = by_product[:, : len(texts)], by_product[:, len(texts) :]  # (R, C), (R, N)
        # dv_i = scale sum_j G_ij t_j and dt_j = scale sum_i G_ij v_i, with G_ij the derivative by score ij.
        if needs.views or scale is not None:
            own = pairs @ texts  # (R, D)
            if negatives is not None:
                own[:, None].baddbmm_(private[:, None], negatives)
            views.append(_as(own, problem.texts.dtype))
            if scale is not None:
                # S is linear in the scale and in v_i: sum_ij G_ij dS_ij/dscale = sum_i <dv_i, v_i> / scale.
                scale += (own * features).sum() / problem.scale
        if of_texts is not None:
            of_texts.addmm_(pairs.T, features)
        if of_negatives is not None:
            of_negatives.addcmul_(private[:, :, None], features[:, None])
    return Gradients(
        tuple(views) if needs.views else None,
        None if of_texts is None else _as(of_texts, problem.texts.dtype),
        None if of_negatives is None else _as(of_negatives, problem.texts.dtype),
        scale,
    )


class _Softmaxes:
    """Logarithms of both softmaxes of one view.

    Attributes:
        positives: (R,) scores of positives in nats, a view of memory that is free to be reused by ``derivatives``.
        rows: (R, C + N) log-probabilities of texts and private negatives for a row.
        columns: (R, C) log-probabilities of rows for a column; none if not symmetric.
    """

    def __init__(
        self, problem: Problem, features: Tensor, texts: Tensor, negatives: Tensor | None, excluded: Tensor | None
    ) -> None:
        self._symmetric = problem.symmetric
        pairs = (features @ texts.T).mul_(problem.scale)  # (R, C)
        if excluded is not None:
            pairs.masked_fill_(excluded, -math.inf)
        self.positives = pairs.diagonal()
        scores = pairs
        if negatives is not None:
            private = torch.bmm(features[:, None], negatives.transpose(1, 2))[:, 0].mul_(problem.scale)  # (R, N)
            if problem.negatives_mask is not None:
                private.masked_fill_(~problem.negatives_mask, -math.inf)
            if problem.row_mask is not None:
                private.masked_fill_(~problem.row_mask[:, None], -math.inf)
            scores = torch.cat([pairs, private], 1)  # (R, C + N)
        self.rows = torch.log_softmax(scores, 1)
        self.columns = torch.log_softmax(pairs, 0) if problem.symmetric else self.rows

    def losses(self) -> Tensor:
        """Return (R,) losses of pairs. A padded row has its positive alone to choose from: 0."""
        if not self._symmetric:
            return self.rows.diagonal().neg()
        return torch.add(self.rows.diagonal(), self.columns.diagonal()).mul_(-0.5)

    def derivatives(self) -> Tensor:
        """Return the derivatives of a pair's loss by each score, (R, C + N), in place of the log-probabilities.

        They are of_row p_row + of_column p_column - 1 if a positive; all 0 in a padded row, where p is 1.
        """
        derivatives = self.rows.exp_()
        if self._symmetric:
            derivatives[:, : self.columns.shape[1]].add_(self.columns.exp_())
        derivatives.diagonal().sub_(2.0 if self._symmetric else 1.0)
        return derivatives.mul_(0.5) if self._symmetric else derivatives


def _excluded(problem: Problem) -> Tensor | None:
    """Return (R, C) bool, true where a pair is left out; a padded row keeps its positive."""
    rows = slice(0, len(problem.texts))
    excluded = excluded_pairs(problem, rows, rows)
    if excluded is not None:
        excluded.fill_diagonal_(False)
    return excluded


def _log_sums(sums: list[Tensor], mask: Tensor | None) -> Tensor:
    """Return (V, R) or (V, C) log-sum-exps in nats; +inf where padded."""
    return torch.stack(sums) if mask is None else torch.stack(sums).masked_fill_(~mask, math.inf)


def _stack(tensors: list[Tensor]) -> Tensor:
    return tensors[0][None] if len(tensors) == 1 else torch.stack(tensors)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
