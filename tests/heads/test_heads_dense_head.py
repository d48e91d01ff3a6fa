"""The network and what it is fed: frames, times, padding, captions' memory, proposals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from dense_videos import MadeVideos, small_head

from figclip_cli.errors import UsageError
from figclip_cli.evaluate.datasets.dense_captions import DenseVideo
from figclip_cli.heads.dense.head import Encoded, between_frames, points_of
from figclip_cli.heads.dense.inference import Proposal, describe, joint_score, propose
from figclip_cli.heads.dense.layers import Waves
from figclip_cli.heads.dense.options import DenseOptions, DensePredictOptions
from figclip_cli.heads.dense.task import score_proposals
from figclip_cli.heads.dense.videos import (
    LeftOut,
    VideoFrames,
    chosen_positions,
    given_segments,
    make_batch,
    make_example,
    other_durations,
    pad_segments,
)

VIDEOS = MadeVideos(8, 3)


def taken(count=8):
    return [VIDEOS.take(example.clip_id) for example in VIDEOS.examples[:count]]


def predicted(batch_size, *, mode="proposals", how=None, seed=4):
    _, vocabulary, head = small_head(VIDEOS, mode=mode, seed=seed)
    head = head.double().eval()
    how = how or DensePredictOptions()
    made = []
    for start in range(0, 8, batch_size):
        part = taken()[start : start + batch_size]
        batch = make_batch(part, 40, torch.float64)
        durations = [video.duration_seconds for video in part]
        if mode == "given":
            times = [one.annotated.segments_seconds for one in VIDEOS.examples[start : start + batch_size]]
            made += describe(head, batch, durations, times, vocabulary, how)
        else:
            made += propose(head, batch, durations, vocabulary, how)
    return made


def test_a_few_frames_are_all_looked_at_and_many_at_equal_steps():
    assert chosen_positions(3, 5).tolist() == [0, 1, 2]
    assert chosen_positions(10, 5).tolist() == [1, 3, 5, 7, 9]
    for frames, most in ((7, 3), (1000, 7), (11, 10)):
        chosen = chosen_positions(frames, most)
        assert len(set(chosen.tolist())) == most and int(chosen.max()) < frames


def test_batches_of_videos_of_other_lengths():
    one = VideoFrames(torch.ones(3, 2), torch.tensor([0.0, 0.25, 0.5]).double(), 60.0)
    two = VideoFrames(torch.ones(9, 2) * 2, (torch.arange(9) / 9).double(), 120.0)
    batch = make_batch([one, two], 4)
    assert batch.features.shape == (2, 4, 2) and batch.there.sum(1).tolist() == [3, 4]
    assert batch.times[0].tolist() == [0.0, 0.25, 0.5, 0.0]
    assert batch.times[1].tolist() == pytest.approx([1 / 9, 3 / 9, 5 / 9, 7 / 9])
    assert batch.log_minutes.tolist() == pytest.approx([0.0, math.log(2)])


def test_between_frames_is_linear_interpolation():
    times = torch.tensor([[0.1, 0.3, 0.7, 0.0], [0.0, 0.5, 0.6, 0.9]]).double()
    there = torch.tensor([[True, True, True, False], [True] * 4])
    vectors = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0)).double()
    points = torch.tensor([[0.0, 0.1, 0.2, 0.65, 0.7, 0.99, 1.0]] * 2).double()
    found = between_frames(vectors, Encoded(vectors, vectors, times, there), points)
    for row, count in enumerate((3, 4)):
        for column in range(3):
            own = np.interp(points[row], times[row, :count], vectors[row, :count, column])
            assert np.allclose(found[row, :, column], own)


def test_a_single_frame_and_frames_at_one_time_are_no_trouble():
    vectors = torch.tensor([[[1.0], [9.0]], [[1.0], [3.0]]])
    times = torch.tensor([[0.5, 0.0], [0.5, 0.5]])
    there = torch.tensor([[True, False], [True, True]])
    found = between_frames(vectors, Encoded(vectors, vectors, times, there), torch.tensor([[0.2, 0.5, 0.8]] * 2))
    assert found[0].flatten().tolist() == [1.0, 1.0, 1.0]
    assert torch.isfinite(found).all() and found[1, 2] == 3.0


def test_points_are_the_middles_of_equal_parts_and_stay_in_the_video():
    segment = torch.tensor([0.5, 0.4]).double()
    assert points_of(segment, 4, 0.0).tolist() == pytest.approx([0.35, 0.45, 0.55, 0.65])
    assert points_of(segment, 2, 0.5).tolist() == pytest.approx([0.3, 0.7])
    assert points_of(torch.tensor([0.0, 0.4]), 2, 0.5).tolist() == pytest.approx([0.0, 0.2])


def test_waves_tell_neighbours_apart():
    waves = Waves(16, 100)
    numbers = torch.arange(100) / 100
    shown = waves(numbers)
    near = (shown[1:] - shown[:-1]).norm(dim=1)
    assert near.min() > 0.5 and torch.cdist(shown, shown).fill_diagonal_(1).min() > 0.4
    assert torch.equal(Waves(16, 100).double()(numbers.double()).float(), waves.double()(numbers.double()).float())


@pytest.mark.parametrize("mode", ["proposals", "given"])
def test_frames_that_are_not_there_change_nothing(mode):
    """Videos alone, without any padding, and together: the same numbers up to rounding of float64."""
    _, _, head = small_head(VIDEOS, mode=mode, seed=1)
    head = head.double().eval()
    together = head.encode(make_batch(taken(), 40, torch.float64))
    found = head.find(together) if mode == "proposals" else None
    segments = [example.segments for example in VIDEOS.examples]
    described = None if found else head.look_at(together, *pad_segments(segments, torch.float64))
    for row, video in enumerate(taken()):
        alone = head.encode(make_batch([video], 40, torch.float64))
        assert torch.allclose(alone.frames[0], together.frames[row, : alone.frames.shape[1]], atol=1e-12)
        if found:
            for own, layer in zip(head.find(alone), found, strict=True):
                assert torch.allclose(own.segments[0], layer.segments[row], atol=1e-12)
                assert torch.allclose(own.logits[0], layer.logits[row], atol=1e-12)
                assert torch.allclose(own.counts[0], layer.counts[row], atol=1e-12)
        else:
            own = head.look_at(alone, *pad_segments(segments[row : row + 1], torch.float64))
            assert torch.allclose(own[0], described[row, : own.shape[1]], atol=1e-12)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("mode", ["proposals", "given"])
def test_predictions_do_not_depend_on_what_is_predicted_together(mode, beams):
    how = DensePredictOptions(beams=beams)
    whole = predicted(8, mode=mode, how=how)
    for batch_size in (1, 3):
        assert predicted(batch_size, mode=mode, how=how) == whole


def test_proposals_are_in_order_of_time_and_in_the_video():
    for own, video in zip(predicted(4), taken(), strict=True):
        assert [one.start_seconds for one in own] == sorted(one.start_seconds for one in own)
        for one in own:
            assert 0 <= one.start_seconds <= one.end_seconds <= video.duration_seconds
            assert 0 < one.segment_score < 1 and one.caption_score < 0
            assert one.score == pytest.approx(
                one.segment_score + 0.3 * one.caption_score / max(1, len(one.sentence.split())) ** 2, rel=1e-6
            )


def test_so_many_are_put_out_as_are_asked_for_the_best_ones():
    every = predicted(8, how=DensePredictOptions(count=5))
    for count in (1, 2, 99):
        fewer = predicted(8, how=DensePredictOptions(count=count))
        for own, all_of_them in zip(fewer, every, strict=True):
            best = sorted(all_of_them, key=lambda one: -one.score)[:count]
            assert sorted(own, key=lambda one: -one.score) == best


def test_without_captions_in_the_ranking_the_likeliest_segments_are_taken():
    how = {"count": 2, "caption_score_weight": 0.0}
    every = predicted(8, how=DensePredictOptions(count=5))
    for own, all_of_them in zip(predicted(8, how=DensePredictOptions(**how)), every, strict=True):
        best = sorted(all_of_them, key=lambda one: -one.segment_score)[:2]
        assert {one.start_seconds for one in own} == {one.start_seconds for one in best}
        assert {one.sentence for one in own} == {one.sentence for one in best}


def test_given_segments_keep_their_times_and_order():
    for own, example in zip(predicted(3, mode="given"), VIDEOS.examples, strict=True):
        assert [[one.start_seconds, one.end_seconds] for one in own] == example.annotated.segments_seconds.tolist()
        assert all(one.segment_score == 1 for one in own)


def test_given_segments_are_turned_round_and_cut():
    made = given_segments(np.array([[4.0, 2.0], [-1.0, 5.0], [8.0, 30.0]]), 10.0)
    assert made.tolist() == [pytest.approx(pair) for pair in ([0.3, 0.2], [0.25, 0.5], [0.9, 0.2])]


def test_what_cannot_be_learned_is_left_out_and_counted():
    times = np.array([[0.0, 5.0], [5.0, 5.0], [9.0, 4.0], [20.0, 30.0], [1.0, 2.0], [5.0, 99.0]])
    left_out = LeftOut()
    texts = ("one", "two", "three", "four", "", "six")
    made = make_example("v", DenseVideo(99.0, times, texts), 10.0, left_out)
    assert made.sentences == ("one", "six") and left_out.total == 4
    assert made.segments.tolist() == [pytest.approx([0.25, 0.5]), pytest.approx([0.75, 0.5])]
    assert left_out.as_dict() == {"outside_the_video": 1, "empty_sentences": 1, "reversed_or_empty_segments": 2}
    assert make_example("v", DenseVideo(9.0, times[1:3], ("a", "b")), 9.0, left_out) is None


def test_other_durations_are_those_beyond_a_second_and_a_share():
    video = DenseVideo(100.0, np.zeros((1, 2)), ("x",))
    assert other_durations({"a": video}, {"a": 104.0}) == [] and other_durations({"a": video}, {"a": 110.0}) == ["a"]
    short = DenseVideo(2.0, np.zeros((1, 2)), ("x",))
    assert other_durations({"a": short}, {"a": 2.9}) == []


def test_scores_of_held_out_videos_are_full_for_the_annotation_itself():
    right = [
        [
            Proposal(start, end, text, 1.0, 0.0, 1.0)
            for (start, end), text in zip(
                example.annotated.segments_seconds.tolist(), example.annotated.sentences, strict=True
            )
        ]
        for example in VIDEOS.examples
    ]
    scores = score_proposals(VIDEOS.examples, right)
    assert scores["recall"] == scores["precision"] == scores["f1"] == 1
    nothing = score_proposals(VIDEOS.examples, [[] for _ in right])
    assert nothing == {"recall": 0.0, "precision": 0.0, "f1": 0.0, "cider": 0.0}
    wrong = [[Proposal(0.0, 0.01, "nothing", 1.0, 0.0, 1.0)] for _ in right]
    assert score_proposals(VIDEOS.examples, wrong)["f1"] == 0 < scores["cider"]


def test_the_score_by_hand():
    how = DensePredictOptions(caption_score_weight=0.5, length_power=2.0)
    assert joint_score(0.7, -6.0, "a dog runs", how) == pytest.approx(0.7 - 0.5 * 6 / 9)
    assert joint_score(0.7, -6.0, "", how) == pytest.approx(0.7 - 3.0)
    assert joint_score(0.7, -6.0, "a dog", DensePredictOptions(length_power=1.0)) == pytest.approx(0.7 - 0.9)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "both"},
        {"queries": 0},
        {"width": 30},
        {"giou_weight": -1.0},
        {"caption_weight": float("nan")},
        {"valid_share": 1.0},
        {"vocabulary_size": 100},
        {"best_by": "luck"},
    ],
)
def test_options_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        DenseOptions(**wrong)


@pytest.mark.parametrize(
    "wrong", [{"beams": 0}, {"count": 0}, {"batch_size": 0}, {"length_power": -1.0}, {"caption_score_weight": math.inf}]
)
def test_ways_to_predict_that_cannot_be_are_refused(wrong):
    with pytest.raises(UsageError):
        DensePredictOptions(**wrong)
