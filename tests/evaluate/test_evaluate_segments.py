"""Overlaps of segments, what is found, and which captions are compared, against loops as the definition reads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figclip_cli.evaluate.metrics.segments import found, pairs, temporal_iou

TIMES = st.integers(0, 8).map(float)
SEGMENTS = st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=6)


def naive_iou(first, second):
    start_i, end_i = first
    start, end = second
    intersection = max(0.0, min(end, end_i) - max(start, start_i))
    union = min(max(end, end_i) - min(start, start_i), end - start + end_i - start_i)
    return intersection / (union + 1e-8)


def array(segments):
    return np.array(segments, dtype=np.float64).reshape(-1, 2)


def test_overlap_by_hand():
    overlaps = temporal_iou(array([[0, 10], [2, 3], [20, 30]]), array([[5, 15], [0, 10]]))
    np.testing.assert_allclose(overlaps, [[5 / 15, 1.0], [0.0, 0.1], [0.0, 0.0]], atol=1e-8)
    assert overlaps[0, 1] < 1  # the 1e-8 of the definition: an overlap of 1 is never over a threshold of 1


@given(SEGMENTS, SEGMENTS)
def test_overlap_is_the_definition_to_the_bit(proposals, references):
    overlaps = temporal_iou(array(proposals), array(references))
    for row, first in enumerate(proposals):
        for column, second in enumerate(references):
            assert overlaps[row, column] == naive_iou(first, second)


def test_a_segment_that_runs_backwards_overlaps_nothing():
    assert not temporal_iou(array([[5, 1], [3, 3]]), array([[0, 10], [5, 1], [3, 3]])).any()


@pytest.mark.parametrize(("threshold", "paired", "recall"), [(0.5, 1, 0.0), (0.4999, 1, 1.0)])
def test_captions_are_paired_at_the_threshold_and_events_found_only_above_it(threshold, paired, recall):
    overlaps = [np.array([[0.5]])]
    assert (pairs(overlaps, threshold)[:, 1] >= 0).sum() == paired
    assert found(overlaps, [threshold]).recall[0] == recall


def test_pairs_by_hand_with_two_sets():
    first, second = np.array([[0.6, 0.2], [0.0, 0.1], [0.9, 0.8]]), np.array([[0.7], [0.3], [0.1]])
    assert pairs([first, second], 0.5).tolist() == [[0, 0], [0, 2], [1, -1], [2, 0], [2, 1]]


def test_the_better_set_of_each_video_counts_for_recall_and_precision_apart():
    first = np.array([[0.9, 0.0, 0.0], [0.9, 0.0, 0.0]])  # both proposals right, one of three events found
    second = np.array([[0.9], [0.0]])  # one proposal right, the only event found
    made = found([first, second], [0.5])
    assert made.recall[0] == 1.0
    assert made.precision[0] == 1.0


def test_no_proposals_find_nothing():
    made = found([np.zeros((0, 3))], [0.3, 0.5])
    assert made.recall.tolist() == made.precision.tolist() == [0.0, 0.0]
    assert pairs([np.zeros((0, 3))], 0.3).shape == (0, 2)


@settings(max_examples=50)
@given(SEGMENTS, st.lists(SEGMENTS, min_size=1, max_size=3), st.sampled_from([0.3, 0.5, 0.7, 0.9]))
def test_found_and_pairs_are_the_loops_of_the_definition(proposals, sets, threshold):
    recall = precision = 0.0
    for references in sets:
        hits = [[naive_iou(one, other) > threshold for other in references] for one in proposals]
        recall = max(recall, sum(map(any, zip(*hits, strict=True))) / len(references))
        precision = max(precision, sum(map(any, hits)) / len(proposals))
    overlaps = [temporal_iou(array(proposals), array(references)) for references in sets]
    made = found(overlaps, [threshold])
    assert (made.recall[0], made.precision[0]) == (recall, precision)
    expected, flat = [], [one for references in sets for one in references]
    for number, one in enumerate(proposals):
        matched = [[number, place] for place, other in enumerate(flat) if naive_iou(one, other) >= threshold]
        expected += matched or [[number, -1]]
    assert pairs(overlaps, threshold).tolist() == expected
