"""Few rows on a CPU: the whole score matrix at once, in as few operations as can be.

At a hundred rows an operation of torch costs as much to start as to run. The forward pass goes as far as the derivative
by each score, in the memory of the scores, which is kept; the backward pass is left with the products, and all factors
of a call go into these.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .cpu import COMFORT_BITS, HIGHEST_BITS, LOG2E, LOWEST_BITS
from .problem import Gradients, Needs, Problem, Sums, excluded_pairs

MAX_ROWS = 1024
# From here on torch's fused softmax takes longer than powers of two do: see figclip_kernels.cpu.
POWERS_FROM_ROWS = 129


def suits(problem: Problem) -> bool:
    """Return whether this path can compute a problem: a whole one (R = C, offset 0) of few rows."""
    return problem.offset == 0 and problem.views[0].shape[0] == problem.texts.shape[0] <= MAX_ROWS


def forward(problem: Problem, details: bool = True) -> tuple[Tensor, Tensor, Sums]:
    """Compute losses, and the derivative of them by each score.

    Args:
        problem: One that :func:`suits`.
        details: Whether losses by pair and log-sum-exps are wanted; else those returned are (V, 0).

    Returns:
        (V,) mean loss of each view; (V, R) loss of each pair, 0 for a padded row; sums, of which ``kept`` is
        (V, R, C + N) and ``positives`` are (V, 0).
    """
    rows = problem.texts.shape[0]
    excluded = _excluded(problem)  # (R, C)
    use_powers = rows >= POWERS_FROM_ROWS and not details and problem.row_mask is None
    views = [_view(problem, view, excluded, use_powers, details) for view in range(len(problem.views))]
    share = -max(problem.shares)  # of the logarithm of a row's or a column's probability in a pair's loss
    total = _stack([each.logs for each in views])  # (V, R)
    kept = _stack([each.derivatives for each in views])  # (V, R, C + N)
    per_view = total.sum(1).mul_(share / problem.pairs)
    none = total.narrow(1, 0, 0)  # (V, 0)
    if not details:
        return per_view, none, Sums(none, none, none, kept)
    by_row = _log_sums([each.rows for each in views], problem.row_mask)
    by_column = _log_sums([each.columns for each in views], problem.column_mask) if problem.symmetric else none
    return per_view, total * share, Sums(none, by_row, by_column, kept)


def gradients(problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Compute the gradients of ``upstream`` times the loss from what :func:`forward` kept."""
    dtype = problem.accumulator
    texts = _as(problem.texts, dtype)  # (C, D)
    negatives = None if problem.negatives is None else _as(problem.negatives, dtype)  # (R, N, D)
    of_texts = torch.zeros_like(texts) if needs.texts else None  # (C, D)
    of_negatives = torch.zeros_like(negatives) if needs.negatives and negatives is not None else None  # (R, N, D)
    of_scale = torch.zeros_like(problem.scale) if needs.scale else None  # ()
    rows, scale = problem.texts.shape[0], float(problem.scale)
    share = float(upstream) * max(problem.shares) / float(problem.pairs)
    views = []
    for features, weight, derivatives in zip(problem.views, problem.weights, sums.kept.unbind(0), strict=True):
        features = _as(features, dtype)  # (R, D)
        pairs = derivatives.narrow(1, 0, rows)  # (R, C)
        private = derivatives.narrow(1, rows, derivatives.shape[1] - rows)  # (R, N)
        factor = share * weight * scale
        # dv_i = scale sum_j G_ij t_j and dt_j = scale sum_i G_ij v_i, with G_ij the derivative by score ij.
        if needs.views or of_scale is not None:
            early = 1.0 if of_scale is not None else factor
            own = torch.addmm(upstream, pairs, texts, beta=0, alpha=early)  # (R, D)
            if negatives is not None:
                own.unsqueeze(1).baddbmm_(private.unsqueeze(1), negatives, alpha=early)
            if of_scale is not None:
                # S is linear in the scale and in v_i: the derivative by it is sum_i <dv_i, v_i> / scale.
                of_scale += (own * features).sum() * (share * weight)
                own.mul_(factor)
            views.append(_as(own, problem.texts.dtype))
        if of_texts is not None:
            of_texts.addmm_(pairs.T, features, alpha=factor)
        if of_negatives is not None:
            of_negatives.addcmul_(private[:, :, None], features[:, None], value=factor)
    return Gradients(
        tuple(views) if needs.views else None,
        None if of_texts is None else _as(of_texts, problem.texts.dtype),
        None if of_negatives is None else _as(of_negatives, problem.texts.dtype),
        of_scale,
    )


class _View(NamedTuple):
    """What comes of one view.

    Attributes:
        logs: (R,) logarithms of the probabilities of positives, summed over both directions; 0 for a padded row.
        derivatives: (R, C + N) p_row + p_column - 2 if a positive; of one direction p_row - 1 if a positive.
        rows: (R,) log-sum-exp over texts and private negatives, or none.
        columns: (C,) log-sum-exp over rows, or none.
    """

    logs: Tensor
    derivatives: Tensor
    rows: Tensor | None = None
    columns: Tensor | None = None


def _view(problem: Problem, view: int, excluded: Tensor | None, use_powers: bool, details: bool) -> _View:
    if use_powers:
        result = _by_powers(problem, view, excluded)
        if result is not None:
            return result
    return _by_softmaxes(problem, view, excluded, details)


def _score(problem: Problem, view: int, excluded: Tensor | None, factor: float) -> tuple[Tensor, Tensor]:
    """Return products of a view with texts, (R, C), and with negatives too, (R, C + N), times ``factor``."""
    dtype = problem.accumulator
    features, texts = _as(problem.views[view], dtype), _as(problem.texts, dtype)  # (R, D), (C, D)
    pairs = torch.addmm(problem.scale, features, texts.t(), beta=0, alpha=factor)  # (R, C)
    if excluded is not None:
        pairs.masked_fill_(excluded, -math.inf)
    if problem.negatives is None:
        return pairs, pairs
    negatives = _as(problem.negatives, dtype)  # (R, N, D)
    private = torch.bmm(features.unsqueeze(1), negatives.transpose(1, 2)).squeeze(1).mul_(factor)  # (R, N)
    if problem.negatives_mask is not None:
        private.masked_fill_(~problem.negatives_mask, -math.inf)
    if problem.row_mask is not None:
        private.masked_fill_(~problem.row_mask.unsqueeze(1), -math.inf)
    return pairs, torch.cat((pairs, private), 1)


def _by_powers(problem: Problem, view: int, excluded: Tensor | None) -> _View | None:
    """Compute a view by powers of two with a constant shift, as figclip_kernels.cpu does.

    None if a sum leaves the range in which they are exact.
    """
    _, scores = _score(problem, view, excluded, float(problem.scale) * LOG2E)
    pairs = scores.narrow(1, 0, len(scores))
    positives = pairs.diagonal()
    low, high = (float(end) for end in positives.aminmax())
    shift = 0.0 if low >= -COMFORT_BITS and high <= COMFORT_BITS else (low + high) / 2
    if math.isnan(shift) or low - shift < LOWEST_BITS:
        return None
    (scores.sub_(shift) if shift else scores).exp2_()
    # No sum is below its positive.
    rows = scores.sum(1)  # (R,)
    sums = torch.stack((rows, pairs.sum(0))) if problem.symmetric else rows.unsqueeze(0)  # (1 or 2, R)
    if not float(sums.amax()) <= 2.0**HIGHEST_BITS:  # as nan is
        return None
    # The positive's power is the one that is in the sums: all digits of a loss close to zero hang on that.
    logs = torch.div(positives, sums).log_().sum(0)  # (R,)
    factors = sums.reciprocal_()
    of_columns = pairs * factors[1] if problem.symmetric else None  # (R, C)
    scores.mul_(factors[0].unsqueeze(1))
    if of_columns is not None:
        pairs.add_(of_columns)
    pairs.diagonal().sub_(2.0 if problem.symmetric else 1.0)
    return _View(logs, scores)


def _by_softmaxes(problem: Problem, view: int, excluded: Tensor | None, details: bool) -> _View:
    """Compute a view whatever the range of its scores. A padded row has its positive alone to choose from."""
    pairs, scores = _score(problem, view, excluded, float(problem.scale))
    rows = torch.log_softmax(scores, 1)  # (R, C + N)
    columns = torch.log_softmax(pairs, 0) if problem.symmetric else None  # (R, C)
    by_row = rows.diagonal()
    logs = by_row.clone() if columns is None else torch.add(by_row, columns.diagonal())  # (R,)
    row_sums = column_sums = None
    if details:
        row_sums = pairs.diagonal() - by_row
        column_sums = None if columns is None else pairs.diagonal() - columns.diagonal()
    rows.exp_()
    if columns is not None:
        rows.narrow(1, 0, len(rows)).add_(columns.exp_())
    by_row.sub_(1.0 if columns is None else 2.0)
    return _View(logs, rows, row_sums, column_sums)


def _excluded(problem: Problem) -> Tensor | None:
    """Return (R, C) bool, true where a pair is left out; a padded row keeps its positive."""
    rows = slice(0, len(problem.texts))
    excluded = excluded_pairs(problem, rows, rows)
    return None if excluded is None else excluded.fill_diagonal_(False)


def _log_sums(sums: list[Tensor | None], mask: Tensor | None) -> Tensor:
    """Return (V, R) or (V, C) log-sum-exps in nats; +inf where padded."""
    stacked = torch.stack([each for each in sums if each is not None])
    return stacked if mask is None else stacked.masked_fill_(~mask, math.inf)


def _stack(tensors: list[Tensor]) -> Tensor:
    return tensors[0].unsqueeze(0) if len(tensors) == 1 else torch.stack(tensors)


def _as(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor if tensor.dtype == dtype else tensor.to(dtype)
