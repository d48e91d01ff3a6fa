"""Dense captions of the synthetic world: segments follow two rules, vary, and are told in two ways."""

from __future__ import annotations

import itertools
import json
from collections import Counter

import pytest

from figclip_cli.demo.dense_captions import (
    CLIP_SECONDS,
    EVENT_SECONDS,
    reference,
    second_reference,
    segments,
    sentence,
)
from figclip_cli.demo.scenario import ACCESSORIES, COLOURS, EVENTS, SHAPES, VERBS, Actor, ClipPlan, Event, plan_clip
from figclip_cli.demo.world import write_world

RED, BLUE, ORANGE = Actor("red", "circle"), Actor("blue", "square"), Actor("orange", "star")
SENSES = {verb.word: verb for verb in VERBS}
PLANS = [plan_clip(seed, "test", number) for seed in (0, 1) for number in range(100)]


def plan(*deeds):
    """A clip of (agent, verb, patient)."""
    events = tuple(
        Event(SENSES[verb], agent, patient, "slowly", "up" if SENSES[verb].vertical else "left", None)
        for agent, verb, patient in deeds
    )
    return ClipPlan("v_x_seg_0_10", "desert", events)


JUMP, PUSH, HIT = (RED, "jump", None), (RED, "push", BLUE), (RED, "hit", ORANGE)
LIFT, FLEE = (BLUE, "lift", RED), (ORANGE, "flee", RED)


@pytest.mark.parametrize(
    ("deeds", "expected"),
    [
        ((PUSH, HIT, LIFT, FLEE, LIFT), [(0, 4), (4, 6), (6, 8), (8, 10)]),
        ((PUSH, JUMP, HIT, LIFT, LIFT), [(0, 2), (4, 6), (6, 10)]),
        ((JUMP, PUSH, PUSH, PUSH, JUMP), [(2, 8)]),
        ((PUSH, HIT, PUSH, HIT, PUSH), [(0, 10)]),
        ((JUMP, JUMP, JUMP, JUMP, JUMP), [(0, 10)]),
    ],
)
def test_neighbours_with_one_agent_are_one_and_jumps_are_left_out(deeds, expected):
    assert reference(plan(*deeds))["timestamps"] == [list(pair) for pair in expected]


def test_sentences_say_what_happens_in_plain_english():
    told = reference(plan(PUSH, LIFT, FLEE, JUMP, FLEE))["sentences"]
    assert told == [
        "a red circle pushes a blue square to the left slowly",
        "a blue square lifts a red circle slowly",
        "an orange star flees from a red circle to the left slowly",
        "an orange star flees from a red circle to the left slowly",
    ]
    assert reference(plan(PUSH, PUSH, HIT, LIFT, LIFT))["sentences"] == [
        "a red circle pushes a blue square and then hits an orange star",
        "a blue square lifts a red circle",
    ]
    assert reference(plan(*[JUMP] * 5))["sentences"] == ["a red circle jumps"]


def test_segments_are_in_order_and_cover_every_event_in_which_somebody_is_acted_upon():
    for clip in PLANS:
        told = segments(clip)
        positions = [index for segment in told for index in range(segment.first, segment.last + 1)]
        assert positions == sorted(set(positions))
        acted = [index for index, event in enumerate(clip.events) if event.patient]
        assert positions == (acted or list(range(EVENTS)))
        for one, other in itertools.pairwise(told):
            assert other.first > one.last + 1 or one.events[-1].agent != other.events[0].agent
        for segment in told:
            words = sentence(segment).split()
            assert set(segment.events[0].agent.name.split()) <= set(words)
            assert all(event.verb.third_person.split()[0] in words for event in segment.events)


def test_number_length_and_position_vary():
    told = [segments(clip) for clip in PLANS]
    numbers = Counter(map(len, told))
    lengths = Counter(round(s.end_seconds - s.start_seconds) for clip in told for s in clip)
    starts = Counter(round(s.start_seconds) for clip in told for s in clip)
    assert set(numbers) == {1, 2, 3, 4, 5} and max(numbers.values()) < 0.5 * numbers.total()
    assert set(lengths) == {2, 4, 6, 8, 10} and lengths[2] < 0.8 * lengths.total()
    assert set(starts) == {0, 2, 4, 6, 8}


def test_the_second_annotator_tells_nearly_the_same():
    fewer = other = 0
    for clip in PLANS:
        one, two = reference(clip), second_reference(clip)
        assert two["duration"] == CLIP_SECONDS == one["duration"]
        assert 1 <= len(two["timestamps"]) == len(two["sentences"]) <= len(one["timestamps"])
        fewer += len(two["timestamps"]) < len(one["timestamps"])
        for (start, end), text in zip(two["timestamps"], two["sentences"], strict=True):
            assert 0 <= start < end <= CLIP_SECONDS
            assert any(
                abs(start - a) <= EVENT_SECONDS / 4 and abs(end - b) <= EVENT_SECONDS / 4 for a, b in one["timestamps"]
            )
            other += text not in one["sentences"]
            assert text.startswith("the ")
    assert 0.1 * len(PLANS) < fewer < 0.5 * len(PLANS) and other > 0


def test_files_are_in_the_format_of_activitynet_captions(tmp_path):
    counts = {"train": 2, "valid": 1, "test": 2}
    world = write_world(tmp_path, seed=0, counts=counts)
    assert set(world.dense) == set(counts) and set(world.dense_second) == {"valid", "test"}
    for paths in (world.dense, world.dense_second):
        for split, path in paths.items():
            told = json.loads(path.read_text())
            assert list(told) == [plan_clip(0, split, number).clip_id for number in range(counts[split])]
            assert all(set(entry) == {"duration", "timestamps", "sentences"} for entry in told.values())
    assert world.dense["test"] == tmp_path / "dense" / "test.json"
    assert world.dense_second["test"] == tmp_path / "dense" / "test_2.json"


def test_words_of_sentences_are_those_of_the_world():
    known = {*"a an and then to the from left right slowly quickly with".split(), *COLOURS, *SHAPES, *ACCESSORIES}
    known |= {word for verb in VERBS for word in verb.third_person.split()}
    assert {word for clip in PLANS for text in reference(clip)["sentences"] for word in text.split()} <= known
