"""LoRA in every kind of tower: the table, the gradients, the function, merging, saving, scaling, refusing."""

from __future__ import annotations

import copy
import hashlib
import math

import pytest
import torch
from torch import nn

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.clip import build_architecture
from figclip_cli.models.lora import (
    LoraConfig,
    adapter_state,
    attach_lora,
    base_weights,
    load_adapter_state,
    lora_layers,
    merge_lora,
)

TEXT = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8}
CUSTOM = {"qk_norm": True, "scale_heads": True, "scale_attn_inner": True, "scale_attn": True, "scale_fc": True}
TIMM = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160}
CONFIGS = {
    "vit": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "custom": {
        "embed_dim": 24,
        "vision_cfg": {**VIT, **CUSTOM, "ls_init_value": 0.5},
        "text_cfg": {**TEXT, **CUSTOM},
    },
    "timm": {"embed_dim": 24, "vision_cfg": TIMM, "text_cfg": TEXT},
    "siglip": {
        "embed_dim": 64,
        "vision_cfg": {**TIMM, "timm_pool": "map", "timm_proj": "none"},
        "text_cfg": {**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
        "custom_text": True,
        "init_logit_bias": -10,
    },
    "resnet": {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
        "text_cfg": {**TEXT, "embed_cls": True, "pad_id": 0},
        "custom_text": True,
    },
}
CONVNEXT = {
    "embed_dim": 24,
    "vision_cfg": {"timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear", "image_size": 64},
    "text_cfg": TEXT,
}
ALL = ("q", "k", "v", "o", "fc", "proj")
ATTENTION = ("q", "k", "v", "o")
# (kind, towers, targets, blocks): every kind of tower with every kind of target.
CASES = [
    ("vit", "image", ALL, "all"),
    ("vit", "image", ("q", "v"), "last-1"),
    ("vit", "image", ("o",), "0,2"),
    ("vit", "image", ("fc", "proj"), "first-2"),
    ("vit", "text", ALL, "all"),
    ("vit", "both", ("q", "proj"), "last-2"),
    ("custom", "image", ALL, "all"),
    ("custom", "both", ("k", "o"), "0-1"),
    ("custom", "image", ("o",), "all"),
    ("timm", "image", ALL, "all"),
    ("timm", "image", ("k", "fc"), "last-2"),
    ("siglip", "image", ALL, "all"),
    ("siglip", "both", ("v", "proj"), "first-1"),
    ("resnet", "image", ATTENTION, "all"),
    ("resnet", "image", ("q", "k", "v"), "0"),
    ("resnet", "text", ALL, "1"),
]
SIZES = {"timm": 160, "siglip": 160}


def build(kind, seed=0):
    torch.manual_seed(seed)
    model = build_architecture(CONFIGS[kind]).eval()
    if kind == "resnet":  # open_clip starts the last norm of each block at zero, which hides the block
        for name, parameter in model.visual.named_parameters():
            if name.endswith("bn3.weight"):
                nn.init.ones_(parameter)
    return model


def attach(kind, model, towers="image", **changes):
    config = LoraConfig(**{"rank": 2, "alpha": 6.0, "towers": towers, **changes})
    return attach_lora(model, config, seed=3, image_size=SIZES.get(kind, 32), context_length=16)


def features(kind, model, towers="both"):
    """Unit-length features of two images and two texts, with gradients."""
    size = SIZES.get(kind, 32)
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(2, 3, size, size, generator=generator)
    texts = torch.tensor([[62, 5, 6, 63] + [0] * 12, [62, 7, 8, 9, 63] + [0] * 11])
    parts = [model.encode_image(images)] if towers in ("image", "both") else []
    parts += [model.encode_text(texts)] if towers in ("text", "both") else []
    return nn.functional.normalize(torch.stack(parts), dim=-1)


def randomise(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_B.copy_(0.1 * torch.randn(layer.lora_B.shape, generator=generator))


def base_weight(model, name):
    """Return the rows of the ordinary weight that a saved name such as ``...attn.q`` belongs to."""
    parent, _, target = name.rpartition(".")
    module = model.get_submodule(parent)
    if target in "qkv" and not hasattr(module, "q_proj"):
        weight = module.in_proj_weight if hasattr(module, "in_proj_weight") else module.qkv.weight
        return weight.chunk(3)["qkv".index(target)]
    names = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj c_proj proj"} | {
        "fc": "c_fc fc1",
        "proj": "c_proj fc2",
    }
    child = next(child for child in names[target].split() if hasattr(module, child))
    return getattr(module, child).weight


def merged_by_hand(kind, state, factor=6.0 / 2):
    model = build(kind)
    with torch.no_grad():
        for name in {key.rpartition(".")[0] for key in state}:
            base_weight(model, name).add_(factor * (state[f"{name}.lora_B"] @ state[f"{name}.lora_A"]))
    return model


@pytest.mark.parametrize(("kind", "towers", "targets", "blocks"), CASES)
def test_an_adapted_tower_trains_merges_and_comes_back(kind, towers, targets, blocks):
    model = build(kind)
    names = list(model.state_dict())
    before = features(kind, model).detach()
    rows = attach(kind, model, towers, targets=targets, blocks=blocks)
    assert torch.allclose(features(kind, model), before, atol=1e-6)

    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.endswith(("lora_A", "lora_B")) for name in trainable)
    assert sum(row.parameters for row in rows) == sum(p.numel() for p in trainable.values())
    assert {target for row in rows for target in row.targets} == set(targets)
    assert len({row.name for row in rows}) == len(rows) == len(list(lora_layers(model)))

    randomise(model)
    adapted = features(kind, model)
    assert (adapted - before).abs().max() > 1e-3
    projection = torch.randn(adapted.shape, generator=torch.Generator().manual_seed(2))
    (adapted * projection).sum().backward()
    for name, layer in lora_layers(model):
        parts = len(layer.targets)
        for gradient in (*layer.lora_A.grad.chunk(parts), *layer.lora_B.grad.chunk(parts)):
            assert gradient.abs().max() > 0, name
    assert all(p.grad is None for name, p in model.named_parameters() if name not in trainable)

    state = adapter_state(model)
    by_hand = features(kind, merged_by_hand(kind, state))
    assert (adapted - by_hand).abs().max() < 1e-6
    merged = merge_lora(model)
    assert merged and list(model.state_dict()) == names and not list(lora_layers(model))
    assert (features(kind, model) - adapted).abs().max() < 1e-6
    assert {type(m) for m in model.modules()} == {type(m) for m in build(kind).modules()}


@pytest.mark.parametrize(("kind", "towers", "targets", "blocks"), CASES)
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0])
def test_a_saved_adapter_is_loaded_in_part(kind, towers, targets, blocks, scale):
    model = build(kind)
    attach(kind, model, towers, targets=targets, blocks=blocks)
    randomise(model)
    state = adapter_state(model)
    other = build(kind)
    attach(kind, other, towers, targets=targets, blocks=blocks)
    load_adapter_state(other, state, scale=scale)
    found = features(kind, other).detach()
    expected = features(kind, merged_by_hand(kind, state, scale * 6.0 / 2))
    assert (found - expected).abs().max() < 1e-6
    if scale == 1.0:
        assert torch.equal(found, features(kind, model))
    again = build(kind)
    attach(kind, again, towers, targets=targets, blocks=blocks)
    load_adapter_state(again, adapter_state(other))
    assert torch.equal(features(kind, again), found)
    merge_lora(other)
    assert (features(kind, other) - found).abs().max() < 1e-6


@pytest.mark.parametrize("kind", CONFIGS)
def test_names_follow_the_model(kind):
    model = build(kind)
    targets = ATTENTION if kind == "resnet" else ALL
    rows = attach(kind, model, targets=targets, blocks="0")
    tower = {"vit": "transformer.resblocks.0", "custom": "transformer.resblocks.0", "resnet": ""}.get(
        kind, "trunk.blocks.0"
    )
    attention, mlp = (f"visual.{tower}.attn", f"visual.{tower}.mlp") if tower else ("visual.attnpool", "")
    parents = {target: mlp if target in ("fc", "proj") else attention for target in targets}
    assert set(adapter_state(model)) == {f"{parents[t]}.{t}.lora_{side}" for t in targets for side in "AB"}
    base = build(kind)
    for row in rows:
        module = base.get_submodule(row.name)
        weight = module.in_proj_weight if hasattr(module, "in_proj_weight") else module.weight
        assert row.shape == tuple(weight.shape)


def test_names_of_text_towers():
    for kind, prefix in (("vit", "transformer.resblocks.1"), ("siglip", "text.transformer.resblocks.1")):
        model = build(kind)
        attach(kind, model, "text", targets=("q", "fc"), blocks="last-1")
        assert sorted(adapter_state(model)) == [
            f"{prefix}.attn.q.lora_A", f"{prefix}.attn.q.lora_B", f"{prefix}.mlp.fc.lora_A", f"{prefix}.mlp.fc.lora_B"
        ]  # fmt: skip


def test_the_start_of_the_adaptation_is_pinned():
    """A's values come from SHA-256 of the seed and the module's name; another start would break old results."""
    model = build("vit")
    attach("vit", model)
    generator = torch.Generator().manual_seed(first_word("lora/3/visual.transformer.resblocks.0.attn"))
    expected = (torch.rand(6, 32, generator=generator) * 2 - 1) / math.sqrt(32)
    found = model.visual.transformer.resblocks[0].attn.qkv.lora_A
    assert torch.allclose(found, expected, atol=1e-7)


def first_word(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@pytest.mark.parametrize("kind", CONFIGS)
def test_base_weights_switch_the_update_off_and_on_again(kind):
    model = build(kind)
    before = features(kind, model)
    attach(kind, model, targets=("q", "k", "v", "o"))
    randomise(model)
    adapted = features(kind, model)
    with base_weights(model):
        with base_weights(model):
            assert (features(kind, model) - before).abs().max() < 1e-6
        assert (features(kind, model) - before).abs().max() < 1e-6
    assert torch.equal(features(kind, model), adapted)
    with pytest.raises(RuntimeError), base_weights(model):
        raise RuntimeError
    assert torch.equal(features(kind, model), adapted)


@pytest.mark.parametrize(
    ("kind", "towers", "trained"),
    [
        ("vit", "image", ("visual.",)),
        ("vit", "text", ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")),
        ("siglip", "both", ("visual.", "text.")),
        ("resnet", "image", ("visual.",)),
    ],
)
def test_rank_zero_tunes_whole_towers(kind, towers, trained):
    model = build(kind)
    rows = attach(kind, model, towers, rank=0, alpha=0.0)
    free = {name for name, p in model.named_parameters() if p.requires_grad}
    assert free == {name for name, _ in model.named_parameters() if name.startswith(trained)}
    assert sum(row.parameters for row in rows) == sum(model.get_parameter(name).numel() for name in free)
    assert not list(lora_layers(model))
    features(kind, model, towers).square().sum().backward()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name in sorted(free):
            parameter = model.get_parameter(name)
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    state = adapter_state(model)
    assert set(state) == free
    with pytest.raises(ValueError, match="base"), base_weights(model):
        pass
    tuned = features(kind, model)
    assert merge_lora(model) == []
    assert torch.equal(features(kind, model), tuned)

    base = dict(build(kind).named_parameters())
    for scale in (0.0, 0.5, 1.0):
        other = build(kind)
        attach(kind, other, towers, rank=0, alpha=0.0)
        load_adapter_state(other, state, scale=scale)
        for name in free:
            expected = base[name] + scale * (state[name] - base[name])
            assert torch.allclose(other.get_parameter(name), expected, atol=1e-6)
    assert torch.equal(features(kind, other), tuned)


@pytest.mark.parametrize("rank", [0, 2])
def test_a_learned_temperature_travels_with_the_adapter(rank):
    model = build("vit")
    attach("vit", model, rank=rank)
    assert "logit_scale" not in adapter_state(model)
    model.logit_scale.requires_grad_(True)
    start = float(model.logit_scale.detach())
    with torch.no_grad():
        model.logit_scale.add_(1.0)
    state = adapter_state(model)
    assert float(state["logit_scale"]) == pytest.approx(start + 1)
    other = build("vit")
    attach("vit", other, rank=rank)
    load_adapter_state(other, state, scale=0.25)
    assert float(other.logit_scale.detach()) == pytest.approx(start + 0.25)
    del state["logit_scale"]
    load_adapter_state(other, state)
    with pytest.raises(InputError, match="logit_scale"):
        load_adapter_state(model, state)


def test_a_state_that_does_not_fit_changes_nothing():
    model = build("vit")
    attach("vit", model)
    randomise(model)
    before = adapter_state(model)
    state = {name: tensor + 1 for name, tensor in before.items()}
    last = sorted(state)[-1]
    with pytest.raises(InputError, match="has shape"):
        load_adapter_state(model, {**state, last: state[last][:1]})
    with pytest.raises(InputError, match="1 tensors differ"):
        load_adapter_state(model, {**state, "more": state[last]})
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapter_state(model).items())


def hidden_linear():
    """A timm-like tower whose second block passes the weight of qkv around the module, as timm's EVA may."""

    class Attention(nn.Module):
        def __init__(self, bypasses):
            super().__init__()
            self.qkv, self.bypasses = nn.Linear(8, 24), bypasses

        def forward(self, x):
            return (nn.functional.linear(x, self.qkv.weight) if self.bypasses else self.qkv(x))[..., :8]

    class Trunk(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.Sequential(*(nn.Sequential() for _ in range(2)))
            for bypasses, block in enumerate(self.blocks):
                block.attn = Attention(bool(bypasses))

        def forward(self, x):
            return self.blocks(x.flatten(1)[:, :8])

    model = nn.Module()
    model.visual = nn.Module()
    model.visual.trunk = Trunk()
    model.visual.forward = lambda x: model.visual.trunk(x)
    return model


def foreign_text():
    model = build("vit")
    text = nn.Module()
    text.transformer = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, batch_first=True), 1)
    model.text = text
    return model


def convnext():
    return build_architecture(CONVNEXT).eval()


REFUSALS = [
    (hidden_linear, {}, InputError, "would have no effect"),
    (convnext, {}, InputError, "LoRA matched no layer: the image tower TimmModel .ConvNeXt. has no"),
    (foreign_text, {"towers": "text"}, InputError, "the text tower Module has no attention block"),
    (foreign_text, {"towers": "both"}, InputError, "the text tower"),
    (lambda: build("resnet"), {"targets": ("q", "fc")}, UsageError, "ModifiedResNet has no 'fc'"),
    (lambda: build("resnet"), {"blocks": "last-2"}, UsageError, "the image tower has 1 block"),
    (lambda: build("vit"), {"blocks": "3"}, UsageError, "the image tower has 3 blocks"),
    (lambda: build("vit"), {"blocks": "last-3", "towers": "both"}, UsageError, "the text tower has 2 blocks"),
]


@pytest.mark.parametrize(("make", "changes", "error", "message"), REFUSALS)
def test_a_refusal_leaves_the_model_as_it_was(make, changes, error, message):
    model = make()
    next(model.parameters()).requires_grad_(False)
    modules = dict(model.named_modules())
    needs = {name: (p, p.requires_grad) for name, p in model.named_parameters()}
    with pytest.raises(error, match=message) as caught:
        attach("vit", model, **changes)
    assert caught.value.hint and "\n" not in caught.value.message
    assert dict(model.named_modules()) == modules
    assert {name: (p, p.requires_grad) for name, p in model.named_parameters()} == needs


def test_a_model_is_adapted_once():
    for rank in (0, 2):
        model = build("vit")
        attach("vit", model, rank=rank)
        with pytest.raises(ValueError, match="adapted already"):
            attach("vit", model)


def test_attaching_keeps_the_mode_of_every_module():
    model = build("vit").train()
    model.visual.ln_post.eval()
    attach("vit", model, "both", targets=ALL)
    off = [name for name, module in model.named_modules() if not module.training]
    assert off == ["visual.ln_post"]


@pytest.mark.parametrize("kind", CONFIGS)
def test_an_adapted_model_can_be_copied(kind):
    model = build(kind)
    attach(kind, model, targets=ATTENTION)
    randomise(model)
    twin = copy.deepcopy(model)
    expected = features(kind, model).detach()
    assert torch.equal(features(kind, twin), expected)
    merge_lora(twin)
    assert (features(kind, twin) - expected).abs().max() < 1e-6
    assert list(lora_layers(model)) and torch.equal(features(kind, model), expected)


def test_attention_of_nothing_is_nothing():
    """open_clip's and timm's own reshapes refuse 0 images; what we put in does not."""
    model = build("vit")
    attach("vit", model, targets=ALL)
    block = model.visual.transformer.resblocks[0]
    x = torch.zeros(0, 17, 32, requires_grad=True)
    block(x).sum().backward()
    assert x.grad.shape == x.shape
    assert all(not layer.lora_B.grad.any() for name, layer in lora_layers(model) if "resblocks.0." in name)
    pool = build("resnet")
    attach("resnet", pool, targets=ATTENTION)
    assert pool.visual.attnpool(torch.zeros(0, 256, 1, 1)).shape == (0, 24)


def test_gradient_checkpointing_gives_the_same_gradients():
    model = build("vit")
    attach("vit", model, "both", targets=ALL)
    randomise(model)

    def gradients():
        model.zero_grad()
        features("vit", model)[..., 0].sum().backward()
        return [layer.lora_A.grad.clone() for _, layer in lora_layers(model)]

    plain = gradients()
    model.set_grad_checkpointing(True)
    assert all(torch.allclose(a, b, atol=1e-7) for a, b in zip(plain, gradients(), strict=True))


@pytest.mark.parametrize("kind", ["vit", "timm", "resnet"])
def test_bfloat16_autocast_is_close_to_float32(kind):
    model = build(kind)
    attach(kind, model, targets=ATTENTION)
    randomise(model)
    expected = features(kind, model)
    with torch.autocast("cpu", torch.bfloat16):
        found = features(kind, model)
    assert (found.float() - expected).abs().max() < 0.05
