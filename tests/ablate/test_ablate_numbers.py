"""Numbers of tables by hand: means over seeds, the rule of thumb, times of steps, and how all that is written."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from small_ablation import metric, record, spec_text

from figclip_cli.ablate.averages import Estimate, best_of, cheapest_near_best, over_seeds
from figclip_cli.ablate.chart import write_chart
from figclip_cli.ablate.collect import _answer
from figclip_cli.ablate.plan import Cell, Row
from figclip_cli.ablate.record import metric_named, missing_features, read_record
from figclip_cli.ablate.slurm import slurm_script
from figclip_cli.ablate.spec import read_spec
from figclip_cli.ablate.timing import StepTimer, step_times
from figclip_cli.ablate.views import cost_text, markdown, view_of
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.reporting import SILENT


def estimate(value, error=1.0):
    return Estimate(value, error, "seeds", 3)


def test_the_mean_over_seeds_by_hand():
    made = over_seeds([(10.0, 9.0), (12.0, 9.0), (17.0, 9.0)])
    # Deviations -3, -1, 4: variance 26 / 2 = 13, and 13 / 3 is the square of the error.
    assert made == Estimate(13.0, pytest.approx((13 / 3) ** 0.5), "seeds", 3)
    assert over_seeds([(10.0, 2.5)]) == Estimate(10.0, 2.5, "bootstrap", 1)
    assert over_seeds([(4.0, 1.0), (4.0, 1.0)]).error == 0.0


def test_the_rule_takes_the_cheapest_within_one_error_of_the_best():
    estimates = [estimate(59.0), estimate(60.0, 0.1), estimate(61.0, 1.0), None, estimate(50.0)]
    assert best_of(estimates, higher_is_better=True) == 2
    assert cheapest_near_best(estimates, [1, 2, 4, 0, 0], higher_is_better=True) == 1  # exactly one error below
    assert cheapest_near_best(estimates, [1, None, 4, 0, 0], higher_is_better=True) == 2
    assert cheapest_near_best(estimates, [1, 4, 4, 0, 0], higher_is_better=True) == 1  # the first of equals
    assert best_of(estimates, higher_is_better=False) == 4
    assert cheapest_near_best([estimate(3.0), estimate(2.5)], [1, 2], higher_is_better=False) == 0
    assert best_of([None], higher_is_better=True) is None
    assert cheapest_near_best([], [], higher_is_better=True) is None


def test_steps_are_timed_and_counted_once(tmp_path):
    path = tmp_path / "steps.jsonl"
    timer = StepTimer(SILENT, path)
    with timer.track("encode texts", 5, "texts") as progress:
        progress.advance(5)
    assert timer.first_left is None and not path.exists()
    with timer.track("adapt", 3, "steps") as progress:
        for _ in range(3):
            progress.advance(detail="loss")
    assert timer.first_left == 2
    assert [json.loads(line)["left"] for line in path.read_text().splitlines()] == [2, 1, 0]
    # A first call of four steps lost its last two to a kill in the middle of a line; a second call made them again.
    assert step_times(path, 2).peaks == {}
    peaks = iter(({"process": 9}, {"process": 5, "own": 1}))
    with StepTimer(SILENT, tmp_path / "peaks", lambda: next(peaks)).track("adapt", 2, "steps") as progress:
        progress.advance()
        progress.advance()
    assert step_times(tmp_path / "peaks", None).peaks == {"process": 9, "own": 1}  # the largest over all calls
    lines = [(3, 1.0), (2, 2.0), (1, 50.0), (1, 4.0), (0, 5.0)]
    path.write_text("\n".join(json.dumps({"left": left, "seconds": s}) for left, s in lines) + '\n{"left": 7, "sec')
    times = step_times(path, first_left=1)
    assert (times.total_seconds, times.median_seconds, times.earlier_seconds) == (12.0, 3.0, 3.0)
    assert step_times(path, None).earlier_seconds == 12.0
    assert step_times(tmp_path / "none", 3).median_seconds is None


def made_record(value, parameters, seconds=8.0, step=0.0215, base=40.0):
    tasks = {
        "compositional": [metric("verb-role", value, 2.0, base)],
        "dense": [metric("t2v R@1", value / 2, 1.5, 20.0), metric("t2v MnR", 3.0, 0.1, 4.0)],
        "coarse": [metric("t2v R@1", 7.0, 1.0, 7.5)],
        "naming": [metric("a", 1.0, 1.0, 1.0), metric("b", 1.0, 1.0, 1.0), metric("macro", 30.0, 1.0, 31.0)],
    }
    return record(tasks, trainable_parameters=parameters, seconds=seconds, step_seconds=step)


def answer_of(
    tmp_path,
    values,
    *,
    metric="compositional",
    cost="trainable-parameters",
    title="Which $x$ | <b>?",
    keeps_steps=False,
):
    """The answer to one question about ranks 1, 2, ... with some seeds each: (value, parameters), or None."""
    ranks = list(range(1, len(values) + 1))
    question = f'[[question]]\nname = "q"\ntitle = "{title}"\nmetric = "{metric}"\ncost = "{cost}"\n'
    path = tmp_path / "spec.toml"
    path.write_text(spec_text(questions=question + f"vary = {{ rank = {ranks} }}\n"))
    (asked,) = read_spec(path).questions
    records, rows = {}, []
    for setting, seeds in zip(asked.settings, values, strict=True):
        cells = []
        for number, one in enumerate(seeds):
            cell = Cell(0, "cell", f"{setting.name} {number}", AdaptOptions(seed=number), None, "", ["plain"])
            cells.append(cell)
            if one is not None:
                records[cell.sha256] = made_record(*one)
        rows.append(Row(setting, "plain", tuple(cells), keeps_steps))
    return _answer(asked, rows, records)


def test_a_table_by_hand(tmp_path):
    answer = answer_of(tmp_path, [[(50.0, 1000), (54.0, 1000)], [(53.0, 2000), (55.0, 2000)], [None, None]])
    view = view_of(answer)
    assert view.columns[:2] == ("setting", "compositional verb-role ↑")  # one kind has no mean
    assert view.columns[-4:] == ("trainable parameters", "step time", "peak memory", "time to result")
    assert view.rows[0][:2] == ("base model", "40.00 ± 0.50") and view.rows[0][-4:] == ("0", "", "", "")
    assert view.rows[1] == (
        "rank 1",
        "52.00 ± 2.00 (+12.00 ± 2.00)",
        "26.00 ± 1.00 (+6.00 ± 1.00)",
        "7.00 ± 0.00 (-0.50 ± 0.00)",
        "30.00 ± 0.00 (-1.00 ± 0.00)",
        "1,000",
        "22 ms",
        "3 MiB",
        "8 s",
    )
    assert view.rows[2][1] == "54.00 ± 1.00 (+14.00 ± 1.00)"
    assert view.rows[3] == ("rank 3 (0 of 2 seeds)", *([""] * 8))
    assert answer.best == 1 and answer.taken == 1  # 52 is more than one error, 1, below 54
    assert view.notes[0].endswith("on compositional verb-role is rank 2 (54.00 ± 1.00).")
    assert "Measured on: CPU, 2 threads, 1 at a time." in view.notes and "Not finished: rank 3." in view.notes


def test_one_seed_has_the_error_over_clips(tmp_path):
    answer = answer_of(tmp_path, [[(53.0, 1000)], [(54.0, 2000)]])
    view = view_of(answer)
    assert view.rows[1][1] == "53.00 ± 2.00 (+13.00 ± 0.70)"
    assert answer.taken == 0 and "the best is rank 2 (54.00 ± 2.00)" in view.notes[0]
    assert any("bootstrap's standard error over clips, of one seed" in note for note in view.notes)
    below = view_of(answer_of(tmp_path, [[(30.0, 1000)]]))
    assert below.notes[0].endswith("No setting is better than the base model there.")


def test_lower_may_be_better_and_other_costs_count(tmp_path):
    answer = answer_of(tmp_path, [[(50.0, 9, 3.0)], [(51.0, 9, 1.0)]], metric="dense t2v MnR", cost="seconds")
    assert answer.higher_is_better["dense t2v MnR"] is False
    assert answer.rows[answer.taken].name == "rank 2"  # equally good, and sooner there
    assert view_of(answer).columns[1] == "dense t2v MnR ↓"


def test_an_unknown_metric_is_an_error_of_its_question(tmp_path):
    answer = answer_of(tmp_path, [[(50.0, 9)]], metric="dense t2v R@2")
    assert answer.best is None and "there is no metric 'dense t2v R@2'; did you mean 'dense t2v R@1'" in answer.problem
    assert view_of(answer).notes[0] == f"There is no table: {answer.problem}."
    # A task of several numbers without a mean has no mean: the first is not shown under its name.
    metrics = [metric("a", 1.0), metric("b", 2.0)]
    assert metric_named(metrics, "macro") is None and metric_named(metrics[1:], "macro") == metrics[1]


def test_differences_are_the_cells_own_and_bases_must_agree(tmp_path):
    answer = answer_of(tmp_path, [[(50.0, 9, 8.0, 0.1, 40.0)], [(50.0, 9, 8.0, 0.1, 40.0 + 1e-9)]])
    assert answer.problem is None and answer.rows[0].deltas["compositional macro"] == Estimate(10, 0.7, "bootstrap", 1)
    answer = answer_of(tmp_path, [[(50.0, 9, 8.0, 0.1, 40.0)], [(60.0, 9, 8.0, 0.1, 50.0)]])
    assert answer.best is None and "the base model has 40 on compositional macro in one" in answer.problem


def test_a_setting_with_fewer_seeds_is_left_out_of_the_rule(tmp_path):
    answer = answer_of(tmp_path, [[(50.0, 9), (52.0, 9)], [(90.0, 1), None]])
    assert answer.rows[answer.best].name == answer.rows[answer.taken].name == "rank 1"
    assert "With fewer finished seeds, left out of this: rank 2." in view_of(answer).notes[0]


def test_steps_are_shown_where_they_are_kept(tmp_path):
    assert "steps" not in view_of(answer_of(tmp_path, [[(50.0, 9)]])).columns
    view = view_of(answer_of(tmp_path, [[(50.0, 9)]], keeps_steps=True))
    assert view.columns[-1] == "steps" and view.rows[1][-1] == "4"


DAMAGED = {
    "a value that is a text": lambda r: task(r)["metrics"][0].update(value="abc"),
    "a value that is a list": lambda r: task(r)["metrics"][0].update(value=[1]),
    "no value": lambda r: task(r)["metrics"][0].pop("value"),
    "a huge value": lambda r: task(r)["metrics"][0].update(value=1e308),
    "no base": lambda r: task(r)["metrics"][0].update(base_value=None),
    "an error below zero": lambda r: task(r)["metrics"][0].update(standard_error=-1.0),
    "a direction that is a text": lambda r: task(r)["metrics"][0].update(higher_is_better="no"),
    "no metric": lambda r: task(r).update(metrics=[]),
    "a task that is a number": lambda r: r["quality"]["plain"]["tasks"].update(dense=5),
    "counts that are no counts": lambda r: task(r).update(asked={"items": True}),
    "a cost without end": lambda r: r["cost"].update(seconds=10**400),
    "a cost below zero": lambda r: r["cost"].update(seconds=-5),
    "a device that is a list": lambda r: r["cost"].update(device=["a"]),
    "no data": lambda r: r.pop("data"),
    "another version": lambda r: r.update(version=1),
    "a version that is a bool": lambda r: r.update(version=True),
    "another cell": lambda r: r.update(sha256="x"),
    "no record": lambda r: r.clear(),
}  # fmt: skip


def task(made):
    return made["quality"]["plain"]["tasks"]["dense"]


@pytest.mark.parametrize("name", DAMAGED)
def test_a_record_that_does_not_fit_is_damaged(tmp_path, name):
    cell, path = Cell(0, "cell", "s", AdaptOptions(), None, "", ["plain", "tokens"]), tmp_path / "cell.json"
    assert read_record(path, cell, "e") == (None, None)
    made = made_record(50.0, 9)
    path.write_text(json.dumps(made))
    assert missing_features(read_record(path, cell, "e")[0], cell) == ["tokens"]
    assert missing_features(read_record(path, cell, "other files")[0], cell) == ["plain", "tokens"]
    DAMAGED[name](made)
    path.write_text(json.dumps(made))
    found, damage = read_record(path, cell, "e")
    assert found is None and damage.startswith(f"{path} is damaged: ") and "\n" not in damage


def test_markdown_holds_what_is_foreign(tmp_path):
    text = markdown(view_of(answer_of(tmp_path, [[(53.0, 1000)]])), "chart-q.svg")
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") - line.count("\\|") for line in rows}) == 1
    assert text.startswith("## Which $x$ \\| \\<b\\>?") and "![Which $x$ \\| \\<b\\>?](chart-q.svg)" in text


def test_costs_have_units():
    assert cost_text("step_seconds", 12.34) == "12.3 s" and cost_text("step_seconds", 0.5) == "500 ms"
    assert cost_text("seconds", 599.0) == "599 s" and cost_text("seconds", 1200.0) == "20 min"
    assert cost_text("seconds", 72_000.0) == "20.0 h" and cost_text("clips", 23_626.0) == "23,626"
    assert cost_text("clips", None) == ""


def test_a_chart_is_sound_says_itself_and_is_the_same_twice(tmp_path):
    answer = answer_of(tmp_path, [[(50.0, 1000), (54.0, 1000)], [(53.0, 900_000), (55.0, 900_000)], [None, None]])
    for name in ("one", "two"):
        write_chart(answer, tmp_path / f"{name}.svg")
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    root = ElementTree.fromstring(text)  # begins with its root, so that it can stand in a page
    space = "{http://www.w3.org/2000/svg}"
    title, said = root.find(f"{space}title"), root.find(f"{space}desc")
    assert title.text == "Which $x$ | <b>?"
    assert "rank 2: 54.00 +/- 1.00, trainable parameters 900,000" in said.text and "rank 3" not in said.text
    assert root.get("aria-labelledby") == "ablate-q-title ablate-q-desc"
    words = {part for element in root.iter(f"{space}text") for part in "".join(element.itertext()).splitlines()}
    assert {"rank 1", "rank 2", "900,000"} <= words
    costs = {"trainable parameters", "step time (ms)", "peak memory (MiB)", "time to result (s)"}
    assert costs <= words
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(set(ids)) == len(ids) > 10 and all(one.startswith("ablate-q-") for one in ids)
    assert set(re.findall(r'(?:url\(#|href="#)([^")]+)', text)) <= set(ids)
    import matplotlib

    before = matplotlib.get_backend()
    with matplotlib.rc_context({"axes.facecolor": "#123456", "lines.linewidth": 9}):  # a matplotlibrc of one's own
        write_chart(answer, tmp_path / "three.svg")
        assert matplotlib.rcParams["lines.linewidth"] == 9
    assert (tmp_path / "three.svg").read_text() == text and matplotlib.get_backend() == before
    none = answer_of(tmp_path, [[None]])
    write_chart(none, tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()
    assert view_of(none).notes[0] == "Nothing is finished yet."


def test_the_script_for_slurm_is_a_script(tmp_path):
    text = slurm_script("x", 3, ["spec file.toml", "--root", "/a b"], uses_gpu=True)
    assert "#SBATCH --array=0-2" in text and "#SBATCH --gpus=1" in text
    assert "figclip ablate 'spec file.toml' --root '/a b' --shard slurm\n" in text
    assert "--gpus" not in slurm_script("x", 3, ["s"], uses_gpu=False)
