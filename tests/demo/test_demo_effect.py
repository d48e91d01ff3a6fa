"""The table of what adapting changed: numbers worked by hand, and a full measurement that goes on where it was cut."""

from __future__ import annotations

import json
import math

import pytest

from figclip_cli.demo import full as full_module
from figclip_cli.demo import stages
from figclip_cli.demo.effect import effect, write_effect
from figclip_cli.demo.full import run_full
from figclip_cli.errors import UsageError
from figclip_cli.evaluate.results import Metric, Results

NAMES = {
    "compositional": ("role-noun-swap", "role-noun-replace", "verb-role", "manner-replace", "direction-replace"),
    "retrieval-dense": ("t2v R@1", "v2t R@1"),
    "retrieval-coarse": ("t2v R@1", "v2t R@1"),
    "naming": ("macro",),
}


def results(base, adapted):
    def metric(name):
        return Metric(name, adapted, 2.0, True, base, 1.0, adapted - base, 1.5)

    def of(names):
        metrics = tuple(metric(name) for name in names)
        return Results("t", "d", "0" * 64, {}, {}, {}, {}, {"base": {}, "adapted": {}}, metrics)

    return {name: of(names) for name, names in NAMES.items()}


def test_one_seed_has_the_errors_of_the_bootstrap():
    rows = effect([results(50.0, 60.0)])
    assert len(rows) == 10 and [row.kept for row in rows] == [False] * 7 + [True] * 3
    first = rows[0]
    assert (first.base, first.base_error, first.adapted, first.adapted_error) == (50.0, 1.0, 60.0, 2.0)
    assert (first.delta, first.delta_error, first.seeds) == (10.0, 1.5, 1)


def test_several_seeds_have_means_and_errors_over_the_seeds():
    rows = effect([results(50.0, 60.0), results(52.0, 65.0), results(54.0, 64.0)])
    first = rows[0]
    assert (first.base, first.adapted, first.delta, first.seeds) == (52.0, 63.0, 11.0, 3)
    assert first.base_error == pytest.approx(2 / math.sqrt(3))
    assert first.adapted_error == pytest.approx(math.sqrt(7 / 3))
    # The differences are 10, 13 and 10: their own spread, not that of base and adapted.
    assert first.delta_error == pytest.approx(1.0)


def test_the_document_says_what_it_is(tmp_path):
    write_effect(tmp_path / "effect.json", effect([results(1.0, 2.0)]), {"seeds": [4]})
    document = json.loads((tmp_path / "effect.json").read_text())
    assert (document["format"], document["format_version"], document["seeds"]) == ("figclip-demo-effect", 1, [4])
    assert document["rows"][0]["delta"] == 1.0


@pytest.fixture
def small(monkeypatch):
    """Two worlds of few clips, one epoch each; the names of the stages that were called."""
    calls = []
    monkeypatch.setattr(full_module, "CLIPS", {"train": 4, "valid": 2, "test": 3})
    recipe = stages.options_of_recipe
    monkeypatch.setattr(stages, "options_of_recipe", lambda name, **c: recipe(name, **c, epochs=1, batch_clips=2))
    for name in ("make_inputs", "adapt_base", "score"):
        stage = getattr(full_module, name)

        def counted(*args, _stage=stage, _name=name, **kwargs):
            calls.append(_name)
            return _stage(*args, **kwargs)

        monkeypatch.setattr(full_module, name, counted)
    return calls


def test_a_full_measurement_that_was_cut_goes_on_and_keeps_what_there_is(small, tmp_path, monkeypatch):
    folder, stage = tmp_path / "full", full_module.score
    with monkeypatch.context() as cut:
        cut.setattr(full_module, "score", lambda *args, **kwargs: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run_full(folder, seeds=2, workers=1)
    assert small == ["make_inputs", "adapt_base"]
    frames = (folder / "seed-0" / "train-frames.h5").stat().st_mtime_ns
    assert full_module.score is stage
    summary = run_full(folder, seeds=2, workers=1)
    assert small[2:] == ["make_inputs", "score", "make_inputs", "adapt_base", "score"]
    assert (folder / "seed-0" / "train-frames.h5").stat().st_mtime_ns == frames
    again = run_full(folder, seeds=2, workers=1)
    assert len(small) == 7 and again == summary
    assert [row.seeds for row in summary.effect] == [2] * 10 and list(summary.of_seeds) == [0, 1]
    assert json.loads((folder / "effect.json").read_text())["seeds"] == [0, 1]
    with pytest.raises(UsageError, match="begun with other settings"):
        run_full(folder, seeds=3, workers=1)
