"""The contrastive loss and its gradients against a float64 definition written with loops."""

from __future__ import annotations

import math

import pytest
import torch
from figclip_kernels import contrastive_loss


def loss_by_definition(views, texts, scale, negatives=None, mask=None, ids=None, weights=None, symmetric=True):
    """InfoNCE, one exponential at a time; differentiable, so autograd gives reference gradients."""

    def excluded(i, j):
        return i != j and ids is not None and any(a == b for a, b in zip(ids[i], ids[j], strict=True))

    total = torch.zeros((), dtype=torch.float64)
    rows = len(texts)
    for v, view in enumerate(views):
        losses = []
        for i in range(rows):
            positive = torch.exp(scale * (view[i] * texts[i]).sum())
            over_texts = sum(torch.exp(scale * (view[i] * texts[j]).sum()) for j in range(rows) if not excluded(i, j))
            if negatives is not None:
                for n in range(negatives.shape[1]):
                    if mask is None or mask[i, n]:
                        over_texts = over_texts + torch.exp(scale * (view[i] * negatives[i, n]).sum())
            over_rows = sum(torch.exp(scale * (view[j] * texts[i]).sum()) for j in range(rows) if not excluded(i, j))
            row = -torch.log(positive / over_texts)
            losses.append(0.5 * (row - torch.log(positive / over_rows)) if symmetric else row)
        total = total + (1.0 if weights is None else weights[v]) * sum(losses) / rows
    return total


def unit(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("count", [0, 1, 3])
@pytest.mark.parametrize("view_count", [1, 2])
def test_loss_and_gradients_equal_the_definition(view_count, count, with_ids, symmetric):
    rows, width = 5, 7
    views = unit(view_count, rows, width, seed=1).requires_grad_()
    texts = unit(rows, width, seed=2).requires_grad_()
    negatives = unit(rows, count, width, seed=3).requires_grad_()
    mask = torch.ones(rows, count, dtype=torch.bool)
    if count:
        mask[1, 0] = mask[3, :] = False
    ids = torch.tensor([[0, 9], [1, 8], [0, 7], [3, 6], [4, 8]]) if with_ids else None
    scale = torch.tensor(3.7, dtype=torch.float64, requires_grad=True)
    weights = [1.0, 0.25][:view_count]
    inputs = (views, texts, scale) + ((negatives,) if count else ())

    ours = contrastive_loss(
        views,
        texts,
        logit_scale=scale,
        negatives=negatives,
        negatives_mask=mask,
        ids=ids,
        weights=weights,
        symmetric=symmetric,
    ).loss
    theirs = loss_by_definition(
        views, texts, scale, negatives, mask, None if ids is None else ids.tolist(), weights, symmetric
    )
    assert torch.allclose(ours, theirs, atol=1e-12)
    upstream = 1.7
    for a, b in zip(
        torch.autograd.grad(ours * upstream, inputs), torch.autograd.grad(theirs * upstream, inputs), strict=True
    ):
        assert torch.allclose(a, b, atol=1e-11)


def test_gradcheck_holds_in_float64():
    views, texts = unit(2, 3, 4, seed=1).requires_grad_(), unit(3, 4, seed=2).requires_grad_()
    negatives = unit(3, 2, 4, seed=3).requires_grad_()
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda v, t, n, s: contrastive_loss(v, t, negatives=n, logit_scale=s).loss, (views, texts, negatives, scale)
    )


def test_low_precision_inputs_are_scored_in_float32():
    views, texts = unit(1, 64, 32, seed=1).to(torch.bfloat16), unit(64, 32, seed=2).to(torch.bfloat16)
    low = contrastive_loss(views, texts, logit_scale=100.0).loss
    exact = contrastive_loss(views.double(), texts.double(), logit_scale=100.0).loss
    assert low.dtype == torch.float32
    assert abs(low.item() - exact.item()) < 1e-4


def test_a_private_negative_raises_the_loss_of_its_own_row_only():
    views, texts = unit(1, 4, 8, seed=1), unit(4, 8, seed=2)
    negatives = torch.zeros(4, 1, 8, dtype=torch.float64)
    negatives[2, 0] = views[0, 2]
    mask = torch.tensor([[False], [False], [True], [False]])
    without = contrastive_loss(views, texts, logit_scale=5.0, symmetric=False).loss
    with_one = contrastive_loss(
        views, texts, logit_scale=5.0, symmetric=False, negatives=negatives, negatives_mask=mask
    ).loss
    alone = math.log1p(math.exp(5.0) / sum(math.exp(5.0 * float(views[0, 2] @ texts[j])) for j in range(4)))
    assert with_one.item() - without.item() == pytest.approx(alone / 4, abs=1e-12)


def test_rows_with_an_equal_id_are_not_each_others_negative():
    texts = unit(3, 6, seed=1)
    texts[2] = texts[0]
    views = texts[None].clone()
    ids = torch.tensor([7, 1, 7])
    masked = contrastive_loss(views, texts, ids=ids, logit_scale=100.0).loss
    unmasked = contrastive_loss(views, texts, logit_scale=100.0).loss
    assert masked.item() < 1e-9
    assert unmasked.item() == pytest.approx(2 / 3 * math.log(2), abs=1e-6)


def test_no_rows_give_zero_with_a_gradient():
    views = torch.zeros(2, 0, 4, requires_grad=True)
    output = contrastive_loss(views, torch.zeros(0, 4), logit_scale=1.0)
    output.loss.backward()
    assert output.loss.item() == 0.0 and output.per_view.shape == (2,)


def test_inputs_are_never_written_to():
    tensors = [unit(1, 4, 8, seed=1), unit(4, 8, seed=2), unit(4, 2, 8, seed=3)]
    copies = [tensor.clone() for tensor in tensors]
    leaves = [tensor.requires_grad_() for tensor in tensors]
    contrastive_loss(leaves[0], leaves[1], negatives=leaves[2], logit_scale=9.0).loss.backward()
    assert all(torch.equal(a, b) for a, b in zip(leaves, copies, strict=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"views": torch.zeros(1, 3, 5)}, "views must be"),
        ({"negatives": torch.zeros(4, 5)}, "negatives must be"),
        ({"negatives": torch.zeros(4, 2, 6)}, "negatives must be"),
        ({"negatives": torch.zeros(4, 2, 5), "negatives_mask": torch.ones(4, 3, dtype=torch.bool)}, "negatives_mask"),
        ({"negatives": torch.zeros(4, 2, 5), "negatives_mask": torch.ones(4, 2)}, "must be bool"),
        ({"ids": torch.zeros(3)}, "ids must be"),
        ({"weights": [1.0, 2.0]}, "weights must hold 1"),
        ({"texts": torch.zeros(4)}, "texts must be"),
        ({"views": []}, "at least one tensor"),
        ({"views": torch.zeros(4, 5)}, r"views must be \(V, B, D\)"),
        ({"ids": torch.zeros(4, dtype=torch.bool)}, "ids must be"),
        ({"views": torch.zeros(1, 4, 5, dtype=torch.int64)}, "views must be float32"),
        ({"texts": torch.zeros(4, 5, dtype=torch.complex64)}, "texts must be float32"),
        ({"views": torch.zeros(1, 4, 5, device="meta")}, "on one device"),
        ({"negatives": torch.zeros(4, 2, 5, device="meta")}, "on one device"),
        ({"row_mask": torch.ones(4)}, "row_mask must be"),
        ({"logit_scale": torch.ones(2)}, "logit_scale must be a number"),
        ({"plus": torch.ones(2)}, "plus must be a number"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, message):
    arguments = {"views": torch.zeros(1, 4, 5), "texts": torch.zeros(4, 5), "logit_scale": 1.0, **change}
    with pytest.raises(ValueError, match=message):
        contrastive_loss(arguments.pop("views"), arguments.pop("texts"), **arguments)
