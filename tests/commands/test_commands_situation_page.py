"""``figclip evaluate situation --page``: the page beside the results, and refusals before anything is computed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from figclip_cli.app import app
from figclip_cli.demo.render import draw_clip, write_mp4
from figclip_cli.demo.scenario import plan_clip
from figclip_cli.demo.vidsitu_folder import write_vidsitu_folder
from figclip_cli.frames import SamplingRecipe, extract

PLANS = [plan_clip(0, "test", number) for number in range(4)]
IDS = [plan.clip_id for plan in PLANS]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """VidSitu's folder, frames of the first clip, and verbs of two models, the second of which is right."""
    folder = tmp_path_factory.mktemp("world")
    write_vidsitu_folder(folder / "vidsitu", "test", PLANS)
    (folder / "videos").mkdir()
    write_mp4(folder / "videos" / f"{IDS[0]}.mp4", draw_clip(PLANS[0]))
    extract([folder / "videos"], folder / "frames.h5", recipe=SamplingRecipe(size=64), workers=1)
    for name, right in (("base", {0}), ("adapted", {0, 1, 2})):
        said = [
            {"ann_idx": i, "pred_vbs_ev": [[e.verb.sense if i in right else "be.01"] * 5 for e in plan.events]}
            for i, plan in enumerate(PLANS)
        ]
        (folder / f"{name}.json").write_text(json.dumps(said))
    return folder


def run(world, tmp_path, *flags, base=True):
    given = ["--base", world / "base.json"] if base else []
    known = ["--predictions", world / "adapted.json", "--vidsitu", world / "vidsitu", "--split-name", "test"]
    words = ["evaluate", "situation", *known, *given, "--output", tmp_path / "results.json", *flags]
    return CliRunner().invoke(app, [str(word) for word in words])


def test_it_writes_the_page_beside_the_results(world, tmp_path):
    done = run(world, tmp_path, "--page", tmp_path / "page.html", "--page-count", "2")
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page.html").read_text()
    assert IDS[1] in text and IDS[2] in text and IDS[0] not in text and "gained most" in text
    assert json.loads((tmp_path / "results.json").read_text())["task"] == "situation recognition"


def test_clips_can_be_named_and_have_pictures(world, tmp_path):
    flags = ("--page-clips", f"{IDS[3]},{IDS[0]}", "--frames", world / "frames.h5")
    done = run(world, tmp_path, "--page", tmp_path / "page.html", *flags, base=False)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page.html").read_text()
    assert text.index(IDS[3]) < text.index(IDS[0]) and IDS[1] not in text
    assert text.count("<img ") == 10 and "not in the frames file" in text


def test_without_the_flag_there_is_no_page(world, tmp_path):
    assert run(world, tmp_path).exit_code == 0
    assert not list(tmp_path.glob("*.html"))


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--page-count", "2"], 2, "--page-count is for --page"),
        (["--page-clips", "v_a"], 2, "--page-clips is for --page"),
        (["--frames", "FOLDER/frames.h5"], 2, "--frames is for --page"),
        (["--page", "p.html", "--page-count", "0"], 2, "--page-count must be at least 1"),
        (["--page", "p.html", "--page-count", "1", "--page-clips", "v_a"], 2, "both choose the clips"),
        (["--page", "p.png"], 2, "p.png is no .html"),
        (["--page", "p.html", "--page-clips", "v_a"], 2, "no clip 'v_a' is in"),
        (["--page", "p.html", "--frames", "none.h5"], 3, "frames file none.h5"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(world, tmp_path, monkeypatch, flags, code, message):
    monkeypatch.chdir(tmp_path)
    done = run(world, tmp_path, *[flag.replace("FOLDER", str(world)) for flag in flags])
    assert done.exit_code == code and message in " ".join(done.output.split())
    assert not list(tmp_path.iterdir())


def test_a_page_that_is_there_is_replaced_only_on_demand(world, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("mine")
    assert run(world, tmp_path, "--page", page).exit_code == 2 and page.read_text() == "mine"
    assert run(world, tmp_path, "--page", page, "--overwrite").exit_code == 0 and page.read_text() != "mine"
