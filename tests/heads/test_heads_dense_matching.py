"""Overlap, matching and losses of event proposals, against naive versions and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from figclip_cli.heads.dense.head import Found
from figclip_cli.heads.dense.losses import CLASS, COUNT, GIOU, L1, count_targets, focal_loss, set_losses
from figclip_cli.heads.dense.matching import MatchingWeights, match, matching_cost
from figclip_cli.heads.dense.segments import centre_length, generalised_iou, start_end

WEIGHTS = MatchingWeights()


def seconds(*pairs):
    return torch.tensor(pairs, dtype=torch.float64)


def naive_giou(one, other):
    both = max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
    union = one[1] - one[0] + other[1] - other[0] - both
    hull = max(one[1], other[1]) - min(one[0], other[0])
    return both / union - (hull - union) / hull


def drawn(count, generator):
    return torch.from_numpy(np.sort(generator.random((count, 2)), axis=1))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0.0, 1.0), (0.0, 1.0), 1.0),
        ((0.0, 0.5), (0.5, 1.0), 0.0),  # they touch: no overlap, and nothing between them
        ((0.0, 0.25), (0.75, 1.0), -0.5),  # half of the hull is between them
        ((0.0, 0.5), (0.25, 0.75), 1 / 3),
        ((0.0, 1.0), (0.25, 0.5), 0.25),
    ],
)
def test_generalised_iou_by_hand(one, other, expected):
    for a, b in ((one, other), (other, one)):
        assert float(generalised_iou(seconds(a)[0], seconds(b)[0])) == pytest.approx(expected, abs=1e-9)


def test_generalised_iou_is_the_naive_one_and_is_broadcast():
    generator = np.random.default_rng(0)
    ones, others = drawn(20, generator), drawn(30, generator)
    found = generalised_iou(ones[:, None], others[None])
    expected = [[naive_giou(a, b) for b in others.tolist()] for a in ones.tolist()]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9)
    assert found.max() <= 1 and found.min() >= -1


def test_segments_go_both_ways():
    segments = seconds((0.1, 0.5), (0.0, 1.0))
    assert torch.allclose(centre_length(segments), seconds((0.3, 0.4), (0.5, 1.0)))
    assert torch.allclose(start_end(centre_length(segments)), segments)


def naive_cost(logit, segment, target):
    probability = 1 / (1 + math.exp(-logit))
    event = 0.25 * (1 - probability) ** 2 * -math.log(probability)
    none = 0.75 * probability**2 * -math.log(1 - probability)
    distance = abs(segment[0] - target[0]) + abs(segment[1] - target[1])
    ends = [(c - length / 2, c + length / 2) for c, length in (segment, target)]
    return 2 * (event - none) + 2 * distance - 4 * naive_giou(*ends)


def test_the_cost_and_the_assignment_are_those_of_all_permutations():
    generator = np.random.default_rng(1)
    logits = torch.from_numpy(generator.normal(size=(3, 5)) * 2)
    segments = torch.stack([centre_length(drawn(5, generator)) for _ in range(3)])
    targets = [centre_length(drawn(count, generator)) for count in (1, 3, 4)]
    matched = match(logits, segments, targets, WEIGHTS)
    for video, own in enumerate(targets):
        cost = [
            [naive_cost(float(logit), segment, target) for target in own.tolist()]
            for logit, segment in zip(logits[video], segments[video].tolist(), strict=True)
        ]
        assert np.allclose(matching_cost(logits[video], segments[video], own, WEIGHTS), cost)
        best = min(
            itertools.permutations(range(5), len(own)),
            key=lambda queries: sum(cost[query][event] for event, query in enumerate(queries)),
        )
        rows = matched[matched[:, 0] == video]
        assert {(int(query), int(event)) for _, query, event in rows} == {(q, e) for e, q in enumerate(best)}
        assert rows[:, 1].tolist() == sorted(rows[:, 1].tolist())


def test_with_more_events_than_queries_each_query_has_one():
    generator = np.random.default_rng(2)
    targets = [centre_length(drawn(4, generator))]
    matched = match(torch.zeros(1, 2), centre_length(drawn(2, generator))[None], targets, WEIGHTS)
    assert matched[:, 1].tolist() == [0, 1] and len(set(matched[:, 2].tolist())) == 2


def test_what_is_not_finite_is_never_preferred():
    segments = torch.tensor([[[float("nan"), 0.2], [0.5, 0.2], [0.1, 0.1]]], dtype=torch.float64)
    matched = match(torch.zeros(1, 3), segments, [seconds((0.5, 0.2))], WEIGHTS)
    assert matched.tolist() == [[0, 1, 0]]


def test_the_focal_loss_by_hand():
    logits = torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    found = focal_loss(logits, torch.tensor([1.0, 0.0, 1.0], dtype=torch.float64))
    sure = 1 / (1 + math.exp(-2))
    expected = [0.25 * 0.25 * math.log(2), 0.75 * 0.25 * math.log(2), 0.25 * (1 - sure) ** 2 * -math.log(sure)]
    assert found.tolist() == pytest.approx(expected)


def test_the_losses_of_a_layer_by_hand():
    segments = torch.tensor([[[0.25, 0.5], [0.75, 0.5], [0.5, 0.1]], [[0.5, 1.0], [0.1, 0.1], [0.9, 0.1]]]).double()
    found = Found(torch.zeros(2, 3, 4), torch.zeros(2, 3).double(), segments, torch.zeros(2, 5).double())
    # The first query of the first video is a fifth too short, the other events are met exactly.
    targets = [seconds((0.3, 0.6), (0.75, 0.5)), seconds((0.5, 1.0))]
    losses, matched = set_losses(found, targets, WEIGHTS)
    assert matched.tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 0]]
    assert float(losses[L1]) == pytest.approx((0.05 + 0.1) / 3)
    assert float(losses[GIOU]) == pytest.approx((1 - 0.5 / 0.6) / 3)
    assert float(losses[COUNT]) == pytest.approx(math.log(5))
    assert float(losses[CLASS]) == pytest.approx((3 * 0.25 + 3 * 0.75) * 0.25 * math.log(2) / 3)


def test_counts_end_at_the_most_that_is_counted():
    assert count_targets([seconds((0.5, 1.0))] * 1 + [torch.zeros(7, 2)], 4).tolist() == [1, 4]


def test_gradients_reach_only_what_is_matched():
    segments = torch.tensor([[[0.2, 0.2], [0.8, 0.2]]], dtype=torch.float64, requires_grad=True)
    found = Found(torch.zeros(1, 2, 4), torch.zeros(1, 2).double(), segments, torch.zeros(1, 3).double())
    losses, _ = set_losses(found, [seconds((0.7, 0.2))], WEIGHTS)
    (losses[L1] + losses[GIOU]).backward()
    assert (segments.grad[0, 0] == 0).all() and (segments.grad[0, 1, 0] != 0)
