"""``evaluate dense-captioning`` as a person runs it: table, files, flags, and one line for what is wrong."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from figclip_cli.app import app

VIDEO = {"duration": 40, "timestamps": [[0, 10], [20, 30]], "sentences": ["A man runs fast.", "He sits down again."]}
GOOD = [
    {"sentence": "a man runs fast", "timestamp": [0, 10]},
    {"sentence": "he sits down again", "timestamp": [20, 30]},
]
BAD = [{"sentence": "a dog", "timestamp": [0, 9]}, {"sentence": "he sits on a dog", "timestamp": [12, 19]}]


def submission(results):
    return {"version": "VERSION 1.0", "results": results, "external_data": {"used": False}}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        "val_1.json": {"v_a": VIDEO, "v_b": VIDEO},
        "val_2.json": {"v_a": {**VIDEO, "sentences": ["A man is running.", "He takes a seat."]}},
        "predictions/dense-captions.json": submission({"v_a": GOOD, "v_b": GOOD}),
        "old.json": submission({"v_a": BAD, "b": GOOD, "v_c": BAD}),
    }
    (tmp_path / "predictions").mkdir()
    for name, document in files.items():
        (tmp_path / name).write_text(json.dumps(document))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(
        app, ["evaluate", "dense-captioning", "--meteor", "off", *arguments], env={"COLUMNS": "200"}
    )


def refused(done, code):
    assert done.exit_code == code, done.output
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "Traceback" not in done.output
    return lines[0]


def test_default_names(here):
    done = run()
    assert done.exit_code == 0, done.output
    assert "dense captioning, val_1.json: 2 videos, 4 events" in done.stdout
    assert "predictions/dense-captions.json (default)" in done.stderr
    assert "METEOR and SODA_c are not computed: --meteor off" in done.stdout
    output = here / "results" / "dense-captioning-val_1-dense-captions.json"
    document = json.loads(output.read_text())
    numbers = {metric["name"]: metric["value"] for metric in document["metrics"]}
    assert numbers["CIDEr"] == pytest.approx(1000)
    assert numbers["recall"] == numbers["precision"] == 100
    assert document["protocol"]["tiou"] == [0.3, 0.5, 0.7, 0.9]
    assert document["models"]["base"]["name"] == "dense-captions"
    assert len((here / "results" / "dense-captioning-val_1-dense-captions.samples.jsonl").read_text().splitlines()) == 3


def test_two_sets_a_base_and_every_flag(here):
    done = run(
        *("--predictions", "predictions/dense-captions.json", "--base", "old.json"),
        *("--annotations", "val_1.json", "--annotations", "val_2.json"),
        *("--variant", "2021", "--tiou", "0.5,0.9", "--max-proposals", "5", "--rouge", "--groups", "-o", "out.json"),
        *("--soda-references", "best", "--soda-meteor", "plain", "--soda-videos", "all"),
    )
    assert done.exit_code == 0, done.output
    document = json.loads((here / "out.json").read_text())
    assert {metric["name"] for metric in document["metrics"]} >= {"CIDEr", "BLEU-4", "ROUGE-L", "recall"}
    assert all(metric["base_value"] is not None and metric["p_value"] is not None for metric in document["metrics"])
    assert document["protocol"]["variant"] == "2021"
    assert document["protocol"]["tiou"] == [0.5, 0.9]
    assert document["protocol"]["soda_c"]["references"] == "best"
    assert [one["file"] for one in document["protocol"]["references"]] == ["val_1.json", "val_2.json"]
    assert document["seeds"] == {"bootstrap": 0, "garbage": 0}
    assert document["n_evaluated"] == {"videos": 2, "events": 6}
    assert "tIoU 0.9" in done.stdout
    assert "old: 1 videos are in no reference, such as v_c" in done.stderr


def test_json_is_one_document_and_quiet_says_nothing(here):
    done = run("--json", "--quiet")
    assert json.loads(done.stdout)["task"] == "dense captioning"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--predictions", "none.json"), 3, "predictions file none.json does not exist"),
        (("--annotations", "none.json"), 3, "annotation file none.json does not exist"),
        (("--annotations", "old.json"), 3, "annotation file old.json, video 'version' is 'VERSION 1.0'"),
        (("--predictions", "val_1.json"), 3, "'results' is missing"),
        (("--split", "validation"), 2, "has no splits"),
        (("--tiou", "0.3,0.3000001"), 2, "--tiou names 0.3 twice"),
        (("--tiou", "0.5,2"), 2, "--tiou 2 is not a number between 0 and 1"),
        (("--base", "predictions/dense-captions.json"), 2, "have the same content"),
        (("--annotations", "val_1.json", "--annotations", "val_1.json"), 3, "have the same content"),
        (("-o", "predictions/dense-captions.json", "--overwrite"), 2, "dense-captions.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(here, arguments, code, said):
    assert said in refused(run(*arguments), code)
    assert not (here / "results").exists()


def test_results_are_not_written_over(here):
    assert run().exit_code == 0
    assert "dense-captioning-val_1-dense-captions.json" in refused(run(), 2)
    assert run("--overwrite").exit_code == 0


def test_help_names_the_choices():
    assert "--soda-references" in CliRunner().invoke(app, ["evaluate", "dense-captioning", "--help"]).stdout


def test_meteor_on_without_java_is_refused(here, monkeypatch):
    monkeypatch.setattr("figclip_cli.evaluate.metrics.meteor.shutil.which", lambda name: None)
    assert "--meteor on: there is no Java" in refused(run("--meteor", "on"), 3)
