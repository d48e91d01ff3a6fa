"""Predicting as a stage: which clips, with which model and frames, and the files that come out."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.vidsitu import read_truth
from figclip_cli.evaluate.datasets.vidsitu_predictions import read_predictions
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.files import sha256_of_file
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.seen_model import seen_model
from figclip_cli.heads.situation.loading import load_head
from figclip_cli.heads.situation.options import PredictOptions, SituationOptions
from figclip_cli.heads.situation.predict import asked_clips, predict_situation
from figclip_cli.heads.situation.prediction_files import PredictionFolder
from figclip_cli.heads.situation.train import AnnotatedClips, train_situation
from figclip_cli.models.adapted import load_base

SMALL = SituationOptions(width=16, decoder_layers=1, attention_heads=2, vocabulary_size=300, max_tokens=8)
PARTS = ("verbs", "roles", "relations")


@pytest.fixture(scope="module")
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), PROTOCOLS["figclip"])


@pytest.fixture(scope="module")
def model(finished_run):
    return seen_model(load_base(finished_run), finished_run)


@pytest.fixture(scope="module")
def annotation(prepared):
    return prepared / "vidsitu" / "vsann_train_lb.json"


@pytest.fixture(scope="module")
def folder(clips, model, annotation, tmp_path_factory):
    """A head on a run's tokens, trained long enough to say something."""
    made = HeadFolder(tmp_path_factory.mktemp("heads") / "small")
    how = TrainingOptions(epochs=8, batch_size=2, lr=5e-3)
    train_situation(AnnotatedClips(annotation, clips), model, made, options=SMALL, how=how)
    return made


@pytest.fixture
def predict(folder, model, clips, tmp_path):
    def run(name="out", split=None, annotations=None, head=None, **changes):
        output_format = changes.pop("format", "json")
        seen = {"model": model, "clips": clips} | {k: changes.pop(k) for k in ("model", "clips") if k in changes}
        summary = predict_situation(
            head or load_head(folder),
            seen["model"],
            seen["clips"],
            asked_clips(seen["clips"], split, annotations),
            PredictionFolder(tmp_path / name, output_format),
            options=PredictOptions(**changes),
        )
        return summary, tmp_path / name

    return run


def test_without_a_split_all_clips_are_predicted_in_sorted_order_and_the_list_is_written(predict, clips):
    summary, out = predict()
    listed = json.loads((out / "vseg_split.json").read_text())
    assert listed == sorted(clips.reader.clip_ids) and not summary.missing
    read = read_predictions([out], listed)
    assert read.kinds == PARTS and not read.unknown_roles and not read.missing()
    about = json.loads((out / "predictions.json").read_text())
    assert about["format"] == "figclip-predictions" and about["task"] == "situation"
    assert about["clips_asked"] == about["clips_predicted"] == 6 and about["options"]["parts"] == list(PARTS)
    assert about["files"] == {name: sha256_of_file(out / name) for name in about["files"]}
    assert set(about["files"]) == {path.name for path in out.iterdir()} - {"predictions.json"}


def test_given_roles_and_verbs_are_those_of_the_scorers_first_reference(predict, annotation, tmp_path):
    records = json.loads(annotation.read_text())
    changed = json.loads(json.dumps(records))
    for record in changed:
        for event in record.values():
            event["VerbID"] = "never.01"
            event["Args"] = {"ArgM (goal)": "...", **{f"Arg{n} (x)": "y" for n in range(6)}, "Scene of the Event": ""}
            event.pop("Arg_List")
    several = tmp_path / "several.json"
    several.write_text(json.dumps([*records, *changed]))
    summary, out = predict(annotations=several, verbs="given", roles="given")
    split = out / "vseg_split.json"
    references = read_truth(split, several).references()
    unknown = 0
    for record, of_clip in zip(json.loads((out / "roles.json").read_text()), references, strict=True):
        for found, annotated in zip(record["vb_output"].values(), of_clip[0], strict=True):
            assert found["vb_id"] == annotated.sense
            assert set(found) - {"vb_id"} <= {argument.name for argument in annotated.arguments}
            unknown += annotated.sense == "never.01"
    assert 0 < unknown == summary.about["unknown_senses"] < 30
    rows = [row for record in json.loads((out / "relations.json").read_text()) for row in record["pred_evrels_ev"]]
    assert len(rows) == 24 and all(len(row) == 3 for row in rows)


def test_what_an_earlier_prediction_left_is_not_mixed_with_the_new_one(predict, tmp_path):
    _, out = predict(format="both")
    place = PredictionFolder(out, "json")
    with pytest.raises(UsageError, match="already exists"):
        place.check(overwrite=False, inputs=[])
    place.check(overwrite=True, inputs=[])
    (out / "notes.txt").write_text("keep")
    _, out = predict(parts=("verbs",))
    assert {path.name for path in out.iterdir()} == {"verbs.json", "vseg_split.json", "predictions.json", "notes.txt"}
    with pytest.raises(UsageError, match="is an input"):
        place.check(overwrite=True, inputs=[out / "vseg_split.json"])
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file"):
        PredictionFolder(tmp_path / "file", "json").check(overwrite=True, inputs=[])


def test_other_frames_are_refused_but_not_another_storage(predict, inputs, tmp_path):
    recipe = SamplingRecipe(size=32, frames_per_event=2)
    extract([inputs / "vidsitu"], tmp_path / "two.h5", recipe=recipe, workers=1)
    with pytest.raises(InputError, match="frames_per_event 4, here 2"):
        predict(clips=StoredClips(FramesReader(tmp_path / "two.h5"), PROTOCOLS["figclip"]))
    extract([inputs / "vidsitu"], tmp_path / "raw.h5", recipe=SamplingRecipe(size=32, storage="raw"), workers=1)
    raw = StoredClips(FramesReader(tmp_path / "raw.h5"), PROTOCOLS["figclip"])
    assert predict(clips=raw)[0].about["clips_predicted"] == 6


@pytest.mark.parametrize("change", [{"width": 32}, {"senses": 3}, {"parts": ["verbs"]}, {"odd": 1}, {"parts": 3}])
def test_sizes_that_are_not_the_weights_are_refused(folder, tmp_path, change):
    shutil.copytree(folder.path, tmp_path / "head")
    config = json.loads((folder.path / "config.json").read_text())
    config["sizes"] |= change
    (tmp_path / "head" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="do not fit each other|labels or vocabulary|sizes is missing or damaged"):
        load_head(HeadFolder(tmp_path / "head"))


def test_heads_compute_in_float64(folder):
    head = load_head(folder)
    assert {parameter.dtype for parameter in head.module.parameters()} == {torch.float64}
    assert not head.module.training and head.parts == PARTS
