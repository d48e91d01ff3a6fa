"""The two ways of computing an adapted layer: equal to plain operations, forward and backward, in every shape."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from figclip_cli.models.lora import LinearLora, LoraConfig, QkvLora
from figclip_cli.models.lora import functional as lora_functional
from figclip_cli.models.lora.functional import Update, lora_linear, merging_pays


@pytest.fixture(params=["merged", "low-rank"])
def way(request, monkeypatch):
    """Force one of the two ways."""
    monkeypatch.setattr(lora_functional, "merging_pays", lambda *_: request.param == "merged")
    return request.param


def tensors(rows=(5,), fan_in=6, width=4, chunks=3, places=(0, 1, 2), rank=2, dtype=torch.float64, bias=True):
    generator = torch.Generator().manual_seed(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    x = draw(*rows, fan_in)
    weight, offset = draw(chunks * width, fan_in), draw(chunks * width) if bias else None
    a, b = draw(len(places) * rank, fan_in).requires_grad_(), draw(len(places) * width, rank).requires_grad_()
    return x, weight, offset, a, b, Update(rank, 0.7, tuple(places))


def plain(x, weight, bias, a, b, update):
    """The same in plain operations."""
    width = b.shape[0] // len(update.places)
    parts = list(F.linear(x, weight, bias).split(width, dim=-1))
    for i, place in enumerate(update.places):
        own_a, own_b = a[i * update.rank : (i + 1) * update.rank], b[i * width : (i + 1) * width]
        parts[place] = parts[place] + update.scale * (x @ own_a.t() @ own_b.t())
    return torch.cat(parts, dim=-1)


SHAPES = [
    {},
    {"rows": (2, 3)},
    {"rows": ()},
    {"rows": (1, 1)},
    {"places": (0, 2)},
    {"places": (1,)},
    {"chunks": 1, "places": (0,), "width": 7},
    {"chunks": 1, "places": (0,), "width": 3, "fan_in": 9, "rank": 1},
    {"rank": 1},
    {"rank": 5},  # above the widths: dA and dB go through the full gradient
    {"bias": False},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("needs_x", [True, False])
def test_values_and_gradients_are_those_of_plain_operations(way, shape, needs_x):
    x, weight, bias, a, b, update = tensors(**shape)
    x.requires_grad_(needs_x)
    found, expected = lora_linear(x, weight, bias, a, b, update), plain(x, weight, bias, a, b, update)
    assert torch.allclose(found, expected)
    inputs = [a, b, *([x] if needs_x else [])]
    seed = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, seed), torch.autograd.grad(expected, inputs, seed), strict=True
    ):
        assert torch.allclose(ours, theirs)
    assert torch.autograd.gradcheck(lambda *_: lora_linear(x, weight, bias, a, b, update), inputs)


@pytest.mark.parametrize("trainable", [0, 1])
def test_one_matrix_can_be_trained_alone(way, trainable):
    x, weight, bias, a, b, update = tensors()
    (a, b)[1 - trainable].requires_grad_(False)
    gradient = torch.autograd.grad(lora_linear(x, weight, bias, a, b, update).sum(), (a, b)[trainable])[0]
    expected = torch.autograd.grad(plain(x, weight, bias, a, b, update).sum(), (a, b)[trainable])[0]
    assert torch.allclose(gradient, expected)


@pytest.mark.parametrize("rank", [2, 5])
def test_an_empty_batch_gives_nothing_and_zero_gradients(way, rank):
    x, weight, bias, a, b, update = tensors(rows=(0, 4), rank=rank)
    x.requires_grad_()
    y = lora_linear(x, weight, bias, a, b, update)
    assert y.shape == (0, 4, 12)
    y.sum().backward()
    assert x.grad.shape == x.shape and not a.grad.any() and not b.grad.any()


def test_frozen_weights_get_no_gradient_and_nothing_wide_is_kept():
    layer = QkvLora(torch.randn(24, 8), torch.randn(24), LoraConfig(2, 2.0))
    kept: list[torch.Tensor] = []
    x = torch.randn(50, 8)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = layer(x)
    own = {layer.weight.data_ptr(), layer.lora_A.data_ptr(), layer.lora_B.data_ptr(), x.data_ptr()}
    assert {tensor.data_ptr() for tensor in kept} <= own
    y.sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None
    assert not layer.weight.requires_grad and not layer.bias.requires_grad


def test_no_gradient_is_computed_for_an_input_that_needs_none(way, monkeypatch):
    """The first block of a frozen tower: its input comes from frozen layers."""
    x, weight, bias, a, b, update = tensors(rows=(7,))
    made = []
    real = lora_functional.merged_weight
    monkeypatch.setattr(lora_functional, "merged_weight", lambda *args: made.append(1) or real(*args))
    lora_linear(x, weight, bias, a, b, update).sum().backward()
    assert len(made) == (1 if way == "merged" else 0)  # for y, not for dx


def test_merging_pays_from_as_many_rows_as_the_width():
    assert not merging_pays(768, 768, 768) and merging_pays(769, 768, 768)
    assert not merging_pays(1200, 768, 3072) and merging_pays(1300, 768, 3072)


@pytest.mark.parametrize("rows", [4, 400])
def test_bfloat16_autocast_is_close_to_float32_and_keeps_small_updates(rows):
    x, weight, bias, a, b, update = tensors(rows=(rows,), fan_in=16, width=16, dtype=torch.float32)
    with torch.no_grad():
        b.mul_(1e-3)  # far below the rounding of a merged bfloat16 weight
    x.requires_grad_()
    expected = lora_linear(x, weight, bias, a, b, update)
    wanted = torch.autograd.grad(expected.square().sum(), (x, a, b))
    with torch.autocast("cpu", torch.bfloat16):
        found = lora_linear(x, weight, bias, a, b, update)
    assert found.dtype == torch.bfloat16
    got = torch.autograd.grad(found.float().square().sum(), (x, a, b))
    assert (found.float() - expected).norm() < 0.01 * expected.norm()
    for ours, theirs in zip(got, wanted, strict=True):
        assert ours.dtype == torch.float32 and (ours - theirs).norm() < 0.02 * theirs.norm()
    # The update itself, which is small, arrives.
    narrow = lora_linear(x.bfloat16(), torch.zeros(48, 16).bfloat16(), None, a.bfloat16(), b.bfloat16(), update)
    exact = lora_linear(x, torch.zeros(48, 16), None, a, b, update)
    assert (narrow.float() - exact).norm() < 0.02 * exact.norm()


def test_autocast_leaves_float64_alone():
    inputs = tensors()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lora_linear(*inputs), lora_linear(*inputs).double())


def test_dropout_acts_on_the_low_rank_input_alone():
    x, weight, bias, a, b, update = tensors(rows=(300,))
    x.requires_grad_()
    torch.manual_seed(0)
    found = lora_linear(x, weight, bias, a, b, update, dropout=0.5)
    torch.manual_seed(0)
    dropped = F.dropout(x, 0.5)
    expected = F.linear(x, weight, bias) + plain(dropped, torch.zeros_like(weight), None, a, b, update)
    assert torch.allclose(found, expected)
    seed = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(found, (x, a, b), seed), torch.autograd.grad(expected, (x, a, b), seed), strict=True
    ):
        assert torch.allclose(ours, theirs)


def layers():
    torch.manual_seed(0)
    fused = QkvLora(torch.randn(24, 8), torch.randn(24), LoraConfig(2, 4.0, targets=("q", "v")))
    single = LinearLora(torch.randn(12, 8), None, LoraConfig(2, 4.0), "fc")
    for layer in (fused, single):
        torch.nn.init.normal_(layer.lora_A)
        torch.nn.init.normal_(layer.lora_B)
    return fused, single


@pytest.mark.parametrize("which", [0, 1])
def test_layers_work_with_checkpointing_compiling_and_copying(way, which):
    layer = layers()[which]
    x = torch.randn(3, 5, 8, requires_grad=True)
    expected = layer(x)
    wanted = torch.autograd.grad(expected.square().sum(), (x, layer.lora_A, layer.lora_B))
    twin = copy.deepcopy(layer)
    for other, own in ((layer, checkpointed(layer)), (layer, torch.compile(layer, backend="aot_eager")), (twin, twin)):
        y = own(x)
        assert torch.allclose(y, expected, atol=1e-5)
        for ours, theirs in zip(
            torch.autograd.grad(y.square().sum(), (x, other.lora_A, other.lora_B)), wanted, strict=True
        ):
            assert torch.allclose(ours, theirs, atol=1e-3)


def checkpointed(layer):
    return lambda x: checkpoint(layer, x, use_reentrant=False)


@pytest.mark.parametrize("active", [True, False])
@pytest.mark.parametrize("targets", [("q", "k", "v"), ("q", "v"), ("k",), ("k", "v"), ("q",)])
def test_parts_of_a_fused_projection_can_be_computed_alone(targets, active):
    layer = QkvLora(torch.randn(24, 8), torch.randn(24), LoraConfig(2, 4.0, targets=targets))
    torch.nn.init.normal_(layer.lora_A)
    torch.nn.init.normal_(layer.lora_B)
    layer.active = active
    x = torch.randn(4, 8)
    whole = layer(x)
    parts = [layer(x, slice(0, 1)), layer(x, slice(1, 3))]
    assert torch.allclose(torch.cat(parts, dim=-1), whole, atol=1e-5)


def test_making_a_layer_draws_no_random_numbers():
    before = torch.get_rng_state()
    QkvLora(torch.zeros(24, 8), None, LoraConfig(2, 2.0))
    LinearLora(torch.zeros(8, 8), None, LoraConfig(2, 2.0), "o")
    assert torch.equal(before, torch.get_rng_state())


def test_the_single_layer_computes_what_loralib_computes():
    import loralib

    _, ours = layers()
    theirs = loralib.Linear(8, 12, r=2, lora_alpha=4.0, bias=False, merge_weights=False)
    with torch.no_grad():
        for name in ("weight", "lora_A", "lora_B"):
            getattr(theirs, name).copy_(getattr(ours, name))
    x = torch.randn(4, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
