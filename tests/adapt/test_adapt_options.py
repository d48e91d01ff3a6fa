"""Options: the paper's defaults, what cannot be meant, and recipes."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import pytest

from figclip_cli.adapt import options_of_recipe
from figclip_cli.adapt.options import ANCHORS, SCORES, TERMS, AdaptOptions, Execution
from figclip_cli.adapt.recipe import recipe_file, recipe_names
from figclip_cli.errors import UsageError

NAN, INF = float("nan"), float("inf")


def test_the_defaults_are_the_papers():
    options = AdaptOptions()
    assert (options.rank, options.targets, options.epochs, options.batch_clips) == (64, ("q", "k", "v"), 40, 20)
    assert (options.learning_rate, options.schedule, options.towers) == (1e-6, "constant", "image")
    assert options.term_weights() == {"clip_event": 1.0, "vc_event": 1.0, "clip_video": 0.25, "vc_video": 0.25}
    assert options.lora().alpha == 64.0


REFUSED = [
    ({"epochs": 0}, "--epochs"),
    ({"epochs": -3}, "--epochs"),
    ({"contextualizer_layers": 0}, "--contextualizer-layers"),
    ({"batch_clips": 1}, "--batch-clips"),
    *(({name: value}, "--" + name.replace("_", "-"))
      for name in ("learning_rate", "contextualizer_lr", "clip_gradient_norm") for value in (0.0, -1.0, NAN, INF)),
    *(({f"{term}_weight": value}, f"--{term.replace('_', '-')}-weight")
      for term in TERMS for value in (-0.1, NAN, INF)),
    *(({"weight_decay": value}, "--weight-decay") for value in (-0.1, NAN, INF)),
    *(({"fraction": value}, "--fraction") for value in (0.0, -0.5, 1.1, NAN)),
    *(({name: "x"}, "--" + name.replace("_", "-"))
      for name in ("schedule", "precision", "best_by", "select", "towers")),
    ({"anchor": {"features": 1.0}}, "--anchor"),
    *(({"anchor": {"feature": value}}, "--anchor feature") for value in (-1.0, NAN, INF)),
    ({"towers": "text", "anchor": {"feature": 1.0}}, "--anchor"),
    ({"precision": "fp16", "rank": 0}, "--precision fp16"),
    ({"vc_event_weight": 0.0, "vc_video_weight": 0.0}, "--no-contextualizer"),
    (dict.fromkeys([f"{term}_weight" for term in TERMS], 0.0), "objective"),
    ({"contextualizer": False, "clip_event_weight": 0.0, "clip_video_weight": 0.0}, "objective"),
    ({"rank": -1}, "rank"),
    ({"alpha": INF}, "alpha"),
    *(({"lora_dropout": value}, "dropout") for value in (-0.1, 1.0, NAN)),
    ({"lora_dropout": 0.1, "rank": 0}, "dropout"),
    ({"targets": ("x",)}, "targets"),
    ({"targets": ()}, "targets"),
    ({"blocks": "last"}, "blocks"),
]  # fmt: skip


@pytest.mark.parametrize(("values", "named"), REFUSED)
def test_what_cannot_be_meant_is_refused_in_one_line_that_names_the_flag(values, named):
    with pytest.raises(UsageError) as caught:
        AdaptOptions(**values)
    said = caught.value.message + " " + caught.value.hint
    assert named in said and "\n" not in said and caught.value.hint and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("values", "hint"),
    [({"schedule": "cosin"}, "cosine"), ({"best_by": "mrr"}, "event_mrr"), ({"anchor": {"features": 1}}, "feature")],
)
def test_a_value_that_is_nearly_right_gets_the_right_one(values, hint):
    with pytest.raises(UsageError) as caught:
        AdaptOptions(**values)
    assert caught.value.hint == f"did you mean '{hint}'?"


ACCEPTED = [
    {"rank": 0},
    {"rank": 0, "precision": "bf16"},
    {"batch_clips": 2},
    {"clip_event_weight": 0.0, "clip_video_weight": 0.0},
    {"contextualizer": False, "clip_event_weight": 0.0},
    {"anchor": {"feature": 0.0, "geometry": 2.5}},
    {"towers": "both", "anchor": {"feature": 1.0}},
    {"weight_decay": 0.0},
    {"fraction": 1e-6},
    {"blocks": "0-3,11"},
    *({"best_by": name} for name in SCORES),
]


@pytest.mark.parametrize("values", ACCEPTED)
def test_what_can_be_meant_is_taken_and_is_json(values):
    options = AdaptOptions(**values)
    plain = options.as_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert set(plain) == {item.name for item in fields(AdaptOptions)}
    assert all(plain[name] == value for name, value in values.items() if name != "targets")


def test_two_options_are_equal_when_their_json_is():
    assert AdaptOptions(alpha=64.0).as_dict() == AdaptOptions().as_dict()
    assert AdaptOptions(alpha=32.0).as_dict() != AdaptOptions().as_dict()
    assert AdaptOptions(anchor={"feature": 1.0}).as_dict() != AdaptOptions().as_dict()


def test_without_a_contextualizer_its_terms_weigh_nothing():
    weights = AdaptOptions(contextualizer=False).term_weights()
    assert weights == {"clip_event": 1.0, "vc_event": 0.0, "clip_video": 0.25, "vc_video": 0.0}


@pytest.mark.parametrize(
    ("select", "early_stop", "best"),
    [("auto", 0, False), ("auto", 2, True), ("last", 2, False), ("best", 0, True), ("best", 2, True)],
)
def test_the_best_state_is_taken_where_it_is_asked_for(select, early_stop, best):
    assert AdaptOptions(select=select, early_stop=early_stop).selects_best() == best


def test_execution_is_json_and_has_no_field_of_the_options():
    plain = Execution(workers=2, micro_batch_clips=1).as_dict()
    assert json.loads(json.dumps(plain)) == plain and plain["workers"] == 2
    assert not {item.name for item in fields(AdaptOptions)} & {item.name for item in fields(Execution)}


@pytest.mark.parametrize("owner", [AdaptOptions, Execution])
def test_every_option_says_what_it_is(owner):
    for item in fields(owner):
        assert item.metadata["help"].endswith(".") and item.metadata["panel"], item.name


def test_the_anchors_and_terms_that_exist_are_known():
    assert set(AdaptOptions().term_weights()) == set(TERMS)
    AdaptOptions(anchor=dict.fromkeys(ANCHORS, 1.0))


@pytest.mark.parametrize("name", ["figclip", "srl-clip-b32", "srl-clip-b16", "srl-clip-l14"])
def test_the_papers_recipes_are_the_defaults(name):
    assert options_of_recipe(name) == AdaptOptions()


def test_a_recipe_may_be_changed():
    assert options_of_recipe("tiny", epochs=3) == replace(options_of_recipe("tiny"), epochs=3)
    assert options_of_recipe("tiny").rank == 64 and options_of_recipe("tiny").anchor == {
        "feature": 1.0,
        "geometry": 10.0,
    }
    assert options_of_recipe("figclip", targets=("q",)).targets == ("q",)


def test_the_recipes_that_exist_are_known():
    assert recipe_names() == ["figclip", "srl-clip-b16", "srl-clip-b32", "srl-clip-l14", "tiny"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("srl-clip-b23", "srl-clip-b32"), ("figclp", "figclip"), ("../recipes/tiny", "tiny"), ("Tiny", "tiny")],
)
def test_an_unknown_recipe_gets_the_nearest_name(name, hint):
    with pytest.raises(UsageError, match="there is no recipe") as caught:
        recipe_file(name)
    assert hint in caught.value.hint
