"""Several annotators of the synthetic world: relations follow a rule, people differ a little, files are VidSitu's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from figclip_cli.demo.relations import RELATIONS, relation, relations
from figclip_cli.demo.scenario import COLOURS, EVENTS, SCENES, SHAPES, VERBS, Actor, Event, plan_clip
from figclip_cli.demo.vidsitu_folder import ROLE_ANNOTATORS, VERB_ANNOTATORS, annotate, write_vidsitu_folder
from figclip_cli.demo.wording import Annotator
from figclip_cli.demo.world import write_world
from figclip_cli.prompts.annotations import read_annotations, read_split

ROLES = Path(__file__).resolve().parents[2] / "figclip_cli" / "prompts" / "data" / "propbank_roles.json"
RED, BLUE, GREEN = Actor("red", "square"), Actor("blue", "star"), Actor("green", "circle")
SENSES = {verb.word: verb for verb in VERBS}
PLANS = {split: [plan_clip(0, split, number) for number in range(100)] for split in ("train", "test")}


def event(agent, patient=None, verb="push"):
    return Event(SENSES[verb if patient else "jump"], agent, patient, "slowly", "left", None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vidsitu")
    for split in ("train", "valid", "test"):
        write_vidsitu_folder(folder, split, [plan_clip(0, split, number) for number in range(4)])
    return folder


def load(folder, kind, split):
    prefix = {"split_files": "vseg_split", "vinfo_files": "vinfo", "vseg_ann_files": "vsann"}[kind]
    return json.loads((folder / kind / f"{prefix}_{split}_lb.json").read_text())


@pytest.mark.parametrize(
    ("earlier", "later", "label"),
    [
        (event(RED, BLUE), event(RED, BLUE, "hit"), "Causes"),
        (event(RED, BLUE), event(BLUE, RED), "Reaction To"),
        (event(RED, BLUE), event(RED, GREEN), "Enables"),
        (event(RED, BLUE), event(BLUE, GREEN), "Enables"),
        (event(RED, BLUE), event(BLUE), "Enables"),
        (event(RED), event(RED), "Enables"),
        (event(RED), event(RED, BLUE), "Enables"),
        (event(RED, BLUE), event(GREEN, BLUE), "NoRel"),
        (event(RED, BLUE), event(GREEN, RED), "NoRel"),
        (event(RED), event(BLUE), "NoRel"),
        (event(RED), event(BLUE, RED), "NoRel"),
    ],
)
def test_the_relation_of_two_events_follows_from_who_takes_part(earlier, later, label):
    assert relation(earlier, later) == label


def test_the_earlier_event_comes_first_before_and_after_the_third():
    for plan in PLANS["test"][:20]:
        labels = relations(plan)
        assert sorted(labels) == [0, 1, 3, 4]
        assert labels[0] == relation(plan.events[0], plan.events[2])
        assert labels[4] == relation(plan.events[2], plan.events[4])


def test_every_label_is_common():
    for plans in PLANS.values():
        counts = Counter(label for plan in plans for label in relations(plan).values())
        assert set(counts) == set(RELATIONS)
        assert min(counts.values()) > 0.08 * counts.total() and max(counts.values()) < 0.5 * counts.total()


def test_the_files_are_those_of_vidsitu(folder):
    for split in ("train", "valid", "test"):
        ids = load(folder, "split_files", split)
        assert read_split(folder / "split_files" / f"vseg_split_{split}_lb.json") == set(ids)
        assert [item["vid_seg_int"] for item in load(folder, "vinfo_files", split)] == ids
        records = load(folder, "vseg_ann_files", split)
        each = 1 if split == "train" else ROLE_ANNOTATORS
        assert [record["Ev1"]["vid_seg_int"] for record in records] == [name for name in ids for _ in range(each)]
        assert len(read_annotations([folder / "vseg_ann_files" / f"vsann_{split}_lb.json"]).annotations) == 4 * each


def test_training_clips_have_the_records_of_the_flat_file(tmp_path):
    world = write_world(tmp_path, seed=0, counts={"train": 2, "test": 1})
    flat = world.annotations["train"].read_bytes()
    assert (world.vidsitu / "vseg_ann_files" / "vsann_train_lb.json").read_bytes() == flat
    assert all("vbid_lst" not in item for item in load(world.vidsitu, "vinfo_files", "train"))
    assert len(load(world.vidsitu, "vseg_ann_files", "test")) == ROLE_ANNOTATORS


def test_ten_annotators_name_verbs_that_propbank_knows(folder):
    senses = json.loads(ROLES.read_text())["senses"]
    for information in (*load(folder, "vinfo_files", "valid"), *load(folder, "vinfo_files", "test")):
        assert list(information["vbid_lst"]) == [f"Ev{number}" for number in range(1, EVENTS + 1)]
        for name, named in information["vbid_lst"].items():
            assert len(named) == VERB_ANNOTATORS and set(named) <= set(senses)
            assert information["vb_lst"][name] == [sense.split(".")[0] for sense in named]


def test_most_name_the_verb_of_the_plan_and_some_do_not():
    named = [
        Counter(Annotator(plan.clip_id, number).sense(event, index) for number in range(VERB_ANNOTATORS))
        for plan in PLANS["test"]
        for index, event in enumerate(plan.events)
    ]
    planned = [event.verb.sense for plan in PLANS["test"] for event in plan.events]
    agreed = sum(names[sense] for names, sense in zip(named, planned, strict=True)) / (VERB_ANNOTATORS * len(planned))
    assert 0.8 < agreed < 0.95
    twice = Counter(sense for names in named for sense, votes in names.items() if votes >= 2)
    learnable = {verb.sense for verb in VERBS}
    assert {sense for sense, occurrences in twice.items() if occurrences > 9} == learnable


def test_the_annotations_of_an_event_have_the_same_verb_and_the_same_keys(folder):
    for split in ("valid", "test"):
        records = load(folder, "vseg_ann_files", split)
        for start in range(0, len(records), ROLE_ANNOTATORS):
            for name in (f"Ev{number}" for number in range(1, EVENTS + 1)):
                events = [record[name] for record in records[start : start + ROLE_ANNOTATORS]]
                assert len({item["VerbID"] for item in events}) == 1
                assert len({tuple(item["Args"]) for item in events}) == 1
                assert all(item["Arg_List"] == events[0]["Arg_List"] for item in events)


def test_annotators_differ_in_words_and_agree_on_most():
    phrases, labels = [], []
    for plan in PLANS["test"]:
        records = [annotate(plan, number) for number in range(ROLE_ANNOTATORS)]
        phrases += [{next(iter(record["Ev1"]["Args"].values())) for record in records}]
        labels += [
            record[f"Ev{index + 1}"]["EvRel"] == label for record in records for index, label in relations(plan).items()
        ]
    assert sum(len(said) > 1 for said in phrases) > 0.8 * len(phrases)
    assert 0.8 < sum(labels) / len(labels) < 0.9
    plain = [
        plan.events[0].agent.name in {text.removeprefix("the ") for text in said}
        for plan, said in zip(PLANS["test"], phrases, strict=True)
    ]
    assert sum(plain) > 0.9 * len(plain)


def test_one_annotator_names_different_actors_differently_and_one_actor_always_the_same():
    everyone = [Actor(colour, shape) for colour in COLOURS for shape in SHAPES]
    for number in range(20):
        who = Annotator("v_a_seg_0_10", number)
        assert len({who.phrase(actor) for actor in everyone}) == len(everyone)
        assert [who.phrase(actor) for actor in reversed(everyone)] == [who.phrase(actor) for actor in everyone][::-1]
        assert all("a o" not in f" {who.phrase(actor)}" and "a a" not in who.phrase(actor) for actor in everyone)
        assert len({who.scene(scene) for scene in SCENES}) == len(SCENES)


def test_what_someone_writes_depends_on_the_clip_and_the_person_alone():
    plan = plan_clip(0, "test", 3)
    code = (
        "import json\nfrom figclip_cli.demo.scenario import plan_clip\n"
        "from figclip_cli.demo.vidsitu_folder import annotate\n"
        "print(json.dumps(annotate(plan_clip(0, 'test', 3), 4)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert json.loads(done.stdout) == annotate(plan, 4)
