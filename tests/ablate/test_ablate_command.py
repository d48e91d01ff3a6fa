"""The command line: what is listed, what is refused, what is printed, and with which exit code."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from small_ablation import metric, record, spec_text
from typer.testing import CliRunner

from figclip_cli.ablate.folder import AblationFolder
from figclip_cli.ablate.plan import make_plan
from figclip_cli.ablate.spec import read_spec
from figclip_cli.app import app


@pytest.fixture
def ablate(world, monkeypatch):
    """Run the command in this process, in the folder of the world."""
    monkeypatch.chdir(world)
    return lambda *arguments: CliRunner().invoke(app, ["ablate", *arguments])


def made_record(cell, plan, value):
    names = {"compositional": "macro", "dense": "t2v R@1", "coarse": "t2v R@1", "naming": "naming"}
    return record(
        {task: [metric(name, value)] for task, name in names.items()},
        evaluation=plan.inputs.evaluation_sha256,
        sha256=cell.sha256,
        trainable_parameters=10 * (cell.number + 1),
    )


def test_shipped_specifications_are_listed(ablate):
    assert ablate("--list-specs").stdout.split() == ["demo", "paper-b32", "paper-l14"]


def test_cells_are_listed_and_reported(ablate, world):
    listed = json.loads(ablate("spec.toml", "--list", "--json").stdout)["cells"]
    assert [(one["cell"], one["state"]) for one in listed] == [(0, "to make"), (1, "to make")]
    planned = json.loads(ablate("spec.toml", "--dry-run", "--json").stdout)
    assert len(planned["prompts_to_build"]) == 1 and not (world / "ablations").exists()

    plan = make_plan(read_spec(world / "spec.toml"), world)
    folder = AblationFolder(world / "ablations" / "small")
    folder.begin({})
    for number, cell in enumerate(plan.cells):
        place = folder.cell(cell)
        place.path.mkdir()
        place.record_file.write_text(json.dumps(made_record(cell, plan, 60.0 + number)))
        done = ablate("spec.toml", "--report-only")
        assert done.exit_code == (4 if number == 0 else 0), done.stderr
        assert ("1 cells are not finished: rank-2-seed0-" in done.stderr) is (number == 0)
    assert "rank 1" in done.stdout and "61.00 ± 1.00 (+21.00 ± 0.70)" in done.stdout
    assert "is rank 1 (60.00 ± 1.00); the best is rank 2 (61.00 ± 1.00)." in done.stdout
    written = {path.name for path in folder.path.iterdir()}
    assert {"table-rank.md", "chart-rank.svg", "ablation.json", "ablation.csv"} <= written
    # A question that is no longer asked leaves no table, and another specification of that name is said.
    (folder.path / "table-old.md").write_text("old")
    (folder.path / "chart-old.svg").write_text("old")
    folder.begin({"spec_file": "/elsewhere/spec.toml"})
    done = ablate("spec.toml", "--report-only")
    assert "was made by /elsewhere/spec.toml" in done.stderr
    assert not list(folder.path.glob("*-old.*")) and folder.chart_file("rank").is_file()
    # All is finished: the same command makes nothing, and says the same.
    again = ablate("spec.toml", "--json")
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["questions"] == json.loads(folder.summary_file.read_text())["questions"]


def test_what_was_not_evaluated_is_said_with_exit_code_4(ablate, world, tmp_path):
    plan = make_plan(read_spec(world / "spec.toml"), world)
    folder = AblationFolder(tmp_path / "out")
    folder.begin({})

    def report(*shorts):
        for cell, short in zip(plan.cells, shorts, strict=True):
            made = made_record(cell, plan, 60.0)
            task = made["quality"]["plain"]["tasks"]["coarse"]
            task["asked"], task["evaluated"], task["missing"] = {"texts": 10}, {"texts": 10 - short}, short
            made["data"]["without_frames"] = 2
            place = folder.cell(cell)
            place.path.mkdir(exist_ok=True)
            place.record_file.write_text(json.dumps(made))
        return ablate("spec.toml", "--report-only", "--output", str(folder.path))

    done = report(1, 1)
    assert done.exit_code == 4 and "not everything was evaluated: coarse: 9 of 10 texts" in done.stderr
    table = folder.table_file("rank").read_text()
    assert "coarse: 9 of 10 texts" in table and "of 4 clips with prompts: 2 without frames." in table
    assert json.loads(folder.summary_file.read_text())["incomplete"] == {"coarse": "coarse: 9 of 10 texts"}
    done = report(1, 0)  # two rows of different items are no table
    assert done.exit_code == 4 and "scored by different items of coarse: 9 of 10 texts, and 10 of 10" in done.stderr
    assert not folder.table_file("rank").exists() and not folder.chart_file("rank").exists()
    assert report(0, 0).exit_code == 0 and folder.table_file("rank").exists()


def test_a_script_says_how_cells_are_made_and_shares_all(ablate, world, tmp_path):
    script = ablate("spec.toml", "--slurm-script", "--workers", "2", "--overwrite").stdout
    assert "--workers 2 --overwrite --shard slurm" in script and "--overwrite --report-only" not in script
    broken = tmp_path / "a\nrm -rf b"
    shutil.copytree(world, broken)
    for arguments in (["--shard", "0/9"], ["--cell", "0"], ["--root", str(broken)]):
        done = ablate("spec.toml", "--slurm-script", *arguments)
        assert done.exit_code == 2 and not done.stdout, arguments


def test_a_part_of_a_job_array_makes_no_tables(ablate, world):
    script = ablate("spec.toml", "--slurm-script", "--seeds", "0,1", "--devices", "cpu").stdout
    assert "#SBATCH --array=0-3" in script and "--gpus" not in script
    assert f"figclip ablate {world / 'spec.toml'} --root {world}" in script and "--seeds 0,1 --devices cpu" in script
    done = ablate("spec.toml", "--shard", "slurm")
    assert done.exit_code == 2 and "SLURM_ARRAY_TASK_ID is empty" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "no specification is named"),
        (["demoo"], 2, "did you mean 'demo'?"),
        (["none.toml"], 3, "does not exist"),
        (["wrong.toml"], 3, "unknown key 'rnk'"),
        (["spec.toml", "--only", "rnk"], 2, "did you mean 'rank'?"),
        (["spec.toml", "--cell", "9"], 2, "there is no cell 9"),
        (["spec.toml", "--seeds", "x"], 2, "no list of whole numbers"),
        (["spec.toml", "--shard", "3/2"], 2, "is no share"),
        (["spec.toml", "--report-only", "--overwrite"], 2, "makes nothing"),
        (["spec.toml", "--root", "nowhere"], 3, "does not exist"),
        (["spec.toml", "--output", ".", "--list"], 2, "not an ablation"),
    ],
)
def test_mistakes_are_one_line(ablate, world, arguments, code, said):
    (world / "wrong.toml").write_text(spec_text(options="[options]\nrnk = 1\n"))
    done = ablate(*arguments)
    assert done.exit_code == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr


def test_the_lines_of_the_page_are_understood(ablate, world):
    """Each is given the small world's files; those that would make cells are told ``--list``."""
    page = (Path(__file__).resolve().parents[2] / "docs/ablate.md").read_text()
    lines = re.findall(r"^figclip ablate (.*)$", page, re.M)
    assert len(lines) >= 8
    for line in lines:
        words = shlex.split(line.partition(">")[0], comments=True)
        words = ["spec.toml" if word in ("demo", "paper-b32", "my-grid.toml") else word for word in words]
        words = ["." if before == "--root" else word for before, word in zip(["", *words], words, strict=False)]
        reports = "--report-only" in words
        done = ablate(*words, *([] if reports or "--slurm-script" in words else ["--list"]), "--output", "lines")
        assert done.exit_code == (4 if reports else 0), (line, done.stderr)
        if reports:
            assert "2 cells are not finished" in done.stderr and (world / "lines" / "ablation.json").is_file()
            assert AblationFolder(world / "lines").check() is None, "cells can be made in it later"
            shutil.rmtree(world / "lines")
        elif "--only" in words:
            assert done.stdout.count("rank-") == 2
        elif "--slurm-script" in words:
            checked = subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=False)
            assert done.stdout.startswith("#!/bin/bash\n#SBATCH") and checked.returncode == 0
