"""The flags of ``figclip adapt``: what reaches the library, from which of flag, config, recipe and default."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import figclip_cli.adapt.run
from figclip_cli.adapt import AdaptOptions, ClipLists, Execution, SourceFiles, options_of_recipe
from figclip_cli.adapt.recipe import FOLDER, recipe_names
from figclip_cli.app import app
from figclip_cli.models.source import ModelSource

PAPERS = ["figclip", "srl-clip-b16", "srl-clip-b32", "srl-clip-l14"]
MODEL_KEYS = {"model", "pretrained", "activation"}


class Stopped(Exception):
    """Raised in place of the stage."""


@pytest.fixture
def captured(tmp_path, monkeypatch):
    """Run the command line in an empty folder; return what would have been given to the stage."""
    monkeypatch.chdir(tmp_path)
    given = {}

    def stands_in(files, run, **values):
        given.update(values, files=files, run=run)
        raise Stopped

    monkeypatch.setattr(figclip_cli.adapt.run, "adapt", stands_in)

    def call(*arguments):
        given.clear()
        result = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
        assert "unexpected Stopped" in result.stderr, result.stderr
        return SimpleNamespace(**given, said=result.stderr)

    return call


@pytest.fixture
def refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def stands_in(*_, **__):
        raise Stopped

    monkeypatch.setattr(figclip_cli.adapt.run, "adapt", stands_in)

    def call(*arguments):
        result = CliRunner().invoke(app, ["adapt", *map(str, arguments)])
        assert result.exit_code == 2 and "Stopped" not in result.stderr and result.stdout == ""
        return result.stderr

    return call


def written(text, name="c.toml"):
    Path(name).write_text(text)
    return name


MODEL = ("--model", "ViT-B-32")


def test_without_flags_the_options_are_the_librarys(captured):
    found = captured(*MODEL)
    assert found.options == AdaptOptions() and found.execution == Execution()
    assert found.files == [SourceFiles((Path("frames.h5"),), Path("prompts.jsonl"))]
    assert found.lists == ClipLists() and not found.resume and not found.overwrite
    assert "frames: frames.h5 (default)" in found.said and "prompts: prompts.jsonl (default)" in found.said
    assert found.run.path == Path("runs/ViT-B-32-rank64")


def another(item, default):
    """A value of a field that is not its default, as written and as meant."""
    choices = item.metadata.get("choices")
    if choices:
        value = next(one for one in choices if one != default)
        return value, value
    special = {
        "targets": ("q,fc", ("q", "fc")),
        "negative_kinds": ("verb-role, role-noun", ("verb-role", "role-noun")),
        "anchor": ("feature=0.5,geometry=2", {"feature": 0.5, "geometry": 2.0}),
        "blocks": ("last-2", "last-2"),
        "lora_dropout": ("0.25", 0.25),
        "fraction": ("0.25", 0.25),
    }
    if item.name in special:
        return special[item.name]
    kind = str(item.type)
    if "bool" in kind:
        return None, not default
    return ("7", 7) if "int" in kind else ("0.125", 0.125)


ALL_FIELDS = [(owner, item) for owner in (AdaptOptions, Execution) for item in fields(owner)]


@pytest.mark.parametrize(("owner", "item"), ALL_FIELDS, ids=[item.name for _, item in ALL_FIELDS])
def test_every_option_is_a_flag_and_a_config_key(captured, owner, item):
    default = getattr(owner(), item.name)
    text, value = another(item, default)
    flag = item.name.replace("_", "-")
    as_flag = [f"--no-{flag}" if default is True else f"--{flag}"] if text is None else [f"--{flag}", text]
    in_file = str(value).lower() if text is None else text if value in (7, 0.125, 0.25) else json.dumps(text)
    for arguments in (as_flag, ["--config", written(f"{flag} = {in_file}\n")]):
        found = captured(*MODEL, *arguments)
        changed = found.options if owner is AdaptOptions else found.execution
        assert changed == owner(**{item.name: value}) != owner()


def test_lr_is_a_second_spelling(captured):
    assert captured(*MODEL, "--lr", "0.5").options.learning_rate == 0.5


def test_flags_of_data_reach_the_stage(captured):
    found = captured(
        *MODEL, *"--frames a.h5 --prompts p.jsonl --mix 0.5 --clips c1 --clips c2 --exclude x1 --exclude x2".split(),
        *"--validation v --name n --runs r --device cpu --resume --overwrite --activation gelu --pretrained w".split(),
    )  # fmt: skip
    assert found.files == [SourceFiles((Path("a.h5"),), Path("p.jsonl"), 0.5)]
    assert found.lists == ClipLists((Path("c1"), Path("c2")), (Path("x1"), Path("x2")), Path("v"))
    assert found.run.path == Path("r/n") and str(found.device) == "cpu" and found.resume and found.overwrite
    assert found.source == ModelSource("ViT-B-32", "w", "gelu")


def pair(*texts):
    return [argument for text in texts for argument in text.split("=", 1)]


def test_one_prompts_file_takes_all_frames(captured):
    files = captured(*MODEL, "--frames", "a.h5", "--frames", "b*.h5", "--prompts", "p.jsonl").files
    assert files == [SourceFiles((Path("a.h5"), Path("b*.h5")), Path("p.jsonl"))]


def test_several_prompts_files_go_with_as_many_frames_in_order(captured):
    arguments = pair("--frames=a.h5", "--prompts=p", "--frames=b*.h5", "--prompts=q", "--mix=2,0.25")
    assert captured(*MODEL, *arguments).files == [
        SourceFiles((Path("a.h5"),), Path("p"), 2.0),
        SourceFiles((Path("b*.h5"),), Path("q"), 0.25),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompts", "p", "--prompts", "q"], "1 --frames do not pair with 2 --prompts"),
        (pair("--frames=a", "--frames=b", "--frames=c", "--prompts=p", "--prompts=q"), "3 --frames do not pair with 2"),
        (["--mix", "1,2"], "--mix 1,2 is not a number for each of 1 prompts files"),
        (["--mix", "a"], "--mix a is not a number"),
        (["--mix", ""], "--mix is not a number"),
        ([*pair("--frames=a", "--frames=b", "--prompts=p", "--prompts=q"), "--mix", "1"], "--mix 1 is not a number"),
        (["--mix", "0"], "the weight of prompts.jsonl must be above 0"),
        (["--mix", "nan"], "the weight of prompts.jsonl must be above 0"),
        (["--anchor", "feature"], "--anchor feature is not KIND=WEIGHT"),
        (["--anchor", "feature=much"], "--anchor feature=much is not KIND=WEIGHT"),
        (["--anchor", "featur=1"], "--anchor knows no 'featur'"),
        (["--anchor", "=1"], "--anchor knows no ''"),
        (["--anchor", "feature=-1"], "--anchor feature must be 0 or more"),
        (["--anchor", "feature=1,geometry=nan"], "--anchor geometry must be 0 or more"),
        (["--targets", "q,x"], "targets must be among"),
        (["--targets", ""], "targets must be among"),
        (["--targets", ","], "targets must be among"),
        (["--blocks", "some"], "blocks 'some' cannot be read"),
        (["--fraction", "10"], "--fraction must be above 0 and at most 1"),
        (["--batch-clips", "1"], "--batch-clips must be at least 2"),
        (["--precision", "fp16", "--rank", "0"], "--precision fp16 does not go with --rank 0"),
    ],
)
def test_what_cannot_be_meant_is_one_line_and_a_hint(refused, arguments, message):
    lines = [line for line in refused(*MODEL, *arguments).splitlines() if "(default)" not in line]
    assert lines[0].startswith("error: ") and message in lines[0]
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: "))


@pytest.mark.parametrize(
    "arguments",
    [["--rank", "-1"], ["--micro-batch-clips", "0"], ["--validate-every", "0"], ["--workers", "-1"],
     ["--towers", "all"], ["--warmup-steps", "-1"], ["--early-stop", "-1"],
     ["--checkpoint-every", "-1"], ["--schedule", "linear"]],
)  # fmt: skip
def test_a_value_out_of_bounds_names_its_flag(refused, arguments):
    assert arguments[0] in refused(*MODEL, *arguments)


def test_lists_may_have_spaces_and_a_last_comma(captured):
    options = captured(*MODEL, "--targets", "q, v ,", "--anchor", " feature = 1 ,").options
    assert options.targets == ("q", "v") and options.anchor == {"feature": 1.0}


# Recipes.


def document_of(name):
    from figclip_cli.adapt.recipe import tomllib

    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


@pytest.mark.parametrize("name", recipe_names())
def test_every_key_of_a_recipe_is_a_flag_spelled_as_one(name):
    flags = {option for p in get_command(app).commands["adapt"].params for option in p.opts}
    assert {f"--{key}" for key in document_of(name)} <= flags


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_goes_through_the_command_line(captured, name):
    found = captured("--recipe", name, *(() if name in PAPERS else MODEL))
    assert found.options == options_of_recipe(name)
    document = document_of(name)
    assert found.source == ModelSource(document.get("model", "ViT-B-32"), document.get("pretrained"))
    assert found.run.path == Path("runs") / name
    given = {key.replace("-", "_") for key in document} - MODEL_KEYS
    assert all(key in found.options.as_dict() for key in given)


@pytest.mark.parametrize("name", PAPERS)
def test_every_recipe_names_a_model_and_weights_that_exist(name):
    import open_clip

    document = document_of(name)
    assert document["pretrained"] in open_clip.list_pretrained_tags_by_model(document["model"])
    assert document["model"].endswith("-quickgelu")  # OpenAI's weights


def test_a_recipe_in_the_real_program_fails_at_the_frames_and_not_before(figclip, tmp_path):
    result = figclip("adapt", "--recipe", "srl-clip-b16", cwd=tmp_path)
    assert result.returncode == 3 and "frames.h5 does not exist" in result.stderr


def test_the_help_names_every_recipe():
    text = CliRunner().invoke(app, ["adapt", "--help"], env={"COLUMNS": "200"}).stdout
    assert f"Settings of a whole run: {', '.join(recipe_names())}." in text


def test_an_unknown_recipe_gets_the_nearest_name(refused):
    assert refused("--recipe", "srl-clip-b23").splitlines() == [
        "error: there is no recipe 'srl-clip-b23'",
        "hint: did you mean 'srl-clip-b32'?",
    ]


def test_flag_wins_over_config_over_recipe_over_default(captured):
    config, recipe = written("epochs = 4\nrank = 4\n"), options_of_recipe("tiny")
    for arguments in (["--recipe", "tiny", "--config", config], ["--config", config, "--recipe", "tiny"]):
        options = captured(*MODEL, *arguments, "--rank", "2").options
        assert (options.rank, options.epochs, options.batch_clips, options.weight_decay) == (
            2,
            4,
            recipe.batch_clips,
            0.01,
        )
        assert recipe.batch_clips != AdaptOptions().batch_clips and recipe.epochs not in (4, AdaptOptions().epochs)


@pytest.mark.parametrize("table", ["", "[adapt]\n"])
def test_a_recipe_may_be_named_in_a_config(captured, table):
    config = written(f'{table}recipe = "tiny"\nepochs = 4\n')
    found = captured(*MODEL, "--config", config)
    assert found.options == options_of_recipe("tiny", epochs=4)
    assert found.run.path == Path("runs/tiny")


def test_a_recipe_named_as_a_flag_wins_over_one_in_a_config(captured):
    config = written('recipe = "tiny"\n')
    for arguments in (["--recipe", "figclip", "--config", config], ["--config", config, "--recipe", "figclip"]):
        assert captured(*arguments).options == AdaptOptions()


def test_an_unknown_recipe_in_a_config_is_one_line(refused):
    assert "there is no recipe 'tin'" in refused("--config", written('recipe = "tin"\n'))


def source_of(found):
    return found.source.model, found.source.pretrained, found.source.activation


def test_another_model_drops_the_recipes_weights(captured):
    assert source_of(captured("--recipe", "figclip", "--model", "RN50")) == ("RN50", None, None)
    found = captured("--recipe", "figclip", "--model", "RN50", "--pretrained", "cc12m")
    assert source_of(found) == ("RN50", "cc12m", None)


def test_other_weights_keep_the_recipes_model(captured):
    assert source_of(captured("--recipe", "figclip", "--pretrained", "w.pt")) == ("ViT-B-32-quickgelu", "w.pt", None)


@pytest.mark.parametrize("recipe_first", [False, True])
@pytest.mark.parametrize(
    ("text", "flags", "expected"),
    [
        ('model = "RN50"\n', [], ("RN50", None, None)),
        ('model = "RN50"\npretrained = "cc12m"\n', [], ("RN50", "cc12m", None)),
        ('pretrained = "w.pt"\nactivation = "gelu"\n', [], ("ViT-B-32-quickgelu", "w.pt", "gelu")),
        ('model = "RN50"\npretrained = "cc12m"\n', ["--model", "RN101"], ("RN101", "cc12m", None)),
        ('pretrained = "w.pt"\n', ["--model", "RN101"], ("RN101", "w.pt", None)),
        ('model = "RN50"\n', ["--pretrained", "w.pt"], ("RN50", "w.pt", None)),
        ("epochs = 3\n", [], ("ViT-B-32-quickgelu", "openai", None)),
    ],
)
def test_a_config_that_names_a_model_drops_the_recipes_weights_in_either_order(
    captured, recipe_first, text, flags, expected
):
    both = [["--recipe", "figclip"], ["--config", written(text)]]
    ordered = both if recipe_first else both[::-1]
    assert source_of(captured(*ordered[0], *ordered[1], *flags)) == expected


def test_a_recipe_in_a_config_with_another_model_leaves_the_weights_to_the_config(captured):
    assert source_of(captured("--config", written('recipe = "figclip"\nmodel = "RN50"\n'))) == ("RN50", None, None)


def test_a_key_that_no_flag_answers_to_gets_the_nearest(refused):
    said = refused("--config", written("epoch = 3\n"))
    assert "unknown key 'epoch'" in said and "did you mean 'epochs'?" in said


# The help.

CUT_OFF = {"--no-natural-negatives"}


def spelled_flags():
    return {o for p in get_command(app).commands["adapt"].params for o in (*p.opts, *p.secondary_opts)}


def test_no_flag_is_cut_off_in_the_help_of_a_narrow_terminal():
    """But those that are known to be too long for the column."""
    text = CliRunner().invoke(app, ["adapt", "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"}).stdout
    shown = set(re.findall(r"--?[a-z][a-z0-9-]*(?![a-z0-9…-])", text))
    assert max(map(len, text.splitlines())) <= 80
    assert spelled_flags() - shown == CUT_OFF


def test_every_flag_has_a_help_text():
    for parameter in get_command(app).commands["adapt"].params:
        assert getattr(parameter, "help", None), parameter.name


def test_the_signature_has_each_flag_once():
    names = [p.name for p in get_command(app).commands["adapt"].params]
    assert len(names) == len(set(names)) and {item.name for _, item in ALL_FIELDS} <= set(names)
