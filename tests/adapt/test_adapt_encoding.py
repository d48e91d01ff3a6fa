"""Features in parts: the loss and gradients of one large batch, whatever is drawn on the way."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from figclip_cli.adapt.encoding import PartwiseFeatures

SEED = {"seed": lambda number: 100 + number}


def network(dropout=0.5, dtype=torch.float32):
    torch.manual_seed(0)
    layers = [nn.Linear(6, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 5)]
    return nn.Sequential(*layers).to(dtype).train()


def inputs(count=7, dtype=torch.float32):
    return torch.randn(count, 6, dtype=dtype, generator=torch.Generator().manual_seed(1))


def loss_of(features):
    """A loss in which every feature meets every other one."""
    unit = nn.functional.normalize(features, dim=-1)
    return (7 * unit @ unit.T).logsumexp(1).mean() + features.square().mean()


def gradients(net, loss):
    net.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters()}


def in_parts(net, given, parts, seed):
    net.zero_grad()
    made = PartwiseFeatures(net, given, parts=parts, seed=seed)
    loss = loss_of(made.features)
    loss.backward()
    made.backward()
    return made.features.detach(), loss.item(), {name: p.grad.clone() for name, p in net.named_parameters()}


def at_once(net, given, parts, seed):
    """Every part with its own seed, all activations kept: the definition."""
    made = []
    for number, part in enumerate(given.chunk(parts)):
        torch.manual_seed(seed(number))
        made.append(net(part).float())
    loss = loss_of(torch.cat(made))
    return loss.item(), gradients(net, loss)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_with_dropout_loss_and_gradients_are_those_of_all_parts_at_once(parts, dtype, tolerance):
    net, given = network(dtype=dtype), inputs(dtype=dtype)
    loss, expected = at_once(net, given, parts, SEED["seed"])
    _, found_loss, found = in_parts(net, given, parts, SEED["seed"])
    assert found_loss == pytest.approx(loss, abs=tolerance)
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=0, atol=tolerance), name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-7)])
@pytest.mark.parametrize("parts", [2, 3, 7, 20])
def test_without_dropout_any_number_of_parts_gives_what_one_gives(parts, dtype, tolerance):
    """Features are float32 whatever computes them, so that float64 weights agree to float32's last bit only."""
    net, given = network(dropout=0.0, dtype=dtype), inputs(dtype=dtype)
    features, loss, expected = in_parts(net, given, 1, None)
    found_features, found_loss, found = in_parts(net, given, parts, None)
    assert torch.allclose(found_features, features, atol=tolerance)
    assert found_loss == pytest.approx(loss, abs=tolerance)
    for name in expected:
        assert torch.allclose(found[name], expected[name], rtol=tolerance, atol=tolerance), name


def test_without_seeds_dropout_in_parts_would_be_wrong():
    """What the seeds are for: drawn anew, the second pass is of another network."""
    net, given = network(), inputs()
    torch.manual_seed(3)
    drawn = in_parts(net, given, 3, None)[2]
    torch.manual_seed(3)
    made = [net(part) for part in given.chunk(3)]
    expected = gradients(net, loss_of(torch.cat(made)))
    assert any(not torch.allclose(drawn[name], expected[name], atol=1e-4) for name in expected)


@pytest.mark.parametrize("parts", [1, 3])
def test_every_part_draws_its_own_numbers(parts):
    net, given = network(), inputs(1).repeat(3, 1)
    features = PartwiseFeatures(net, given, parts=parts, seed=SEED["seed"]).features
    assert not torch.allclose(features[0], features[1])


def test_each_part_is_encoded_twice_but_the_last():
    net, calls = network(0.0), []

    def encode(part):
        calls.append((len(part), torch.is_grad_enabled()))
        return net(part)

    made = PartwiseFeatures(encode, inputs(7), parts=3, seed=None)
    assert calls == [(3, False), (3, False), (1, True)]
    loss_of(made.features).backward()
    made.backward()
    assert calls[3:] == [(3, True), (3, True)]


@pytest.mark.parametrize("parts", [0, 1, 3])
def test_no_inputs_give_no_features_and_no_gradients(parts):
    net = network()
    made = PartwiseFeatures(net, inputs(0), parts=parts, seed=SEED["seed"])
    assert made.features.shape == (0, 5) and made.features.dtype == torch.float32
    (made.features.sum() + net[0].weight.sum()).backward()
    made.backward()
    assert torch.equal(net[0].weight.grad, torch.ones_like(net[0].weight))


@pytest.mark.parametrize("parts", [1, 3])
def test_where_nothing_is_trained_the_features_are_the_same_and_backward_does_nothing(parts):
    net = network(0.0)
    expected = net(inputs()).detach()
    net.requires_grad_(False)
    made = PartwiseFeatures(net, inputs(), parts=parts, seed=None)
    assert torch.allclose(made.features, expected, atol=1e-6)
    trained = nn.Parameter(torch.ones(5))
    (made.features * trained).sum().backward()
    made.backward()
    assert torch.allclose(trained.grad, expected.sum(0), atol=1e-5)
    assert all(p.grad is None for p in net.parameters())


def test_a_loss_that_leaves_a_part_out_sends_it_nothing():
    net, given = network(0.0), inputs(6)
    made = PartwiseFeatures(net, given, parts=3, seed=None)
    loss_of(made.features[4:]).backward()
    made.backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters()}
    expected = gradients(net, loss_of(net(given[4:])))
    assert all(torch.allclose(found[name], expected[name], atol=1e-6) for name in expected)


def test_features_are_float32_whatever_the_encoder_computes_in():
    made = PartwiseFeatures(network(0.0, torch.bfloat16), inputs(dtype=torch.bfloat16), parts=2, seed=None)
    assert made.features.dtype == torch.float32
