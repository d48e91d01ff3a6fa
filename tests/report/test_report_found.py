"""Which results, curves, predictions and frames a report uses: those of its runs' own weights, and no others."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import crafted
import pytest

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate import action, compositional, retrieval
from figclip_cli.files import sha256_of_file
from figclip_cli.report import ReportMaterial, comparisons
from figclip_cli.report.comparisons import Comparison
from figclip_cli.report.found import find
from figclip_cli.report.pictures import FrameFiles
from figclip_cli.report.runs import open_runs
from figclip_cli.report.sections.data import data
from figclip_cli.report.sections.trade_off import alike, pairs_of, trade_offs
from figclip_cli.reporting import SILENT
from figclip_cli.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    return crafted.craft_run(tmp_path)


def look(runs, **material):
    return find(open_runs(runs), ReportMaterial(**material), SILENT)


def why(found, name):
    return next(reason for path, reason in found.not_used.items() if path.endswith(name))


def test_tasks_are_called_as_they_call_themselves():
    assert (comparisons.RETRIEVAL, comparisons.ACTION, comparisons.COMPOSITIONAL) == (
        retrieval.TASK,
        action.TASK,
        compositional.TASK,
    )


def test_results_beside_runs_and_here_are_found_without_being_named(tmp_path, run, monkeypatch):
    crafted.retrieval_of(run).write(tmp_path / "results" / "beside.json")
    here = tmp_path / "elsewhere"
    crafted.retrieval_of(run, "other.jsonl", gain=3.0).write(here / "results" / "here.json")
    (here / "results" / "notes.json").write_text("[1]")
    (here / "results" / "torn.json").write_text("{")
    monkeypatch.chdir(here)
    assert {one.file.name for one in look([run]).results} == {"beside.json", "here.json"}


def test_results_of_other_weights_are_named_and_not_used(tmp_path, run):
    other = crafted.craft_run(tmp_path, "two", seed=5)
    folder = tmp_path / "given"
    crafted.retrieval_of(other).write(folder / "other.json")
    crafted.results_of(run, "compositional", "x", [crafted.metric("all", 1, 2)], base_sha256="a" * 64).write(
        folder / "base.json"
    )
    crafted.retrieval_of(run, scale=0.5).write(folder / "half.json")
    alone = crafted.retrieval_of(run)
    replace(alone, models={"base": alone.models["base"]}).write(folder / "alone.json")
    found = look([run], results=[folder])
    assert not found.results and len(found.not_used) == 4
    assert "other weights, those of 'two'" in why(found, "other.json")
    assert "not the one that one started from" in why(found, "base.json")
    assert "at scale 0.5" in why(found, "half.json")
    assert "base model's numbers alone" in why(found, "alone.json")


def test_clips_were_read_through_the_contextualizer_of_the_run(tmp_path, run):
    run.contextualizer_file.write_bytes(b"weights")
    one = crafted.retrieval_of(run)
    for name, file in (("own", run.contextualizer_file), ("other", run.adapter_file)):
        adapted = {**one.models["adapted"], "contextualizer_sha256": sha256_of_file(file)}
        protocol = {**one.protocol, "contextualizer": True}
        made = replace(one, models={**one.models, "adapted": adapted}, protocol=protocol)
        made.write(tmp_path / "given" / f"{name}.json")
    found = look([run], results=[tmp_path / "given"])
    assert [entry.file.name for entry in found.results] == ["own.json"]
    assert "another contextualizer" in why(found, "other.json")
    assert "through the contextualizer" in comparisons.comparisons(found.results)[0].title


def test_the_weights_decide_and_not_the_name(tmp_path, run):
    path = tmp_path / "given" / "renamed.json"
    one = crafted.retrieval_of(run)
    replace(one, models={**one.models, "adapted": {**one.models["adapted"], "name": "another"}}).write(path)
    assert [entry.file for entry in look([run], results=[path]).results] == [path]


def test_a_copy_of_the_same_numbers_is_shown_once(tmp_path, run):
    first, second = tmp_path / "given" / "a.json", tmp_path / "given" / "b.json"
    crafted.retrieval_of(run).write(first)
    crafted.retrieval_of(run).write(second)
    found = look([run], results=[first, second])
    assert [entry.file for entry in found.results] == [first] and "same numbers as" in why(found, "b.json")


def test_results_of_single_scales_belong_to_their_curve(tmp_path, run):
    curve = crafted.write_scales(tmp_path, run)
    found = look([run], results=[curve.parent])
    assert [one.file for one in found.curves] == [curve]
    assert [one.file.name for one in found.results] == ["curve-1.json"] and not found.not_used
    assert sorted(one.name for one in found.in_curves) == ["curve-0.5.json", "curve-0.json"]
    assert "curve-0.5.json" in data(found).html


def test_named_curves_are_used_instead_of_those_among_the_results(tmp_path, run):
    one, other = (crafted.write_scales(tmp_path, run, name=name) for name in ("first", "second"))
    assert [c.file for c in look([run], results=[tmp_path / "results"], curves=[other]).curves] == [other]
    assert {c.file for c in look([run], results=[tmp_path / "results"]).curves} == {one, other}


def test_a_curve_of_another_run_is_not_used(tmp_path, run):
    other = crafted.craft_run(tmp_path, "two", seed=5)
    found = look([run], results=[crafted.write_scales(tmp_path, other)])
    assert not found.curves and "other weights" in why(found, "curve.json")


def test_recorded_pairs_of_curves_come_before_guessed_ones(tmp_path, run):
    gained = crafted.write_scales(tmp_path, run, name="gained")
    kept = crafted.write_scales(tmp_path, run, "zero-shot action recognition", name="kept", gain=-2.0)
    third = crafted.write_scales(tmp_path, run, "dense", name="third", gain=1.0)
    found = look([run], curves=[gained, kept, third], results=[])
    guessed = pairs_of(found.curves)
    assert [[one.kept.file for _, one in pair] for pair in guessed] == [[kept], [third]]
    assert [point.kept.delta for point in guessed[0][0][1].points] == [0.0, -1.0, -2.0]
    recorded = [replace(one, kept_sha256=found.curves[2].sha256) if one.file == kept else one for one in found.curves]
    ((only,),) = pairs_of(recorded)
    assert only[1].kept.file == third and only[0].file == kept


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: folder / "none.json", "does not exist"),
        (lambda folder: folder.joinpath("empty").mkdir() or folder / "empty", "has no results"),
        (lambda folder: folder.joinpath("list.json").write_text("[]") and folder / "list.json", "is not JSON"),
        (lambda folder: folder.joinpath("x.json").write_text("{}") and folder / "x.json", "has no results"),
        (lambda folder: folder.joinpath("b.json").write_bytes(b"\xff") and folder / "b.json", "is not JSON"),
    ],
)
def test_what_was_named_and_is_no_result_is_refused(tmp_path, run, make, message):
    with pytest.raises(InputError, match=message):
        look([run], results=[make(tmp_path)])


def test_damaged_results_are_refused_even_where_they_were_only_found(tmp_path, run):
    path = tmp_path / "results" / "bad.json"
    crafted.retrieval_of(run).write(path)
    document = json.loads(path.read_text())
    document["metrics"][0]["value"] = "many"
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"bad\.json"):
        look([run])


def test_results_without_numbers_and_with_impossible_ones(tmp_path, run):
    replace(crafted.retrieval_of(run), metrics=()).write(tmp_path / "given" / "none.json")
    found = look([run], results=[tmp_path / "given"])
    assert "no numbers" in why(found, "none.json")
    huge = crafted.metric("t2v R@1", 0.0, 1e300)
    replace(crafted.retrieval_of(run), metrics=(huge,)).write(tmp_path / "given" / "huge.json")
    with pytest.raises(InputError, match="out of all bounds"):
        look([run], results=[tmp_path / "given"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"delta": 1e300}, "out of all bounds"),
        ({"n": -5}, "of -5 items"),
        ({"n": 10**30}, "out of all bounds"),
        ({"delta_standard_error": -3.0}, "standard error below 0"),
        ({"p_value": 1.5}, "p-value 1.5"),
        ({"delta": 9.0}, "change that is not"),
    ],
)
def test_numbers_that_nobody_can_have_computed_are_refused(tmp_path, run, changes, message):
    results, curve = tmp_path / "given" / "r.json", crafted.write_scales(tmp_path, run)
    crafted.retrieval_of(run).write(results)
    document = json.loads(results.read_text())
    document["metrics"][0].update(changes)
    results.write_text(json.dumps(document))
    with pytest.raises(InputError, match=f"results file .*t2v R@1.* {message}"):
        look([run], results=[results])
    document = json.loads(curve.read_text())
    document["scales"][1]["metrics"][0].update(changes)
    curve.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"curve file .*t2v R@1"):
        look([run], results=[], curves=[curve])


def rewritten(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def other_base(document):
    for metric in (metric for scale in document["scales"] for metric in scale["metrics"]):
        metric["base_value"] += 7
        metric["value"] += 7


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["protocol"].update(pooling="max"),
        lambda document: document["n_evaluated"].update(clips=1),
        lambda document: document.update(metric="t2v MdR"),
        other_base,
    ],
    ids=["protocol", "clips", "metric", "base"],
)
def test_curves_share_a_chart_where_nothing_but_the_run_differs(tmp_path, run, change):
    other = crafted.craft_run(tmp_path, "two", seed=5)
    names = ("gained", "kept")
    tasks = dict(zip(names, ("zero-shot retrieval", "zero-shot action recognition"), strict=True))
    paths = {
        (one.name, name): crafted.write_scales(tmp_path, one, tasks[name], name=f"{one.name}-{name}")
        for one in (run, other)
        for name in names
    }
    found = look([run, other], results=[], curves=list(paths.values()))
    assert [len(group) for group in alike(found.curves)] == [2, 2]
    assert [len(group) for group in pairs_of(found.curves)] == [2]
    for name in names:
        kept_as_it_was = paths["two", name].read_text()
        rewritten(paths["two", name], change)
        curves = look([run, other], results=[], curves=list(paths.values())).curves
        assert sorted(len(group) for group in alike(curves)) == [1, 1, 2]
        assert [len(group) for group in pairs_of(curves)] == [1, 1]
        paths["two", name].write_text(kept_as_it_was)


def test_charts_that_cannot_be_shared_are_told_apart_by_their_runs(tmp_path, run):
    other = crafted.craft_run(tmp_path, "two", seed=5)
    first, second = (crafted.write_scales(tmp_path, one, name=one.name) for one in (run, other))
    rewritten(second, other_base)
    found = look([run, other], results=[], curves=[first, second])
    html = trade_offs(found.runs, found.curves).html
    assert "by scale: one (zero-shot" in html and "by scale: two (zero-shot" in html


def test_two_runs_share_a_table_where_nothing_but_the_run_differs(tmp_path, run):
    other = crafted.craft_run(tmp_path, "two", seed=5)
    for number, one in enumerate((run, other)):
        crafted.retrieval_of(one, gain=5.0 + number).write(tmp_path / "given" / f"{number}.json")
    crafted.retrieval_of(other, level="video").write(tmp_path / "given" / "video.json")
    found = look([run, other], results=[tmp_path / "given"])
    groups = comparisons.comparisons(found.results)
    assert sorted(len(group.entries) for group in groups) == [1, 2]
    (pair,) = (group for group in groups if len(group.entries) == 2)
    assert [metric.delta for _, metric in pair.numbers("t2v R@1")] == [5.0, 6.0]
    assert pair.headline == "t2v R@1" and "queries of events" in pair.title


def test_a_base_with_other_numbers_never_shares_a_table(tmp_path, run):
    other = crafted.craft_run(tmp_path, "two", seed=5)
    first, second = crafted.retrieval_of(run), crafted.retrieval_of(other)
    moved = crafted.metric("t2v R@1", 21.0, 30.0)
    first.write(tmp_path / "given" / "1.json")
    replace(second, metrics=(moved, *second.metrics[1:])).write(tmp_path / "given" / "2.json")
    groups = comparisons.comparisons(look([run, other], results=[tmp_path / "given"]).results)
    assert [len(group.entries) for group in groups] == [1, 1]
    assert all("from " in Comparison(group.entries, group.note).title for group in groups)


def test_predictions_are_known_by_what_the_head_reads(tmp_path, run):
    other = crafted.craft_run(tmp_path, "two", seed=5)
    verbs = [[["push.01"]] * 5]
    own = crafted.write_predictions(tmp_path, "own", run, verbs)
    base = crafted.write_predictions(tmp_path, "base", None, verbs)
    foreign = crafted.write_predictions(tmp_path, "foreign", other, verbs)
    strange = crafted.write_predictions(tmp_path, "strange", None, verbs, base_sha256="a" * 64)
    again = crafted.write_predictions(tmp_path, "again", run, verbs)
    found = look([run], results=[], predictions=[own, base, foreign, strange, again])
    assert [one.label for one in found.predictions] == ["base", "one"]
    assert "other weights" in why(found, "foreign") and "other weights" in why(found, "strange")
    assert "already" in why(found, "again")


def test_scores_of_predictions_belong_to_the_run_whose_head_predicted(tmp_path, run):
    folder = crafted.write_predictions(tmp_path, "own", run, [[["push.01"]] * 5])
    sha256 = json.loads((folder / "predictions.json").read_text())["files"]["verbs.json"]
    made = crafted.results_of(run, "situation recognition", "vidsitu", [crafted.metric("verb acc@1", 40, 50)])
    adapted = {"name": "own", "sha256": "0" * 64, "files": [{"name": "verbs.json", "sha256": sha256}]}
    other = crafted.craft_run(tmp_path, "two", seed=5)
    base = crafted.write_predictions(tmp_path, "base", None, [[["be.01"]] * 5])
    foreign = crafted.write_predictions(tmp_path, "foreign", None, [[["go.01"]] * 5], base_sha256="a" * 64)
    of_other = crafted.write_predictions(tmp_path, "of two", other, [[["walk.01"]] * 5])

    def against(place):
        sha256 = json.loads((place / "predictions.json").read_text())["files"]["verbs.json"]
        models = {"base": {"name": place.name, "sha256": "9" * 64, "files": [{"sha256": sha256}]}, "adapted": adapted}
        replace(made, models=models).write(tmp_path / "given" / "s.json")

    against(base)
    assert look([run], results=[tmp_path / "given"], predictions=[folder, base]).results
    without = look([run], results=[tmp_path / "given"])
    assert not without.results and "--predictions" in why(without, "s.json")
    alone = look([run], results=[tmp_path / "given"], predictions=[folder])
    assert not alone.results and "what one is set against" in why(alone, "s.json")
    for place in (of_other, foreign):
        against(place)
        found = look([run, other], results=[tmp_path / "given"], predictions=[folder, base, of_other, foreign])
        assert not found.results and "what one is set against" in why(found, "s.json")
    replace(made, models={**made.models, "adapted": adapted}).write(tmp_path / "given" / "s.json")
    assert not look([run], results=[tmp_path / "given"], predictions=[folder, base]).results


def test_results_are_found_wherever_the_command_is_given(tmp_path, run, monkeypatch):
    crafted.retrieval_of(run).write(tmp_path / "results" / "beside.json")
    monkeypatch.chdir(tmp_path / "runs")
    assert [one.file.name for one in look([RunFolder(Path("one"))]).results] == ["beside.json"]
    monkeypatch.chdir(run.path)
    assert [one.file.name for one in look([RunFolder(Path())]).results] == ["beside.json"]


def test_the_run_of_a_cell_of_an_ablation_finds_the_results_of_its_cell(tmp_path, run):
    cell = tmp_path / "ablations" / "mine" / "cells" / "000-abc"
    cell.mkdir(parents=True)
    moved = RunFolder(run.path.rename(cell / "run"))
    crafted.retrieval_of(moved).write(cell / "results" / "plain" / "dense.json")
    assert [one.file for one in look([moved]).results] == [cell / "results" / "plain" / "dense.json"]


def test_changed_predictions_are_refused(tmp_path, run):
    folder = crafted.write_predictions(tmp_path, "own", run, [[["push.01"]] * 5])
    (folder / "verbs.json").write_text("[]")
    with pytest.raises(InputError, match="is not the file that was written"):
        look([run], predictions=[folder])
    with pytest.raises(InputError, match=r"has no predictions\.json"):
        look([run], predictions=[tmp_path])


def test_runs_that_cannot_be_told_apart_are_refused(tmp_path, run):
    with pytest.raises(UsageError, match="the same weights"):
        open_runs([run, RunFolder(run.path / "." / ".." / "one")])
    with pytest.raises(UsageError, match="1 to 7 runs"):
        open_runs([])


def test_two_runs_of_one_name_have_their_folders_in_it(tmp_path, run):
    other = crafted.craft_run(tmp_path / "second", seed=4)
    labels = [one.label for one in open_runs([run, other])]
    assert labels == [str(run.path), str(other.path)]


def test_frames_are_those_that_results_were_computed_from(tmp_path):
    path, content = crafted.write_frames(tmp_path, ["v_a"])
    files = FrameFiles([path])
    assert files.reader("0" * 64) is None and files.reader(None) is None
    reader = files.reader(content)
    stored = reader.stored("v_a")
    event = files.frames(reader, "v_a", 1)
    assert [frame.seconds for frame in event] == [2.75, 3.75]
    assert [len(files.frames(reader, "v_a", None)), len(files.frames(reader, "v_b", None))] == [3, 0]
    assert files.frames(reader, "v_a", 9) == []
    import base64

    assert base64.b64decode(event[0].uri.partition(",")[2]) == stored[5]


@pytest.mark.parametrize(("size", "storage"), [(200, "jpeg"), (32, "raw")])
def test_large_and_raw_pictures_become_small_jpegs(tmp_path, size, storage):
    import base64
    import io

    from PIL import Image

    path, content = crafted.write_frames(tmp_path, ["v_a"], size, storage)
    files = FrameFiles([path])
    (first, _) = files.frames(files.reader(content), "v_a", 0)
    image = Image.open(io.BytesIO(base64.b64decode(first.uri.partition(",")[2])))
    assert image.format == "JPEG" and max(image.size) == min(size, 160)
