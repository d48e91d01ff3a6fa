"""Which clips the page of situations shows: by change, by score, and never by accident."""

from __future__ import annotations

import pytest

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.situation_page.choice import best_and_worst, most_changed, nearest_clip


def test_the_clips_that_changed_most_come_first_and_equal_ones_by_id():
    before = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.5, "e": 0.5, "f": 0.1}
    after = {"a": 0.6, "b": 0.9, "c": 0.6, "d": 0.5, "e": 0.25, "f": 0.0}
    chosen = most_changed(before, after, 2)
    assert [clip.clip_id for clip in chosen] == ["b", "a", "e", "f"]
    assert chosen[0].why == "gained most: base 0.500, adapted 0.900 (+0.400)"
    assert chosen[2].why == "lost most: base 0.500, adapted 0.250 (-0.250)"
    assert [clip.clip_id for clip in most_changed(before, after, 9)] == ["b", "a", "c", "e", "f"]


@pytest.mark.parametrize(
    ("before", "after", "count", "error", "message"),
    [
        ({"a": 1.0}, {"a": 2.0}, 0, UsageError, "cannot show 0 clips"),
        ({"a": 1.0}, {"b": 2.0}, 1, InputError, "clip 'a' has a score of one model only"),
        ({"a": 1.0}, {"a": float("nan")}, 1, InputError, "no finite number"),
        ({"a": float("inf")}, {"a": 1.0}, 1, InputError, "no finite number"),
    ],
)
def test_scores_that_choose_nothing_are_refused(before, after, count, error, message):
    with pytest.raises(error, match=message):
        most_changed(before, after, count)


def test_where_nothing_changed_nothing_is_chosen():
    assert most_changed({"a": 1.0}, {"a": 1.0}, 3) == []


def test_the_best_come_first_then_the_worst_and_none_twice():
    scores = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.5, "e": 0.0}
    assert [clip.clip_id for clip in best_and_worst(scores, 2)] == ["b", "a", "e", "c"]
    assert [clip.clip_id for clip in best_and_worst(scores, 4)] == ["b", "a", "d", "c", "e"]
    assert best_and_worst(scores, 1)[1].why == "among the worst: 0.000"
    with pytest.raises(UsageError, match="cannot show 0"):
        best_and_worst(scores, 0)
    with pytest.raises(InputError, match="no finite number"):
        best_and_worst({"a": float("nan")}, 1)


def test_the_hint_for_a_clip_that_is_not_there_stays_short():
    many = [f"v_clip{number:05d}_seg_0_10" for number in range(2000)]
    assert nearest_clip("v_clip00007_seg_0_1", many).startswith("did you mean 'v_clip0")
    assert nearest_clip("?", many) == "see the list of clips of the split"
    assert nearest_clip("?", ["v_a", "v_b"]) == "known: v_a, v_b"
