"""Cells in processes of their own: made, failing, killed, gone on with, and put into tables."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from small_ablation import spec_text

from figclip_cli.ablate import pool
from figclip_cli.ablate.cell import is_finished, make_cell
from figclip_cli.ablate.collect import collect
from figclip_cli.ablate.folder import AblationFolder, locked
from figclip_cli.ablate.plan import make_plan
from figclip_cli.ablate.pool import Place, make_all, places_of
from figclip_cli.ablate.record import read_record
from figclip_cli.ablate.report import write_report
from figclip_cli.ablate.run import _jobs, begin_overwrite, make_cells
from figclip_cli.ablate.shared_prompts import remove_damaged, shared_prompts
from figclip_cli.ablate.spec import read_spec
from figclip_cli.ablate.text_cache import text_jobs
from figclip_cli.ablate.worker import work
from figclip_cli.errors import InputError, UsageError, VerificationError
from figclip_cli.evaluate.results import read_results
from figclip_cli.reporting import SILENT

QUESTIONS = """
[[question]]
name = "rank"
title = "Which rank?"
metric = "compositional"
vary = { rank = [1, 2] }

[[question]]
name = "broken"
metric = "dense"
cost = "seconds"

[[question.setting]]
name = "as it is"
[[question.setting]]
name = "read through the contextualizer"
features = "tokens"
[[question.setting]]
name = "kinds that are not there"
negative-kinds = "scene-replace"
"""
OPTIONS = "[options]\nrank = 2\nepochs = 2\nbatch-clips = 2\nlearning-rate = 1e-2\ncontextualizer-layers = 1\n"


@pytest.fixture(scope="module")
def plan(world):
    path = world / "grid.toml"
    path.write_text(spec_text(questions=QUESTIONS, options=OPTIONS))
    return make_plan(read_spec(path), world)


@pytest.fixture(scope="module")
def made(plan, tmp_path_factory):
    """The grid after one call: two cells made, one that cannot be."""
    folder = AblationFolder(tmp_path_factory.mktemp("made") / "out")
    return folder, make_cells(plan, folder, plan.cells, devices=["cpu"])


def test_a_failing_cell_is_named_and_the_others_go_on(plan, made):
    folder, done = made
    assert (done.kept, done.made) == (0, 2)
    ((name, why),) = done.failures.items()
    assert name.startswith("kinds-that-are-not-there-seed0-")
    assert why == "the prompts have no negatives of the kind 'scene-replace'"
    failed = folder.cell(plan.cells[2])
    assert json.loads(failed.error_file.read_text())["exit_code"] == 3 and not failed.record_file.exists()


def test_a_cell_is_an_ordinary_run_with_ordinary_results(plan, made):
    folder, _ = made
    cell = folder.cell(plan.cells[1])
    assert cell.run.load_config()["lora"]["rank"] == 2
    document = json.loads(cell.record_file.read_text())
    assert set(document["quality"]) == {"plain", "tokens"}
    for features in document["quality"]:
        for name, task in document["quality"][features]["tasks"].items():
            results = read_results(cell.results_file(features, name))
            values = {one["name"]: one["value"] for one in task["metrics"]}
            assert {one.name: one.value for one in results.metrics} == values
            assert (results.asked, results.evaluated, len(results.missing)) == (task["asked"], task["evaluated"], 0)
            assert results.protocol["contextualizer"] is (features == "tokens")
    cost = document["cost"]
    modules = cell.run.load_config()["lora"]["modules"]
    assert cost["tower_parameters"] == sum(one["parameters"] for one in modules)
    assert cost["trainable_parameters"] == cost["tower_parameters"] + cost["contextualizer_parameters"]
    assert (cost["clips"], cost["steps"], cost["device"], cost["cells_at_once"]) == (4, 4, "cpu", 1)
    assert cost["process_peak_bytes"] > cost["peak_memory_bytes"] >= 0 and cost["step_seconds"] > 0
    assert (document["data"]["prompts"], document["data"]["used"], document["data"]["without_frames"]) == (4, 4, 0)
    assert "python" in document["environment"]
    # Texts were encoded before its clock started.
    said = cell.log_file.read_text().partition("adapt: 4 steps")
    assert said[1] and "encode texts" not in said[0]
    frames = 4 * 2 * 10
    assert cost["images_per_second"] == pytest.approx(frames / cost["train_seconds"])


def test_the_tables_are_of_what_there_is(plan, made, tmp_path):
    folder, _ = made
    collected = collect(plan, folder)
    assert [cell.number for cell in collected.missing] == [2] and list(collected.failed) == [plan.cells[2].sha256]
    document = write_report(plan, folder, collected)
    assert document == json.loads(folder.summary_file.read_text())
    rank, broken = document["questions"]
    assert [row["seeds_finished"] for row in (*rank["rows"], *broken["rows"])] == [[0], [0], [0], [0], []]
    shared = broken["rows"][0]["quality"]["dense t2v R@1"]
    assert rank["rows"][1]["quality"]["dense t2v R@1"] == shared
    results = read_results(folder.cell(plan.cells[1]).results_file("plain", "dense"))
    metric = next(one for one in results.metrics if one.name == "t2v R@1")
    assert shared == {"value": metric.value, "error": metric.standard_error, "error_of": "bootstrap", "seeds": 1}
    assert rank["base"]["dense t2v R@1"]["value"] == metric.base_value
    assert "kinds that are not there (0 of 1 seeds)" in folder.table_file("broken").read_text()
    lines = folder.csv_file.read_text().splitlines()
    assert len(lines) == 1 + 4 and lines[0].startswith("question,setting,features,seed,cell,trainable_parameters")


def test_what_is_finished_is_kept_and_scored_anew_where_scoring_changed(plan, made, tmp_path):
    folder, _ = made
    cell = plan.cells[0]
    place = folder.cell(cell)
    before = place.record_file.read_bytes(), place.run.adapter_file.stat().st_mtime_ns
    again = make_cells(plan, folder, plan.cells[:2], work=_never)
    assert (again.kept, again.made, again.failures) == (2, 0, {})
    assert (place.record_file.read_bytes(), place.run.adapter_file.stat().st_mtime_ns) == before
    (job,) = _jobs(plan, folder, [cell])
    assert not is_finished(place, cell, "other files")
    # A way of reading that fails leaves the other one's numbers, and is made alone the next time.
    both = replace(cell, features=["plain", "tokens"])
    failing = replace(job, cell=both, evaluation_sha256="other files", scoring=_FailingScoring("tokens", job.scoring))
    with pytest.raises(VerificationError, match="tokens"):
        make_cell(failing, SILENT)
    assert list(read_record(place.record_file, cell, "other files")[0]["quality"]) == ["plain"]
    assert is_finished(place, cell, "other files")
    assert place.run.adapter_file.stat().st_mtime_ns == before[1]  # not trained again
    place.record_file.write_bytes(before[0])


def test_a_killed_cell_goes_on_and_comes_out_the_same(plan, made, tmp_path):
    folder, _ = made
    cell = plan.cells[0]
    other = AblationFolder(tmp_path / "killed")
    done = make_cells(plan, other, [cell], devices=["cpu"], work=_killed_in_the_second_epoch)
    ((_, why),) = done.failures.items()
    assert "killed by signal 9" in why and done.made == 0
    place = other.cell(cell)
    assert json.loads(place.error_file.read_text())["message"] == why  # which it could not write itself
    assert collect(plan, other).failed[cell.sha256] == why
    lines = [json.loads(line) for line in place.steps_file.read_text().splitlines()]
    lines[0]["peaks"]["peak_memory_bytes"] = 1 << 50
    place.steps_file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert place.run.checkpoint_file.is_file() and not place.run.is_done
    assert [json.loads(line)["left"] for line in place.steps_file.read_text().splitlines()] == [3, 2, 1]
    (job,) = _jobs(plan, other, [cell])
    make_cell(job, SILENT)
    assert is_finished(place, cell, plan.inputs.evaluation_sha256)
    one, two = (load_file(at.run.adapter_file) for at in (place, folder.cell(cell)))
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    left = [json.loads(line)["left"] for line in place.steps_file.read_text().splitlines()]
    assert left == [3, 2, 1, 1, 0]  # the step that was lost is made again, and counted once
    cost = json.loads(place.cost_file.read_text())["cost"]
    assert cost["peak_memory_bytes"] == 1 << 50  # the most of both calls
    assert cost["steps"] == 4 and cost["images_per_second"] == pytest.approx(80 / cost["train_seconds"])


def test_a_signal_stops_all_and_leaves_the_rest(plan, tmp_path):
    folder = AblationFolder(tmp_path / "stopped")
    jobs, ended = _jobs(plan, folder, plan.cells), []
    place = folder.cells / "began"
    with pytest.raises(KeyboardInterrupt):
        make_all(jobs, [Place("cpu")], work=_sleeping, on_end=ended.append, on_stop=lambda: place.write_text("told"))
    assert place.read_text() == "told"
    (one,) = ended  # the others were not begun
    assert one.job.cell == plan.cells[0] and one.failure is None


def test_the_server_outlives_a_signal_to_all_processes_of_a_job(plan, tmp_path):
    jobs, ended = _jobs(plan, AblationFolder(tmp_path / "server"), plan.cells[:1]), []
    make_all(jobs, [Place("cpu")], work=_ending_the_server, on_end=ended.append, on_stop=_never)
    assert [(one.exit_code, one.failure) for one in ended] == [(0, None)]


def test_a_process_that_makes_nothing_is_not_counted(plan, tmp_path):
    done = make_cells(plan, AblationFolder(tmp_path / "nothing"), plan.cells[:1], devices=["cpu"], work=_nothing)
    assert done.made == 0 and "left no whole cell.json" in next(iter(done.failures.values()))


def test_a_stop_that_nobody_here_asked_for_is_a_failure_and_others_come_first(plan, tmp_path):
    jobs, ended, asked = _jobs(plan, AblationFolder(tmp_path / "busy"), plan.cells[:2]), [], []

    def is_busy(job):
        asked.append(job.cell.number)
        return job.cell.number == 0 and len(ended) == 0  # another program makes it meanwhile

    make_all(jobs, [Place("cpu")], work=_interrupted, on_end=ended.append, on_stop=_never, is_busy=is_busy)
    assert [one.job.cell.number for one in ended] == [1, 0] and asked[:2] == [0, 1]
    assert all(one.exit_code == 130 and "told to stop" in one.failure for one in ended)


def test_an_overwrite_removes_what_was_finished_before_it_began(plan, made, tmp_path):
    folder = AblationFolder(tmp_path / "copy")
    shutil.copytree(made[0].path, folder.path)
    cells, evaluation = plan.cells[:2], plan.inputs.evaluation_sha256
    first, second = (folder.cell(cell).path for cell in cells)
    (folder.cell(plan.cells[2]).path / "begun").touch()
    with locked(folder.lock_file(cells[1])):  # another process is at it
        begin_overwrite(folder, plan.cells, evaluation, SILENT)
    assert not first.exists() and second.exists() and (folder.cell(plan.cells[2]).path / "begun").exists()
    shutil.copytree(made[0].cell(cells[0]).path, first)  # made anew, then stopped
    begin_overwrite(folder, plan.cells, evaluation, SILENT)
    assert first.exists()
    assert make_cells(plan, folder, cells, work=_never, overwrite=False).kept == 2
    folder.overwrite_file(plan.cells).unlink()
    begin_overwrite(folder, plan.cells, evaluation, SILENT)
    assert not first.exists() and not second.exists()


def test_damaged_prompts_are_built_again(plan, made, tmp_path):
    folder, cell = AblationFolder(tmp_path / "prompts"), plan.cells[0]
    (job,) = _jobs(plan, folder, [cell])
    path = folder.prompts_file(cell.prompts_sha256)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    remove_damaged(folder, [cell], SILENT)
    assert shared_prompts(folder, cell, job.annotations, SILENT) == path
    whole = path.read_bytes()
    assert whole == made[0].prompts_file(cell.prompts_sha256).read_bytes()
    remove_damaged(folder, [cell], SILENT)
    assert path.read_bytes() == whole


def test_texts_are_encoded_once_for_each_prompts_file(plan, tmp_path):
    (job, *others) = _jobs(plan, AblationFolder(tmp_path / "texts"), plan.cells)

    def with_options(**changes):
        return replace(job, cell=replace(job.cell, options=replace(job.cell.options, **changes)))

    (one,) = text_jobs([with_options(hard_negatives=False), job, *others])
    assert one.uses_negatives and one.job.cell.options.hard_negatives is False
    assert [one.uses_negatives for one in text_jobs([with_options(hard_negatives=False)])] == [False]
    assert text_jobs([with_options(towers="both")]) == []


def test_two_places_make_two_cells_at_once(plan, tmp_path):
    jobs, ended = _jobs(plan, AblationFolder(tmp_path / "two"), plan.cells[:2]), []
    make_all(jobs, [Place("cpu", 1), Place("cpu", 1)], work=_waiting_for_another, on_end=ended.append, on_stop=_never)
    assert [one.exit_code for one in ended] == [0, 0] and {one.job.at_once for one in ended} == {2}


def test_an_error_that_nobody_expects_has_its_traceback_in_the_log(plan, tmp_path):
    folder = AblationFolder(tmp_path / "odd")
    ended = []
    (job,) = _jobs(plan, folder, plan.cells[:1])
    make_all([replace(job, frames=3)], [Place("cpu")], work=work, on_end=ended.append, on_stop=_never)
    assert ended[0].exit_code == 1 and ended[0].failure.startswith("unexpected TypeError")
    assert "Traceback" in folder.cell(plan.cells[0]).log_file.read_text()


def test_only_an_ablation_is_written_over(plan, made, tmp_path):
    folder, _ = made
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("x")
    with pytest.raises(UsageError, match="not an ablation"):
        make_cells(plan, AblationFolder(foreign), plan.cells)
    place = folder.cell(plan.cells[0])
    kept = place.record_file.read_text()
    for broken in ("[]", "{", '{"format": "figclip-ablation-cell"}', kept.replace('"version": 2', '"version": 0')):
        place.record_file.write_text(broken)
        assert not is_finished(place, plan.cells[0], plan.inputs.evaluation_sha256)
    place.record_file.write_text(kept.replace('"value"', '"valu"'))
    assert not is_finished(place, plan.cells[0], plan.inputs.evaluation_sha256)
    assert "cell.json is damaged" in collect(plan, folder).failed[plan.cells[0].sha256]
    place.record_file.write_text(kept)


def test_broken_inputs_are_found_before_anything_is_made(plan, tmp_path):
    inputs = plan.inputs
    captions = inputs.root / "captions.csv"
    text = captions.read_text()
    captions.write_text("nothing\n")
    try:
        with pytest.raises(InputError):
            make_cells(plan, AblationFolder(tmp_path / "none"), plan.cells)
    finally:
        captions.write_text(text)
    assert not (tmp_path / "none").exists()


def test_places(monkeypatch):
    monkeypatch.setattr(pool, "_gpu_count", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert places_of([], None) == [Place("cuda:0"), Place("cuda:1")]
    assert places_of(["cuda:1", "cpu"], 2) == [Place("cuda:1"), Place("cpu", 4), Place("cpu", 4)]
    assert places_of(["cpu"], None) == [Place("cpu", 0)]
    for devices, workers in ((["cuda:2"], None), (["gpu"], None), (["cpu", "cpu"], None), ([], 2), (["cuda:x"], None)):
        with pytest.raises(UsageError):
            places_of(devices, workers)
    monkeypatch.setattr(pool, "_gpu_count", lambda: 0)
    assert places_of([], 3) == [Place("cpu", 2)] * 3


def _never(*_):
    raise VerificationError("this is never called")


class _FailingScoring:
    def __init__(self, features, scoring):
        self._features, self._scoring = features, scoring

    def score(self, folder, features, *more):
        if features == self._features:
            raise VerificationError(f"{features} cannot be read")
        return self._scoring.score(folder, features, *more)


class _Killer:
    """Ends its process as ``kill -9`` does, after a number of steps."""

    def __init__(self, steps):
        self._steps = steps

    def info(self, message):
        pass

    detail = warn = info

    @contextmanager
    def track(self, label, total, unit):
        yield _Fuse(self._steps if label == "adapt" else 1 << 60)


class _Fuse:
    def __init__(self, steps):
        self._left = steps

    def advance(self, count=1, *, failed=0, detail=""):
        self._left -= count
        if self._left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


def _killed_in_the_second_epoch(job):
    make_cell(job, _Killer(3))


def _nothing(job):
    pass


def _interrupted(job):
    raise KeyboardInterrupt


def _sleeping(job):
    job.folder.cells.mkdir(parents=True, exist_ok=True)
    os.setpgid(0, 0)
    from multiprocessing import parent_process

    os.kill(parent_process().pid, signal.SIGTERM)
    time.sleep(60)


def _ending_the_server(job):
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(0.1)


def _waiting_for_another(job):
    job.folder.path.mkdir(parents=True, exist_ok=True)
    (job.folder.path / f"here-{job.cell.number}").touch()
    for _ in range(600):
        if len(list(job.folder.path.glob("here-*"))) == 2:
            return
        time.sleep(0.05)
    raise TimeoutError
