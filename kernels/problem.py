"""What every path computes from and what it answers with.

The score matrix of a view is S = scale * view @ texts.T, in nats. Shape letters, used on every line of this package
that makes a shape:

    V  views: feature sets scored against the same texts (for example CLIP features and contextual features)
    R  rows: the positive pairs held here; R = C unless the batch is spread over processes
    C  columns: all texts of the batch
    N  private hard negatives of a row
    D  feature width
    K  kinds of id

Nothing here is written to once it is made. Records of a call are not frozen all the same: at a hundred rows that alone
would be a tenth of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(slots=True)
class Problem:
    """A strip of the score matrix: some rows of every view against all columns.

    Attributes:
        views: V tensors (R, D), of one dtype; none is written to.
        texts: (C, D), of the views' dtype. Row i's positive is column ``offset + i``.
        scale: () inverse temperature, float32 (float64 for float64 features), on the features' device.
        negatives: (R, N, D) of the views' dtype, N > 0; or none.
        negatives_mask: (R, N) bool, true where a negative is present.
        row_ids: (R, K) int64; a row and another row's column with an equal id in any kind are not scored.
        column_ids: (C, K) int64; there if ``row_ids`` is.
        row_mask: (R,) bool, false where a row is padding.
        column_mask: (C,) bool; there if ``row_mask`` is. For the positive of row i it equals ``row_mask[i]``.
        offset: The column of row 0's positive.
        weights: V weights of the views.
        symmetric: Whether a column's softmax over rows counts for half; else only a row's over columns.
    """

    views: tuple[Tensor, ...]
    texts: Tensor
    scale: Tensor
    negatives: Tensor | None = None
    negatives_mask: Tensor | None = None
    row_ids: Tensor | None = None
    column_ids: Tensor | None = None
    row_mask: Tensor | None = None
    column_mask: Tensor | None = None
    offset: int = 0
    weights: tuple[float, ...] = (1.0,)
    symmetric: bool = True

    @property
    def accumulator(self) -> torch.dtype:
        """float64 for float64 features, float32 for all others."""
        return torch.float64 if self.texts.dtype == torch.float64 else torch.float32

    @property
    def pairs(self) -> Tensor | int:
        """How many columns are not padding, at least 1: what the loss is the mean over; a () tensor if masked."""
        if self.column_mask is None:
            return max(1, self.texts.shape[0])
        return self.column_mask.sum(dtype=self.accumulator).clamp_min(1.0)

    @property
    def shares(self) -> tuple[float, float]:
        """Return the weights of a row's and of a column's softmax in a pair's loss."""
        return (0.5, 0.5) if self.symmetric else (1.0, 0.0)


@dataclass(slots=True)
class Sums:
    """What the forward pass leaves, in nats, of the problem's accumulator dtype or float64.

    Attributes:
        positives: (V, R) score of each row with its own text; 0 for a padded row.
        rows: (V, R) log-sum-exp over a row's columns and its private negatives; +inf for a padded row, so that
            ``exp(score - rows)`` is 0 there.
        columns: (V, C) log-sum-exp over a column's rows; +inf for a padded column. (V, 0) if not symmetric. With rows
            spread over processes, of the rows held here, and -inf where these are none.
        kept: What a path wants back in :func:`gradients`; an empty tensor if nothing.
    """

    positives: Tensor
    rows: Tensor
    columns: Tensor
    kept: Tensor


@dataclass(slots=True)
class Needs:
    """Which gradients are asked for. What is not costs nothing."""

    views: bool = True
    texts: bool = True
    negatives: bool = True
    scale: bool = True

    @classmethod
    def of(cls, wanted: Sequence[bool]) -> Needs:
        """Return the needs of (plus, scale, texts, negatives, views...), the order of all autograd functions here."""
        _, scale, texts, negatives, *views = wanted
        return cls(any(views), texts, negatives, scale)

    @property
    def any(self) -> bool:
        """Whether a backward pass follows at all."""
        return self.views or self.texts or self.negatives or self.scale


@dataclass(slots=True)
class Gradients:
    """Gradients of the loss, of the inputs' dtypes; none where not asked for.

    Attributes:
        views: V tensors (R, D).
        texts: (C, D); with rows spread over processes, the part that comes from the rows held here.
        negatives: (R, N, D).
        scale: (); likewise a part.
    """

    views: tuple[Tensor, ...] | None = None
    texts: Tensor | None = None
    negatives: Tensor | None = None
    scale: Tensor | None = None


@dataclass(frozen=True)
class ContrastiveOutput:
    """What :func:`figclip_kernels.contrastive_loss` computed.

    Attributes:
        loss: () the weighted sum over views of their mean losses. Carries gradients.
        per_view: (V,) mean loss of each view, unweighted.
        per_row: (V, R) loss of each pair, or none if not asked for; 0 for a padded row.
        row_log_sum_exp: (V, R) over a row's texts and negatives, in nats, or none if not asked for.
        column_log_sum_exp: (V, C) over a text's rows, in nats, or none if not asked for or not symmetric.

    All but ``loss`` are detached.
    """

    loss: Tensor
    per_view: Tensor
    per_row: Tensor | None = None
    row_log_sum_exp: Tensor | None = None
    column_log_sum_exp: Tensor | None = None


def excluded_pairs(problem: Problem, rows: slice, columns: slice) -> Tensor | None:
    """Return (r, c) bool, true where a tile of the score matrix is left out; none if no pair of any tile is.

    Left out are padding and pairs of different rows that share an id.
    """
    if problem.row_ids is None and problem.row_mask is None:
        return None
    device = problem.texts.device
    row = torch.arange(rows.start, rows.stop, device=device)[:, None] + problem.offset  # (r, 1)
    column = torch.arange(columns.start, columns.stop, device=device)[None, :]  # (1, c)
    excluded = torch.zeros(row.shape[0], column.shape[1], dtype=torch.bool, device=device)  # (r, c)
    if problem.row_ids is not None and problem.column_ids is not None:
        for kind in range(problem.row_ids.shape[1]):
            excluded |= problem.row_ids[rows, kind, None] == problem.column_ids[None, columns, kind]
        excluded &= row != column
    if problem.row_mask is not None and problem.column_mask is not None:
        excluded |= ~(problem.row_mask[rows, None] & problem.column_mask[None, columns])
    return excluded


def refuse_second_order() -> None:
    """Refuse a backward pass of a fused path that is to be differentiated itself: its result would be a constant.

    Raises:
        RuntimeError: Autograd was told ``create_graph=True``.
    """
    if torch.is_grad_enabled():
        raise RuntimeError("contrastive_loss has gradients of gradients only with backend='reference'")


def check(
    views: Sequence[Tensor],
    texts: Tensor,
    negatives: Tensor | None,
    negatives_mask: Tensor | None,
    ids: Tensor | None,
    row_mask: Tensor | None,
    weights: Sequence[float] | None,
) -> None:
    """Refuse shapes and dtypes that do not fit one another.

    Raises:
        ValueError: One line that says what and what was expected.
    """
    shape = texts.shape
    if len(shape) != 2:
        raise ValueError(f"texts must be (B, D), got {tuple(shape)}")
    _check_views(views, texts)
    rows, width = shape
    if texts.dtype not in DTYPES:
        raise ValueError(f"texts must be float32, bfloat16, float16 or float64, got {texts.dtype}")
    if negatives is not None:
        if negatives.ndim != 3 or negatives.shape[::2] != shape or negatives.dtype not in DTYPES:
            got = f"{negatives.dtype} {tuple(negatives.shape)}"
            raise ValueError(f"negatives must be ({rows}, N, {width}) of a dtype that texts may have, got {got}")
        if negatives.device != texts.device:
            raise ValueError(f"negatives and texts must be on one device, got {negatives.device} and {texts.device}")
    if negatives_mask is not None:
        if negatives is None or negatives_mask.shape != negatives.shape[:2]:
            raise ValueError(f"negatives_mask must match negatives' (B, N), got {tuple(negatives_mask.shape)}")
        if negatives_mask.dtype != torch.bool:
            raise ValueError(f"negatives_mask must be bool, got {negatives_mask.dtype}")
    if ids is not None and (ids.ndim not in (1, 2) or ids.shape[0] != rows or ids.dtype not in INTEGERS):
        raise ValueError(f"ids must be ({rows},) or ({rows}, K) integers, got {ids.dtype} {tuple(ids.shape)}")
    if row_mask is not None and (row_mask.shape != (rows,) or row_mask.dtype != torch.bool):
        raise ValueError(f"row_mask must be ({rows},) bool, got {row_mask.dtype} {tuple(row_mask.shape)}")
    if weights is not None and len(weights) != len(views):
        raise ValueError(f"weights must hold {len(views)} values, got {len(weights)}")


def _check_views(views: Sequence[Tensor], texts: Tensor) -> None:
    if not len(views):
        raise ValueError("views must hold at least one tensor, got none")
    shape, device = texts.shape, texts.device
    for view in views:
        if view.shape != shape:
            got = [tuple(each.shape) for each in views]
            raise ValueError(f"views must be (V, {shape[0]}, {shape[1]}) like texts, got {got}")
        if view.device != device:
            raise ValueError(f"views and texts must be on one device, got {view.device} and {device}")
        if view.dtype not in DTYPES:
            raise ValueError(f"views must be float32, bfloat16, float16 or float64, got {view.dtype}")
