"""open_clip's CLIP as transformers' CLIPModel and back: the same function, the same numbers, or a refusal."""

from __future__ import annotations

import copy
import dataclasses
import json

import pytest
import torch

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.clip import build_architecture
from figclip_cli.models.model_sizes import mlp_ratio
from figclip_cli.models.transformers_clip import (
    from_transformers,
    model_config_of,
    to_transformers,
    transformers_config,
    transformers_name,
)

TINY = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    "quick_gelu": True,
}
# Every size differs from every other one it could be taken for, and the MLP widths are no multiples of the widths.
UNEQUAL = {
    "embed_dim": 20,
    "vision_cfg": {
        **{"image_size": 30, "layers": 1, "width": 24, "head_width": 8, "patch_size": 6},
        **{"mlp_ratio": 2.1, "patch_dropout": 0.5},
    },
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 40, "heads": 5, "layers": 2, "mlp_ratio": 3.7362},
    "quick_gelu": False,
}


def random_model(model_config, seed=0):
    torch.manual_seed(seed)
    model = build_architecture(model_config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms are 0 and 1 at first, and would hide a mix-up
            if parameter.dim() > 0:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def changed(model_config, part, **values):
    copied = copy.deepcopy(model_config)
    (copied[part] if part else copied).update(values)
    return copied


@pytest.fixture(scope="module")
def models():
    return {"tiny": (TINY, random_model(TINY)), "unequal": (UNEQUAL, random_model(UNEQUAL, 1))}


def test_both_libraries_give_the_same_features(models, tmp_path):
    """Both directions, both activations, by the files that transformers itself reads and writes."""
    from safetensors.torch import load_file, save_file
    from transformers import CLIPModel

    for name, (config, model) in models.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(transformers_config(config)))
        save_file(to_transformers(model.state_dict(), config), folder / "model.safetensors", metadata={"format": "pt"})
        theirs, report = CLIPModel.from_pretrained(folder, output_loading_info=True)
        assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        generator = torch.Generator().manual_seed(2)
        size, context = config["vision_cfg"]["image_size"], config["text_cfg"]["context_length"]
        pixels = torch.randn(4, 3, size, size, generator=generator)
        tokens = torch.randint(1, 49406, (4, context), generator=generator)
        tokens[:, 0] = 49406
        for row, end in enumerate((2, 7, context - 1, 5)):
            tokens[row, end], tokens[row, end + 1 :] = 49407, (0 if row % 2 else 49407)
        with torch.no_grad():
            image = theirs.eval().get_image_features(pixel_values=pixels).pooler_output
            text = theirs.get_text_features(input_ids=tokens).pooler_output
            assert torch.allclose(model.encode_image(pixels), image, atol=1e-6, rtol=1e-6)
            assert torch.allclose(model.encode_text(tokens), text, atol=1e-6, rtol=1e-6)
        theirs.save_pretrained(folder / "again")
        config_again = model_config_of(json.loads((folder / "again" / "config.json").read_text()), None)
        back = build_architecture(config_again).eval()
        weights = from_transformers(load_file(folder / "again" / "model.safetensors"), config_again)
        back.load_state_dict(weights, strict=True)
        assert config_again["quick_gelu"] is config["quick_gelu"]
        with torch.no_grad():
            assert torch.equal(back.encode_image(pixels), model.encode_image(pixels))
            assert torch.equal(back.encode_text(tokens), model.encode_text(tokens))


@pytest.mark.parametrize("name", ["tiny", "unequal"])
def test_there_and_back_is_the_same_bit_for_bit_and_can_be_saved(models, name, tmp_path):
    from safetensors.torch import save_file

    config, model = models[name]
    state = model.state_dict()
    theirs = to_transformers(state, config)
    save_file(theirs, tmp_path / "model.safetensors")  # refuses tensors that share memory
    assert all(tensor.is_contiguous() for tensor in theirs.values())
    before = {key: tensor.clone() for key, tensor in state.items()}
    for tensor in theirs.values():
        tensor.mul_(1.0)
    back = from_transformers(
        {
            **theirs,
            "text_model.embeddings.position_ids": torch.arange(config["text_cfg"]["context_length"])[None],
            "vision_model.embeddings.position_ids": torch.arange(17)[None],
        },
        config,
    )
    assert set(back) == set(before)
    assert all(torch.equal(back[key], tensor) and back[key].dtype == tensor.dtype for key, tensor in before.items())
    theirs["vision_model.post_layernorm.weight"].zero_()
    assert torch.equal(model.state_dict()["visual.ln_post.weight"], before["visual.ln_post.weight"])


def test_sizes_survive_the_way_there_and_back():
    there = transformers_config(UNEQUAL)
    assert there["vision_config"]["intermediate_size"] == 50  # 24 * 2.1 rounded down
    assert there["text_config"]["intermediate_size"] == 149  # 40 * 3.7362 rounded down
    assert there["vision_config"]["num_attention_heads"] == 3 and there["text_config"]["num_attention_heads"] == 5
    back = model_config_of(there, None)
    assert transformers_config(back) == there
    assert back["vision_cfg"]["head_width"] == 8 and back["text_cfg"]["context_length"] == 16
    for activation, word in ((True, "quick_gelu"), (False, "gelu")):
        config = transformers_config({**TINY, "quick_gelu": activation})
        assert config["text_config"]["hidden_act"] == config["vision_config"]["hidden_act"] == word
    assert transformers_config(TINY)["text_config"]["eos_token_id"] == 49407


def test_every_mlp_width_is_hit_exactly():
    for width in (7, 24, 768, 1000, 1792):
        assert all(int(width * mlp_ratio(mlp, width)) == mlp for mlp in range(width, 5 * width, 13))


def test_every_field_of_open_clip_is_known():
    """A field of open_clip's that this library does not know would be refused; all of its defaults must pass."""
    from open_clip import CLIPTextCfg, CLIPVisionCfg

    vision, text = dataclasses.asdict(CLIPVisionCfg()), dataclasses.asdict(CLIPTextCfg())
    config = {"embed_dim": 512, "vision_cfg": vision, "text_cfg": text}
    assert transformers_config(config)["vision_config"]["hidden_size"] == 768


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("vision_cfg", {"timm_model_name": "vit_tiny_patch16_224"}),
        ("vision_cfg", {"layers": [1, 1, 1, 1]}),
        ("vision_cfg", {"attentional_pool": True}),
        ("vision_cfg", {"pool_type": "avg"}),
        ("vision_cfg", {"no_ln_pre": True}),
        ("vision_cfg", {"ls_init_value": 1e-4}),
        ("vision_cfg", {"qk_norm": True}),
        ("vision_cfg", {"block_type": "custom"}),
        ("vision_cfg", {"norm_kwargs": {"eps": 1e-6}}),
        ("vision_cfg", {"output_tokens": True}),
        ("vision_cfg", {"something_new": 1}),
        ("text_cfg", {"act_kwargs": {"approximate": "tanh"}}),
        ("text_cfg", {"hf_model_name": "roberta-base"}),
        ("text_cfg", {"hf_tokenizer_name": "bert-base-uncased"}),
        ("text_cfg", {"no_causal_mask": True}),
        ("text_cfg", {"pool_type": "last"}),
        ("text_cfg", {"proj_bias": True}),
        ("text_cfg", {"proj_type": "none"}),
        ("text_cfg", {"embed_cls": True}),
        ("text_cfg", {"vocab_size": 32000}),
        ("", {"custom_text": True}),
        ("", {"multimodal_cfg": {}}),
        ("", {"init_logit_bias": -10}),
        ("", {"nonscalar_logit_scale": True}),
    ],
)
def test_what_transformers_cannot_hold_is_refused_in_one_line(part, values):
    with pytest.raises(UsageError) as caught:
        transformers_config(changed(TINY, part, **values))
    assert "\n" not in caught.value.message and caught.value.hint


@pytest.mark.parametrize("value", [10**12, -1, 0, True, 2.0, float("nan"), "2", None, [], {}, [[2]]])
@pytest.mark.parametrize(("part", "key"), [("vision_cfg", "width"), ("text_cfg", "layers"), ("", "embed_dim")])
def test_sizes_that_are_no_sizes_are_refused(part, key, value):
    with pytest.raises(InputError, match=key):
        transformers_config(changed(TINY, part, **{key: value}))


@pytest.mark.parametrize(
    "value", [10**12, -1, 0, True, 2.0, float("nan"), float("inf"), "2", None, [], {"a": [1]}, "x\ny"]
)
def test_sizes_in_a_file_of_transformers_that_are_no_sizes_are_refused(value):
    for part, key in (
        *(("vision_config", key) for key in ("hidden_size", "num_hidden_layers", "image_size", "patch_size")),
        *(("text_config", key) for key in ("intermediate_size", "num_attention_heads", "vocab_size")),
        ("", "projection_dim"),
    ):
        with pytest.raises(InputError) as caught:
            model_config_of(changed(transformers_config(TINY), part, **{key: value}), None)
        assert key in caught.value.message and "\n" not in caught.value.message


def without_activation(*towers, **top):
    config = transformers_config(TINY) | top
    for tower in towers:
        del config[tower]["hidden_act"]
    return config


def test_the_activation_is_stated_or_asked_for():
    for towers in (("text_config",), ("vision_config",), ("text_config", "vision_config")):
        silent = without_activation(*towers)
        with pytest.raises(UsageError, match="does not say which activation") as caught:
            model_config_of(silent, None)
        assert "--activation" in caught.value.hint
        assert model_config_of(silent, "quickgelu")["quick_gelu"] is True
        # What transformers writes without naming the activation has the default of its classes.
        assert model_config_of(without_activation(*towers, transformers_version="4.25.1"), None)["quick_gelu"] is True
        for unusable in (None, 4, "", ["4.25.1"]):
            with pytest.raises(UsageError):
                model_config_of(without_activation(*towers, transformers_version=unusable), None)
    assert model_config_of(without_activation("text_config", "vision_config"), "gelu")["quick_gelu"] is False
    with pytest.raises(UsageError, match="contradicts"):
        model_config_of(without_activation("text_config"), "gelu")
    with pytest.raises(UsageError, match="contradicts"):
        model_config_of(transformers_config(TINY), "gelu")
    assert model_config_of(transformers_config(TINY), "quickgelu")["quick_gelu"] is True


@pytest.mark.parametrize("value", ["gelu_new", "gelu_pytorch_tanh", "relu", "GELU", None, 1, ["gelu"], {}])
def test_other_activations_and_two_of_them_are_refused(value):
    with pytest.raises(InputError, match="hidden_act"):
        model_config_of(changed(transformers_config(TINY), "text_config", hidden_act=value), "gelu")
    with pytest.raises(InputError, match="two different activations"):
        model_config_of(changed(transformers_config(TINY), "text_config", hidden_act="gelu"), None)


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("", {"model_type": "clip_vision_model"}, "clip_vision_model"),
        ("", {"model_type": "siglip"}, "siglip"),
        ("", {"model_type": None}, "null"),
        ("", {"text_config": 1}, "text_config"),
        ("", {"vision_config": None}, "vision_config"),
        ("vision_config", {"layer_norm_eps": 1e-6}, "layer_norm_eps"),
        ("vision_config", {"layer_norm_eps": "1e-5"}, "layer_norm_eps"),
        ("vision_config", {"num_channels": 4}, "channels"),
        ("vision_config", {"image_size": [32, 48]}, "image_size"),
        ("vision_config", {"num_attention_heads": 5}, "heads"),
        ("text_config", {"vocab_size": 49409}, "vocab_size"),
        ("text_config", {"eos_token_id": [49407]}, "eos_token_id"),
        ("text_config", {"eos_token_id": 1}, "eos_token_id"),
        ("text_config", {"eos_token_id": True}, "eos_token_id"),
    ],
)
def test_other_models_of_transformers_are_refused(part, values, message):
    with pytest.raises(InputError, match=message):
        model_config_of(changed(transformers_config(TINY), part, **values), None)


def test_files_that_say_everything_twice_are_read_as_transformers_reads_them():
    config = transformers_config(TINY)
    doubled = {**config, "text_config_dict": dict(config["text_config"]), "vision_config_dict": None}
    assert model_config_of(doubled, None) == model_config_of(config, None)
    # transformers takes what the second place does not say from its defaults, not from the first place.
    for tower, lacking in (("text_config", "hidden_size"), ("vision_config", "patch_size")):
        second = {key: value for key, value in config[tower].items() if key != lacking}
        with pytest.raises(InputError, match=f"two things: {lacking}"):
            model_config_of({**config, f"{tower}_dict": second}, None)
    gelu = transformers_config({**TINY, "quick_gelu": False})
    second = {key: value for key, value in gelu["text_config"].items() if key != "hidden_act"}
    with pytest.raises(InputError, match="two things: hidden_act"):
        model_config_of({**gelu, "text_config_dict": second}, None)


def test_the_end_of_text_of_old_files_is_understood():
    old = changed(transformers_config(TINY), "text_config", eos_token_id=2, bos_token_id=0)
    assert model_config_of(old, None) == model_config_of(transformers_config(TINY), None)


@pytest.mark.parametrize("direction", [to_transformers, from_transformers])
def test_tensors_that_are_missing_left_over_or_of_another_shape_are_named(models, direction):
    config, model = models["tiny"]
    state = model.state_dict()
    given = state if direction is to_transformers else to_transformers(state, config)
    name = next(key for key in given if key.endswith("ln_1.weight") or key.endswith("layer_norm1.weight"))
    with pytest.raises(InputError, match=f"lack the tensor {name}"):
        direction({key: tensor for key, tensor in given.items() if key != name}, config)
    with pytest.raises(InputError, match=f"{name} has shape \\(32, 1\\)"):
        direction({**given, name: torch.zeros(32, 1)}, config)
    with pytest.raises(InputError, match="left.{1,3}over") as caught:
        direction({**given, "left\nover": torch.zeros(1)}, config)
    assert "\n" not in caught.value.message
    with pytest.raises(InputError, match="layers.1|resblocks.1"):
        direction(given, changed(config, "vision_cfg", layers=1))


def test_projections_have_the_names_that_transformers_gives_them(models):
    config, model = models["tiny"]
    theirs = to_transformers(model.state_dict(), config)
    for tower, layers in (("visual.", 2), ("", 1)):
        for number in range(layers):
            block = f"{tower}transformer.resblocks.{number}"
            for module, parts in (("attn", "qkv"), ("attn.qkv", "qkv"), ("attn", "o"), ("attn.out_proj", "o")):
                assert all(f"{transformers_name(f'{block}.{module}', part)}.weight" in theirs for part in parts)
            for module, part in (("mlp", "fc"), ("mlp.c_fc", "fc"), ("mlp", "proj"), ("mlp.c_proj", "proj")):
                assert f"{transformers_name(f'{block}.{module}', part)}.weight" in theirs
    name = transformers_name("visual.transformer.resblocks.3.attn", "q")
    assert name == "vision_model.encoder.layers.3.self_attn.q_proj"
    # The rows of in_proj that belong to each part are the weight of that name.
    fused = model.state_dict()["visual.transformer.resblocks.1.attn.in_proj_weight"]
    for part, rows in zip("qkv", fused.chunk(3), strict=True):
        assert torch.equal(theirs[f"{transformers_name('visual.transformer.resblocks.1.attn', part)}.weight"], rows)


@pytest.mark.parametrize(
    ("module", "part"),
    [
        ("visual.attnpool", "q"),
        ("visual.trunk.blocks.0.attn.qkv", "q"),
        ("text.transformer.resblocks.0.attn", "q"),
        ("visual.transformer.resblocks.x.attn", "q"),
        ("visual.transformer.resblocks.0.attn", "fc"),
        ("visual.transformer.resblocks.0.mlp.c_fc", "proj"),
        ("visual.transformer.resblocks.0.mlp.c_fc", "lora"),
        ("evil\nname", "q"),
    ],
)
def test_projections_that_transformers_does_not_have_are_refused(module, part):
    with pytest.raises(UsageError, match="no counterpart") as caught:
        transformers_name(module, part)
    assert "\n" not in caught.value.message
