"""The learning rate at each step, and which weights decay."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from figclip_cli.adapt.optimizer import make_optimizer
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.step import Model
from figclip_cli.learning_rate import learning_rate_factor
from figclip_cli.models.clip import load_clip
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import attach_lora
from figclip_cli.models.source import ModelSource


def factor(step, warmup=0, schedule="constant", total=100):
    return learning_rate_factor(step, warmup_steps=warmup, schedule=schedule, total_steps=total)


@pytest.mark.parametrize("step", [0, 1, 50, 99, 1000])
def test_a_constant_rate_is_constant(step):
    assert factor(step) == 1.0


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_warmup_rises_in_equal_steps_and_never_is_zero(schedule):
    found = [factor(step, 4, schedule) for step in range(5)]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


@pytest.mark.parametrize(("step", "expected"), [(0, 1.0), (25, (1 + math.sqrt(0.5)) / 2), (50, 0.5), (100, 0.0)])
def test_a_cosine_falls_from_one_to_zero(step, expected):
    assert factor(step, schedule="cosine") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("step", "expected"), [(20, 1.0), (60, 0.5), (100, 0.0), (120, 0.0)])
def test_after_a_warmup_the_cosine_takes_what_is_left(step, expected):
    assert factor(step, 20, "cosine") == pytest.approx(expected, abs=1e-12)


def test_a_cosine_only_falls_and_the_last_step_still_moves():
    found = [factor(step, 10, "cosine") for step in range(10, 100)]
    assert all(a > b for a, b in zip(found, found[1:], strict=False)) and found[-1] > 0


@pytest.mark.parametrize("total", [1, 3, 5])
def test_a_warmup_longer_than_the_run_is_no_error(total):
    assert [factor(step, 5, "cosine", total) for step in range(total)] == [(step + 1) / 5 for step in range(total)]
    assert math.isfinite(factor(5, 5, "cosine", 5))


@pytest.fixture
def model(tiny_model):
    def build(options, contextualizer=True):
        clip = load_clip(ModelSource(str(tiny_model)), device="cpu")
        attach_lora(clip.model, options.lora(), seed=0, image_size=32, context_length=77)
        if options.learn_temperature:
            clip.model.logit_scale.requires_grad_()
        vc = VideoContextualizer(ContextualizerConfig(width=32, layers=1)) if contextualizer else None
        return Model(clip, vc)

    return build


def groups_of(model, options):
    """The rate and decay of each trained parameter, by name."""
    names = {id(p): name for name, p in model.clip.model.named_parameters()}
    if model.contextualizer is not None:
        names |= {id(p): f"vc.{name}" for name, p in model.contextualizer.named_parameters()}
    optimizer = make_optimizer(model, options)
    grouped = [
        (names[id(p)], g["base_lr"], g["lr"], g["weight_decay"], p) for g in optimizer.param_groups for p in g["params"]
    ]
    assert len({name for name, *_ in grouped}) == len(grouped)
    return {name: (base, rate, decay, p) for name, base, rate, decay, p in grouped}


OPTIONS = AdaptOptions(rank=2, learning_rate=1e-3, weight_decay=0.1, learn_temperature=True)


@pytest.mark.parametrize("options", [OPTIONS, replace(OPTIONS, rank=0), replace(OPTIONS, towers="both")])
def test_matrices_decay_and_vectors_and_the_temperature_do_not(model, options):
    found = groups_of(model(options), options)
    assert "logit_scale" in found and "vc.video_token" in found and "vc.input_norm.bias" in found
    for name, (*_, decay, parameter) in found.items():
        assert decay == (0.1 if parameter.ndim > 1 else 0.0), name
    assert any(decay for *_, decay, _ in found.values())


def test_everything_that_is_trained_and_nothing_else_is_optimized(model):
    made = model(OPTIONS)
    found = groups_of(made, OPTIONS)
    trained = {name for name, p in made.clip.model.named_parameters() if p.requires_grad}
    assert set(found) == trained | {f"vc.{name}" for name, _ in made.contextualizer.named_parameters()}
    assert all("lora_" in name for name in trained - {"logit_scale"})


def test_the_rate_of_the_contextualizer_is_its_own(model):
    options = replace(OPTIONS, contextualizer_lr=5e-2)
    for name, (base, rate, *_) in groups_of(model(options), options).items():
        assert base == rate == (5e-2 if name.startswith("vc.") else 1e-3), name


def test_without_a_rate_of_its_own_the_contextualizer_has_the_common_one(model):
    assert {base for base, *_ in groups_of(model(OPTIONS), OPTIONS).values()} == {1e-3}


def test_without_a_contextualizer_its_rate_is_of_nothing(model):
    options = replace(OPTIONS, contextualizer=False, contextualizer_lr=5e-2)
    assert {base for base, *_ in groups_of(model(options, contextualizer=False), options).values()} == {1e-3}


def test_a_step_moves_each_group_by_its_own_rate_and_decay(model):
    """AdamW's first step is the rate in the direction of the gradient's sign, and rate x decay of the weight."""
    options = replace(OPTIONS, contextualizer_lr=5e-2)
    made = model(options)
    optimizer = make_optimizer(made, options)
    matrix, vector = made.contextualizer.encoder.layers[0].linear1.weight, made.contextualizer.input_norm.weight
    scale = made.clip.model.logit_scale
    before = [p.detach().clone() for p in (matrix, vector, scale)]
    for parameter in (matrix, vector, scale):
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.allclose(matrix, before[0] * (1 - 5e-2 * 0.1) - 5e-2, atol=1e-6)
    assert torch.allclose(vector, before[1] - 5e-2, atol=1e-6)
    assert torch.allclose(scale, before[2] - 1e-3, atol=1e-6)
