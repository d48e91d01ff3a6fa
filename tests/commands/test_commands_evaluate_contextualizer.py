"""``evaluate --features tokens``: beside the results of pooled frames, compared with them, or refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import evaluate_worlds as worlds
import pytest
from evaluate_worlds import refused

from figclip_cli.models import clip as clip_module

here = worlds.here
TOKENS = "--features", "tokens"


@pytest.fixture
def lab(here, prepared, finished_run):
    """A folder with the default names."""
    for name in ("frames.h5", "prompts.jsonl"):
        Path(name).symlink_to(prepared / name)
    return lambda *arguments: here("evaluate", *arguments, "--run", finished_run.path)


def test_both_ways_to_read_clips_have_results_that_can_be_compared(lab, here):
    for task, count in (("retrieval", "6/6"), ("compositional", "30/30")):
        assert lab(task).code == 0
        said = lab(task, *TOKENS)
        assert said.code == 0, said.stderr
        assert "quick with" in said.stdout and f"with contextualizer: {count} clips" in said.stderr
        stem = f"results/{'retrieval' if task == 'retrieval' else 'prompts'}-prompts"
        document = json.loads(Path(f"{stem}-tokens-quick.json").read_text())
        assert document["protocol"]["contextualizer"] is True
        assert document["protocol"]["clips_read_by"]["base"] == "image tower, frames pooled by mean-l2"
        compared = here("compare", f"{stem}-quick.json", f"{stem}-tokens-quick.json")
        assert compared.code == 0 and "contextualizer" in compared.stderr and "protocols differ" in compared.stderr
        assert "A = quick (adapted) and B = quick with contextualizer (adapted)" in " ".join(compared.stdout.split())


REFUSALS = {
    "scales": (["retrieval", "--scales", "0,1"], 2, "--scales contradict each other"),
    "protocol": (["retrieval", "--protocol", "clip4clip"], 2, "the protocol 'clip4clip' chooses frames"),
    "frames": (["compositional", "--num-frames", "4"], 2, "--num-frames chooses some"),
    "pooling": (["compositional", "--pooling", "l2-mean-l2"], 2, "not l2-mean-l2"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused_before_a_model_is_loaded(lab, monkeypatch, name):
    monkeypatch.setattr(clip_module, "build_architecture", None)
    arguments, code, said = REFUSALS[name]
    assert said in refused(lab(*arguments, *TOKENS), code)


def test_images_the_base_alone_and_runs_without_a_contextualizer_are_refused(lab, here, prepared, finished_run):
    worlds.draw(Path("images/1.png"), 1)
    item = {"0": {"filename": "1.png", "caption": "a dog", "negative_caption": "a cat"}}
    worlds.write(Path("sugarcrepe/add_att.json"), item)
    images = "--benchmark", "sugarcrepe", "--annotations", "sugarcrepe", "--images", "images"
    assert "does not read images" in refused(lab("compositional", *images, *TOKENS), 2)
    base = "--base-only", "--model", prepared / "base-model"
    assert "the base model alone has no contextualizer" in refused(here("evaluate", "retrieval", *base, *TOKENS), 2)
    run = Path(shutil.copytree(finished_run.path, "without"))
    (run / "contextualizer.safetensors").unlink()
    assert "contextualizer.safetensors does not exist" in refused(
        here("evaluate", "retrieval", "--run", run, *TOKENS), 3
    )
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "contextualizer": False}))
    assert "made without a contextualizer" in refused(here("evaluate", "compositional", "--run", run, *TOKENS), 3)
