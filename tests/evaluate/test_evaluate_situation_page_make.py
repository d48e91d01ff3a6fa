"""A page of an evaluation: the same CIDEr as the results, and clips chosen by it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from figclip_cli.demo.scenario import plan_clip
from figclip_cli.demo.vidsitu_folder import annotate, write_vidsitu_folder
from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.vidsitu import read_truth, vidsitu_files
from figclip_cli.evaluate.datasets.vidsitu_annotations import mapped_name
from figclip_cli.evaluate.datasets.vidsitu_predictions import read_predictions
from figclip_cli.evaluate.situation.task import SituationInputs, evaluate_situation
from figclip_cli.evaluate.situation_page.make import phrase_cider, write_situation_page

PLANS = [plan_clip(0, "test", number) for number in range(6)]
IDS = [plan.clip_id for plan in PLANS]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vidsitu")
    write_vidsitu_folder(folder, "test", PLANS)
    return vidsitu_files(folder, "test")


def roles(folder, name, wrong=()):
    """Predictions in the plan's own words; clips in ``wrong`` get those of the clip before."""
    records = []
    for index, plan in enumerate(PLANS):
        record = annotate(PLANS[index - 1] if index in wrong else plan)
        said = {key: {mapped_name(k): text for k, text in event["Args"].items()} for key, event in record.items()}
        records.append({"ann_idx": index, "vb_output": said})
    (folder / f"{name}.json").write_text(json.dumps(records))
    return folder / f"{name}.json"


def verbs(folder, name, right):
    record = [
        {"ann_idx": i, "pred_vbs_ev": [[e.verb.sense if i in right else "be.01"] for e in plan.events]}
        for i, plan in enumerate(PLANS)
    ]
    (folder / f"{name}.json").write_text(json.dumps(record))
    return folder / f"{name}.json"


def inputs(files, predictions, base=(), **more):
    return SituationInputs([predictions], files.split, files.annotations, files.vinfo, base, **more)


def test_the_cider_of_phrases_is_that_of_the_results(files, tmp_path):
    path = roles(tmp_path, "mine", wrong=(1, 4))
    truth = read_truth(files.split, files.annotations)
    scores = phrase_cider(truth, read_predictions([path], truth.clip_ids))
    results = evaluate_situation(inputs(files, path)).results
    headline = next(metric for metric in results.metrics if metric.name == "CIDEr")
    assert 100 * np.mean([*scores.values()]) == pytest.approx(headline.value)
    assert {clip_id for clip_id, _, _ in scores} == set(IDS)


def test_of_two_models_the_clips_that_changed_are_shown(files, tmp_path):
    base, adapted = roles(tmp_path, "one", wrong=(1, 3)), roles(tmp_path, "two", wrong=(3, 5))
    shown = write_situation_page(tmp_path / "page.html", inputs(files, adapted, [base]), count=2)
    assert [(clip.clip_id, clip.why.partition(":")[0]) for clip in shown] == [
        (IDS[1], "gained most"),
        (IDS[5], "lost most"),
    ]
    text = (tmp_path / "page.html").read_text()
    assert "Situations: one, two" in text and text.count("<h3>") == 10 and "CIDEr 2.5" in text
    assert IDS[0] not in text


def test_of_one_model_the_best_and_the_worst_are_shown(files, tmp_path):
    shown = write_situation_page(tmp_path / "page.html", inputs(files, verbs(tmp_path, "v", right={0, 1, 2})), count=2)
    assert [clip.clip_id for clip in shown] == [IDS[0], IDS[1], IDS[3], IDS[4]]
    assert shown[0].why == "among the best: 1.000" and "<bdi>v</bdi>" in (tmp_path / "page.html").read_text()


def test_clips_that_are_named_are_shown_in_that_order(files, tmp_path):
    path = roles(tmp_path, "mine")
    shown = write_situation_page(tmp_path / "page.html", inputs(files, path), clip_ids=[IDS[4], IDS[2]])
    assert [clip.clip_id for clip in shown] == [IDS[4], IDS[2]]
    with pytest.raises(UsageError, match="no clip 'v_nobody'"):
        write_situation_page(tmp_path / "other.html", inputs(files, path), clip_ids=["v_nobody"])


def test_where_nothing_changed_the_first_clips_are_shown(files, tmp_path):
    path = roles(tmp_path, "mine")
    shown = write_situation_page(tmp_path / "page.html", inputs(files, path, [path]), count=2)
    assert [clip.clip_id for clip in shown] == IDS[:2] and shown[0].why == "no clip changed"


def test_a_clip_without_a_record_is_shown_as_such_where_that_is_allowed(files, tmp_path):
    path = verbs(tmp_path, "v", right={0})
    path.write_text(json.dumps(json.loads(path.read_text())[:5]))
    with pytest.raises(InputError, match="no verbs of 1 of 6 clips"):
        write_situation_page(tmp_path / "page.html", inputs(files, path), clip_ids=IDS)
    write_situation_page(tmp_path / "page.html", inputs(files, path, allow_missing=True), clip_ids=IDS)
    assert "predicts nothing for this clip" in (tmp_path / "page.html").read_text()
