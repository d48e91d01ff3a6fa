"""Training: the folder it leaves, the same bytes after an interruption, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from situation_small import small_sizes, small_world

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.seen_model import seen_model
from figclip_cli.heads.situation.examples import make_examples
from figclip_cli.heads.situation.labels import labels_of, roles_of
from figclip_cli.heads.situation.options import SituationOptions
from figclip_cli.heads.situation.task import ClipSet, SituationTask, score_of
from figclip_cli.heads.situation.train import AnnotatedClips, make_head, train_situation
from figclip_cli.heads.training import fit
from figclip_cli.heads.vocabulary import train_bpe
from figclip_cli.models.adapted import load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

SMALL = SituationOptions(width=16, decoder_layers=1, attention_heads=2, vocabulary_size=300, max_tokens=8)
QUICK = TrainingOptions(epochs=3, batch_size=2)
FILES = ("head.safetensors", "config.json", "vocabulary.json", "labels.json", "README.md", "metrics.jsonl")


@pytest.fixture(scope="module")
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), PROTOCOLS["figclip"])


@pytest.fixture(scope="module")
def model(tiny_model):
    return seen_model(load_clip(ModelSource(str(tiny_model))), None)


@pytest.fixture(scope="module")
def annotation(prepared):
    return prepared / "vidsitu" / "vsann_train_lb.json"


@pytest.fixture
def train(clips, model, annotation):
    def run(folder, **changes):
        values = {"options": SMALL, "how": QUICK, **changes}
        source = AnnotatedClips(values.pop("annotation", annotation), values.pop("clips", clips))
        return train_situation(source, values.pop("model", model), HeadFolder(folder), **values)

    return run


def test_a_head_is_a_folder_that_says_what_it_is(train, tmp_path):
    summary = train(tmp_path / "head")
    assert all((tmp_path / "head" / name).is_file() for name in (*FILES, "DONE", "environment.json"))
    config = summary.folder.load_config()
    assert config["task"] == "situation" and config["features"] == "plain" and config["model"]["run"] is None
    assert config["clips"]["training"]["used"] == 5 and config["clips"]["validation"]["used"] == 1
    assert config["examples"]["events"] == 25 and config["examples"]["relations"] == 20
    assert sum(config["parameters"].values()) == summary.fitted.parameters == config["result"]["parameters"]
    card = (tmp_path / "head" / "README.md").read_text()
    assert f"{summary.fitted.parameters:,}" in card and "vsann_train_lb.json" in card
    lines = [json.loads(line) for line in (tmp_path / "head" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "epoch" in line] == [1, 2, 3]
    assert {"verbs", "phrases", "role_names", "relations"} <= set(lines[-1])


def test_another_seed_is_another_head_and_overwriting_is_said(train, tmp_path):
    train(tmp_path / "head")
    before = (tmp_path / "head" / "head.safetensors").read_bytes()
    train(tmp_path / "head", overwrite=True, how=TrainingOptions(epochs=3, batch_size=2, seed=1))
    assert (tmp_path / "head" / "head.safetensors").read_bytes() != before


def test_parts_that_are_not_trained_are_not_there(train, tmp_path):
    train(tmp_path / "head", options=SituationOptions(**{**SMALL.as_dict(), "parts": ("relations", "verbs")}))
    names = load_file(tmp_path / "head" / "head.safetensors")
    assert not any(name.startswith(("decoder", "role_names")) for name in names)
    assert HeadFolder(tmp_path / "head").load_config()["sizes"]["parts"] == ["verbs", "relations"]


def test_tokens_are_the_default_where_a_run_has_a_contextualizer(train, finished_run, tiny_model, tmp_path):
    seen = seen_model(load_base(finished_run), finished_run)
    config = train(tmp_path / "tokens", model=seen).config
    assert config["features"] == "tokens" and config["model"]["contextualizer_sha256"]
    plain = seen_model(load_base(finished_run), finished_run, features="plain")
    assert plain.features == "plain" and plain.facts["contextualizer_sha256"] is None and plain.facts["adapter_sha256"]
    with pytest.raises(UsageError, match="no contextualizer"):
        seen_model(load_clip(ModelSource(str(tiny_model))), None, features="tokens")


def test_given_validation_clips_are_measured_and_must_be_others(train, annotation, clips, tmp_path):
    records = json.loads(annotation.read_text())
    first, last = tmp_path / "first.json", tmp_path / "last.json"
    first.write_text(json.dumps(records[:4]))
    last.write_text(json.dumps(records[4:]))
    config = train(tmp_path / "head", annotation=first, validation=AnnotatedClips(last, clips)).config
    assert config["clips"]["training"]["used"] == 4 and config["clips"]["validation"]["used"] == 2
    last.write_text(json.dumps(records[3:]))
    with pytest.raises(InputError, match="1 clips are in both"):
        train(tmp_path / "other", annotation=first, validation=AnnotatedClips(last, clips))
    assert not (tmp_path / "other").exists()


def test_without_validation_the_last_epoch_is_kept(train, tmp_path):
    summary = train(tmp_path / "head", options=SituationOptions(**{**SMALL.as_dict(), "valid_share": 0.0}))
    assert summary.fitted.best_epoch == 3 and summary.fitted.best_score is None
    assert "0 held out" in (tmp_path / "head" / "README.md").read_text()


def test_what_cannot_be_learned_is_refused_before_anything_is_made(train, annotation, inputs, tmp_path):
    records = json.loads(annotation.read_text())
    for event in (event for record in records for event in record.values()):
        event.pop("EvRel", None)
        event["Args"] = dict.fromkeys(event["Args"], "...")
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(records))
    with pytest.raises(InputError, match="no event of the training clips has a role"):
        train(tmp_path / "head", annotation=bare)
    with pytest.raises(InputError, match="no event of the training clips has a relation"):
        train(tmp_path / "head", annotation=bare, options=SituationOptions(parts=("verbs", "relations")))
    for record in records:
        for event in record.values():
            event["vid_seg_int"] = "nowhere" + event["vid_seg_int"]
    bare.write_text(json.dumps(records))
    with pytest.raises(
        InputError, match="not one of the 6 training clips .* has frames; 'nowherev_.*not in the frames"
    ):
        train(tmp_path / "head", annotation=bare)
    extract([inputs / "vidsitu"], tmp_path / "six.h5", recipe=SamplingRecipe(size=32, events=6), workers=1)
    with pytest.raises(InputError, match="has 6"):
        train(tmp_path / "head", clips=StoredClips(FramesReader(tmp_path / "six.h5"), PROTOCOLS["figclip"]))
    assert not (tmp_path / "head").exists()


def small_task(features, annotated, parts=("verbs", "roles", "relations"), seed=0):
    every = [one for annotations in annotated.values() for one in annotations[0]]
    labels = labels_of(every)
    vocabulary = train_bpe([text for one in every for text in roles_of(one).values()], size=300)
    clip_ids = sorted(annotated)
    sets = [
        ClipSet(make_examples(annotated, ids, labels, vocabulary, max_tokens=8, max_roles=6), features)
        for ids in (clip_ids[:-12], clip_ids[-12:])
    ]
    module = make_head(small_sizes(labels, vocabulary, width=32, parts=parts), labels, seed=seed)
    how = TrainingOptions(epochs=12, batch_size=8, lr=3e-3, seed=seed)
    return SituationTask(module, *sets, SituationOptions(parts=parts), how, vocabulary.pad_id), how


def test_what_features_tell_is_learned_and_other_clips_features_do_not_tell(tmp_path):
    annotated, features = small_world(60)
    scores = {}
    for name in ("own", "other"):
        if name == "other":
            order = torch.randperm(60, generator=torch.Generator().manual_seed(1))
            features.row_of = dict(zip(features.row_of, order.tolist(), strict=True))
        task, how = small_task(features, annotated, parts=("verbs", "relations"))
        folder = HeadFolder(tmp_path / name)
        folder.begin({}, resuming=False)
        fit(task, folder, how)
        scores[name] = task.validate().parts
    assert scores["own"]["verbs_accuracy"] > 0.9 > 0.5 > scores["other"]["verbs_accuracy"]
    assert scores["own"]["relations_accuracy"] > 0.6  # here they follow from the given verb; a guess is right by 0.25


def test_verbs_and_phrases_decide_and_relations_where_they_are_alone():
    from figclip_cli.heads.situation.losses import Counts

    found = {"verbs": Counts(1, 4), "phrases": Counts(3, 4), "relations": Counts(1, 1), "role_names": Counts(1, 1)}
    assert score_of(found) == 0.5
    assert score_of({"relations": Counts(1, 5)}) == 0.2 and Counts(0, 0).share == 0.0


def test_other_heads_are_left_alone(train, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(UsageError, match="is not a head of figclip"):
        train(tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"
    shutil.rmtree(tmp_path / "mine")
