"""LoRA: which modules, the same start, real effect, exact merge, saved and loaded, refused where it cannot work."""

from __future__ import annotations

import pytest
import torch

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.clip import load_clip
from figclip_cli.models.lora import (
    LoraConfig,
    QkvLora,
    adapter_state,
    attach_lora,
    load_adapter_state,
    lora_layers,
    merge_lora,
)
from figclip_cli.models.lora.config import choose_blocks
from figclip_cli.models.source import ModelSource


@pytest.fixture(params=["tiny_model", "tiny_timm_model"])
def clip(request):
    return load_clip(ModelSource(str(request.getfixturevalue(request.param))))


def images(clip, count=2):
    size = clip.preprocess.size
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def randomise(clip):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, layer in lora_layers(clip.model):
            layer.lora_B.copy_(0.2 * torch.randn(layer.lora_B.shape, generator=generator))


def attach(clip, **changes):
    config = LoraConfig(**{"rank": 4, "alpha": 8.0, **changes})
    return attach_lora(clip.model, config, seed=3, image_size=clip.preprocess.size)


def test_every_block_is_adapted_and_only_lora_is_trainable(clip):
    rows = attach(clip)
    blocks = 12 if "timm" in clip.name else 2
    assert len(rows) == blocks
    trainable = {name for name, parameter in clip.model.named_parameters() if parameter.requires_grad}
    assert len(trainable) == 2 * blocks and all(name.endswith(("lora_A", "lora_B")) for name in trainable)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in clip.model.parameters() if p.requires_grad)


def test_the_adapted_model_starts_exactly_as_the_base(clip):
    before = clip.encode_frames(images(clip)).detach()
    attach(clip)
    assert torch.allclose(before, clip.encode_frames(images(clip)), atol=1e-5)


def test_features_equal_those_of_hand_merged_weights(clip):
    """The update is alpha / rank times B A on each of q, k, v: written out here without loralib."""
    attach(clip)
    randomise(clip)
    adapted = clip.encode_frames(images(clip)).detach()
    state = adapter_state(clip.model)
    source = ModelSource(clip.source.model)
    plain = load_clip(source)
    weights = dict(plain.model.named_parameters())
    with torch.no_grad():
        for name in {key.rsplit(".", 2)[0] for key in state}:
            weight = weights.get(f"{name}.in_proj_weight", weights.get(f"{name}.qkv.weight"))
            width = weight.shape[1]
            for part, target in enumerate("qkv"):
                delta = state[f"{name}.{target}.lora_B"] @ state[f"{name}.{target}.lora_A"]
                weight[part * width : (part + 1) * width] += (8.0 / 4) * delta
    by_hand = plain.encode_frames(images(clip)).detach()
    untouched = load_clip(source).encode_frames(images(clip)).detach()
    assert torch.allclose(adapted, by_hand, atol=2e-5)
    assert (adapted - untouched).abs().max() > 1e-2


@pytest.mark.parametrize("targets", [("q", "k", "v"), ("q", "v"), ("k",)])
def test_merging_gives_the_original_structure_and_the_same_features(clip, targets):
    names = set(clip.model.state_dict())
    attach(clip, targets=targets)
    randomise(clip)
    adapted = clip.encode_frames(images(clip)).detach()
    merge_lora(clip.model)
    assert set(clip.model.state_dict()) == names
    merged = clip.encode_frames(images(clip)).detach()
    unit = torch.nn.functional.normalize
    assert (unit(adapted, dim=-1) - unit(merged, dim=-1)).abs().max() < 1e-6


def test_merging_changes_the_targets_alone(clip):
    before = {name: tensor.clone() for name, tensor in clip.model.state_dict().items()}
    attach(clip, targets=("q", "v"))
    randomise(clip)
    merge_lora(clip.model)
    after = clip.model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all(name.endswith(("in_proj_weight", "qkv.weight")) for name in changed)
    for name in changed:
        q, k, v = (after[name] != before[name]).chunk(3)
        assert q.any() and not k.any() and v.any()


def test_gradients_reach_every_projection(clip):
    attach(clip)
    randomise(clip)
    clip.encode_frames(images(clip)).square().sum().backward()
    for _, layer in lora_layers(clip.model):
        for part in (*layer.lora_A.grad.chunk(3), *layer.lora_B.grad.chunk(3)):
            assert part.abs().max() > 0
        assert layer.weight.grad is None


def test_attention_equals_pytorchs_in_both_layouts_and_with_a_mask():
    from figclip_cli.models.lora import AdaptedSelfAttention

    for batch_first in (True, False):
        torch.manual_seed(0)
        original = torch.nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
        ours = AdaptedSelfAttention(original, LoraConfig(2, 2.0)).eval()
        x = torch.randn(5, 3, 16)
        length = 3 if batch_first else 5
        mask = torch.full((length, length), float("-inf")).triu(1)
        for attn_mask in (None, mask):
            expected = original(x, x, x, need_weights=False, attn_mask=attn_mask)[0]
            assert torch.allclose(ours(x, x, x, attn_mask=attn_mask)[0], expected, atol=1e-6)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("targets", [("q", "k", "v"), ("q", "v"), ("k",), ("v",), ("o",)])
def test_a_query_of_its_own_attends_as_in_the_merged_attention(batch_first, targets):
    from figclip_cli.models.lora import AdaptedSelfAttention

    torch.manual_seed(0)
    original = torch.nn.MultiheadAttention(16, 4, batch_first=batch_first).eval()
    ours = AdaptedSelfAttention(original, LoraConfig(2, 4.0, targets=targets)).eval()
    for _, layer in lora_layers(ours):
        torch.nn.init.normal_(layer.lora_A, std=0.3)
        torch.nn.init.normal_(layer.lora_B, std=0.3)
    query, memory = torch.randn(3, 3, 16), torch.randn(3, 3, 16)
    found = ours(query, memory, memory)[0]
    merged = ours.restored()
    assert isinstance(merged, torch.nn.MultiheadAttention)
    assert torch.allclose(found, merged(query, memory, memory, need_weights=False)[0], atol=1e-5)


def test_masks_mean_what_they_mean_in_pytorch():
    """True forbids, a float is added, and three dimensions are one mask for each head."""
    from figclip_cli.models.lora import AdaptedSelfAttention

    torch.manual_seed(0)
    original = torch.nn.MultiheadAttention(16, 4, batch_first=True).eval()
    ours = AdaptedSelfAttention(original, LoraConfig(2, 2.0)).eval()
    x = torch.randn(2, 5, 16)
    forbidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    for mask in (forbidden, forbidden.float() * -3, torch.randn(8, 5, 5), forbidden.expand(8, 5, 5)):
        expected = original(x, x, x, need_weights=False, attn_mask=mask)[0]
        assert torch.allclose(ours(x, x, x, attn_mask=mask)[0], expected, atol=1e-6)


def test_two_memories_and_weights_are_refused_not_computed_wrongly():
    from figclip_cli.models.lora import AdaptedSelfAttention

    attention = AdaptedSelfAttention(torch.nn.MultiheadAttention(8, 2), LoraConfig(2, 2.0))
    x, y = torch.zeros(3, 1, 8), torch.ones(3, 1, 8)
    with pytest.raises(NotImplementedError):
        attention(x, x, y)
    with pytest.raises(NotImplementedError):
        attention(x, y, x)
    with pytest.raises(NotImplementedError):
        attention(x, x, x, need_weights=True)
    with pytest.raises(NotImplementedError):
        attention(x, x, x, key_padding_mask=torch.zeros(1, 3, dtype=torch.bool))


def test_saved_matrices_restore_the_features(clip):
    rows = attach(clip)
    randomise(clip)
    state = adapter_state(clip.model)
    assert f"{rows[0].name.removesuffix('.qkv')}.q.lora_A" in state
    expected = clip.encode_frames(images(clip)).detach()
    other = load_clip(ModelSource(clip.source.model))
    attach(other)
    load_adapter_state(other.model, state)
    assert torch.equal(other.encode_frames(images(clip)), expected)


def test_initial_values_depend_on_the_seed_and_the_name_alone(tiny_model):
    def start(seed):
        clip = load_clip(ModelSource(str(tiny_model)))
        torch.manual_seed(torch.seed() % 1000)
        attach_lora(clip.model, LoraConfig(4, 4.0), seed=seed, image_size=32)
        return adapter_state(clip.model)

    first, again, other = start(0), start(0), start(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    names = [name for name in first if name.endswith("lora_A")]
    assert not any(torch.equal(first[name], other[name]) for name in names)
    assert not torch.equal(first[names[0]], first[names[1]])


def test_dropout_acts_in_training_only(tiny_model):
    clip = load_clip(ModelSource(str(tiny_model)))
    attach(clip, dropout=0.5)
    randomise(clip)
    _, layer = next(lora_layers(clip.model))
    x = torch.randn(4, 7, 32)
    layer.eval()
    assert torch.equal(layer(x), layer(x))
    layer.train()
    assert not torch.equal(layer(x), layer(x))


def test_an_adapter_of_another_rank_or_model_is_refused(tiny_model):
    clip = load_clip(ModelSource(str(tiny_model)))
    attach(clip)
    state = adapter_state(clip.model)
    other = load_clip(ModelSource(str(tiny_model)))
    attach(other, rank=2)
    with pytest.raises(InputError, match="has shape"):
        load_adapter_state(other.model, state)
    with pytest.raises(InputError, match="1 tensors differ"):
        load_adapter_state(clip.model, {name: t for name, t in state.items() if name != sorted(state)[0]})


@pytest.mark.parametrize(
    "values",
    [
        {"rank": -1},
        {"rank": 0, "dropout": 0.1},
        {"alpha": float("nan")},
        {"dropout": 1.0},
        {"targets": ()},
        {"targets": ("q", "mlp")},
        {"towers": "video"},
        {"blocks": ""},
        {"blocks": "last-0"},
        {"blocks": "middle-2"},
        {"blocks": "3-0"},
        {"blocks": "0,,1"},
        {"blocks": "0-1,x"},
        {"blocks": "-1"},
    ],
)
def test_settings_that_cannot_be_meant_are_refused(values):
    with pytest.raises(UsageError) as caught:
        LoraConfig(**{"rank": 4, "alpha": 4.0, **values})
    assert caught.value.hint and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("blocks", "numbers"),
    [
        ("all", [0, 1, 2, 3]),
        ("last-1", [3]),
        ("last-4", [0, 1, 2, 3]),
        ("first-2", [0, 1]),
        ("2", [2]),
        ("3,0-1", [0, 1, 3]),
        ("0-2, 1", [0, 1, 2]),
    ],
)
def test_blocks_are_counted_from_zero(blocks, numbers):
    assert choose_blocks(LoraConfig(4, 4.0, blocks=blocks).blocks, 4, "image") == numbers


@pytest.mark.parametrize("blocks", ["last-5", "first-5", "4", "0-4", "0-9999999999"])
def test_a_block_that_the_tower_does_not_have_is_refused_with_its_count(blocks):
    with pytest.raises(UsageError, match="the image tower has 4 blocks"):
        choose_blocks(blocks, 4, "image")


def test_the_layer_computes_what_loralib_computes():
    import loralib

    torch.manual_seed(0)
    weight, bias = torch.randn(24, 8), torch.randn(24)
    ours = QkvLora(weight, bias, LoraConfig(3, 6.0, targets=("q", "v")))
    theirs = loralib.MergedLinear(8, 24, r=3, lora_alpha=6.0, enable_lora=[True, False, True], merge_weights=False)
    with torch.no_grad():
        ours.lora_A.normal_()
        ours.lora_B.normal_()
        for name in ("weight", "bias", "lora_A", "lora_B"):
            getattr(theirs, name).copy_(getattr(ours, name))
    x = torch.randn(2, 5, 8)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)
    assert torch.allclose(ours.merged_weight(), weight + theirs.merge_AB() * theirs.scaling, atol=1e-5)
