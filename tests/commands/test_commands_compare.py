"""The verb `compare` as a person uses it, and the tables of results."""

from __future__ import annotations

import json

import pytest
from rich.console import Console
from typer.testing import CliRunner

from figclip_cli.app import app
from figclip_cli.commands.tables import groups_table, results_table
from figclip_cli.evaluate.results import Metric, Results
from figclip_cli.evaluate.samples import Outcome, Sample

LONG = "a very long text that goes on and on, " * 5 + "and ends"


def results_of(metrics=None, groups=(), adapted=True):
    return Results(
        task="compositional",
        dataset_id="toy",
        dataset_sha256="d",
        asked={"items": 2},
        evaluated={"items": 2},
        missing={},
        protocol={},
        models={"base": {"name": "tiny"}, **({"adapted": {"name": "run"}} if adapted else {})},
        metrics=tuple(metrics or (Metric("x", 1.0, 0.0, True),)),
        groups=groups,
    )


def samples(count, part="swap"):
    """Samples that the adapted model wins, but for the first, which it loses."""
    for number in range(count):
        margins = {"base": 0.1 if number == 0 else -0.1 * number, "adapted": -0.2 if number == 0 else 0.3}
        yield Sample(
            id=f"item{number}",
            part=part,
            group="on" if number % 2 else "in",
            look=f"{number}.jpg",
            text=LONG if number == 1 else f"text\n[red]{number}\x1b[0m",
            outcomes={
                model: Outcome(
                    right=margin > 0, margin=margin, rank=float(margin < 0), chosen=f"{model} chose {number}"
                )
                for model, margin in margins.items()
            },
        )


@pytest.fixture
def lab(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results_of().write(tmp_path / "results" / "a.json", samples=samples(20))
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def shown(renderable):
    console = Console(width=200, no_color=True)
    with console.capture() as captured:
        console.print(renderable)
    return [" ".join(line.split()) for line in captured.get().splitlines()]


def test_the_newest_results_are_the_default_and_both_ways_are_shown(lab):
    done = run()
    assert done.exit_code == 0, done.stderr
    assert "results: results/a.json (default)" in done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "compositional, toy: A = tiny (base) and B = run (adapted)" in lines
    assert "all 20 0 1 19 0 5.00 95.00 +90.00 <0.001" in lines
    assert "Won: A wrong, B right, 10 of 19" in lines and "Lost: A right, B wrong, 1" in lines
    assert any(line.startswith("swap in item0 0.jpg text [red]0 [0m adapted chose 0 +0.100 -0.200") for line in lines)


def test_the_terminal_cuts_long_texts_and_shows_no_control_characters_and_json_has_all(lab):
    done = run("--limit", "20")
    assert LONG[:40] in done.stdout and "and ends" not in done.stdout and "\x1b" not in done.stdout
    document = json.loads(run("--json").stdout)
    assert len(document["won"]) == 19 and any(flip["text"] == LONG for flip in document["won"])


def test_groups_filters_and_ranks(lab):
    done = run("--group-by", "group")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "group: 2 that won most" in lines and not any("lost most" in line for line in lines)
    assert any(line.startswith("on 10 0 0 10 0") for line in lines)
    assert json.loads(run("--group", "on", "--at", "2", "--json").stdout)["all"]["both_right"] == 10


def test_flips_are_written_and_not_over_another_file(lab):
    assert run("results/a.json", "--flips", "flips.jsonl").exit_code == 0
    assert len((lab / "flips.jsonl").read_text().splitlines()) == 20
    again = run("results/a.json", "--flips", "flips.jsonl")
    assert again.exit_code == 2 and "flips.jsonl already exists" in again.stderr
    assert run("results/a.json", "--flips", "flips.jsonl", "--overwrite").exit_code == 0


def test_flips_are_never_written_over_what_is_compared(lab):
    (lab / "results" / "a.json").rename(lab / "results" / "renamed.json")  # its samples keep their name
    before = {path: path.read_bytes() for path in (lab / "results").iterdir()}
    assert len(before) == 2
    for path in before:
        done = run("results/renamed.json", "--flips", path, "--overwrite")
        assert done.exit_code == 2 and "is an input of this command" in done.stderr
        assert run("--flips", path, "--overwrite").exit_code == 2  # the default is an input too
    assert {path: path.read_bytes() for path in (lab / "results").iterdir()} == before


@pytest.mark.parametrize(
    ("flips", "code", "message"),
    [
        ("results", 2, "results is a folder"),
        ("results/a.json/x.jsonl", 1, "a.json is no folder"),
        ("x" * 300, 2, "File name too long"),
    ],
)
def test_flips_that_cannot_be_written_are_refused_before_anything_is_compared(lab, flips, code, message):
    (lab / "results" / "a.samples.jsonl").unlink()
    done = run("results/a.json", "--flips", flips)
    assert done.exit_code == code and message in done.stderr


def test_two_files_are_compared(lab):
    results_of(adapted=False).write(
        lab / "b.json",
        samples=[Sample(id=s.id, part=s.part, text=s.text, outcomes={"base": s.outcomes["base"]}) for s in samples(20)],
    )
    document = json.loads(run("results/a.json", "b.json", "--model-a", "base", "--json").stdout)
    assert document["all"]["only_a"] == document["all"]["only_b"] == 0 and document["b"]["file"] == "b.json"
    done = run("results/a.json", "b.json")
    assert done.exit_code == 0 and "Won: A wrong, B right, 1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.json"], 3, "absent.json does not exist"),
        (["results"], 3, "is a folder"),
        (["results/a.samples.jsonl"], 3, "is not JSON"),
        (["results/a.json", "--part", "swop"], 2, "did you mean 'swap'?"),
        (["results/a.json", "--model-b", "base"], 2, "compared with itself"),
        (["results/a.json", "--at", "0"], 2, "--at"),
    ],
)
def test_errors_are_one_line_with_a_hint(lab, arguments, code, message):
    done = run(*arguments)
    assert done.exit_code == code and message in " ".join(done.stderr.split())
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_the_program_compares_in_a_process_of_its_own(lab, figclip):
    done = figclip("compare", "results/a.json", "--quiet", cwd=lab)
    assert (done.returncode, done.stderr) == (0, "") and "Won" in done.stdout


def test_results_without_anything_new_have_the_columns_they_had():
    pair = Metric("t2v R@1", 29.6, 2.01, True, 21.8, 1.81, 7.8, 1.97)
    assert "metric tiny +/- run +/- delta +/-" in shown(results_table(results_of([pair])))
    assert "t2v R@1 ↑ 21.80 1.81 29.60 2.01 +7.80 1.97" in shown(results_table(results_of([pair])))
    alone = shown(results_table(results_of([Metric("t2v MdR", 3.0, 0.3, False)], adapted=False)))
    assert "metric tiny +/-" in alone and "t2v MdR ↓ 3.00 0.30" in alone


def test_p_values_and_deviations_have_columns_where_they_are_there():
    made = shown(
        results_table(
            results_of(
                [
                    Metric(
                        "top-1",
                        60.0,
                        1.0,
                        True,
                        50.0,
                        2.0,
                        10.0,
                        3.0,
                        p_value=0.0004,
                        deviation=0.3,
                        base_deviation=0.2,
                    ),
                    Metric("top-5", 90.0, 1.0, True, 90.0, 1.0, 0.0, 0.0, p_value=0.0124),
                    Metric("none", 90.0, 1.0, True, 90.0, 1.0, 0.0, 0.0),
                ]
            )
        )
    )
    assert "metric tiny +/- dev run +/- dev delta +/- p" in made
    assert "top-1 ↑ 50.00 2.00 0.20 60.00 1.00 0.30 +10.00 3.00 <0.001" in made
    assert "top-5 ↑ 90.00 1.00 90.00 1.00 +0.00 0.00 0.012" in made
    assert "none ↑ 90.00 1.00 90.00 1.00 +0.00 0.00" in made


def test_groups_have_a_table_of_their_own():
    groups = (Metric("accuracy", 60.0, 1.0, True, 50.0, 2.0, 10.0, 3.0, n=1200, p_value=1.0, group="on"),)
    made = shown(groups_table(results_of(groups=groups)))
    assert "metric group n tiny +/- run +/- delta +/- p" in made
    assert "accuracy on 1,200 ↑ 50.00 2.00 60.00 1.00 +10.00 3.00 1.000" in made
