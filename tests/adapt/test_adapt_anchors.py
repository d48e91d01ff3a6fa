"""Anchor losses against their definitions with loops."""

from __future__ import annotations

import math

import pytest
import torch

from figclip_cli.adapt.anchors import anchor_loss
from figclip_cli.adapt.layout import lay_out
from figclip_cli.adapt.texts import ClipTexts
from figclip_cli.frames import SamplingRecipe

BOTH = {"feature": 0.7, "geometry": 3.0}


def layout_of(*clips):
    """Lay out clips, each given as (events, frames an event)."""
    recipes = [SamplingRecipe(size=8, events=events, frames_per_event=frames) for events, frames in clips]
    texts = [
        ClipTexts(
            torch.arange(events), torch.zeros(events, 0, dtype=torch.long), torch.zeros(events, 0, dtype=torch.long)
        )
        for events, _ in clips
    ]
    return lay_out([f"clip{row}" for row in range(len(clips))], recipes, texts)


FIVE = layout_of((5, 1))
ONE = layout_of((1, 1))


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
    total, parts = anchor_loss(adapted, base, BOTH, FIVE)
    expected = by_definition(adapted, base)
    assert {name: value.item() for name, value in parts.items()} == pytest.approx(expected, abs=1e-12)
    assert total.item() == pytest.approx(0.7 * expected["anchor_feature"] + 3 * expected["anchor_geometry"], abs=1e-12)


@pytest.mark.parametrize("kind", ["feature", "geometry"])
def test_one_loss_alone_is_weighted_alone(kind):
    total, parts = anchor_loss(features(0), features(1), {kind: 2.0}, FIVE)
    assert list(parts) == [f"anchor_{kind}"]
    assert total.item() == pytest.approx(2 * by_definition(features(0), features(1))[f"anchor_{kind}"])


def test_features_of_the_same_direction_cost_nothing():
    base = features(0)
    total, parts = anchor_loss(base * torch.tensor([[1.0], [2.0], [0.5], [9.0], [3.0]]), base, BOTH, FIVE)
    assert total.item() == pytest.approx(0, abs=1e-12)
    assert all(value.item() == pytest.approx(0, abs=1e-12) for value in parts.values())


def test_features_that_turn_together_cost_no_geometry():
    turn = torch.linalg.qr(features(3, 4, 4)).Q
    _, parts = anchor_loss(features(0) @ turn, features(0), BOTH, FIVE)
    assert parts["anchor_geometry"].item() == pytest.approx(0, abs=1e-12)
    assert parts["anchor_feature"].item() > 0.1


def test_gradients_reach_the_adapted_features_alone():
    adapted, base = features(0).requires_grad_(), features(1).requires_grad_()
    total, parts = anchor_loss(adapted, base, BOTH, FIVE)
    total.backward()
    assert adapted.grad.abs().min() > 0 and base.grad is None
    assert not any(value.requires_grad for value in parts.values())
    assert torch.autograd.gradcheck(lambda x: anchor_loss(x, base.detach(), BOTH, FIVE)[0], adapted)


@pytest.mark.parametrize("weights", [{}, {"feature": 0.0}, {"feature": 0.0, "geometry": 0.0, "video": 0.0}])
def test_a_weight_of_zero_leaves_a_loss_out(weights):
    total, parts = anchor_loss(features(0), features(1), weights, FIVE)
    assert total.item() == 0 and parts == {}


def test_one_frame_has_no_geometry():
    total, parts = anchor_loss(features(0, 1), features(1, 1), BOTH, ONE)
    assert list(parts) == ["anchor_feature"] and torch.isfinite(total)


def pooled(rows):
    return [sum(column) / len(rows) for column in zip(*rows, strict=True)]


def test_the_video_loss_is_the_distance_of_whole_clips_whatever_their_shapes():
    layout = layout_of((2, 2), (1, 3), (3, 1))  # clips of 4, 3 and 3 frames
    adapted, base = features(0, 10), 3 * features(1, 10)
    rows = [(0, 4), (4, 7), (7, 10)]
    expected = sum(1 - cosine(pooled(adapted[a:b].tolist()), pooled(base[a:b].tolist())) for a, b in rows) / 3
    total, parts = anchor_loss(adapted, base, {"video": 2.0}, layout)
    assert list(parts) == ["anchor_video"] and parts["anchor_video"].item() == pytest.approx(expected, abs=1e-12)
    assert total.item() == pytest.approx(2 * expected, abs=1e-12)


def test_events_that_move_apart_around_the_same_mean_cost_no_video_loss():
    base, apart = features(0, 4), 5 * features(1, 4)
    total, _ = anchor_loss(base + apart - apart.mean(0), base, {"video": 1.0}, layout_of((4, 1)))
    assert total.item() == pytest.approx(0, abs=1e-12)


def test_gradients_of_the_video_loss_are_those_of_its_value():
    layout, base = layout_of((2, 2), (1, 1)), features(1)
    assert torch.autograd.gradcheck(
        lambda x: anchor_loss(x, base, {"video": 1.0}, layout)[0], features(0).requires_grad_()
    )
