"""Classification metrics against hand-made matrices, a deliberately simple second implementation, and sklearn."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from live_numbers import action_metrics, per_class_accuracy
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.metrics.classification import (
    classify,
    over_splits,
    score_matrix,
)
from figclip_cli.evaluate.metrics.ranking import TIES, hits


def simple_clip(row, label, ties):
    """Look at one wrong class at a time."""
    above = same = 0
    best_wrong, wrong = -math.inf, None
    for index, score in enumerate(row):
        if index != label:
            above += score > row[label]
            same += score == row[label]
            if score > best_wrong:
                best_wrong, wrong = score, index
    rank = above + {"average": same / 2, "optimistic": 0, "pessimistic": same}[ties]
    return rank, same, label if rank == 0 else wrong, row[label] - best_wrong


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("seed", range(6))
def test_everything_equals_the_simple_implementation_with_many_ties(seed, ties):
    generator = np.random.default_rng(seed)
    clips, classes = int(generator.integers(1, 700)), int(generator.integers(2, 9))
    scores = (generator.integers(0, 4, (clips, classes)) / 4).astype(np.float32)
    labels = generator.integers(0, classes, clips)
    found = classify(scores, labels, ties=ties)
    simple = [simple_clip(row.tolist(), label, ties) for row, label in zip(scores, labels, strict=True)]
    ranks, tied, chosen, margins = zip(*simple, strict=True)
    assert found.ranks.tolist() == list(ranks)
    assert found.tied.tolist() == list(tied)
    assert found.tied_clips == sum(count > 0 for count in tied)
    assert found.chosen.tolist() == list(chosen)
    assert found.margins.tolist() == list(margins)
    metrics, _ = action_metrics(found)
    top1 = 100 * sum(rank == 0 for rank in ranks) / clips
    top5 = 100 * sum(rank < 5 for rank in ranks) / clips
    assert metrics["top-1"] == pytest.approx(top1) and metrics["top-5"] == pytest.approx(top5)
    assert metrics["mean of top-1 and top-5"] == pytest.approx((top1 + top5) / 2)
    of_class = {c: [rank == 0 for rank, label in zip(ranks, labels, strict=True) if label == c] for c in range(classes)}
    per_class = per_class_accuracy(found)
    means = [100 * sum(right) / len(right) for right in of_class.values() if right]
    assert per_class.mean == pytest.approx(sum(means) / len(means))
    assert per_class.without_clips == sum(not right for right in of_class.values())
    for index, right in of_class.items():
        value = per_class.of_class[index]
        assert value == pytest.approx(100 * sum(right) / len(right)) if right else math.isnan(value)


@pytest.mark.parametrize("ties", TIES)
def test_without_ties_every_rule_equals_sklearn(ties):
    generator = np.random.default_rng(7)
    scores = generator.permuted(np.tile(np.arange(12.0), (300, 1)), axis=1).astype(np.float32)
    labels = generator.integers(0, 12, 300)
    found = classify(scores, labels, ties=ties)
    for k in (1, 5):
        theirs = 100 * top_k_accuracy_score(labels, scores, k=k, labels=np.arange(12))
        assert action_metrics(found)[0][f"top-{k}"] == pytest.approx(theirs)
    assert per_class_accuracy(found).mean == pytest.approx(100 * balanced_accuracy_score(labels, found.chosen))
    assert found.tied_clips == 0
    assert np.array_equal(found.margins > 0, hits(found.ranks, 1))


def test_a_matrix_worked_by_hand():
    scores = np.array([[0.5, 0.5, 0.25], [0.0, 0.75, 0.25], [0.5, 0.25, 0.25]], dtype=np.float32)
    labels = np.array([0, 1, 1])
    found = classify(scores, labels, ties="average")
    assert found.ranks.tolist() == [0.5, 0.0, 1.5]
    assert found.tied.tolist() == [1, 0, 1]
    assert found.chosen.tolist() == [1, 1, 0]  # what is wrong under the rule was not chosen
    assert classify(scores, labels, ties="optimistic").chosen.tolist() == [0, 1, 0]
    assert found.margins.tolist() == [0.0, 0.5, -0.25]
    assert action_metrics(found)[0]["top-1"] == pytest.approx(100 / 3)
    assert action_metrics(classify(scores, labels, ties="optimistic"))[0]["top-1"] == pytest.approx(200 / 3)
    per_class = per_class_accuracy(found)
    assert per_class.mean == 25.0 and per_class.without_clips == 1


def test_micro_and_macro_accuracy_differ_where_classes_have_unequal_counts():
    scores = np.array([[1, 0], [1, 0], [1, 0], [1, 0]], dtype=np.float32)
    found = classify(scores, np.array([0, 0, 0, 1]), ties="average")
    assert action_metrics(found)[0]["top-1"] == 75.0
    assert per_class_accuracy(found).mean == 50.0
    assert per_class_accuracy(found, k=5).mean == 100.0


def test_leading_axes_of_ranks_are_kept_for_bootstrap_draws():
    ranks = np.array([[0.0, 0.5, 4.5, 5.0], [0.0, 0.0, 0.0, 9.0]])
    metrics = {f"top-{k}": 100.0 * hits(ranks, k).mean(axis=-1) for k in (1, 5)}
    assert metrics["top-1"].tolist() == [25.0, 75.0] and metrics["top-5"].tolist() == [75.0, 75.0]


def test_deviation_over_splits_is_the_sample_deviation():
    found = over_splits([40.0, 41.0, 45.0])
    assert found.mean == 42.0 and found.splits == 3
    assert found.deviation == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert over_splits([40.0]).deviation is None
    with pytest.raises(ValueError, match="no splits"):
        over_splits([])


def test_score_matrix_are_float64_products_rounded_once():
    generator = torch.Generator().manual_seed(0)
    videos, classes = (
        torch.randn(1100, 64, generator=generator).numpy(),
        torch.randn(9, 64, generator=generator).numpy(),
    )
    classes[5] = classes[2]
    found = score_matrix(videos, classes)
    assert found.dtype == np.float32 and found.shape == (1100, 9)
    for row, column in [(0, 0), (511, 3), (512, 4), (1099, 8)]:
        exact = math.fsum(float(a) * float(b) for a, b in zip(videos[row], classes[column], strict=True))
        assert found[row, column] == np.float32(exact)
    assert np.array_equal(found[:, 2], found[:, 5])
    assert np.array_equal(found[700:701], score_matrix(videos[700:701], classes))


def test_scores_that_cannot_be_judged_are_refused():
    scores = np.zeros((2, 3), dtype=np.float32)
    labels = np.array([0, 2])
    for broken in (np.nan, np.inf):
        bad = scores.copy()
        bad[1, 1] = broken
        with pytest.raises(VerificationError, match="not finite"):
            classify(bad, labels, ties="average")
    for wrong in ([0, 3], [0, -1], [0]):
        with pytest.raises(ValueError, match="do not fit"):
            classify(scores, np.array(wrong), ties="average")
    for shape in ((0, 3), (2, 1)):
        with pytest.raises(InputError, match="classes"):
            classify(np.zeros(shape, dtype=np.float32), np.zeros(shape[0], dtype=np.int64), ties="average")
