"""Specifications: what they say, what they may not say, and those that are shipped."""

from __future__ import annotations

import pytest
from small_ablation import DATA, EVALUATE, OPTIONS, QUESTION, spec_text

from figclip_cli.ablate.settings import KEYS, Changes, changes_of
from figclip_cli.ablate.shipped import spec_file, spec_names
from figclip_cli.ablate.spec import read_spec
from figclip_cli.adapt.options import AdaptOptions, steps_of_epoch
from figclip_cli.adapt.recipe import options_of_recipe
from figclip_cli.errors import FigclipError, InputError, UsageError


def read(tmp_path, text):
    path = tmp_path / "spec.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_spec(path)


def question(*lines):
    return "[[question]]\n" + "\n".join(('name = "q"', *lines)) + "\n"


def test_a_specification_says_what_it_says(tmp_path):
    made = read(tmp_path, spec_text(top='recipe = "tiny"\nseeds = [3, 1]'))
    assert (made.name, made.model, made.seeds, made.recipe) == ("small", "model", (3, 1), "tiny")
    assert made.options == options_of_recipe("tiny")
    assert made.data.frames == ("train-frames.h5",) and made.data.annotations == ("train.json",)
    assert [task.name for task in made.tasks] == ["compositional", "dense", "coarse", "naming"]
    (asked,) = made.questions
    assert asked.metric == "compositional macro"
    assert asked.show == ("compositional macro", "dense t2v R@1", "coarse t2v R@1", "naming macro")
    assert [one.name for one in asked.settings] == ["rank 1", "rank 2"]
    assert asked.settings[1].changes.options == {"rank": 2}


def test_several_axes_are_a_product(tmp_path):
    vary = 'vary = { rank = [1, 2], hard-negatives = [true, false], anchor = ["", "feature=1"] }'
    settings = read(tmp_path, spec_text(questions=question(vary))).questions[0].settings
    assert len(settings) == 8
    assert settings[0].name == "rank 1, hard-negatives on, anchor none"
    assert settings[-1].name == "rank 2, hard-negatives off, anchor feature=1"
    assert settings[-1].changes.options == {"rank": 2, "hard_negatives": False, "anchor": {"feature": 1.0}}


def test_settings_stand_on_the_options_below_them():
    start = changes_of({"rank": 4, "template": "natural", "keep-steps": True}, "x")
    made = start.then(changes_of({"rank": 2, "fraction": 0.25, "features": "tokens"}, "x"))
    resolved = made.resolve(AdaptOptions(epochs=3), seed=7, builds_prompts=True, clips=lambda: 64)
    assert (resolved.options.rank, resolved.options.seed, resolved.features) == (2, 7, "tokens")
    assert resolved.options.epochs == 12  # a quarter of the clips, as many steps
    assert resolved.prompts is not None and resolved.prompts.template == "natural"


def test_epochs_of_a_part_come_nearest_to_the_steps_of_all():
    def epochs(clips, fraction, batch):
        changes = changes_of({"keep-steps": True, "fraction": fraction, "batch-clips": batch, "epochs": 12}, "x")
        made = changes.resolve(AdaptOptions(), seed=0, builds_prompts=True, clips=lambda: clips)
        assert made.keeps_steps is (fraction < 1)
        return made.options.epochs

    assert epochs(1000, 1, 16) == 12
    assert epochs(1000, 0.1, 16) == 108  # 756 steps of 63 an epoch; 100 clips are 7 steps, not 6.3
    assert epochs(48, 0.1, 16) == 36  # 36 steps; 5 clips are one
    assert epochs(66, 0.5, 16) == 30  # 66 are 5 steps; the last of 33 joins the one before: 2
    assert [steps_of_epoch(clips, 16) for clips in (1, 16, 17, 18, 33)] == [1, 1, 1, 2, 2]


def test_values_are_written_as_flags_or_as_toml():
    as_flags = changes_of({"targets": "q,v", "anchor": "feature=2", "negatives": "verb-role=3"}, "x")
    as_toml = changes_of({"targets": ["q", "v"], "anchor": {"feature": 2}, "negatives": {"verb-role": 3}}, "x")
    assert as_flags == as_toml
    assert as_flags.options == {"targets": ("q", "v"), "anchor": {"feature": 2.0}}
    assert changes_of({"alpha": 4}, "x").options == {"alpha": 4.0}
    assert "learning_rate" in KEYS and "seed" not in KEYS


@pytest.mark.parametrize(
    ("table", "said", "hint"),
    [
        ({"rnak": 1}, "unknown key 'rnak'", "rank"),
        ({"batch-clip": 1}, "unknown key 'batch-clip'", "batch-clips"),
        ({"seed": 1}, "unknown key 'seed'", "seeds"),
        ({"rank": True}, "rank", "adapt --help"),
        ({"rank": "8"}, "rank = '8'", ""),
        ({"rank": 1.5}, "rank = '1.5'", ""),
        ({"hard-negatives": 1}, "not true or false", ""),
        ({"blocks": 3}, "not a text", ""),
        ({"learning-rate": "fast"}, "not a number", ""),
        ({"learning-rate": 10**400}, "not a number", ""),
        ({"targets": [1]}, "no list of texts", ""),
        ({"anchor": "feature"}, "no KIND=WEIGHT", ""),
        ({"anchor": {"feature": True}}, "no KIND=WEIGHT", ""),
        ({"anchor": "feature=1,feature=2"}, "twice", ""),
        ({"negatives": 3}, "no KIND=NUMBER", ""),
        ({"negatives": {"verb-role": True}}, "no KIND=NUMBER", ""),
        ({"negatives": "verb-roles=3"}, "verb-roles", "verb-role"),
        ({"negatives": "temporal=1"}, "joined texts", "leave it out"),
        ({"features": "video"}, "features cannot be 'video'", "plain"),
        ({"template": 1}, "template is no text", ""),
        ({"balance": "yes"}, "balance is not true or false", ""),
        ({"batch-clips": 3, "batch_clips": 3}, "twice", ""),
    ],
)
def test_what_a_setting_may_not_say(table, said, hint):
    with pytest.raises(InputError) as caught:
        changes_of(table, "here")
    assert caught.value.message.startswith("here") and said in caught.value.message
    assert hint in caught.value.hint


def test_what_settings_may_not_say_together():
    with pytest.raises(UsageError, match="contextualizer"):
        changes_of({"features": "tokens", "contextualizer": False}, "x").resolve(
            AdaptOptions(), seed=0, builds_prompts=True, clips=lambda: 4
        )
    with pytest.raises(UsageError, match="'template' changes prompts"):
        Changes(prompts={"template": "natural"}).resolve(AdaptOptions(), seed=0, builds_prompts=False, clips=lambda: 4)


BROKEN = {
    "no table of data": f'model = "m"\n{EVALUATE}{QUESTION}',
    "no evaluation": f'model = "m"\n{DATA}{QUESTION}',
    "no model": f"{DATA}{EVALUATE}{QUESTION}",
    "no question": f'model = "m"\n{DATA}{EVALUATE}',
    "unknown top key": spec_text(top="sedes = [0]"),
    "unknown recipe": spec_text(top='recipe = "tny"'),
    "recipe of another type": spec_text(top="recipe = 3"),
    "seeds of another type": spec_text(top="seeds = 3"),
    "seeds that are bools": spec_text(top="seeds = [true]"),
    "a seed twice": spec_text(top="seeds = [1, 1]"),
    "a name with a path": spec_text(top="").replace('"small"', '"../small"'),
    "a name with a zero byte": spec_text(top="").replace('"small"', '"a\\u0000b"'),
    "options no table": spec_text(options="", top="options = 3"),
    "unknown option": spec_text(options="[options]\nrnk = 1\n"),
    "unknown execution": spec_text(options="[execution]\nworker = 1\n"),
    "wrong execution": spec_text(options="[execution]\nworkers = -1\n"),
    "annotations and prompts": spec_text().replace(DATA, DATA + 'prompts = "p.jsonl"\n'),
    "neither": spec_text().replace('annotations = "train.json"', ""),
    "frames no text": spec_text().replace('frames = "train-frames.h5"', "frames = [1]"),
    "no frames to score": spec_text().replace('frames = "valid-frames.h5"', ""),
    "unknown protocol": spec_text().replace("[evaluate]", '[evaluate]\nprotocol = "clip4clp"'),
    "questions no list": f'model = "m"\nquestion = 3\n{DATA}{EVALUATE}',
    "a question without settings": spec_text(questions=question()),
    "a question with both": spec_text(questions=question("vary = { rank = [1] }", "setting = [{ name = 'a' }]")),
    "vary no list": spec_text(questions=question("vary = { rank = 1 }")),
    "vary nothing": spec_text(questions=question("vary = {}")),
    "too many settings": spec_text(questions=question(f"vary = {{ rank = {list(range(1, 1500))} }}")),
    "one value twice": spec_text(questions=question("vary = { rank = [1, 1] }")),
    "two settings of a name": spec_text(questions=question(*(2 * ["[[question.setting]]", 'name = "a"']))),
    "a setting without a name": spec_text(questions=question("[[question.setting]]", "rank = 1")),
    "two questions of a name": spec_text(questions=question("vary = { rank = [1] }") * 2),
    "metric of no task": spec_text(questions=question('metric = "densee"', "vary = { rank = [1] }")),
    "unknown cost": spec_text(questions=question('cost = "money"', "vary = { rank = [1] }")),
    "task without file": spec_text().replace("[evaluate]", '[[evaluate.retrieval]]\nname = "m"\n[evaluate]'),
    "not TOML": "name = ",
    "not UTF-8": b'name = "\xff"',
    "deep": "a = " + "[" * 5000 + "]" * 5000,
    "a number without end": "a = " + "9" * 6000,
    "empty": "",
    "large": "#" * (1 << 21),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_specification_is_one_line(tmp_path, name):
    with pytest.raises(FigclipError) as caught:
        read(tmp_path, BROKEN[name])
    assert caught.value.exit_code == 3
    assert "\n" not in caught.value.message and len(caught.value.message) < 500


def test_a_missing_specification_is_said(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_spec(tmp_path / "none.toml")
    with pytest.raises(UsageError) as caught:
        spec_file("demoo")
    assert "demo" in caught.value.hint


def test_other_tasks_have_names_and_frames_of_their_own(tmp_path):
    text = spec_text().replace(
        OPTIONS,
        '[[evaluate.retrieval]]\nname = "msrvtt"\nframes = "msrvtt.h5"\ncaptions = "msrvtt.csv"\n'
        '[[evaluate.compositional]]\nname = "velociti"\nbenchmark = "velociti"\nannotations = "v.json"\n' + OPTIONS,
    )
    tasks = {task.name: task for task in read(tmp_path, text).tasks}
    assert tasks["msrvtt"].frames == ("msrvtt.h5",) and tasks["msrvtt"].default_metric == "msrvtt t2v R@1"
    assert tasks["velociti"].frames == ("valid-frames.h5",)
    wrong = text.replace('benchmark = "velociti"', 'benchmark = "velocity"')
    with pytest.raises(InputError) as caught:
        read(tmp_path, wrong)
    assert "velociti" in caught.value.hint


@pytest.mark.parametrize("name", spec_names())
def test_every_shipped_specification_is_sound(name):
    made = read_spec(spec_file(name))
    assert made.name == name
    for asked in made.questions:
        for setting in asked.settings:
            changes = made.changes.then(asked.changes).then(setting.changes)
            changes.resolve(made.options, seed=0, builds_prompts=made.data.prompts is None, clips=lambda: 1000)


def test_the_specifications_of_the_paper_ask_the_same_of_each_model():
    small, large = (read_spec(spec_file(name)) for name in ("paper-b32", "paper-l14"))
    assert small.questions == large.questions and small.tasks == large.tasks and small.data == large.data
    assert (small.recipe, large.recipe) == ("srl-clip-b32", "srl-clip-l14")
