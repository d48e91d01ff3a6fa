"""Exact savings: the same features and gradients, the same names, and nothing where nothing is recognised."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from figclip_cli.models.clip import build_architecture
from figclip_cli.models.lora import LoraConfig, attach_lora, lora_layers, merge_lora
from figclip_cli.models.tower_speed import ClassTokenBlock, FastQuickGELU, speed_up

TEXT = {"context_length": 16, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}


def build(quick_gelu=True, **vision):
    torch.manual_seed(0)
    values = {"embed_dim": 24, "vision_cfg": {**VIT, **vision}, "text_cfg": TEXT, "quick_gelu": quick_gelu}
    return build_architecture(values).eval()


def attach(model, **changes):
    config = LoraConfig(**{"rank": 2, "alpha": 4.0, **changes})
    attach_lora(model, config, seed=0, image_size=32, context_length=16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _, layer in lora_layers(model):
            layer.lora_B.copy_(0.2 * torch.randn(layer.lora_B.shape, generator=generator))


def features_and_gradients(model):
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    model.zero_grad(set_to_none=True)
    features = model.encode_image(images)
    if features.requires_grad:
        (features * torch.arange(24)).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return features.detach(), gradients


def set_batch_first(model, batch_first):
    """Let the tower run with the batch first or second, as open_clip's own option does."""
    model.visual.transformer.batch_first = batch_first
    for block in model.visual.transformer.resblocks:
        block.attn.batch_first = batch_first


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"targets": ("q", "k", "v", "o", "fc", "proj")},
        {"targets": ("q",)},
        {"targets": ("v", "fc")},
        {"blocks": "0"},  # the last block is not adapted
        {"rank": 0},
        {"towers": "text"},
    ],
    ids=str,
)
def test_features_and_gradients_stay(batch_first, checkpointing, changes):
    model = build(ls_init_value=0.7)
    set_batch_first(model, batch_first)
    attach(model, **changes)
    model.visual.set_grad_checkpointing(checkpointing)
    before, wanted = features_and_gradients(model)
    names = list(model.state_dict())
    assert len(speed_up(model)) == 2
    assert list(model.state_dict()) == names
    after, got = features_and_gradients(model)
    assert torch.allclose(before, after, atol=1e-5)
    assert list(got) == list(wanted)
    for name, gradient in got.items():
        scale = wanted[name].abs().max().clamp(min=1e-6)
        assert ((gradient - wanted[name]).abs().max() / scale) < 1e-4, name
    original = list(build(ls_init_value=0.7).state_dict())
    merge_lora(model)
    assert list(model.state_dict()) == original
    assert {type(m) for m in model.modules()} == {type(m) for m in build(ls_init_value=0.7).modules()}
    assert torch.allclose(features_and_gradients(model)[0], before, atol=1e-5)


def test_the_last_block_computes_one_token():
    model = build()
    attach(model)
    speed_up(model)
    shapes = {}
    last = model.visual.transformer.resblocks[-1]
    last.mlp.c_fc.register_forward_hook(lambda _, args, out: shapes.update(fc=tuple(out.shape)))
    last.attn.out_proj.register_forward_hook(lambda _, args, out: shapes.update(o=tuple(out.shape)))
    features_and_gradients(model)
    assert shapes == {"fc": (3, 1, 128), "o": (3, 1, 32)}


@pytest.mark.parametrize(
    ("vision", "remarks"),
    [
        ({"pool_type": "avg"}, 1),
        ({"output_tokens": True}, 1),
        ({"attentional_pool": True, "attn_pooler_heads": 2}, 1),
        ({"block_type": "custom"}, 1),
        ({"final_ln_after_pool": True}, 2),
    ],
)
def test_a_tower_that_needs_its_last_tokens_keeps_them(vision, remarks):
    model = build(**vision)
    images = torch.randn(2, 3, 32, 32)
    before = model.visual(images)
    assert len(speed_up(model)) == remarks
    assert any(isinstance(m, ClassTokenBlock) for m in model.modules()) == (remarks == 2)
    after = model.visual(images)
    pairs = zip(before, after, strict=True) if isinstance(before, tuple) else [(before, after)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in pairs)


@pytest.mark.parametrize("vision_cfg", [
    {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "image_size": 160},
    {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8},
])  # fmt: skip
def test_other_towers_stay_as_they_are(vision_cfg):
    model = build_architecture({"embed_dim": 24, "vision_cfg": vision_cfg, "text_cfg": TEXT})
    modules = dict(model.named_modules())
    assert speed_up(model) == []
    assert dict(model.named_modules()) == modules


def test_plain_gelu_is_left_alone():
    model = build(quick_gelu=False)
    assert len(speed_up(model)) == 1
    assert not any(isinstance(m, FastQuickGELU) for m in model.modules())


def test_the_last_block_refuses_what_it_would_compute_wrongly():
    model = build()
    speed_up(model)
    block = model.visual.transformer.resblocks[-1]
    x = torch.zeros(1, 5, 32)
    with pytest.raises(NotImplementedError):
        block(x, attn_mask=torch.zeros(5, 5))
    with pytest.raises(NotImplementedError):
        block(x, x, x)


def test_attaching_after_the_speed_up_works_too():
    model = build()
    before, _ = features_and_gradients(model)
    names = list(model.state_dict())
    speed_up(model)
    attach(model, targets=("q", "o", "fc"))
    adapted, gradients = features_and_gradients(model)
    assert len(gradients) == 12 and not torch.allclose(before, adapted)
    merge_lora(model)
    assert list(model.state_dict()) == names
    assert torch.allclose(features_and_gradients(model)[0], adapted, atol=1e-5)


def fast():
    from open_clip.transformer import QuickGELU

    return FastQuickGELU(QuickGELU())


def test_quick_gelu_is_open_clips_and_its_gradient_is_right():
    from open_clip.transformer import QuickGELU

    x = torch.linspace(-30, 30, 601)
    assert torch.allclose(fast()(x), QuickGELU()(x), atol=1e-6)
    assert torch.equal(fast()(torch.zeros(0, 3)), torch.zeros(0, 3))
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fast(), x)
    wide = x.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        narrow = fast()(nn.Linear(5, 5)(wide))
    assert narrow.dtype == torch.bfloat16


def test_quick_gelu_keeps_one_tensor():
    kept = []
    x = torch.randn(4, 5, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        fast()(x)
    assert len(kept) == 1


def test_a_sped_up_model_can_be_copied():
    model = build()
    attach(model)
    speed_up(model)
    twin = copy.deepcopy(model)
    expected, _ = features_and_gradients(model)
    merge_lora(twin)
    assert torch.allclose(features_and_gradients(twin)[0], expected, atol=1e-5)
    assert torch.equal(features_and_gradients(model)[0], expected)
