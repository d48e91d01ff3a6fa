"""``evaluate situation`` as a person runs it: default names, VidSitu's folders, two models, and what is refused."""

from __future__ import annotations

import json
import pickle

import pytest
from typer.testing import CliRunner

from figclip_cli.app import app

EVENTS = [f"Ev{number}" for number in range(1, 6)]
CLIPS = [f"v_{name}_seg_0_10" for name in "abcd"]
SENSES = ["walk.01", "run.01"]


def annotation(clip, person):
    record = {}
    for number, event in enumerate(EVENTS):
        args = {"Arg0 (who)": person, "Arg1 (what)": f"thing {number % 2}", "Scene of the Event": "in a room"}
        record[event] = {"vid_seg_int": clip, "Verb": "walk", "VerbID": SENSES[number % 2], "Args": args}
        record[event]["Arg_List"] = {key: place for place, key in enumerate(args)}
        record[event]["EvRel"] = "Null" if event == "Ev3" else "Causes"
    return record


def split_documents():
    annotations = [annotation(clip, f"man {clip[2]}") for clip in CLIPS for _ in range(4)]
    votes = {event: ["walk.01"] * 8 + ["run.01"] * 2 for event in EVENTS}
    info = [{"vid_seg_int": clip, "vbid_lst": votes} for clip in CLIPS]
    return {"split_files/vseg_split": CLIPS, "vseg_ann_files/vsann": annotations, "vinfo_files/vinfo": info}


def predictions(*, good):
    said = {"Arg0": "man a" if good else "dog", "Arg1": "thing 0", "AScn": "in a room"}
    verbs = [["walk.01"] if good else ["sit.01", "run.01"] for _ in EVENTS]
    return {
        "verbs": [{"ann_idx": number, "pred_vbs_ev": verbs} for number in range(4)],
        "roles": [{"ann_idx": number, "vb_output": dict.fromkeys(EVENTS, said)} for number in range(4)],
        "relations": [{"ann_idx": number, "pred_evrels_ev": [["Causes"] * 3] * 4} for number in range(4)],
    }


def put(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def run():
    """Run ``figclip evaluate situation`` in this process."""
    return lambda *words: CliRunner().invoke(app, ["evaluate", "situation", *words])


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the default names in it, VidSitu's own folders, and two models."""
    for name, document in split_documents().items():
        put(tmp_path / f"{name.split('/')[1]}_valid_lb.json", document)
        put(tmp_path / "vidsitu" / f"{name}_valid_lb.json", document)
    put(tmp_path / "vsann_train_lb.json", [annotation("v_train_seg_0_10", "man")])
    for folder, good in (("predictions", True), ("others", False)):
        for kind, records in predictions(good=good).items():
            put(tmp_path / folder / f"{kind}.json", records)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_default_names_are_read_and_said(here, figclip, run):
    done = figclip("evaluate", "situation", cwd=here)
    assert done.returncode == 0, done.stderr
    for line in (
        "predictions: predictions (default)",
        "split: vseg_split_valid_lb.json (default)",
        "annotations: vsann_valid_lb.json (default)",
        "vinfo: vinfo_valid_lb.json (default)",
        "results: results/situation-valid-predictions.json (default)",
    ):
        assert line in done.stderr
    assert "situation recognition, vidsitu-valid: 4 clips" in done.stdout
    for name in (
        "verb acc@1",
        "verb Rec@5",
        "CIDEr",
        "C-Vb",
        "C-Arg",
        "ROUGE-L",
        "BLEU-4",
        "LEA",
        "LEA-soft",
        "relation acc@1",
    ):
        assert name in done.stdout
    document = json.loads((here / "results/situation-valid-predictions.json").read_text())
    assert list(document["models"]) == ["base"] and document["models"]["base"]["name"] == "predictions"
    assert len(document["models"]["base"]["files"]) == 3 and document["protocol"]["scale"]
    again = run()
    assert again.exit_code == 2 and "already exists" in again.stderr


def test_two_models_in_vidsitus_folder_with_breakdowns_and_official_names(here, run):
    words = [
        "--predictions",
        "predictions",
        "--base",
        "others",
        "--vidsitu",
        "vidsitu",
        "--official-json",
        "official.json",
    ]
    by = ["--by", "role", "--by", "verb", "--by", "frequency", "--train-annotations", "vsann_train_lb.json"]
    done = run(*words, *by, "-o", "r.json", "--groups")
    assert done.exit_code == 0, done.stderr
    for title in ("by group", "by role", "by verb", "by frequency"):
        assert f"situation recognition, vidsitu-valid: {title}" in done.stdout
    scores = json.loads((here / "official.json").read_text())
    assert scores["Per_Ev_Top_1"] == scores["acc"] == 1.0 and scores["Top_1"] == 1.0 and scores["Len"] == 48
    named = {
        "cider",
        "rouge",
        "bleu_1",
        "MacroVb_cider",
        "MacroArg_bleu_4",
        "Arg0_cider",
        "AScn_rouge",
        "lea",
        "lea_soft",
    }
    assert named | {"mentions", "muc", "bcub", "ceafe", "recall_macro_1_th_9", "num_vbs_thresh_9"} <= scores.keys()
    document = json.loads((here / "r.json").read_text())
    metrics = {metric["name"]: metric for metric in document["metrics"]}
    assert metrics["CIDEr"]["value"] == pytest.approx(100 * scores["cider"])
    assert metrics["verb acc@1"]["delta"] == pytest.approx(100.0) and metrics["verb acc@1"]["p_value"] is not None
    assert {(one["name"], one["group"]) for one in document["groups"]} >= {("CIDEr", "walk.01"), ("verb acc@5", "1-9")}
    compared = CliRunner().invoke(app, ["compare", "r.json"])
    assert compared.exit_code == 0, compared.stderr
    assert "roles" in compared.stdout and "relations" in compared.stdout


def test_single_files_pickles_and_json_output(here, run):
    records = predictions(good=True)["verbs"]
    (here / "v.pkl").write_bytes(pickle.dumps(records))
    done = run("--predictions", "v.pkl", "--json", "--no-samples")
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["protocol"]["predicted"] == ["verbs"] and document["samples"] is None
    assert {metric["name"].split("@")[0] for metric in document["metrics"]} == {
        "verb acc",
        "verb Rec",
        "all five verbs acc",
    }


def test_missing_clips_are_refused_or_counted_as_wrong(here, run):
    put(here / "predictions" / "roles.json", predictions(good=True)["roles"][1:] * 2)
    refused = run()
    assert refused.exit_code == 3 and "has no roles of 1 of 4 clips, the first is 'v_a_seg_0_10'" in refused.stderr
    assert "--allow-missing" in refused.stderr and not (here / "results").exists()
    done = run("--allow-missing")
    assert done.exit_code == 4, done.stderr
    assert "3 of 4 clips" in done.stdout and "1 clips have no prediction, the first is v_a_seg_0_10" in done.stderr
    assert "warning: 3 records of roles are of a clip that has one before" in done.stderr
    document = json.loads((here / "results/situation-valid-predictions.json").read_text())
    assert document["missing"] == {"v_a_seg_0_10": "no record of roles: counted as wrong"}
    assert document["n_evaluated"] == {"clips": 3}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--by", "frequency"], 2, "--by frequency needs --train-annotations"),
        (["--by", "rolle"], 2, "rolle"),
        (["--predictions", "none.json"], 3, "prediction file none.json does not exist"),
        (["--predictions", "vsann_valid_lb.json"], 3, "record 0 has none of pred_vbs_ev"),
        (["--predictions", "predictions", "--predictions", "others"], 2, "both predict verbs"),
        (["--split", "none.json"], 3, "split file none.json does not exist"),
        (["--vidsitu", "none"], 3, "VidSitu folder none does not exist"),
        (["--split-name", "test"], 3, "split file vseg_split_test_lb.json does not exist"),
        (["--annotations", "vinfo_valid_lb.json"], 3, "vinfo_valid_lb.json, record 0: Ev1 is missing"),
        (["--vinfo", "vsann_valid_lb.json"], 3, "vsann_valid_lb.json, record 0: vid_seg_int is missing"),
        (["-o", "vsann_valid_lb.json", "--overwrite"], 2, "is an input of this command"),
        (["-o", "r.json", "--official-json", "r.json"], 2, "the results and the official numbers would both be r.json"),
        (["--official-json", "predictions/verbs.json", "--overwrite"], 2, "is an input of this command"),
        (["-o", "new/r.json", "--official-json", "new/../new/r.json"], 2, "would both be"),
        (["-o", "r.html", "--page", "r.html"], 2, "the results and the page would both be r.html"),
        (["--official-json", "p.html", "--page", "p.html"], 2, "the official numbers and the page would both be"),
        (["-o", "r", "--official-json", "r-samples.jsonl"], 2, "the samples and the official numbers would both"),
        (["--annotations", "none.json"], 3, "annotation file none.json does not exist"),
        (["--base", "predictions"], 2, "--base and --predictions have the same content"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(here, run, words, code, said):
    done = run(*words)
    assert done.exit_code == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr and not done.stdout


def test_a_configuration_file_has_a_table_for_it(here, run):
    (here / "c.toml").write_text('[evaluate.situation]\nby = ["role"]\nvidsitu = "vidsitu"\n')
    done = run("--config", "c.toml")
    assert done.exit_code == 0, done.stderr
    assert "by role" in done.stdout
