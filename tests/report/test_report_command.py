"""``figclip report``: its defaults, what it prints, and what it refuses before anything is written."""

from __future__ import annotations

import json

import crafted
import pytest
from typer.testing import CliRunner

from figclip_cli.app import app


def report(*words):
    return CliRunner().invoke(app, ["report", *map(str, words)])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_alone_it_takes_the_newest_finished_run_and_what_is_of_it(here):
    run = crafted.craft_run(here)
    other = crafted.craft_run(here, "two", seed=2)
    other.done_file.unlink()
    crafted.retrieval_of(run).write(here / "results" / "mine.json")
    crafted.retrieval_of(other).write(here / "results" / "other.json")
    done = report("--json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["path"] == "report.html" and document["runs"] == ["one"]
    assert document["used"] == ["results/mine.json"] and list(document["not_used"]) == ["results/other.json"]
    assert document["sections"]["Summary"] is True and document["sections"]["Trade-off"] is False
    said = done.stderr
    assert "run: runs/one (default" in said and "used: results/mine.json" in said
    assert "not used: results/other.json: it is of other weights" in said
    text = (here / "report.html").read_text()
    assert "results/other.json" in text and "it is of other weights" in text


def test_every_section_without_material_says_which_command_makes_it(here):
    run = crafted.craft_run(here)
    run.metrics_file.write_text("")
    assert report().exit_code == 0
    text = (here / "report.html").read_text()
    for command in (
        "figclip evaluate retrieval --run runs/one",
        "figclip evaluate retrieval --run runs/one --scales 0,0.25,0.5,0.75,1",
        "figclip evaluate compositional --benchmark prompts --run runs/one",
        "figclip predict situation",
        "figclip adapt --name one --resume",
    ):
        assert command in text, command
    assert text.count('<p class="none">') == 6 and "<svg" not in text


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 3, "there is no finished run in runs/"),
        (("runs/none",), 3, "runs/none"),
        (("runs/one", "runs/one"), 2, "have the same weights"),
        (("runs/one", "-o", "report.txt"), 2, "is no .html"),
        (("runs/one", "--count", "99"), 2, "from 1 to 50"),
        (("runs/one", "--results", "none"), 3, "does not exist"),
        (("runs/one", "--frames", "none.h5"), 3, "none.h5"),
        (("runs/one", "--split-name", "test"), 2, "is for --vidsitu"),
        (("runs/one", "--vinfo", "v.json"), 2, "needs --split"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(here, words, code, message):
    if words:
        crafted.craft_run(here)
    done = report(*words)
    assert done.exit_code == code and message in done.stderr, done.output
    assert not list(here.glob("*.html"))


def test_nothing_is_replaced_unasked_and_no_input_ever(here):
    crafted.craft_run(here)
    (here / "report.html").write_text("mine")
    done = report()
    assert done.exit_code == 2 and "--overwrite" in done.stderr and (here / "report.html").read_text() == "mine"
    assert report("--overwrite").exit_code == 0
    results = here / "r.html"
    results.write_text("{}")
    done = report("--results", "r.html", "-o", "r.html", "--overwrite")
    assert done.exit_code == 2 and "is an input" in done.stderr


def test_an_unfinished_or_damaged_run_is_refused(here):
    run = crafted.craft_run(here)
    run.environment_file.write_text("[]")
    assert report("runs/one").exit_code == 3
    run.environment_file.unlink()
    run.metrics_file.write_text("{}\n")
    done = report("runs/one")
    assert done.exit_code == 3 and "line 1" in done.stderr
    run.done_file.unlink()
    assert "is not finished" in report("runs/one").stderr
