"""Commands of a report do again what was done: read by the program itself, they give the same options."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import crafted
import pytest
from typer.testing import CliRunner

from figclip_cli import adapt as adapt_module
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.app import app
from figclip_cli.report import ReportMaterial, write_report
from figclip_cli.report.reproduce import (
    adapt_command,
    evaluate_command,
    missing_from_adapt,
    missing_from_evaluate,
    options_of,
)
from figclip_cli.report.runs import open_runs

EVERYTHING = AdaptOptions(
    rank=3,
    alpha=1.5,
    lora_dropout=0.125,
    targets=("q", "proj"),
    blocks="0-3,11",
    towers="both",
    clip_event_weight=0.1,
    contextualizer=False,
    vc_event_weight=0.0,
    hard_negatives=False,
    negative_kinds=("verb-role",),
    natural_negatives=False,
    learn_temperature=True,
    anchor={"feature": 0.3, "geometry": 1e-05},
    epochs=7,
    batch_clips=5,
    learning_rate=1.7e-06,
    contextualizer_lr=0.1 + 0.2,
    schedule="cosine",
    warmup_steps=3,
    clip_gradient_norm=1.0,
    seed=9,
    precision="bf16",
    fraction=0.1,
    validate_every=2,
    early_stop=4,
    best_by="hard_negative_accuracy",
    select="last",
)


def asked_by(words, monkeypatch):
    """What the program would do with a command, without doing it."""
    asked = {}

    def pretend(sources, run, **given):
        asked.update(given, sources=sources, run=run)
        raise KeyboardInterrupt

    monkeypatch.setattr(adapt_module, "adapt", pretend)
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 130, done.output
    return asked


@pytest.mark.parametrize("options", [AdaptOptions(), EVERYTHING, AdaptOptions(rank=0)], ids=["plain", "every", "full"])
def test_the_flags_of_a_run_are_read_as_its_options(tmp_path, monkeypatch, options):
    (run,) = open_runs([crafted.craft_run(tmp_path, options=options, modules=crafted.MODULES)])
    assert options_of(run.config).as_dict() == options.as_dict()
    words = adapt_command(run)
    asked = asked_by(shlex.split(shlex.join(words)), monkeypatch)
    assert asked["options"].as_dict() == options.as_dict()
    assert asked["source"].as_dict() == run.config["model"]["source"]
    assert asked["run"].name == "one"


def test_what_was_not_recorded_is_named_in_capitals(tmp_path):
    (run,) = open_runs([crafted.craft_run(tmp_path)])
    words = adapt_command(run)
    assert words[:6] == ["figclip", "adapt", "--frames", "FRAMES-1.h5", "--prompts", "PROMPTS-1.jsonl"]
    assert "HELD-OUT.txt" in words and "EXCLUDED.txt" not in words


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "stairs"}, {"negative_kinds": [1]}, {"anchor": {}, "precision": 3}, {"fraction": "all"},
     {"clip_gradient_norm": [1]}],
)  # fmt: skip
def test_options_of_another_version_give_no_command(tmp_path, changes):
    (run,) = open_runs([crafted.craft_run(tmp_path, **changes)])
    assert adapt_command(run) is None


@pytest.mark.parametrize("hostile", ["--quiet", "a b", "'; rm -rf /", "\n$(x)"])
def test_names_cannot_become_flags_or_commands(tmp_path, monkeypatch, hostile):
    source = {"model": hostile, "pretrained": None, "activation": None}
    made = crafted.craft_run(tmp_path, "--overwrite")
    config = {**open_runs([made])[0].config}
    config["model"] = {**config["model"], "source": source}
    (run,) = [type(one)(**{**vars(one), "config": config}) for one in open_runs([made])]
    asked = asked_by(shlex.split(shlex.join(adapt_command(run))), monkeypatch)
    assert asked["source"].model == hostile and asked["run"].name == "--overwrite" and asked["overwrite"] is False


def test_retrieval_is_asked_for_with_its_protocol(tmp_path):
    (run,) = open_runs([crafted.craft_run(tmp_path)])
    results = crafted.retrieval_of(run.folder)
    protocol = {**results.protocol, "name": "clip4clip", "changed": ["pooling"], "pooling": "l2-mean",
                "ties": "optimistic", "contextualizer": True}  # fmt: skip
    words = evaluate_command(run, type(results)(**{**vars(results), "protocol": protocol}))
    expected = (
        "figclip evaluate retrieval --captions FOLDER/test.jsonl --level event --ties optimistic --features tokens "
        f"--frames FRAMES.h5 --protocol clip4clip --pooling l2-mean --run {run.folder.path}"
    )
    assert shlex.join(words) == expected
    strange = type(results)(**{**vars(results), "protocol": {"name": 3}})
    assert evaluate_command(run, strange) is None
    assert evaluate_command(run, type(results)(**{**vars(results), "task": "dense captioning"})) is None


def test_which_captions_were_queries_is_asked_for_too(tmp_path):
    (run,) = open_runs([crafted.craft_run(tmp_path)])
    results = crafted.retrieval_of(run.folder, "data.json", level="video")
    assert len(missing_from_evaluate(results)) == 2
    captions = {"split": "val", "ids": {"file": "jsfusion.csv", "sha256": "a" * 64, "clips": 2},
                "caption_choice": "first", "captions": 20}  # fmt: skip
    protocol = {**results.protocol, "captions_format": "msrvtt-json", "captions": captions}
    told = replace(results, protocol=protocol)
    expected = (
        "figclip evaluate retrieval --captions FOLDER/data.json --captions-format msrvtt-json --split val "
        f"--ids FOLDER/jsfusion.csv --caption-choice first --frames FRAMES.h5 --run {run.folder.path}"
    )
    assert shlex.join(evaluate_command(run, told)) == expected and not missing_from_evaluate(told)
    plain = {"split": None, "ids": None, "caption_choice": "all"}
    words = evaluate_command(run, replace(results, protocol={**protocol, "captions": plain}))
    assert not {"--split", "--ids", "--caption-choice"} & set(words)
    assert evaluate_command(run, replace(results, protocol={**protocol, "captions": 3})) is None


def test_the_seed_of_shuffled_captions_is_asked_for(tmp_path):
    (run,) = open_runs([crafted.craft_run(tmp_path)])
    protocol = {"benchmark": "aro-coco-order"}
    results = crafted.results_of(run.folder, "compositional", "aro", [crafted.metric("all", 1, 2)], protocol=protocol)
    assert "shuffled" in missing_from_evaluate(results)[0]
    told = replace(results, seeds={"bootstrap": 0, "order": 7})
    words = evaluate_command(run, told)
    assert words[words.index("--order-seed") + 1] == "7" and not missing_from_evaluate(told)


@pytest.mark.parametrize(
    ("left_out", "fraction", "has_list", "missing"),
    [(0, 1.0, False, 0), (3, 1.0, True, 0), (3, 0.5, False, 1), (None, 1.0, False, 1)],
)
def test_a_list_of_clips_is_named_or_said_to_be_unknown(tmp_path, left_out, fraction, has_list, missing):
    made = crafted.craft_run(tmp_path, options=AdaptOptions(rank=2, epochs=1, fraction=fraction))
    config = json.loads(made.config_file.read_text())
    assert config["clips"].pop("left_out") == 0
    config["clips"] |= {} if left_out is None else {"left_out": left_out}
    made.config_file.write_text(json.dumps(config))
    (run,) = open_runs([made])
    words = adapt_command(run)
    assert ("--clips" in words) is has_list and len(missing_from_adapt(run)) == missing
    text = write_report([made], tmp_path / "a.html", ReportMaterial(results=[], frames=[])).path.read_text()
    assert ("they may not be complete" in text) is bool(missing) and "The options as flags" in text


def test_a_compositional_benchmark_is_asked_for_by_its_name(tmp_path):
    (run,) = open_runs([crafted.craft_run(tmp_path)])
    protocol = {"benchmark": "aro-vg-relation", "tie_rule": "lenient"}
    results = crafted.results_of(run.folder, "compositional", "aro", [crafted.metric("all", 1, 2)], protocol=protocol)
    words = evaluate_command(run, results)
    assert words[3:9] == ["--benchmark", "aro-vg-relation", "--annotations", "ANNOTATIONS", "--ties", "lenient"]
    assert "--images" in words
