"""Which cells there are: each distinct training once, told apart by everything that it depends on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
from small_ablation import spec_text

from figclip_cli.ablate import inputs
from figclip_cli.ablate.checks import _looks, check_inputs
from figclip_cli.ablate.inputs import AblationInputs
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


def model_hash(folder, head):
    path = folder / "other.toml"
    path.write_text(spec_text(top=head).replace('model = "model"', "", 1))
    return AblationInputs(read_spec(path), folder.absolute()).hashes["model"]


def test_all_that_decides_the_model_is_another_cell(world):
    (world / "w.pt").write_bytes(b"weights")
    (world / "other.pt").write_bytes(b"others")
    folder = world / "made"
    (folder / "deep").mkdir(parents=True)
    for name in ("config.json", "merges.txt", "weights.pth", "deep/tokens.txt", ".cache"):
        (folder / name).write_text("1")
    heads = [
        'model = "ViT-B-32"\npretrained = "openai"',
        'model = "ViT-B-32"\npretrained = "laion2b"',
        'model = "ViT-B-32"\npretrained = "w.pt"',
        'model = "ViT-B-32"\npretrained = "other.pt"',
        'model = "ViT-B-32-quickgelu"\npretrained = "w.pt"',
        'model = "ViT-B-32-quickgelu"\npretrained = "w.pt"\nactivation = "gelu"',
        'model = "w.pt"',
        'model = "made"',
        'model = "made"\nactivation = "gelu"',
        'model = "made"\nactivation = "quickgelu"',
    ]
    assert len({model_hash(world, head) for head in heads}) == len(heads)
    seen = {model_hash(world, 'model = "made"')}
    (folder / ".cache").write_text("2")
    assert model_hash(world, 'model = "made"') in seen  # of tools that fetched it
    for name in ("merges.txt", "weights.pth", "deep/tokens.txt"):
        (folder / name).write_text("2")
        now = model_hash(world, 'model = "made"')
        assert now not in seen, name
        seen.add(now)


@pytest.mark.parametrize("key", ["pretrained", "activation"])
def test_the_model_that_is_shipped_has_its_own_weights(world, key):
    path = world / "other.toml"
    path.write_text(spec_text(top=f'{key} = "gelu"'))
    with pytest.raises(InputError, match=f"{key} does not go with the model 'model'"):
        make_plan(read_spec(path), world, models={"model": world / "model"})


def test_a_part_with_as_many_steps_is_counted_in_steps(world):
    plan = plan_of(world, vary("q", "fraction = [1.0, 0.75, 0.5], keep-steps = [true]"))
    # Of four clips an epoch has two steps; of three, whose last joins, and of two it has one.
    assert [row.cells[0].options.epochs for row in plan.rows["q"]] == [1, 2, 2]
    assert [row.keeps_steps for row in plan.rows["q"]] == [False, True, True]


@pytest.mark.parametrize(
    ("question", "evaluate", "said", "hint"),
    [
        ('metric = "dense t2v R@2"', "", "there is no metric 'dense t2v R@2'", "dense t2v R@"),
        ('show = ["compositional verb-roll"]', "", "no metric 'compositional verb-roll'", "verb-role"),
        ('metric = "naming nmaing"', "", "no metric 'naming nmaing'", "naming"),
        ("", "absent.csv", "task 'm': none of its clips, such as 'absent', has frames", "names without ending"),
        ("", "events.jsonl", "task 'm': the annotation has 4 events a clip", "--events 4"),
    ],
)
def test_what_scoring_refuses_is_refused_before_training(world, question, evaluate, said, hint):
    (world / "absent.csv").write_text("video_id,sentence\nabsent,somebody\n")
    lines = (world / "valid-prompts.jsonl").read_text().splitlines()
    kept = [line for line in lines[1:] if json.loads(line)["event_index"] < 4]
    header = json.loads(lines[0])
    header["counts"]["events"] = len(kept)
    (world / "events.jsonl").write_text("\n".join([json.dumps(header), *kept]) + "\n")
    level = 'level = "event"\n' if evaluate == "events.jsonl" else ""
    more = f'[[evaluate.retrieval]]\nname = "m"\ncaptions = "{evaluate}"\n{level}' if evaluate else ""
    path = world / "other.toml"
    path.write_text(spec_text(questions=f'{more}[[question]]\nname = "q"\n{question}\nvary = {{ rank = [1] }}\n'))
    plan = make_plan(read_spec(path), world)
    with pytest.raises(InputError) as caught:
        check_inputs(plan, plan.cells)
    assert said in caught.value.message and hint in caught.value.hint


@pytest.mark.parametrize("kind", ["event", "video"])
def test_tokens_that_were_not_trained_are_refused_before_training(world, kind):
    plan = plan_of(world, vary("q", f'features = ["plain", "tokens"], vc-{kind}-weight = [0.0]'))
    with pytest.raises(InputError, match=f"trains with vc-{kind}-weight 0 and is read through its {kind} tokens"):
        check_inputs(plan, plan.cells)
    check_inputs(plan_of(world, vary("q", f'features = ["plain"], vc-{kind}-weight = [0.0]')), plan.cells[:0])


def test_a_benchmark_of_images_is_refused_before_training(world):
    plan = plan_of(world, vary("q", "rank = [1]"))
    asked = SimpleNamespace(uses="images", benchmark="winoground")
    task = plan.inputs.spec.tasks[0]
    with pytest.raises(InputError, match="'winoground' is about images"):
        _looks(task, asked)


def test_the_version_of_scoring_is_a_part_of_what_scoring_depends_on(world, monkeypatch):
    questions = vary("rank", "rank = [1]")
    before = plan_of(world, questions).inputs.evaluation_sha256
    for name in ("SCORING_VERSION", "RESULTS_FORMAT_VERSION"):
        monkeypatch.setattr(inputs, name, 99)
        now = plan_of(world, questions).inputs.evaluation_sha256
        assert now != before
        before = now


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
def test_no_two_settings_of_a_shipped_question_come_to_the_same(world, name, monkeypatch):
    monkeypatch.setattr(AblationInputs, "trained_clips", 1000)
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
