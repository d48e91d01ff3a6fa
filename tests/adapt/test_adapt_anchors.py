"""Anchor losses against their definitions with loops."""

from __future__ import annotations

import math

import pytest
import torch

from figclip_cli.adapt.anchors import anchor_loss

BOTH = {"feature": 0.7, "geometry": 3.0}


def features(seed, count=5, width=4):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, dtype=torch.float64, generator=generator)


def cosine(a, b):
    dot, a_norm, b_norm = (sum(x * y for x, y in zip(*pair, strict=True)) for pair in ((a, b), (a, a), (b, b)))
    return dot / math.sqrt(a_norm * b_norm)


def by_definition(adapted, base):
    adapted, base = adapted.tolist(), base.tolist()
    count = len(adapted)
    distance = sum(1 - cosine(a, b) for a, b in zip(adapted, base, strict=True)) / count
    pairs = [(i, j) for i in range(count) for j in range(count) if i != j]
    changes = [(cosine(adapted[i], adapted[j]) - cosine(base[i], base[j])) ** 2 for i, j in pairs]
    return {"anchor_feature": distance, "anchor_geometry": sum(changes) / len(pairs)}


@pytest.mark.parametrize("seed", range(3))
def test_both_losses_equal_their_definitions(seed):
    adapted, base = features(seed), 3 * features(seed + 10)
    total, parts = anchor_loss(adapted, base, BOTH)
    expected = by_definition(adapted, base)
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(expected, abs=1e-12)
    assert total.item() == pytest.approx(0.7 * expected["anchor_feature"] + 3 * expected["anchor_geometry"], abs=1e-12)


@pytest.mark.parametrize("kind", ["feature", "geometry"])
def test_one_loss_alone_is_weighted_alone(kind):
    total, parts = anchor_loss(features(0), features(1), {kind: 2.0})
    assert list(parts) == [f"anchor_{kind}"]
    assert total.item() == pytest.approx(2 * by_definition(features(0), features(1))[f"anchor_{kind}"])


def test_features_of_the_same_direction_cost_nothing():
    base = features(0)
    total, parts = anchor_loss(base * torch.tensor([[1.0], [2.0], [0.5], [9.0], [3.0]]), base, BOTH)
    assert total.item() == pytest.approx(0, abs=1e-12)
    assert all(value.item() == pytest.approx(0, abs=1e-12) for value in parts.values())


def test_features_that_turn_together_cost_no_geometry():
    turn = torch.linalg.qr(features(3, 4, 4)).Q
    _, parts = anchor_loss(features(0) @ turn, features(0), BOTH)
    assert parts["anchor_geometry"].item() == pytest.approx(0, abs=1e-12)
    assert parts["anchor_feature"].item() > 0.1


def test_gradients_reach_the_adapted_features_alone():
    adapted, base = features(0).requires_grad_(), features(1).requires_grad_()
    total, parts = anchor_loss(adapted, base, BOTH)
    total.backward()
    assert adapted.grad.abs().min() > 0 and base.grad is None
    assert not any(value.requires_grad for value in parts.values())
    assert torch.autograd.gradcheck(lambda x: anchor_loss(x, base.detach(), BOTH)[0], adapted)


@pytest.mark.parametrize("weights", [{}, {"feature": 0.0}, {"feature": 0.0, "geometry": 0.0}])
def test_a_weight_of_zero_leaves_a_loss_out(weights):
    total, parts = anchor_loss(features(0), features(1), weights)
    assert total.item() == 0 and parts == {}


def test_one_frame_has_no_geometry():
    total, parts = anchor_loss(features(0, 1), features(1, 1), BOTH)
    assert list(parts) == ["anchor_feature"] and torch.isfinite(total)
