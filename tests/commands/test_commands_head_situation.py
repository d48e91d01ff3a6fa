"""``train-head situation`` and ``predict situation`` as a person runs them, and what is refused."""

from __future__ import annotations

import json
import shutil

import h5py
import pytest
from samples import CLIP_IDS, QUICK, TINY_MODEL_CFG, save_model, write_video
from typer.testing import CliRunner

from figclip_cli.adapt import AdaptOptions, SourceFiles, adapt
from figclip_cli.app import app
from figclip_cli.evaluate.datasets.vidsitu_predictions import read_predictions
from figclip_cli.files import sha256_of_file
from figclip_cli.frames import SamplingRecipe, extract
from figclip_cli.heads.situation.task import SituationTask
from figclip_cli.models.source import ModelSource
from figclip_cli.run_folder import RunFolder

EVENTS = [f"Ev{number}" for number in range(1, 6)]
QUICK_HEAD = ["--epochs", "2", "--width", "32", "--decoder-layers", "1", "--attention-heads", "2", "--batch-size", "3",
              "--vocabulary-size", "300"]  # fmt: skip
FILES = {"verbs": "pred_vbs_ev", "roles": "vb_output", "relations": "pred_evrels_ev"}


def invoke(*words):
    return CliRunner().invoke(app, list(map(str, words)))


def train(*words):
    return invoke("train-head", "situation", *QUICK_HEAD, *words)


def predict(*words):
    return invoke("predict", "situation", *words)


@pytest.fixture(scope="module")
def lab(prepared, finished_run, tmp_path_factory):
    """A folder with the default names in it, a split with its annotation and votes, a run, and two heads."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copy(prepared / "frames.h5", folder / "frames.h5")
    shutil.copytree(prepared / "base-model", folder / "base-model")
    shutil.copytree(finished_run.path, folder / "runs" / "quick")
    records = json.loads((prepared / "vidsitu" / "vsann_train_lb.json").read_text())
    (folder / "vsann_train_lb.json").write_text(json.dumps(records))
    (folder / "vsann_valid_lb.json").write_text(json.dumps([record for record in records for _ in range(4)]))
    (folder / "vseg_split_valid_lb.json").write_text(json.dumps(CLIP_IDS[::-1]))
    votes = {event: ["walk.01"] * 8 + ["run.02"] * 2 for event in EVENTS}
    info = [{"vid_seg_int": clip_id, "vbid_lst": votes} for clip_id in CLIP_IDS]
    (folder / "vinfo_valid_lb.json").write_text(json.dumps(info))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = {"run": train(), "base": train("--base-only", "--heads", "base-heads", "--json")}
    for name, outcome in done.items():
        assert outcome.exit_code == 0, f"{name}\n{outcome.stderr}"
    return folder, done


@pytest.fixture
def here(lab, monkeypatch):
    monkeypatch.chdir(lab[0])
    return lab[0]


def documents(folder):
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in FILES}


def same_predictions(folder, other):
    return all((folder / f"{name}.json").read_bytes() == (other / f"{name}.json").read_bytes() for name in FILES)


def refused(outcome, code, *said):
    assert outcome.exit_code == code, outcome.stderr
    assert "Traceback" not in outcome.stderr
    for part in said:
        assert part in outcome.stderr, outcome.stderr
    (line,) = [line for line in outcome.stderr.splitlines() if "error" in line.lower()]
    return line


# Training


def test_default_names_are_read_and_said(lab):
    folder, done = lab
    stderr = done["run"].stderr
    for line in ("annotation: vsann_train_lb.json (default)", "frames: frames.h5 (default)", "heads/situation-quick"):
        assert line in stderr, stderr
    assert "runs/quick (default" in stderr and "Head for situation recognition" in done["run"].stdout
    config = json.loads((folder / "heads" / "situation-quick" / "config.json").read_text())
    assert config["features"] == "tokens" and config["clips"]["training"]["used"] == 5
    assert config["clips"]["validation"]["used"] == 1 and config["examples"]["events"] == 25
    assert config["model"]["contextualizer_sha256"] and config["model"]["adapter_sha256"]
    for name in ("head.safetensors", "vocabulary.json", "labels.json", "metrics.jsonl", "README.md", "DONE"):
        assert (folder / "heads" / "situation-quick" / name).is_file(), name
    card = (folder / "heads" / "situation-quick" / "README.md").read_text()
    assert "event and video tokens of the contextualizer" in card and "5 trained on, 1 held out" in card


def test_a_head_on_the_base_says_so(lab):
    folder, done = lab
    document = json.loads(done["base"].stdout)
    assert document["head"] == "base-heads/situation-base" and document["clips_used"] == 5
    assert document["epochs"] == 2 and document["verb_senses"] == 5
    config = json.loads((folder / "base-heads" / "situation-base" / "config.json").read_text())
    assert config["features"] == "plain" and config["model"]["run"] is None
    assert "pooled frames" in (folder / "base-heads" / "situation-base" / "README.md").read_text()


def test_a_head_that_was_stopped_goes_on_to_the_same_bytes(here, monkeypatch):
    def stopping(self, epoch, whole=SituationTask.batches):
        for number, batch in enumerate(whole(self, epoch)):
            if (epoch, number) == (1, 1):
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(SituationTask, "batches", stopping)
        assert train("--name", "cut").exit_code == 130
    refused(predict("--head", "heads/cut", "-o", "never"), 3, "heads/cut")
    refused(train("--name", "cut"), 2, "heads/cut")
    refused(train("--name", "cut", "--resume", "--lr", "0.5"), 2, "heads/cut")
    done = train("--name", "cut", "--resume")
    assert done.exit_code == 0, done.stderr
    for name in ("head.safetensors", "vocabulary.json", "labels.json", "metrics.jsonl"):
        assert (here / "heads/cut" / name).read_bytes() == (here / "heads/situation-quick" / name).read_bytes(), name
    shutil.rmtree(here / "heads" / "cut")


def test_other_clips_can_be_held_out_and_those_without_frames_are_said(here, tmp_path):
    records = json.loads((here / "vsann_train_lb.json").read_text())
    strange = json.loads(json.dumps(records[0]).replace(CLIP_IDS[0], "v_strange_seg_0_10"))
    (tmp_path / "train.json").write_text(json.dumps([*records[:4], strange]))
    (tmp_path / "valid.json").write_text(json.dumps(records[4:]))
    words = ["--annotations", tmp_path / "train.json", "--valid-annotations", tmp_path / "valid.json", "--json"]
    done = train(*words, "--parts", "verbs,relations", "--heads", tmp_path)
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["clips_used"], document["clips_validation"], document["clips_without_frames"]) == (4, 2, 1)
    assert "v_strange_seg_0_10" in done.stderr
    log = json.loads((tmp_path / "situation-quick" / "metrics.jsonl").read_text().splitlines()[-1])
    assert set(log["validation"]) == {"score", "verbs_accuracy", "relations_accuracy"}
    done = predict("--head", tmp_path / "situation-quick", "-o", tmp_path / "p")
    assert done.exit_code == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "p").iterdir()) == [
        "predictions.json", "relations.json", "verbs.json", "vseg_split.json",
    ]  # fmt: skip
    refused(predict("--head", tmp_path / "situation-quick", "-o", tmp_path / "q", "--parts", "roles"), 2, "roles")
    twice = train(
        "--annotations", tmp_path / "train.json", "--valid-annotations", tmp_path / "train.json", "--name", "x"
    )
    refused(twice, 3, "4 clips are in both")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--annotations", "none.json"], 3, "none.json does not exist"),
        (["--annotations", "vseg_split_valid_lb.json"], 3, "record 0"),
        (["--annotations", "frames.h5"], 3, "frames.h5"),
        (["--frames", "none.h5"], 3, "none.h5"),
        (["--run", "runs/none"], 3, "runs/none"),
        (["--base-only", "--features", "tokens"], 2, "has no contextualizer"),
        (["--base-only", "--run", "runs/quick"], 2, "contradict"),
        (["--parts", "verbs,rolls"], 2, "rolls"),
        (["--name", "a/b"], 2, "a/b"),
        (["--valid-frames", "frames.h5"], 2, "--valid-annotations"),
        (["--width", "30", "--attention-heads", "4"], 2, "attention heads"),
        (["--resume", "--overwrite"], 2, "overwrite"),
        ([], 2, "heads/situation-quick"),
    ],
)
def test_training_that_cannot_be_meant_is_refused_in_one_line(here, words, code, said):
    before = sha256_of_file(here / "heads/situation-quick/head.safetensors")
    refused(train(*words), code, said)
    assert sha256_of_file(here / "heads/situation-quick/head.safetensors") == before
    assert sorted(path.name for path in (here / "heads").iterdir()) == ["situation-quick"]


# Predicting


def test_what_is_predicted_can_be_scored(here, tmp_path):
    done = predict("--split", "vseg_split_valid_lb.json", "-o", tmp_path / "p")
    assert done.exit_code == 0, done.stderr
    assert "situation-quick (default: the newest finished one)" in done.stderr and "6 of 6" in done.stdout
    scored = invoke("evaluate", "situation", "--predictions", tmp_path / "p", "-o", tmp_path / "r.json", "--json")
    assert scored.exit_code == 0, scored.stderr
    found = {metric["name"]: metric["value"] for metric in json.loads(scored.stdout)["metrics"]}
    assert {"verb acc@1", "CIDEr", "LEA", "relation acc@1"} <= found.keys()
    assert found["relation acc@1"] == 100  # NoRel is all that there is
    about = json.loads((tmp_path / "p" / "predictions.json").read_text())
    assert about["clips_predicted"] == 6 and about["sources"]["split"]["name"] == "vseg_split_valid_lb.json"
    assert set(about["files"]) == {f"{name}.json" for name in FILES}
    assert all(sha256_of_file(tmp_path / "p" / name) == digest for name, digest in about["files"].items())


def test_records_are_those_of_the_leaderboard_in_the_order_of_the_split(here, tmp_path):
    done = predict("-o", tmp_path / "p")
    assert done.exit_code == 0, done.stderr
    assert json.loads((tmp_path / "p" / "vseg_split.json").read_text()) == sorted(CLIP_IDS)
    done = predict("--split", "vseg_split_valid_lb.json", "-o", tmp_path / "turned")
    assert done.exit_code == 0, done.stderr
    forth, back = documents(tmp_path / "p"), documents(tmp_path / "turned")
    for name, key in FILES.items():
        assert [record["ann_idx"] for record in forth[name]] == list(range(6))
        assert [record[key] for record in forth[name]] == [record[key] for record in back[name]][::-1]
    for record in forth["roles"]:
        assert list(record["vb_output"]) == EVENTS and all(own["vb_id"] for own in record["vb_output"].values())
    assert all(len(event) == 5 for record in forth["verbs"] for event in record["pred_vbs_ev"])
    assert all(len(record["pred_evrels_ev"]) == 4 for record in forth["relations"])


@pytest.mark.parametrize(
    "words",
    [
        ["--beams", "3", "--role-threshold", "0.05"],
        ["--verbs", "given", "--roles", "given", "--annotations", "vsann_valid_lb.json"],
        ["--head", "base-heads/situation-base"],
    ],
)
def test_no_batch_size_changes_a_bit(here, tmp_path, words):
    for size in (1, 5):
        done = predict("-o", tmp_path / str(size), "--batch-size", size, *words)
        assert done.exit_code == 0, done.stderr
    assert same_predictions(tmp_path / "1", tmp_path / "5")


def test_given_verbs_and_roles_are_those_of_the_annotation(here, tmp_path):
    given = ["--verbs", "given", "--roles", "given", "--annotations", "vsann_train_lb.json"]
    done = predict(*given, "-o", tmp_path / "p", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["unknown_senses"] == 0
    records = json.loads((here / "vsann_train_lb.json").read_text())
    for record, made in zip(records, documents(tmp_path / "p")["roles"], strict=True):
        for event in EVENTS:
            assert made["vb_output"][event]["vb_id"] == record[event]["VerbID"]
            assert len(made["vb_output"][event]) - 1 <= len(record[event]["Args"])


def test_pickles_have_the_same_in_them(here, tmp_path):
    for form, endings in (("pickle", {".pkl"}), ("both", {".json", ".pkl"})):
        done = predict("--format", form, "--split", "vseg_split_valid_lb.json", "-o", tmp_path / form)
        assert done.exit_code == 0, done.stderr
        assert {path.suffix for path in (tmp_path / form).iterdir() if path.stem in FILES} == endings
    for name in FILES:
        pickled = read_predictions([tmp_path / "pickle" / f"{name}.pkl"], CLIP_IDS[::-1])
        plain = read_predictions([tmp_path / "both" / f"{name}.json"], CLIP_IDS[::-1])
        assert getattr(pickled, name) == getattr(plain, name)
    # A later prediction in another format leaves nothing of the earlier one.
    refused(predict("-o", tmp_path / "both"), 2, "already exists")
    assert predict("-o", tmp_path / "both", "--overwrite", "--parts", "verbs").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == [
        "predictions.json", "verbs.json", "vseg_split.json",
    ]  # fmt: skip


def test_clips_without_frames_are_left_out_and_named(here, tmp_path):
    (tmp_path / "split.json").write_text(json.dumps([CLIP_IDS[0], "v_strange_seg_0_10", CLIP_IDS[3]]))
    done = predict("--split", tmp_path / "split.json", "-o", tmp_path / "p")
    refused(done, 4, "1 clips are not predicted, the first is v_strange_seg_0_10")
    for name, records in documents(tmp_path / "p").items():
        assert [record["ann_idx"] for record in records] == [0, 2], name
    about = json.loads((tmp_path / "p" / "predictions.json").read_text())
    assert list(about["missing"]) == ["v_strange_seg_0_10"] and about["clips_asked"] == 3
    (tmp_path / "split.json").write_text(json.dumps(["v_strange_seg_0_10"]))
    refused(predict("--split", tmp_path / "split.json", "-o", tmp_path / "q"), 3, "v_strange_seg_0_10")
    assert not (tmp_path / "q").exists()


def test_a_head_and_its_run_can_move(here, tmp_path):
    for name in ("heads/situation-quick", "runs/quick", "base-model"):
        shutil.copytree(here / name, tmp_path / name)
    assert predict("-o", tmp_path / "p").exit_code == 0
    moved = ["--head", tmp_path / "heads/situation-quick", "--run", tmp_path / "runs/quick"]
    done = predict(*moved, "--model", tmp_path / "base-model", "-o", tmp_path / "q")
    assert done.exit_code == 0, done.stderr
    assert same_predictions(tmp_path / "p", tmp_path / "q")


def test_frames_of_another_recipe_are_refused(here, tmp_path):
    write_video(tmp_path / f"{CLIP_IDS[0]}.mp4", seed=0, seconds=10.0, rate=5)
    extract([tmp_path], tmp_path / "f.h5", recipe=SamplingRecipe(size=32, frames_per_event=2), workers=1)
    said = refused(predict("--frames", tmp_path / "f.h5", "-o", tmp_path / "p"), 3, "trained on other frames")
    assert "frames_per_event 4, here 2" in said


def test_frames_to_measure_on_are_those_of_training(here, prepared, tmp_path):
    recipe = SamplingRecipe(size=32, frames_per_event=2)
    extract([prepared / "vidsitu"], tmp_path / "two.h5", recipe=recipe, workers=1)
    records = json.loads((here / "vsann_train_lb.json").read_text())
    for name, own in (("first", records[:4]), ("last", records[4:])):
        (tmp_path / f"{name}.json").write_text(json.dumps(own))
    words = ["--annotations", tmp_path / "first.json", "--valid-annotations", tmp_path / "last.json"]
    done = train(*words, "--valid-frames", tmp_path / "two.h5", "--name", "measured")
    refused(done, 3, "training has other frames: frames_per_event 4, here 2")
    assert not (here / "heads" / "measured").exists()


def test_a_clip_that_cannot_be_read_is_named_before_anything_is_replaced(here, tmp_path):
    shutil.copy(here / "frames.h5", tmp_path / "torn.h5")
    with h5py.File(tmp_path / "torn.h5", "r+") as file:
        start, end = file["jpeg_offsets"][45:47]
        file["jpeg_bytes"][start:end] = 0
    before = sha256_of_file(here / "heads" / "situation-quick" / "head.safetensors")
    done = train("--frames", tmp_path / "torn.h5", "--no-cache", "--overwrite")
    refused(done, 3, f"1 clips cannot be read, the first is {CLIP_IDS[2]}")
    assert sha256_of_file(here / "heads" / "situation-quick" / "head.safetensors") == before


def test_predictions_never_go_into_what_is_read(here):
    for inside in ("heads/situation-quick", "heads/situation-quick/more", "runs/quick"):
        refused(predict("--output", inside, "--overwrite"), 2, "is inside", "which this command reads")
    refused(
        predict("--head", "base-heads/situation-base", "-o", "base-model/x", "--model", "base-model"), 2, "is inside"
    )


def test_another_model_or_run_is_refused(here, prepared, tmp_path):
    other = save_model(tmp_path / "other", TINY_MODEL_CFG, seed=1)
    base = ["--head", "base-heads/situation-base", "-o", tmp_path / "p"]
    refused(predict(*base, "--model", other), 3, "another base model")
    refused(predict(*base, "--run", "runs/quick"), 2, "was trained on the base model")
    run = RunFolder(tmp_path / "runs" / "second")
    files = [SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl")]
    adapt(files, run, source=ModelSource(str(here / "base-model")), options=AdaptOptions(**{**QUICK, "epochs": 1}))
    refused(predict("--run", run.path, "-o", tmp_path / "p"), 3, "another run")
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--head", "heads/none"], 3, "heads/none"),
        (["--head", "runs/quick"], 3, "runs/quick"),
        (["--parts", "verbz"], 2, "verbz"),
        (["--parts", "verbs,verbs"], 2, "twice"),
        (["--annotations", "vsann_valid_lb.json"], 2, "is for --verbs given"),
        (["--verbs", "given"], 2, "--annotations"),
        (["--roles", "given", "--annotations", "none.json"], 3, "none.json"),
        (["--roles", "given", "--annotations", "vinfo_valid_lb.json"], 3, "record 0"),
        (["--split", "none.json"], 3, "none.json"),
        (["--split", "vinfo_valid_lb.json"], 3, "not a clip id"),
        (["--frames", "none.h5"], 3, "none.h5"),
        (["--beams", "0"], 2, "beams"),
        (["--role-threshold", "2"], 2, "role"),
        (["--run", "runs/none"], 3, "runs/none"),
        (["-o", "frames.h5"], 2, "frames.h5"),
    ],
)
def test_predictions_that_cannot_be_meant_are_refused_in_one_line(here, words, code, said):
    refused(predict(*words), code, said)
    assert not (here / "predictions").exists()


def test_given_roles_need_annotation_of_every_clip(here, tmp_path):
    records = json.loads((here / "vsann_valid_lb.json").read_text())
    (tmp_path / "some.json").write_text(json.dumps(records[:8]))
    done = predict("--roles", "given", "--annotations", tmp_path / "some.json", "-o", tmp_path / "p")
    refused(done, 3, "has no record of 4 of 6 clips")


def test_help_names_the_choices():
    said = invoke("train-head", "situation", "--help").stdout + invoke("predict", "situation", "--help").stdout
    assert "--unknown-verbs" in said and "--role-threshold" in said
