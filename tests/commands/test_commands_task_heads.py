"""The lines of the page on task heads, in order, in a folder as a lab has it."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from documents import bare, blocks
from samples import QUICK
from test_commands_pipeline import shell

from figclip_cli.adapt import AdaptOptions, SourceFiles, adapt
from figclip_cli.demo.world import write_world
from figclip_cli.frames import SamplingRecipe, extract
from figclip_cli.models.source import ModelSource
from figclip_cli.prompts import PromptOptions, build
from figclip_cli.run_folder import RunFolder

COUNTS = {"train": 8, "valid": 3}
QUICK_CONFIG = """
[extract-frames]
size = 32
[train-head.situation]
epochs = 1
width = 32
[train-head.dense-captioning]
epochs = 1
width = 32
[evaluate.dense-captioning]
meteor = "off"
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory, tiny_model, warm_figclip):
    """VidSitu's folders and dense captions of a small world, frames, a base model and a run."""
    folder = tmp_path_factory.mktemp("lab")
    world = write_world(folder / "world", seed=0, counts=COUNTS)
    shutil.copytree(tiny_model, folder / "base-model")
    recipe = SamplingRecipe(size=32)
    extract([world.videos["train"]], folder / "frames.h5", recipe=recipe, workers=1)
    extract([world.videos["valid"]], folder / "valid.h5", recipe=recipe, workers=1)
    build([world.annotations["train"]], folder / "prompts.jsonl", options=PromptOptions())
    source = ModelSource(str(folder / "base-model"))
    files = [SourceFiles((folder / "frames.h5",), folder / "prompts.jsonl")]
    adapt(files, RunFolder(folder / "runs" / "quick"), source=source, options=AdaptOptions(**QUICK))
    shutil.copytree(world.vidsitu, folder / "vidsitu")
    shutil.copytree(folder / "world" / "videos", folder / "videos")
    shutil.copy(world.dense["train"], folder / "train.json")
    shutil.copy(world.dense["valid"], folder / "val_1.json")
    shutil.copy(world.dense_second["valid"], folder / "val_2.json")
    (folder / "quick.toml").write_text(QUICK_CONFIG)
    return folder


@pytest.fixture(scope="module")
def done(lab):
    """Each line's outcome; a small test adds size and epochs, and does without Java."""
    outputs = []
    for line in (bare(one) for block in blocks("docs/heads.md") if block.is_commands for one in block.commands()):
        small = " --config quick.toml" if re.search("extract-frames|train-head|evaluate dense", line) else ""
        outputs.append((line, shell(line + small, lab)))
    return outputs


def test_every_line_works_as_written(done, lab):
    for line, output in done:
        assert output.returncode == 0, f"{line}\n{output.stderr}"
        assert "Traceback" not in output.stderr
    for made in ("heads/situation-quick/DONE", "predictions/verbs.json", "predictions/roles.json", "page.html",
                 "heads/dense-captioning-quick/DONE", "predictions/dense-captions.json"):  # fmt: skip
        assert (lab / made).exists(), made


def test_predictions_are_files_that_leaderboards_take(done, lab):
    verbs = json.loads((lab / "predictions" / "verbs.json").read_text())
    assert [record["ann_idx"] for record in verbs] == list(range(COUNTS["valid"]))
    assert {len(event) for record in verbs for event in record["pred_vbs_ev"]} == {5}
    captions = json.loads((lab / "predictions" / "dense-captions.json").read_text())["results"]
    assert len(captions) == sum(COUNTS.values())
    assert all(0 <= first <= last for video in captions.values() for first, last in (e["timestamp"] for e in video))


def test_the_tables_say_what_was_scored(done):
    outputs = {line.split(" --")[0]: output.stdout for line, output in done}
    assert "verb acc@1" in outputs["figclip evaluate situation"] and "by role" in outputs["figclip evaluate situation"]
    assert "CIDEr" in outputs["figclip evaluate dense-captioning"]
