"""``figclip train-head dense-captioning`` and ``figclip predict dense-captioning``, as they are called."""

from __future__ import annotations

import json
import shutil

import pytest
from samples import CLIP_IDS, TINY_MODEL_CFG, save_model
from typer.testing import CliRunner

from figclip_cli.commands import evaluate, predict, train_head
from figclip_cli.evaluate.datasets.dense_submissions import read_submission
from figclip_cli.frames import SamplingRecipe, extract
from figclip_cli.heads.dense.task import DenseTask
from figclip_cli.models.tensors import load_tensors

SMALL = ("--width", "32", "--queries", "4", "--epochs", "2", "--batch-size", "3", "--caption-layers", "1")
TRAIN = ("dense-captioning", "--base-only", "--vocabulary-size", "300", "--valid-share", "0.3", *SMALL)


def annotation(names, *, seconds=10.0):
    """Two events of each video."""
    return {
        name: {
            "duration": seconds,
            "timestamps": [[0.0, 4.0 + number % 3], [7.0, 10.0]],
            "sentences": [f"Somebody opens door {number}.", "They leave."],
        }
        for number, name in enumerate(names)
    }


def call(app, *arguments):
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def made(inputs, tmp_path_factory):
    """A folder with frames at two rates, annotation and a base model, and a trained head of each mode."""
    folder = tmp_path_factory.mktemp("dense")
    shutil.copytree(inputs / "base-model", folder / "base-model")
    for fps in (2, 1):
        recipe = SamplingRecipe(size=32, policy="fps", fps=fps)
        extract([inputs / "vidsitu"], folder / f"fps{fps}.h5", recipe=recipe, workers=1)
    shutil.copy(folder / "fps2.h5", folder / "frames.h5")
    (folder / "train.json").write_text(json.dumps(annotation(CLIP_IDS)))
    return folder


@pytest.fixture
def lab(made, monkeypatch):
    monkeypatch.chdir(made)
    for name, mode in (("found", "proposals"), ("given", "given")):
        if not (made / "heads" / name).exists():
            done = call(train_head.app, *TRAIN, "--name", name, "--mode", mode)
            assert done.exit_code == 0, done.stderr
    return made


def test_with_no_names_given_the_defaults_are_used_and_said(lab):
    if not (lab / "heads" / "dense-captioning-base").exists():
        done = call(train_head.app, *TRAIN)
        assert done.exit_code == 0
        for said in ("train.json (default)", "frames.h5 (default)", "heads/dense-captioning-base (default)"):
            assert said in done.stderr
        assert json.loads(done.stdout)["videos_used"] == 4
    done = call(predict.app, "dense-captioning")
    assert done.exit_code == 0 and "newest finished one" in done.stderr
    about = json.loads((lab / "predictions" / "dense-captions.predictions.json").read_text())
    assert about["format"] == "figclip-predictions" and about["videos_predicted"] == 6 and not about["missing"]
    again = call(predict.app, "dense-captioning")
    assert again.exit_code == 2 and "already exists" in again.stderr
    assert call(predict.app, "dense-captioning", "--overwrite").exit_code == 0


def test_the_submission_is_one_and_in_order(lab):
    done = call(predict.app, "dense-captioning", "--head", "heads/found", "-o", "order.json", "--overwrite")
    assert done.exit_code == 0
    submission = read_submission(lab / "order.json")
    assert set(submission.videos) == set(CLIP_IDS) and submission.version == "VERSION 1.0"
    for video in json.loads((lab / "order.json").read_text())["results"].values():
        times = [one["timestamp"] for one in video]
        assert times == sorted(times) and all(0 <= start <= end <= 10.2 for start, end in times)
        assert set(video[0]) == {"sentence", "timestamp", "proposal_score", "sentence_score", "score"}


@pytest.mark.parametrize("head", ["found", "given"])
def test_the_same_bytes_for_any_batch_size(lab, head):
    written = set()
    for size in (1, 4, 16):
        asked = ("--annotations", "train.json") if head == "given" else ()
        done = call(
            predict.app, "dense-captioning", "--head", f"heads/{head}", "-o", "b.json", "--overwrite", *asked,
            "--batch-size", size,
        )  # fmt: skip
        assert done.exit_code == 0
        written.add((lab / "b.json").read_bytes())
    assert len(written) == 1


def test_given_segments_come_back_with_captions(lab):
    asked = annotation(CLIP_IDS)
    done = call(
        predict.app, "dense-captioning", "--head", "heads/given", "--annotations", "train.json", "-o", "given.json",
        "--overwrite",
    )  # fmt: skip
    assert done.exit_code == 0
    for name, video in json.loads((lab / "given.json").read_text())["results"].items():
        assert [one["timestamp"] for one in video] == asked[name]["timestamps"]
    done = call(predict.app, "dense-captioning", "--head", "heads/given", "-o", "none.json")
    assert done.exit_code == 2 and "--annotations" in done.stderr and not (lab / "none.json").exists()
    done = call(
        predict.app, "dense-captioning", "--head", "heads/given", "-o", "none.json", "--count", 2, "--annotations",
        "train.json",
    )  # fmt: skip
    assert done.exit_code == 2 and "--count" in done.stderr


def test_videos_without_frames_are_named_with_exit_code_4(lab):
    (lab / "more.json").write_text(json.dumps(annotation([CLIP_IDS[0], "v_nowhere"])))
    done = call(
        predict.app, "dense-captioning", "--head", "heads/found", "--annotations", "more.json", "-o", "more-out.json",
        "--overwrite",
    )  # fmt: skip
    assert done.exit_code == 4 and "v_nowhere" in done.stderr
    assert set(read_submission(lab / "more-out.json").videos) == {CLIP_IDS[0]}
    missing = json.loads((lab / "more-out.predictions.json").read_text())["missing"]
    assert missing == {"v_nowhere": "not in the frames file"}
    (lab / "none.json").write_text(json.dumps(annotation(["v_nowhere"])))
    done = call(predict.app, "dense-captioning", "--head", "heads/found", "--annotations", "none.json", "-o", "x.json")
    assert done.exit_code == 3 and "not one of the 1 videos" in done.stderr
    done = call(train_head.app, *TRAIN, "--annotations", "none.json", "--name", "none")
    assert done.exit_code == 3 and not (lab / "heads" / "none").exists()


def test_other_frames_and_other_models_are_refused_in_one_line(lab):
    done = call(predict.app, "dense-captioning", "--head", "heads/found", "--frames", "fps1.h5", "-o", "x.json")
    assert done.exit_code == 3 and "fps 2, here 1" in done.stderr
    if not (lab / "other").exists():
        save_model(lab / "other", TINY_MODEL_CFG, seed=5)
    done = call(predict.app, "dense-captioning", "--head", "heads/found", "--model", "other", "-o", "x.json")
    assert done.exit_code == 3 and "another base model" in done.stderr
    done = call(train_head.app, *TRAIN, "--name", "x", "--valid-annotations", "train.json", "--valid-frames", "fps1.h5")
    assert done.exit_code == 3 and "other frames" in done.stderr
    assert not (lab / "x.json").exists() and not (lab / "heads" / "x").exists()


def test_a_head_is_replaced_or_resumed_only_when_asked(lab):
    before, _ = load_tensors(lab / "heads" / "found" / "head.safetensors", "head")
    done = call(train_head.app, *TRAIN, "--name", "found")
    assert done.exit_code == 2 and "--overwrite" in done.stderr
    done = call(train_head.app, *TRAIN, "--name", "found", "--resume", "--l1-weight", "3")
    assert done.exit_code == 2 and "another options" in done.stderr
    assert call(train_head.app, *TRAIN, "--name", "found", "--overwrite").exit_code == 0
    after, _ = load_tensors(lab / "heads" / "found" / "head.safetensors", "head")
    assert all((before[name] == after[name]).all() for name in before)


def test_what_was_interrupted_goes_on_to_the_same_bytes(lab, monkeypatch):
    def stopping(self, epoch, whole=DenseTask.batches):
        for number, batch in enumerate(whole(self, epoch)):
            if (epoch, number) == (1, 1):
                raise KeyboardInterrupt
            yield batch

    shutil.rmtree(lab / "heads" / "cut", ignore_errors=True)
    with monkeypatch.context() as patch:
        patch.setattr(DenseTask, "batches", stopping)
        done = call(train_head.app, *TRAIN, "--name", "cut")
    assert done.exit_code == 130 and not done.stdout
    assert len((lab / "heads" / "cut" / "metrics.jsonl").read_text().splitlines()) == 1
    done = call(predict.app, "dense-captioning", "--head", "heads/cut", "-o", "x.json")
    assert done.exit_code == 3 and "not finished" in done.stderr and not (lab / "x.json").exists()
    assert call(train_head.app, *TRAIN, "--name", "cut").exit_code == 2
    done = call(train_head.app, *TRAIN, "--name", "cut", "--resume")
    assert done.exit_code == 0 and json.loads(done.stdout)["epochs"] == 2
    for name in ("head.safetensors", "vocabulary.json", "metrics.jsonl", "checkpoints/last.safetensors"):
        assert (lab / "heads" / "cut" / name).read_bytes() == (lab / "heads" / "found" / name).read_bytes(), name
    shutil.rmtree(lab / "heads" / "cut")


@pytest.mark.parametrize("head", ["found", "given"])
def test_what_is_predicted_can_be_evaluated(lab, head):
    asked = ("--annotations", "train.json")
    output = f"scored-{head}.json"
    done = call(predict.app, "dense-captioning", "--head", f"heads/{head}", "-o", output, "--overwrite", *asked)
    assert done.exit_code == 0, done.stderr
    done = call(
        evaluate.app, "dense-captioning", "--predictions", output, *asked, "--meteor", "off", "-o", "results.json",
        "--overwrite",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    document = json.loads(done.stdout)
    values = {metric["name"]: metric["value"] for metric in document["metrics"]}
    assert document["n_evaluated"] == {"videos": 6, "events": 12}
    assert 0 <= values["recall"] <= 100 and 0 <= values["CIDEr"] <= 1000
    if head == "given":
        assert values["recall"] == values["precision"] == 100


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"v_a": 3}', b'{"v_a": {"duration": NaN}}', b"[" * 9999]
)
def test_files_that_are_no_dense_captions_are_one_line(lab, content):
    (lab / "wrong.json").write_bytes(content)
    for app, words in ((train_head.app, (*TRAIN, "--name", "x")), (predict.app, ("dense-captioning", "-o", "x.json"))):
        head = ("--head", "heads/given") if app is predict.app else ()
        done = call(app, *words, *head, "--annotations", "wrong.json")
        assert done.exit_code == 3 and done.stderr.count("error:") == 1 and "wrong.json" in done.stderr
        assert not (lab / "x.json").exists() and not (lab / "heads" / "x").exists()


def test_what_is_missing_is_named(lab):
    done = call(train_head.app, *TRAIN, "--name", "x", "--annotations", "nowhere.json")
    assert done.exit_code == 3 and "nowhere.json" in done.stderr
    done = call(train_head.app, *TRAIN, "--name", "x", "--frames", "nowhere.h5")
    assert done.exit_code == 3 and "nowhere.h5" in done.stderr
    for words in (("--annotations", "nowhere.json"), ("--frames", "nowhere.h5"), ("--head", "heads/nowhere")):
        done = call(predict.app, "dense-captioning", "--head", "heads/found", "-o", "x.json", *words)
        assert done.exit_code == 3 and words[1] in done.stderr and done.stderr.count("error:") == 1
    assert not (lab / "x.json").exists() and not (lab / "heads" / "x").exists()


@pytest.mark.parametrize("file", ["head.safetensors", "vocabulary.json", "config.json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe"])
def test_damaged_heads_are_one_line(lab, file, content):
    shutil.copytree(lab / "heads" / "found", lab / "damaged", dirs_exist_ok=True)
    (lab / "damaged" / file).write_bytes(content)
    done = call(predict.app, "dense-captioning", "--head", "damaged", "-o", "x.json")
    assert done.exit_code == 3 and done.stderr.count("error:") == 1 and not (lab / "x.json").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("sizes", {"mode": "proposals"}), ("sizes", 3), ("model", {}), ("frames", None), ("options", {"precision": 1}),
     ("task", "situation"), ("options", {"precision": "fp8"}),
     ("frames", {"recipe": {"policy": "fps"}}), ("model", {"run": 3, "source": {"model": "base-model"}}),
     ("model", {"run": None, "source": {"model": 3}}),
     ("model", {"run": None, "source": {"model": "x", "activation": 3}})],
)  # fmt: skip
def test_damaged_configurations_are_one_line(lab, key, value):
    shutil.copytree(lab / "heads" / "found", lab / "damaged", dirs_exist_ok=True)
    config = json.loads((lab / "damaged" / "config.json").read_text())
    (lab / "damaged" / "config.json").write_text(json.dumps({**config, key: value}))
    done = call(predict.app, "dense-captioning", "--head", "damaged", "-o", "x.json")
    assert done.exit_code == 3 and done.stderr.count("error:") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("positions", -1), ("positions", "x"), ("queries", True), ("attention_heads", 3), ("dropout", float("nan")),
     ("max_tokens", 0), ("width", 10**15), ("mode", [])],
)  # fmt: skip
def test_damaged_sizes_are_one_line(lab, name, value):
    shutil.copytree(lab / "heads" / "found", lab / "damaged", dirs_exist_ok=True)
    config = json.loads((lab / "damaged" / "config.json").read_text())
    config["sizes"][name] = value
    (lab / "damaged" / "config.json").write_text(json.dumps(config))
    done = call(predict.app, "dense-captioning", "--head", "damaged", "-o", "x.json")
    assert done.exit_code == 3 and done.stderr.count("error:") == 1 and not (lab / "x.json").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--valid-frames", "frames.h5"), "--valid-annotations"),
        (("--valid-split", "validation"), "--valid-annotations"),
        (("--name", "a/b"), "name of a folder"),
        (("--split", "training"), "no splits"),
    ],
)
def test_flags_that_cannot_be_meant(lab, wrong, said):
    done = call(train_head.app, *TRAIN, *wrong)
    assert done.exit_code == 2 and said in done.stderr


def test_a_submission_never_replaces_a_file_of_the_head(lab):
    before = (lab / "heads" / "found" / "vocabulary.json").read_bytes()
    words = ("--head", "heads/found", "-o", "heads/found/vocabulary.json", "--overwrite")
    done = call(predict.app, "dense-captioning", *words)
    assert done.exit_code == 2 and "is inside heads/found, which this command reads" in done.stderr
    assert (lab / "heads" / "found" / "vocabulary.json").read_bytes() == before


def test_youcook2_is_trained_on_its_training_split_and_measured_on_the_other(lab):
    videos = {
        name: {
            "duration": 10.0,
            "subset": "training" if number < 4 else "validation",
            "annotations": [{"segment": [1, 4], "id": 0, "sentence": "cut the tomato"}],
        }
        for number, name in enumerate(CLIP_IDS)
    }
    (lab / "youcook2.json").write_text(json.dumps({"database": videos}))
    asked = ("--annotations", "youcook2.json", "--valid-annotations", "youcook2.json", "--name", "youcook2")
    done = call(train_head.app, *TRAIN, *asked, "--overwrite")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["videos_used"], found["videos_validation"]) == (4, 2)
