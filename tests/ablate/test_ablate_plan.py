"""Which cells there are: each distinct training once, told apart by everything that it depends on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
from small_ablation import spec_text

from figclip_cli.ablate.plan import make_plan
from figclip_cli.ablate.shipped import spec_file, spec_names
from figclip_cli.ablate.spec import read_spec
from figclip_cli.errors import InputError, UsageError
from figclip_cli.frames.shards import Shard


def plan_of(world, questions, *, top="", seeds=None):
    path = world / "other.toml"
    path.write_text(spec_text(questions=questions, top=top))
    return make_plan(read_spec(path), world, seeds=seeds)


def vary(name, axis):
    return f'[[question]]\nname = "{name}"\nvary = {{ {axis} }}\n'


def test_equal_cells_are_made_once(world):
    plan = plan_of(
        world,
        vary("rank", "rank = [1, 2, 4]")
        + vary("targets", 'targets = ["q,k,v", "q,v"]')
        + vary("features", 'features = ["plain", "tokens"]')
        + vary("steps", "keep-steps = [true, false]"),
        top="seeds = [0, 1]",
    )
    default = plan.rows["rank"][1].cells  # rank 2 is what [options] says
    assert [len(plan.rows[name]) for name in ("rank", "targets", "features")] == [3, 2, 2]
    assert plan.rows["targets"][0].cells == default
    assert all(row.cells == default for row in (*plan.rows["features"], *plan.rows["steps"]))
    assert len(plan.cells) == 2 * (3 + 1)
    assert [cell.number for cell in plan.cells] == list(range(8))
    assert default[0].features == ["plain", "tokens"] and plan.cells[0].features == ["plain"]
    assert default[0].name.startswith("rank-2-seed0-") and default[1].options.seed == 1


def test_a_cell_depends_on_options_files_and_model_and_on_nothing_else(world, tmp_path):
    questions = vary("rank", "rank = [1]")

    def key(folder, **more):
        return plan_of(folder, questions, **more).cells[0].sha256

    first = key(world)
    other = tmp_path / "elsewhere"
    shutil.copytree(world, other)
    assert key(other) == first  # neither folder nor names of questions count
    assert plan_of(world, vary("r", "rank = [3, 1]")).cells[1].sha256 == first
    assert key(world, seeds=[1]) != first
    assert plan_of(world, vary("rank", 'negatives = ["verb-role=1"]')).cells[0].sha256 != first
    annotation = json.loads((other / "train.json").read_text())
    (other / "train.json").write_text(json.dumps(annotation[1:]))
    changed = key(other)
    assert changed != first
    config = other / "model" / "open_clip_config.json"
    config.write_text(config.read_text() + " ")
    assert key(other) != changed


def test_scoring_depends_on_its_files_alone(world, tmp_path):
    questions = vary("rank", "rank = [1]")
    before = plan_of(world, questions)
    other = tmp_path / "elsewhere"
    shutil.copytree(world, other)
    captions = other / "captions.csv"
    captions.write_text(captions.read_text().replace("thing", "something"))
    after = plan_of(other, questions)
    assert after.cells[0].sha256 == before.cells[0].sha256
    assert after.inputs.evaluation_sha256 != before.inputs.evaluation_sha256


def test_a_template_file_counts_by_its_content(world, tmp_path):
    other = tmp_path / "elsewhere"
    shutil.copytree(world, other)
    questions = vary("template", 'template = ["own.txt"]')
    with pytest.raises(InputError, match="own.txt"):
        plan_of(other, questions)
    (other / "own.txt").write_text("{verb}")
    first = plan_of(other, questions).cells[0]
    (other / "own.txt").write_text("someone {verb}")
    assert plan_of(other, questions).cells[0].sha256 != first.sha256
    assert first.prompts is not None and first.prompts.template == str(other / "own.txt")


def test_every_template_and_every_request_is_another_cell(world):
    plan = plan_of(
        world,
        vary("template", 'template = ["paper", "natural", "verb-only", "nouns-only", "shuffled"]')
        + vary("negatives", 'negatives = ["verb-role=4,role-noun=2", "verb-role=4", "role-noun=2", "verb-role=3"]')
        + vary("balance", "balance = [false, true]"),
    )
    assert len(plan.cells) == 5 + 3 + 1 and len({cell.prompts_sha256 for cell in plan.cells}) == 9
    assert not list(plan.twins())


@pytest.mark.parametrize("name", spec_names())
def test_no_two_settings_of_a_shipped_question_come_to_the_same(world, name):
    shipped = read_spec(spec_file(name))
    path = world / "other.toml"
    path.write_text(spec_text())
    small = read_spec(path)
    plan = make_plan(replace(shipped, data=small.data, tasks=small.tasks, model="model", pretrained=None), world)
    assert not list(plan.twins())
    assert all(len(row.cells) == len(shipped.seeds) for rows in plan.rows.values() for row in rows)


def test_settings_that_come_to_the_same_are_said(world):
    plan = plan_of(world, vary("q", "keep-steps = [true, false]"))
    assert list(plan.twins()) == ["question 'q': 'keep-steps off' comes to the same as 'keep-steps on'"]


def test_shards_and_numbers_choose_cells(world):
    plan = plan_of(world, vary("rank", "rank = [1, 2, 4]") + vary("targets", 'targets = ["q,v", "q"]'))
    numbers = [cell.number for cell in plan.cells]
    parts = [[cell.number for cell in plan.chosen((), None, Shard(index, 3))] for index in range(3)]
    assert sorted(sum(parts, [])) == numbers and parts[0] == [0, 3]
    assert [cell.number for cell in plan.chosen(("targets",), None, None)] == [3, 4]
    assert plan.chosen((), 2, None) == (plan.cells[2],)
    for only, number, shard in (((), 5, None), ((), -1, None), ((), 1, Shard(0, 2)), (("rank",), 1, None)):
        with pytest.raises(UsageError):
            plan.chosen(only, number, shard)
    with pytest.raises(UsageError) as caught:
        plan.chosen(("rnk",), None, None)
    assert "rank" in caught.value.hint


def test_options_that_contradict_each_other_name_the_setting(world):
    with pytest.raises(InputError, match="question 'q', setting 'rank -1'"):
        plan_of(world, vary("q", "rank = [-1]"))
    with pytest.raises(InputError, match="setting 'anchor featur=1'"):
        plan_of(world, vary("q", 'anchor = ["featur=1"]'))


def test_a_missing_file_says_where_it_is_looked_for(world, tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(spec_text())
    with pytest.raises(InputError) as caught:
        make_plan(read_spec(path), tmp_path)
    assert "does not exist" in caught.value.message
