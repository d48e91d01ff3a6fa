"""Retrieval metrics against hand-made matrices and a deliberately simple second implementation."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from live_numbers import retrieval_metrics

from figclip_cli.evaluate.metrics.ranking import (
    MULTI_CAPTION,
    TIES,
    text_to_video_ranks,
    video_to_text_ranks,
)
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure
from figclip_cli.evaluate.retrieval_numbers import STATISTICS, values_of


def simple_rank(own, others, ties):
    """Count one wrong item at a time."""
    above = sum(other > own for other in others)
    same = sum(other == own for other in others)
    return above + {"average": same / 2, "optimistic": 0, "pessimistic": same}[ties]


def simple_t2v(scores, video_of_text, ties):
    return [
        simple_rank(row[video], [s for v, s in enumerate(row) if v != video], ties)
        for row, video in zip(scores, video_of_text, strict=True)
    ]


def simple_v2t(scores, video_of_text, ties, multi_caption):
    ranks = []
    for video in range(scores.shape[1]):
        column = scores[:, video]
        own = max(s for s, v in zip(column, video_of_text, strict=True) if v == video)
        others = [(v, s) for s, v in zip(column, video_of_text, strict=True) if v != video]
        if multi_caption == "max-per-video":
            ranks.append(simple_rank(own, [max(s for v, s in others if v == w) for w in {v for v, _ in others}], ties))
        else:
            ranks.append(simple_rank(own, [s for _, s in others], ties))
    return ranks


@pytest.mark.parametrize("ties", TIES)
@pytest.mark.parametrize("seed", range(6))
def test_ranks_equal_the_simple_implementation_with_many_ties(seed, ties):
    generator = np.random.default_rng(seed)
    videos = int(generator.integers(1, 12))
    video_of_text = np.concatenate([np.arange(videos), generator.integers(0, videos, seed * 3)])
    generator.shuffle(video_of_text)
    scores = (generator.integers(0, 4, (len(video_of_text), videos)) / 4).astype(np.float32)
    found = text_to_video_ranks(scores, video_of_text, ties=ties)
    assert found.values.tolist() == simple_t2v(scores, video_of_text, ties)
    for multi_caption in MULTI_CAPTION:
        found = video_to_text_ranks(scores, video_of_text, ties=ties, multi_caption=multi_caption)
        assert found.values.tolist() == simple_v2t(scores, video_of_text, ties, multi_caption)


def test_a_matrix_worked_by_hand():
    scores = np.array([[0.9, 0.1, 0.9], [0.5, 0.4, 0.3], [0.2, 0.6, 0.7]], dtype=np.float32)
    own = np.arange(3)
    assert text_to_video_ranks(scores, own, ties="average").values.tolist() == [0.5, 1.0, 0.0]
    assert text_to_video_ranks(scores, own, ties="optimistic").values.tolist() == [0.0, 1.0, 0.0]
    assert text_to_video_ranks(scores, own, ties="pessimistic").values.tolist() == [1.0, 1.0, 0.0]
    assert text_to_video_ranks(scores, own, ties="average").tied_queries == 1
    back = video_to_text_ranks(scores, own, ties="average", multi_caption="max-per-video")
    assert back.values.tolist() == [0.0, 1.0, 1.0] and back.tied_queries == 0 and back.candidates == 3


def test_the_two_definitions_for_several_captions_differ_as_documented():
    # video 0 has texts 0 and 1, video 1 has texts 2 and 3; both texts of video 1 beat video 0's best
    scores = np.array([[0.5, 0.1], [0.2, 0.0], [0.6, 0.9], [0.7, 0.8]], dtype=np.float32)
    own = np.array([0, 0, 1, 1])
    per_video = video_to_text_ranks(scores, own, ties="average", multi_caption="max-per-video")
    min_rank = video_to_text_ranks(scores, own, ties="average", multi_caption="min-rank")
    assert per_video.values.tolist() == [1.0, 0.0] and per_video.candidates == 2
    assert min_rank.values.tolist() == [2.0, 0.0] and min_rank.candidates == 4


def test_a_videos_own_equal_captions_are_no_tie():
    scores = np.array([[0.5, 0.1], [0.5, 0.1], [0.0, 0.9]], dtype=np.float32)
    ranks = video_to_text_ranks(scores, np.array([0, 0, 1]), ties="pessimistic", multi_caption="min-rank")
    assert ranks.values.tolist() == [0.0, 0.0] and ranks.tied_queries == 0


def test_metrics_by_hand():
    metrics = retrieval_metrics(np.array([0.0, 0.0, 3.0, 4.5, 9.0, 10.0]))
    assert metrics["R@1"] == pytest.approx(100 * 2 / 6)
    assert metrics["R@5"] == pytest.approx(100 * 4 / 6)
    assert metrics["R@10"] == pytest.approx(100 * 5 / 6)
    assert metrics["MdR"] == pytest.approx(4.75) and metrics["MnR"] == pytest.approx(26.5 / 6 + 1)


def test_the_geometric_mean_of_recalls_is_that_of_scipy_and_keeps_leading_axes():
    ranks = np.random.default_rng(0).integers(0, 15, (3, 2, 40)).astype(np.float64)
    metrics = retrieval_metrics(ranks)
    recall_names = [f"R@{k}" for k in (1, 5, 10)]
    recalls = np.stack([metrics[name] for name in recall_names])
    assert metrics["gmean"].shape == (3, 2)
    assert metrics["gmean"] == pytest.approx(scipy.stats.mstats.gmean(recalls, axis=0))
    assert retrieval_metrics(np.array([3.0, 20.0]))["gmean"] == 0.0  # as R@1 is
    assert retrieval_metrics(np.zeros(5))["gmean"] == pytest.approx(100.0)
    assert [name for name, (_, higher_is_better) in STATISTICS.items() if higher_is_better] == [*recall_names, "gmean"]
    assert sorted(metrics) == sorted([*recall_names, "gmean", "MdR", "MnR"])


def clip4clip_entries(scores):
    """Where, in each row in falling order, stands the diagonal's score: each tied place is an entry of its own."""
    falling = np.sort(-scores, axis=1)
    return np.nonzero(falling + np.diagonal(scores)[:, None] == 0)


def test_ranks_agree_with_clip4clip_where_nothing_ties_and_bound_its_entries_where_it_does():
    generator = np.random.default_rng(3)
    scores = generator.permutation(900).reshape(30, 30).astype(np.float32)
    own = np.arange(30)
    assert np.array_equal(text_to_video_ranks(scores, own, ties="average").values, clip4clip_entries(scores)[1])
    tied = generator.integers(0, 8, (30, 30)).astype(np.float32)
    rows, entries = clip4clip_entries(tied)
    low, mean, high = (text_to_video_ranks(tied, own, ties=t).values for t in ("optimistic", "average", "pessimistic"))
    assert len(entries) > 30  # a tied query counts several times there
    for query in range(30):
        of_query = entries[rows == query]
        assert of_query.tolist() == list(range(int(low[query]), int(high[query]) + 1))
        assert of_query.mean() == mean[query]


def collaborative_experts_ranks(scores, video_of_text):
    """Text to video, and video to text: the average place among equal scores; the least over a video's own texts."""

    def place(row, own):
        return np.nonzero(np.sort(-row) == -own)[0].mean()

    t2v = [place(row, row[video]) for row, video in zip(scores, video_of_text, strict=True)]
    v2t = [
        min(place(column, column[text]) for text in np.nonzero(video_of_text == video)[0])
        for video, column in enumerate(scores.T)
    ]
    return t2v, v2t


def test_average_ties_and_min_rank_are_those_of_collaborative_experts():
    generator = np.random.default_rng(4)
    video_of_text = np.repeat(np.arange(12), 3)
    scores = generator.integers(0, 6, (36, 12)).astype(np.float32)
    # A video's own texts that tie share a place there and are no tie here; so only one of them can be the best.
    scores[np.arange(36), video_of_text] -= np.tile([0.0, 7.0, 14.0], 12).astype(np.float32)
    t2v, v2t = collaborative_experts_ranks(scores, video_of_text)
    ours = text_to_video_ranks(scores, video_of_text, ties="average")
    assert ours.values.tolist() == t2v and ours.tied_queries > 0
    ours = video_to_text_ranks(scores, video_of_text, ties="average", multi_caption="min-rank")
    assert ours.values.tolist() == v2t and ours.tied_queries > 0


def test_what_was_not_asked_for_is_none():
    ranks = text_to_video_ranks(np.eye(3, dtype=np.float32), np.arange(3), ties="average")
    assert ranks.best_wrong is None and ranks.own_scores is None and ranks.best_wrong_scores is None


def test_half_a_rank_is_no_hit_at_one():
    assert retrieval_metrics(np.array([0.5]))["R@1"] == 0.0


def test_a_model_that_scores_everything_alike_gets_chance_not_a_perfect_score():
    scores = np.zeros((101, 101), dtype=np.float32)
    metrics = retrieval_metrics(text_to_video_ranks(scores, np.arange(101), ties="average").values)
    assert metrics["R@10"] == 0.0 and metrics["MdR"] == 51.0


def test_blocks_of_rows_do_not_change_ranks():
    scores = np.random.default_rng(0).random((1100, 7), dtype=np.float32)
    own = np.random.default_rng(1).integers(0, 7, 1100)
    whole = text_to_video_ranks(scores, own, ties="average").values
    assert whole[1000:].tolist() == text_to_video_ranks(scores[1000:], own[1000:], ties="average").values.tolist()


def test_the_bootstrap_is_seeded_and_its_spread_is_that_of_a_binomial():
    ranks = np.array([0.0] * 50 + [20.0] * 50)
    resamplings = [Resampling(range(100), draws=2000, seed=1) for _ in range(2)]
    first, again = (measure("R@1", STATISTICS["R@1"][0], {"base": values_of(ranks)}, one) for one in resamplings)
    assert first == again
    assert resamplings[0].draws == 2000
    assert first.standard_error == pytest.approx(5.0, rel=0.1)  # 100 sqrt(0.5 * 0.5 / 100)
