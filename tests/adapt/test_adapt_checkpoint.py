"""Checkpoints: bit for bit what was saved, and nothing of another version or half a file."""

from __future__ import annotations

import json
import struct

import pytest
import torch
from safetensors.torch import load_file

from figclip_cli.adapt.checkpoint import (
    Progress,
    Trained,
    load_weights,
    read_checkpoint,
    restore,
    save_checkpoint,
    save_weights,
    weights_of,
)
from figclip_cli.adapt.optimizer import make_optimizer
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.step import Model
from figclip_cli.errors import InputError
from figclip_cli.models.clip import load_clip
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import attach_lora
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tensors import load_tensors, save_tensors

PROGRESS = Progress(epoch=3, number=7, step=52, best_score=0.1 + 0.2, best_step=40, validations_since_best=2)
OPTIONS = AdaptOptions(rank=2, contextualizer_lr=1e-2, learning_rate=1e-3, learn_temperature=True)


@pytest.fixture
def fresh(tiny_model):
    def build(seed=0, options=OPTIONS, scaler=False):
        clip = load_clip(ModelSource(str(tiny_model)), device="cpu")
        attach_lora(clip.model, options.lora(), seed=seed, image_size=32, context_length=77)
        clip.model.logit_scale.requires_grad_(options.learn_temperature)
        torch.manual_seed(seed)
        vc = VideoContextualizer(ContextualizerConfig(width=32, layers=1)) if options.contextualizer else None
        optimizer = make_optimizer(Model(clip, vc), options)
        return Trained(clip.model, vc, optimizer, torch.amp.GradScaler("cpu", enabled=scaler, init_scale=64.0))

    return build


def parameters_of(trained):
    return [p for group in trained.optimizer.param_groups for p in group["params"]]


def stepped(trained, steps, seed=0):
    """Some steps of an optimizer with gradients that a seed decides."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for parameter in parameters_of(trained):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        trained.optimizer.step()
    return trained


def state_of(trained):
    moments = trained.optimizer.state_dict()["state"]
    return weights_of(trained) | {f"{i}.{key}": value for i, one in moments.items() for key, value in one.items()}


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) and first[name].dtype == second[name].dtype for name in first
    )


@pytest.mark.parametrize(
    "options",
    [OPTIONS, AdaptOptions(rank=2, contextualizer=False), AdaptOptions(rank=0, towers="both")],
    ids=["lora", "no contextualizer", "full"],
)
def test_a_checkpoint_gives_back_every_bit_and_the_next_steps_are_the_same(fresh, tmp_path, options):
    trained = stepped(fresh(options=options), 3)
    save_checkpoint(tmp_path / "c.safetensors", trained, PROGRESS)
    again = fresh(seed=9, options=options)
    assert not same(state_of(again), state_of(trained))
    assert load_checkpoint(tmp_path / "c.safetensors", again) == PROGRESS
    assert same(state_of(again), state_of(trained)) and len(state_of(again)) > len(weights_of(again))
    assert same(state_of(stepped(again, 2, seed=5)), state_of(stepped(trained, 2, seed=5)))


def load_checkpoint(path, trained):
    found = read_checkpoint(path)
    return restore(trained, *found)


def test_a_checkpoint_saved_twice_is_the_same_bytes(fresh, tmp_path):
    trained = stepped(fresh(), 2)
    for name in ("a", "b"):
        save_checkpoint(tmp_path / name, trained, PROGRESS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_before_the_first_step_there_are_no_moments(fresh, tmp_path):
    save_checkpoint(tmp_path / "c", fresh(), Progress())
    again = fresh(seed=9)
    assert load_checkpoint(tmp_path / "c", again) == Progress()
    assert again.optimizer.state_dict()["state"] == {}


def test_rates_and_decays_are_the_options_and_not_the_checkpoints(fresh, tmp_path):
    """A rate that a schedule had set when the checkpoint was written must not outlive it."""
    trained = stepped(fresh(), 1)
    before = [(g["base_lr"], g["weight_decay"]) for g in trained.optimizer.param_groups]
    for group in trained.optimizer.param_groups:
        group["lr"] = 123.0
    save_checkpoint(tmp_path / "c", trained, PROGRESS)
    again = fresh(seed=9)
    load_checkpoint(tmp_path / "c", again)
    assert [(g["base_lr"], g["weight_decay"]) for g in again.optimizer.param_groups] == before
    assert all(g["lr"] != 123.0 for g in again.optimizer.param_groups)


def test_the_loss_scale_of_fp16_goes_on(fresh, tmp_path):
    trained = fresh(scaler=True)
    trained.scaler.load_state_dict({**trained.scaler.state_dict(), "scale": 8.0, "_growth_tracker": 5})
    save_checkpoint(tmp_path / "c", trained, PROGRESS)
    again = fresh(scaler=True)
    assert again.scaler.state_dict()["scale"] == 64.0
    load_checkpoint(tmp_path / "c", again)
    assert again.scaler.state_dict()["scale"] == 8.0 and again.scaler.state_dict()["_growth_tracker"] == 5


def test_best_weights_are_the_trained_ones_alone(fresh, tmp_path):
    trained = stepped(fresh(), 2)
    save_weights(tmp_path / "best", trained, PROGRESS)
    tensors, metadata = load_tensors(tmp_path / "best", "best weights")
    assert metadata["progress"]["best_score"] == PROGRESS.best_score
    assert same(tensors, weights_of(trained)) and not any("optimizer" in name for name in tensors)
    again = fresh(seed=9)
    load_weights(again, tensors)
    assert same(weights_of(again), weights_of(trained))


def test_saved_weights_are_copies(fresh):
    trained = fresh()
    kept = {name: tensor.clone() for name, tensor in weights_of(trained).items() if name.startswith("adapter.")}
    taken = weights_of(trained)
    stepped(trained, 1)
    assert all(torch.equal(taken[name], kept[name]) for name in kept)


@pytest.mark.parametrize(
    "metadata",
    [
        {"epoch": 1, "step": 4},
        {"progress": {"epoch": 1, "step": 2, "finished": 3}, "scaler": {}},
        {"progress": None, "scaler": {}},
        {"progress": {"epoch": 1}},
    ],
    ids=["first format", "unknown field", "no progress", "no scaler"],
)
def test_a_checkpoint_of_another_version_is_refused_before_anything_is_loaded(fresh, tmp_path, metadata):
    save_tensors(tmp_path / "c", weights_of(stepped(fresh(), 1)), metadata)
    again = fresh(seed=9)
    before = weights_of(again)
    with pytest.raises(InputError, match="checkpoint .*c is of another version of figclip") as caught:
        load_checkpoint(tmp_path / "c", again)
    assert caught.value.hint == "start the run anew" and same(weights_of(again), before)


def cut(data):
    return data[: len(data) // 2]


def garbage(data):
    return b"\x00" * 64


def without_metadata(data):
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    del header["__metadata__"]
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


@pytest.mark.parametrize("damage", [cut, garbage, without_metadata, lambda data: b""])
def test_a_damaged_checkpoint_is_refused_in_one_line(fresh, tmp_path, damage):
    path = tmp_path / "c"
    save_checkpoint(path, stepped(fresh(), 1), PROGRESS)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match="^checkpoint .*c cannot be read") as caught:
        load_checkpoint(path, fresh())
    assert caught.value.hint and caught.value.exit_code == 3


def test_where_there_is_no_checkpoint_none_is_read(tmp_path):
    assert read_checkpoint(tmp_path / "absent") is None


def test_a_checkpoint_of_another_rank_is_refused(fresh, tmp_path):
    save_checkpoint(tmp_path / "c", fresh(), PROGRESS)
    with pytest.raises(InputError, match="does not fit the model"):
        load_checkpoint(tmp_path / "c", fresh(options=AdaptOptions(rank=4, learn_temperature=True)))


def test_a_checkpoint_is_whole_or_absent(fresh, tmp_path, monkeypatch):
    path = tmp_path / "c"
    save_checkpoint(path, fresh(), PROGRESS)
    before = path.read_bytes()

    def stops(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("figclip_cli.models.tensors.save_file", stops)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, stepped(fresh(), 1), PROGRESS)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_names_in_a_checkpoint_are_those_of_the_adapter(fresh, tmp_path):
    trained = fresh()
    save_checkpoint(tmp_path / "c", trained, PROGRESS)
    names = set(load_file(tmp_path / "c"))
    assert "adapter.visual.transformer.resblocks.0.attn.q.lora_A" in names and "adapter.logit_scale" in names
    assert "contextualizer.video_token" in names
