"""The demo: all stages in one call, the shape of what the README shows, and folders it must not touch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from figclip_cli.demo import run as run_module
from figclip_cli.demo import stages
from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.run import run_demo
from figclip_cli.errors import UsageError

README = Path(__file__).resolve().parents[2] / "README.md"


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """The demo on a world of few clips, for one epoch."""
    patch = pytest.MonkeyPatch()
    patch.setattr(run_module, "CLIPS", {"train": 6, "valid": 2, "test": 5})
    recipe = stages.options_of_recipe
    patch.setattr(stages, "options_of_recipe", lambda name, **c: recipe(name, **c, epochs=1, batch_clips=3))
    yield run_demo(tmp_path_factory.mktemp("demo") / "demo", workers=1)
    patch.undo()


def test_everything_it_names_exists(summary):
    assert all(path.exists() for path in summary.files.values())
    assert summary.files["base model"] == base_model_folder()
    assert summary.adapted.coverage.used == 6 and summary.adapted.run.is_done


def test_it_evaluates_on_clips_that_were_not_trained_on(summary):
    splits = {
        split: set(json.loads((summary.files["world"] / f"vseg_split_{split}_lb.json").read_text()))
        for split in ("train", "valid", "test")
    }
    assert [len(ids) for ids in splits.values()] == [6, 2, 5] and len(set().union(*splits.values())) == 13
    results = summary.results
    assert results["retrieval-dense"].evaluated == {"events": 25, "texts": 25}
    assert results["retrieval-coarse"].evaluated == {"clips": 5, "texts": 5}
    assert results["naming"].evaluated["items"] >= 4 * 25 and results["compositional"].evaluated["items"] >= 5 * 25
    assert all(one.asked == one.evaluated and not one.missing for one in results.values())
    assert all(metric.delta is not None for one in results.values() for metric in one.metrics)
    named = {name: {metric.name: metric for metric in one.metrics} for name, one in results.items()}
    swap = named["compositional"]["role-noun-swap"]
    assert (summary.effect[0].base, summary.effect[0].delta) == (swap.base_value, swap.delta)


def test_the_report_shows_the_run_and_what_changed(summary):
    page = summary.files["report"].read_text()
    assert page.startswith("<!DOCTYPE html>") and "role-noun-swap" in page


def test_the_export_is_verified(summary):
    assert max(summary.exported.comparison.differences.values()) < 1e-5
    card = (summary.exported.folder / "README.md").read_text()
    assert "zero-shot retrieval" in card and "8 pictures\n(frames)" in card


def test_the_readme_shows_the_tables_and_files_of_the_demo(summary):
    readme = README.read_text()
    assert all(row.what in readme for row in summary.effect)
    assert all(f" {what} " in readme for what in summary.files)
    assert "figclip demo" in (README.parent / "Makefile").read_text() and "make demo" in readme


def test_a_folder_that_the_demo_did_not_make_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(UsageError, match="already exists"):
        run_demo(tmp_path / "thesis")
    with pytest.raises(UsageError, match="was not made by the demo"):
        run_demo(tmp_path / "thesis", overwrite=True)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_the_command_passes_its_flags_on(monkeypatch, summary):
    from typer.testing import CliRunner

    from figclip_cli.app import app

    seen = {}
    monkeypatch.setattr(run_module, "run_demo", lambda folder, **flags: seen.update(folder=folder, **flags) or summary)
    result = CliRunner().invoke(app, ["demo", "here", "--seed", "3", "--overwrite", "--json", "--quiet"])
    assert result.exit_code == 0 and json.loads(result.stdout)["clips_used"] == 6
    assert len(json.loads(result.stdout)["effect"]) == len(summary.effect)
    assert (seen["folder"], seen["seed"], seen["overwrite"]) == (Path("here"), 3, True)
    table = CliRunner().invoke(app, ["demo", "here"])
    assert "What was made" in table.stdout and "demo folder" not in table.stderr


def test_a_seed_that_is_refused_costs_no_earlier_demo(summary):
    with pytest.raises(UsageError, match="--seed must be below"):
        run_demo(summary.files["effect"].parent, seed=1 << 63, overwrite=True)
    assert summary.files["effect"].is_file()


def test_a_number_of_seeds_is_for_the_full_form_alone(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from figclip_cli.app import app

    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["demo", "--seeds", "3"])
    assert done.exit_code == 2 and "--seeds is for --full" in done.stderr and not list(tmp_path.iterdir())
