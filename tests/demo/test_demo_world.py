"""The synthetic world: the same seed gives the same world, in VidSitu's format, with pictures that show the action."""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from figclip_cli.demo.drawing import SIZE, draw
from figclip_cli.demo.naming import PARTS, naming_choices
from figclip_cli.demo.poses import Stage
from figclip_cli.demo.render import EVENT_SECONDS, FRAMES_PER_SECOND, draw_clip, write_mp4
from figclip_cli.demo.scenario import EVENTS, SCENES, SPLITS, VERBS, Actor, Event, plan_clip, split_of
from figclip_cli.demo.vidsitu_folder import annotate
from figclip_cli.demo.wording import with_article
from figclip_cli.demo.world import coarse_caption, write_world
from figclip_cli.errors import MachineError
from figclip_cli.prompts import PromptOptions, build, read_prompts
from figclip_cli.prompts.annotations import read_annotations, read_split

COUNTS = {"train": 3, "valid": 1, "test": 2}
CLIP_SECONDS = EVENTS * EVENT_SECONDS
ROLES = Path(__file__).resolve().parents[2] / "figclip_cli" / "prompts" / "data" / "propbank_roles.json"
RED, BLUE = Actor("red", "square"), Actor("blue", "square")
TRANSITIVE = [verb for verb in VERBS if verb.patient_role]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"), seed=0, counts=COUNTS)


def moment(verb, agent=RED, patient=BLUE, *, direction, manner="slowly", scene="desert", phase=0.625):
    event = Event(verb, agent, patient if verb.patient_role else None, manner, direction, None)
    return draw(scene, event, dataclasses.replace(Stage.of("always the same stage"), pillar=None), phase).astype(int)


def differing_pixels(one, other):
    return int((np.abs(one - other).max(axis=-1) > 40).sum())


def test_processes_draw_the_same_videos_as_threads_and_say_what_failed(world, tmp_path, monkeypatch):
    monkeypatch.setattr("figclip_cli.demo.world._WORTH_PROCESSES", 0)
    again = write_world(tmp_path / "again", seed=0, counts={"valid": COUNTS["valid"]})
    for path in again.videos["valid"].iterdir():
        assert path.read_bytes() == (world.videos["valid"] / path.name).read_bytes()
    taken = tmp_path / "taken" / "videos" / "valid" / f"{plan_clip(0, 'valid', 0).clip_id}.mp4"
    taken.mkdir(parents=True)
    with pytest.raises(MachineError):
        write_world(tmp_path / "taken", seed=0, counts={"valid": 1})


def test_the_same_seed_gives_the_same_text_files(world, tmp_path):
    again = write_world(tmp_path, seed=0, counts=COUNTS)
    for split in SPLITS:
        assert again.annotations[split].read_bytes() == world.annotations[split].read_bytes()
        name = f"vseg_split_{split}_lb.json"
        assert (tmp_path / name).read_bytes() == (world.annotations[split].parent / name).read_bytes()
    for made in ("captions", "naming"):
        one, other = getattr(again, made), getattr(world, made)
        assert set(one) == {"valid", "test"}
        assert all(one[split].read_bytes() == other[split].read_bytes() for split in one)


def test_a_clip_does_not_depend_on_how_many_there_are_or_on_python_hashing(world):
    code = (
        "import json\nfrom figclip_cli.demo.scenario import plan_clip\n"
        "from figclip_cli.demo.vidsitu_folder import annotate\n"
        "print(json.dumps(annotate(plan_clip(0, 'train', 2))))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == json.loads(world.annotations["train"].read_text())[2]


def test_the_same_clip_has_the_same_pictures():
    assert np.array_equal(draw_clip(plan_clip(0, "test", 1)), draw_clip(plan_clip(0, "test", 1)))


def test_another_seed_gives_other_clips():
    assert [plan_clip(0, "train", n).events for n in range(5)] != [plan_clip(1, "train", n).events for n in range(5)]


def test_another_split_or_number_gives_another_clip():
    plans = [plan_clip(0, split, number) for split in SPLITS for number in range(20)]
    assert len({plan.clip_id for plan in plans}) == len({plan.events for plan in plans}) == len(plans)


def test_every_record_has_the_keys_of_vidsitu(world):
    for split in SPLITS:
        for record in json.loads(world.annotations[split].read_text()):
            assert list(record) == [f"Ev{number}" for number in range(1, EVENTS + 1)]
            for name, event in record.items():
                assert ("EvRel" in event) == (name != "Ev3")
                assert event["vid_seg_int"] == f"v_{event['vid_uid']}_seg_0_10"
                assert event["Arg_List"].keys() == event["Args"].keys()
                assert sorted(event["Arg_List"].values()) == list(range(len(event["Args"])))


def test_the_annotation_is_what_the_plan_says(world):
    annotation = read_annotations([world.annotations["test"]]).annotations
    assert [item.clip_id for item in annotation] == [plan_clip(0, "test", n).clip_id for n in range(COUNTS["test"])]
    for item, number in zip(annotation, range(COUNTS["test"]), strict=True):
        plan = plan_clip(0, "test", number)
        for read, event in zip(item.events, plan.events, strict=True):
            values = {argument.arg: argument.value for argument in read.arguments}
            assert (read.verb, read.sense) == (event.verb.word, event.verb.sense)
            assert values["Arg0"] == event.agent.name
            assert values.get("Arg1") == (event.patient.name if event.patient else None)
            assert {event.direction, event.manner, plan.scene} <= set(values.values())
            order = [argument.arg for argument in read.arguments]
            assert order == sorted(order, key=lambda arg: (not arg.startswith("Arg"), arg))


def test_the_split_lists_name_the_clips_that_have_annotation_and_video(world):
    for split in SPLITS:
        listed = read_split(world.annotations[split].parent / f"vseg_split_{split}_lb.json")
        assert listed == {item.clip_id for item in read_annotations([world.annotations[split]]).annotations}
        assert listed == {path.stem for path in world.videos[split].iterdir()}
        assert len(listed) == COUNTS[split]


def test_prompts_can_be_built_from_the_world(world, tmp_path):
    build([world.annotations["train"]], tmp_path / "prompts.jsonl", options=PromptOptions())
    prompts = read_prompts(tmp_path / "prompts.jsonl").events
    assert len(prompts) == COUNTS["train"] * EVENTS
    assert all(prompt.text.startswith("In this photo, the action is ") for prompt in prompts)


def test_senses_and_role_names_are_those_of_propbank():
    senses = json.loads(ROLES.read_text())["senses"]
    assert len(TRANSITIVE) >= 12 and len({verb.sense for verb in VERBS}) == len(VERBS)
    for verb in VERBS:
        roles = senses[verb.sense]["roles"]
        assert roles["0"] == verb.agent_role
        assert roles.get("1", "") == verb.patient_role


def test_no_combination_of_agent_verb_and_patient_is_in_two_splits():
    seen = {
        split: {
            (event.verb.sense, event.agent.plain_name, event.patient and event.patient.plain_name)
            for seed, number in itertools.product((0, 1), range(100))
            for event in plan_clip(seed, split, number).events
        }
        for split in SPLITS
    }
    for one, other in itertools.combinations(SPLITS, 2):
        assert not seen[one] & seen[other]
    for split, combinations in seen.items():
        verbs = {verb.sense: verb for verb in VERBS}
        actors = {name: name and Actor(*name.split()) for _, *names in combinations for name in names}
        found = {split_of(verbs[sense], actors[agent], actors[patient]) for sense, agent, patient in combinations}
        assert found == {split}


def test_every_split_shows_every_verb_manner_direction_and_scene():
    for split in SPLITS:
        plans = [plan_clip(0, split, number) for number in range(100)]
        events = [event for plan in plans for event in plan.events]
        assert {event.verb for event in events} == set(VERBS)
        assert {event.manner for event in events} == {"slowly", "quickly"}
        assert {event.direction for event in events} == {"left", "right", "up", "down"}
        assert {event.agent.accessory for event in events} == {"", "hat", "scarf", "flag"}
        assert {plan.scene for plan in plans} == set(SCENES)


def test_nobody_does_something_to_themselves_or_stands_by_their_own_action():
    for split, number in itertools.product(SPLITS, range(100)):
        for event in plan_clip(3, split, number).events:
            assert (event.patient is None) == (not event.verb.patient_role)
            there = [actor for actor in (event.agent, event.patient, event.bystander) if actor is not None]
            assert len({actor.plain_name for actor in there}) == len(there)


def test_videos_decode_to_the_right_number_of_frames_and_seconds(world):
    for split, number in (("train", 0), ("test", 1)):
        plan = plan_clip(0, split, number)
        with av.open(str(world.videos[split] / f"{plan.clip_id}.mp4")) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            assert container.duration == CLIP_SECONDS * av.time_base
        assert len(frames) == CLIP_SECONDS * FRAMES_PER_SECOND
        assert frames[0].shape == (SIZE, SIZE, 3)
        assert np.abs(np.stack(frames).astype(int) - draw_clip(plan)).mean() < 8


def test_captions_name_things_and_the_place_but_not_the_action(world):
    with world.captions["test"].open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["video_id"] for row in rows] == [plan_clip(0, "test", n).clip_id for n in range(COUNTS["test"])]
    for number, row in enumerate(rows):
        plan = plan_clip(0, "test", number)
        assert row["sentence"] == coarse_caption(plan)
        assert plan.scene in row["sentence"]
        for event in plan.events:
            assert with_article(event.agent.name) in row["sentence"]
            told = {event.verb.word, event.verb.third_person, event.manner}
            assert not told & set(row["sentence"].replace(",", " ").split())


def test_articles_follow_the_sound():
    assert with_article("orange star") == "an orange star"
    assert with_article("red circle") == "a red circle"


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("verb", TRANSITIVE, ids=lambda verb: verb.word)
def test_one_frame_shows_who_does_it_to_whom_whatever_the_direction(verb, scene):
    for direction, other_direction in itertools.product(verb.ways, repeat=2):
        shown = moment(verb, direction=direction, scene=scene)
        swapped = moment(verb, BLUE, RED, direction=other_direction, scene=scene)
        assert differing_pixels(shown, swapped) > 15


def alike_in_one_frame(one, other):
    return one.reversed_in_time == other.word


@pytest.mark.parametrize("pair", [*itertools.combinations(VERBS, 2)], ids=lambda pair: "-".join(v.word for v in pair))
def test_one_frame_tells_two_verbs_apart_but_those_that_only_time_tells(pair):
    one, other = pair
    for here, there in itertools.product(one.ways, other.ways):
        if not alike_in_one_frame(one, other):
            assert differing_pixels(moment(one, direction=here), moment(other, direction=there)) > 15


@pytest.mark.parametrize(("word", "way", "other_way"), [("throw", "right", "left"), ("lift", "up", "down")])
def test_some_verbs_are_others_run_backwards(word, way, other_way):
    """The frames of one are those of the other in the opposite order: no single frame, and no mean of frames, tells."""
    one = next(verb for verb in VERBS if verb.word == word)
    other = next(verb for verb in VERBS if verb.word == one.reversed_in_time)
    assert other.reversed_in_time == one.word
    phases = [(k + 0.5) / 4 for k in range(4)]
    forward = [moment(one, direction=way, phase=phase) for phase in phases]
    backward = [moment(other, direction=other_way, phase=phase) for phase in phases]
    assert all(np.array_equal(a, b) for a, b in zip(forward, reversed(backward), strict=True))
    assert not np.array_equal(forward[0], backward[0])


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.word)
def test_the_action_goes_on_at_every_sampled_moment_of_an_event(verb):
    direction = verb.ways[0]
    shown = [moment(verb, direction=direction, manner="quickly", phase=(k + 0.5) / 4) for k in range(4)]
    assert all(differing_pixels(one, other) > 15 for one, other in itertools.pairwise(shown))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.word)
def test_quickly_does_not_look_like_slowly(verb):
    # In the snow the streaks are white on white, and a single frame may not tell.
    for scene in set(SCENES) - {"snow"}:
        slow, quick = (
            [moment(verb, direction=verb.ways[0], manner=manner, scene=scene, phase=phase) for phase in (0.125, 0.375)]
            for manner in ("slowly", "quickly")
        )
        assert max(differing_pixels(a, b) for a, b in zip(slow, quick, strict=True)) > 15


def test_the_same_event_looks_different_elsewhere():
    """Place, size, light, things about and what hides a part vary, and mean nothing."""
    stages = [Stage.of(f"stage {number}") for number in range(60)]
    event = Event(VERBS[0], RED, BLUE, "slowly", "left", None)
    pictures = [draw("desert", event, stage, 0.5).astype(int) for stage in stages]
    assert min(differing_pixels(one, other) for one, other in itertools.combinations(pictures, 2)) > 100
    assert 0.2 < np.mean([stage.pillar is not None for stage in stages]) < 0.5
    assert {kind for stage in stages for kind, _, _ in stage.things} == {0, 1, 2, 3}
    for name in ("x", "y", "radius", "horizon", "light"):
        assert len({getattr(stage, name) for stage in stages}) == len(stages)


def test_naming_asks_for_what_is_there_and_offers_what_is_not(world):
    lines = [json.loads(line) for line in world.naming["test"].read_text().splitlines()]
    plans = [plan_clip(0, "test", number) for number in range(COUNTS["test"])]
    assert lines == [choice for plan in plans for choice in naming_choices(plan)]
    for plan in (plan_clip(0, "test", number) for number in range(60)):
        for choice in naming_choices(plan):
            event = plan.events[choice["event_index"]]
            there = [actor for actor in (event.agent, event.patient, event.bystander) if actor is not None]
            right, wrong = (text.removeprefix("a picture of ") for text in choice["texts"])
            names = {with_article(name) for actor in there for name in (actor.name, actor.plain_name)}
            assert right in names | {f"the {plan.scene}"} and wrong not in names | {f"the {plan.scene}"}
    assert {choice["part"] for choice in lines} == set(PARTS)


def test_a_video_that_cannot_be_written_is_an_error_that_says_why(tmp_path):
    path = tmp_path / "no such folder" / "clip.mp4"
    with pytest.raises(MachineError, match=r"clip\.mp4 could not be written: .*No such file") as caught:
        write_mp4(path, np.zeros((2, SIZE, SIZE, 3), dtype=np.uint8))
    assert caught.value.hint


def test_a_record_is_plain_json_that_survives_a_round_trip():
    record = annotate(plan_clip(0, "valid", 0))
    assert json.loads(json.dumps(record)) == record


def test_a_split_that_the_world_does_not_have_is_refused(tmp_path):
    from figclip_cli.errors import UsageError

    with pytest.raises(UsageError, match="no split 'tset'"):
        write_world(tmp_path, seed=0, counts={"tset": 1})
