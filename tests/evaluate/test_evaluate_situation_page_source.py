"""From VidSitu's files to the page: references, votes and predictions stand where they belong."""

from __future__ import annotations

import json

import pytest

from figclip_cli.demo.scenario import plan_clip
from figclip_cli.demo.vidsitu_folder import write_vidsitu_folder
from figclip_cli.evaluate.datasets.vidsitu import read_truth, vidsitu_files
from figclip_cli.evaluate.datasets.vidsitu_predictions import read_predictions
from figclip_cli.evaluate.situation_page.page import write_page
from figclip_cli.evaluate.situation_page.source import page_clips, page_predictions

PLANS = [plan_clip(0, "test", number) for number in range(3)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vidsitu")
    write_vidsitu_folder(folder, "test", PLANS)
    return vidsitu_files(folder, "test")


@pytest.fixture(scope="module")
def truth(files):
    return read_truth(*files)


def predictions(tmp_path, truth, *, kinds=("verbs", "roles", "relations"), clips=(0, 1, 2)):
    values = {
        "verbs": ("pred_vbs_ev", [[f"v{k}.01", "push.01"] for k in range(5)]),
        "roles": ("vb_output", {"Ev1": {"Arg0": "red star", "ADir": "left"}, "Ev4": {"AScn": "sea"}}),
        "relations": ("pred_evrels_ev", [["Causes"] * 3, ["NoRel", "Enables", "Enables"], ["NoRel"] * 3, []]),
    }
    for kind in kinds:
        key, value = values[kind]
        (tmp_path / f"{kind}.json").write_text(json.dumps([{"ann_idx": index, key: value} for index in clips]))
    paths = [tmp_path / f"{kind}.json" for kind in kinds]
    return page_predictions(truth.clip_ids, read_predictions(paths, truth.clip_ids, allow_missing=True))


def test_annotators_words_are_those_of_the_references_that_are_scored(truth):
    clips = page_clips(truth)
    assert list(clips) == [plan.clip_id for plan in PLANS]
    for plan, clip, references in zip(PLANS, clips.values(), truth.references(), strict=True):
        for index, (event, planned) in enumerate(zip(clip.events, plan.events, strict=True)):
            roles = {role.key: role for role in event.roles}
            assert list(roles) == ["Arg0", *(["Arg1"] if planned.patient else []), "AScn", "ADir", "AMnr"]
            assert [roles[key].scored for key in ("Arg0", "AScn", "ADir", "AMnr")] == [True, True, False, False]
            assert roles["Arg0"].title == planned.verb.agent_role
            written = [
                next(one.value for one in reference[index].arguments if one.name == "Arg0") for reference in references
            ]
            assert list(roles["Arg0"].phrases) == written and len(written) == 3
            assert len(event.relations) == (0 if index == 2 else 3)


def test_verbs_are_all_votes_or_else_those_of_the_annotations(files, truth):
    with_votes = page_clips(truth)[PLANS[0].clip_id].events
    without = page_clips(read_truth(files.split, files.annotations))[PLANS[0].clip_id].events
    assert all(len(event.verbs) == 10 for event in with_votes)
    assert [event.verbs for event in without] == [(planned.verb.sense,) * 3 for planned in PLANS[0].events]


def test_votes_alone_make_a_page_of_verbs(files):
    clip = page_clips(read_truth(files.split, vinfo=files.vinfo))[PLANS[0].clip_id]
    assert all(len(event.verbs) == 10 and not event.roles and not event.relations for event in clip.events)


def test_predictions_stand_at_their_clip_event_and_role(tmp_path, truth):
    said = predictions(tmp_path, truth)[PLANS[1].clip_id]
    assert [one.verbs[0] for one in said] == [f"v{k}.01" for k in range(5)]
    assert [dict(one.phrases) for one in said] == [{"Arg0": "red star", "ADir": "left"}, {}, {}, {"AScn": "sea"}, {}]
    assert [one.relation for one in said] == ["Causes", "Enables", None, "NoRel", ""]


def test_kinds_and_clips_without_predictions_are_told_apart(tmp_path, truth):
    said = predictions(tmp_path, truth, kinds=("verbs",), clips=(0, 2))
    assert list(said) == [PLANS[0].clip_id, PLANS[2].clip_id]
    assert all(one.phrases is None and one.relation is None for one in said[PLANS[0].clip_id])


def test_cider_stands_at_its_phrase(tmp_path, truth):
    (tmp_path / "roles.json").write_text(json.dumps([{"ann_idx": 0, "vb_output": {"Ev1": {"Arg0": "red star"}}}]))
    read = read_predictions([tmp_path / "roles.json"], truth.clip_ids, allow_missing=True)
    scores = {(PLANS[0].clip_id, "Ev1", "Arg0"): 1.25, (PLANS[0].clip_id, "Ev2", "AScn"): 0.0}
    said = page_predictions(truth.clip_ids, read, scores)[PLANS[0].clip_id]
    assert [dict(one.cider) for one in said] == [{"Arg0": 1.25}, {"AScn": 0.0}, {}, {}, {}]


def test_the_whole_way_to_a_page(tmp_path, truth):
    clips = page_clips(truth)
    write_page(tmp_path / "page.html", list(clips), None, clips, {"mine": predictions(tmp_path, truth)})
    text = (tmp_path / "page.html").read_text()
    assert text.count("<h3>Event ") == 15 and "red star" in text
