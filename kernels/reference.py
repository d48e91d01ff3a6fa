"""Plain-torch contrastive loss: the definition that every faster path must equal.

Shape letters, used on every line that changes a shape:
    V  views: feature sets scored against the same texts (for example CLIP features and contextual features)
    B  rows: positive pairs
    N  private hard negatives of a row
    D  feature width
    K  kinds of id
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ContrastiveOutput:
    """What :func:`contrastive_loss` computed.

    Attributes:
        loss: Scalar; the weighted sum over views of their mean row losses. Carries gradients.
        per_view: (V,) detached mean loss of each view, unweighted.
    """

    loss: Tensor
    per_view: Tensor


def contrastive_loss(
    views: Tensor | Sequence[Tensor],
    texts: Tensor,
    *,
    logit_scale: Tensor | float,
    negatives: Tensor | None = None,
    negatives_mask: Tensor | None = None,
    ids: Tensor | None = None,
    weights: Sequence[float] | None = None,
    symmetric: bool = True,
) -> ContrastiveOutput:
    """Compute InfoNCE between each view and the texts, with negatives that are private to a row.

    Row i's positive is text i. Its denominator over texts holds every text j, except those that share an id
    with i, and its own N negatives. The denominator of text j over rows holds every row i, except those that
    share an id with j; negatives have no row of their own and do not enter it. Features are used as given:
    pass them L2-normalised for cosine similarity. float64 stays float64; everything else is computed in
    float32. Source: FiGCLIP (arXiv 2401.07669), section 3.3; InfoNCE (arXiv 1807.03748).

    Args:
        views: (V, B, D) or a sequence of V tensors (B, D).
        texts: (B, D).
        logit_scale: Inverse temperature, already exponentiated; a float or a scalar tensor, which may ask for
            a gradient.
        negatives: (B, N, D), or none.
        negatives_mask: (B, N) bool, true where a negative is present.
        ids: (B,) or (B, K) integers. Two different rows with an equal id in any column are never each other's
            negative.
        weights: V weights of the views; ones by default.
        symmetric: Average both directions; else only row -> text.

    Raises:
        ValueError: Shapes that do not fit one another.
    """
    stacked = views if isinstance(views, Tensor) else torch.stack(list(views))  # (V, B, D)
    _check_shapes(stacked, texts, negatives, negatives_mask, ids, weights)
    dtype = torch.float64 if stacked.dtype == torch.float64 else torch.float32
    rows = texts.shape[0]
    if rows == 0:
        return ContrastiveOutput(stacked.to(dtype).sum() * 0.0, stacked.new_zeros(len(stacked), dtype=dtype))

    scale = torch.as_tensor(logit_scale, dtype=dtype, device=texts.device)
    logits = scale * (stacked.to(dtype) @ texts.to(dtype).T)  # (V, B, B): [view, row, text]
    positive = logits.diagonal(dim1=1, dim2=2)  # (V, B)
    excluded = _excluded_pairs(ids, rows, texts.device)  # (B, B)
    if excluded is not None:
        logits = logits.masked_fill(excluded, float("-inf"))
    to_text = logits  # (V, B, B)
    if negatives is not None and negatives.shape[1] > 0:
        private = scale * torch.einsum("vbd,bnd->vbn", stacked.to(dtype), negatives.to(dtype))  # (V, B, N)
        if negatives_mask is not None:
            private = private.masked_fill(~negatives_mask, float("-inf"))
        to_text = torch.cat([logits, private], dim=2)  # (V, B, B + N)

    per_row = to_text.logsumexp(dim=2) - positive  # (V, B)
    if symmetric:
        per_row = 0.5 * (per_row + logits.logsumexp(dim=1) - positive)  # (V, B)
    per_view = per_row.mean(dim=1)  # (V,)
    view_weights = per_view.new_tensor(list(weights) if weights is not None else [1.0] * len(stacked))
    return ContrastiveOutput((per_view * view_weights).sum(), per_view.detach())


def _excluded_pairs(ids: Tensor | None, rows: int, device: torch.device) -> Tensor | None:
    """Return (B, B) bool: true where two different rows share an id and so are not negatives."""
    if ids is None:
        return None
    columns = ids.to(device).reshape(rows, -1)  # (B, K)
    same = (columns[:, None, :] == columns[None, :, :]).any(dim=2)  # (B, B)
    return same & ~torch.eye(rows, dtype=torch.bool, device=device)


def _check_shapes(
    views: Tensor,
    texts: Tensor,
    negatives: Tensor | None,
    negatives_mask: Tensor | None,
    ids: Tensor | None,
    weights: Sequence[float] | None,
) -> None:
    rows, width = texts.shape
    if views.ndim != 3 or views.shape[1:] != texts.shape:
        raise ValueError(f"views must be (V, {rows}, {width}) like texts, got {tuple(views.shape)}")
    if negatives is not None and (negatives.ndim != 3 or negatives.shape[0] != rows or negatives.shape[2] != width):
        raise ValueError(f"negatives must be ({rows}, N, {width}), got {tuple(negatives.shape)}")
    if negatives_mask is not None:
        if negatives is None or negatives_mask.shape != negatives.shape[:2]:
            raise ValueError(f"negatives_mask must match negatives' (B, N), got {tuple(negatives_mask.shape)}")
        if negatives_mask.dtype != torch.bool:
            raise ValueError(f"negatives_mask must be bool, got {negatives_mask.dtype}")
    if ids is not None and ids.shape[0] != rows:
        raise ValueError(f"ids must be ({rows},) or ({rows}, K), got {tuple(ids.shape)}")
    if weights is not None and len(weights) != len(views):
        raise ValueError(f"weights must hold {len(views)} values, got {len(weights)}")
