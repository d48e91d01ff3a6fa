"""The configuration of transformers' ``CLIPModel`` for a model of open_clip.

Only what both compute alike is translated. A setting that changes the function and has no counterpart is refused, so
that a translated model never gives other features than the one it came from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.model_sizes import mlp_width, shown, shown_key, square_side, whole_number

VOCABULARY_SIZE = 49408
START_OF_TEXT, END_OF_TEXT = 49406, 49407
LAYER_NORM_EPS = 1e-5
LOGIT_SCALE_INIT = math.log(1 / 0.07)

_OWN_NOUN = "transformers' CLIPModel"

# Fields of open_clip's configuration that change the function, with the one value that CLIPModel computes. Fields
# that are read as sizes below or that mean nothing without another one are in _SIZES and _INERT.
_PLAIN_ATTENTION: dict[str, Any] = {
    "qk_norm": False,
    "scaled_cosine_attn": False,
    "scale_heads": False,
    "scale_attn_inner": False,
    "scale_attn": False,
    "scale_fc": False,
}
_VISION_FIXED: dict[str, Any] = {
    **_PLAIN_ATTENTION,
    "timm_model_name": None,
    "ls_init_value": None,
    "attentional_pool": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "final_ln_after_pool": False,
    "pool_type": "tok",
    "output_tokens": False,
}
_TEXT_FIXED: dict[str, Any] = {
    **_PLAIN_ATTENTION,
    "hf_model_name": None,
    "hf_tokenizer_name": None,
    "tokenizer_mode": None,
    "ls_init_value": None,
    "embed_cls": False,
    "no_causal_mask": False,
    "final_ln_after_pool": False,
    "pool_type": "argmax",
    "proj_bias": False,
    "proj_type": "linear",
    "output_tokens": False,
}
_MODEL_FIXED: dict[str, Any] = {
    "custom_text": False,
    "multimodal_cfg": None,
    "init_logit_bias": None,
    "nonscalar_logit_scale": False,
    "cast_dtype": None,
}
_VISION_SIZES = {"layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size"}
_TEXT_SIZES = {"layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size"}
# Patches are dropped in training only. The rest belongs to poolers, trunks and masks that are refused by name.
_VISION_INERT = {
    *("patch_dropout", "attn_pooler_queries", "attn_pooler_heads", "timm_model_pretrained", "timm_pool"),
    *("timm_proj", "timm_proj_bias", "timm_drop", "timm_drop_path"),
}
_TEXT_INERT = {"pad_id", "eos_id", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"}
_MODEL_INERT = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_scale", "output_dict"}


@dataclass(frozen=True)
class TowerSizes:
    """Sizes of a transformer tower: blocks, width, heads, and the width of a block's MLP."""

    layers: int
    width: int
    heads: int
    mlp_width: int


@dataclass(frozen=True)
class ClipSizes:
    """Every size of a CLIP with two plain transformer towers; image and patch sides in pixels."""

    vision: TowerSizes
    text: TowerSizes
    image_size: int
    patch_size: int
    context_length: int
    embed_dim: int

    @property
    def positions(self) -> int:
        """Positions of the image tower: one for each patch, and the class token's."""
        return (self.image_size // self.patch_size) ** 2 + 1


def clip_sizes(model_config: Mapping[str, Any]) -> ClipSizes:
    """Return the sizes of a model that transformers' ``CLIPModel`` can hold.

    Args:
        model_config: open_clip's ``model_cfg``.

    Raises:
        UsageError: It has a tower or a setting that ``CLIPModel`` does not have.
        InputError: A size is missing, or no whole number within limits.
    """
    vision, text = (_part(model_config, key) for key in ("vision_cfg", "text_cfg"))
    _refuse_other(model_config, _MODEL_FIXED, _MODEL_INERT, "")
    _refuse_other(vision, _VISION_FIXED, _VISION_SIZES | _VISION_INERT, "vision_cfg.")
    _refuse_other(text, _TEXT_FIXED, _TEXT_SIZES | _TEXT_INERT, "text_cfg.")
    if isinstance(vision.get("layers"), (list, tuple)):
        raise UsageError(f"a ResNet image tower does not fit into {_OWN_NOUN}", "choose a ViT")
    where = "vision_cfg"
    width = whole_number(vision, "width", 768, where=where)
    heads = width // whole_number(vision, "head_width", 64, where=where)
    sizes = ClipSizes(
        vision=_tower(vision, width, heads, 12, where),
        text=_text_tower(text),
        image_size=square_side(vision, "image_size", 224, where=where),
        patch_size=square_side(vision, "patch_size", 16, where=where),
        context_length=whole_number(text, "context_length", 77, where="text_cfg"),
        embed_dim=whole_number(model_config, "embed_dim", None, where="the model configuration"),
    )
    if (vocabulary := whole_number(text, "vocab_size", VOCABULARY_SIZE, where="text_cfg")) != VOCABULARY_SIZE:
        raise UsageError(
            f"a vocabulary of {vocabulary} tokens is not CLIP's, which has {VOCABULARY_SIZE}", "choose another model"
        )
    return sizes


def _part(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = values.get(key)
    if not isinstance(part, Mapping):
        raise InputError(f"the model configuration has no usable {key}", "is it the right file?")
    return part


def _text_tower(text: Mapping[str, Any]) -> TowerSizes:
    where = "text_cfg"
    width = whole_number(text, "width", 512, where=where)
    return _tower(text, width, whole_number(text, "heads", 8, where=where), 12, where)


def _tower(values: Mapping[str, Any], width: int, heads: int, layers: int, where: str) -> TowerSizes:
    if heads < 1 or width % heads:
        raise InputError(f"a width of {width} in {where} does not divide into {heads} heads", "is it the right file?")
    depth = whole_number(values, "layers", layers, where=where)
    return TowerSizes(depth, width, heads, mlp_width(values, width, where=where))


def _refuse_other(values: Mapping[str, Any], fixed: Mapping[str, Any], known: set[str], prefix: str) -> None:
    """Refuse every setting that is neither read nor at the one value that ``CLIPModel`` computes."""
    for key, value in values.items():
        if key in known or (key in fixed and (value == fixed[key] or value is None)):
            continue
        neutral = {"act_kwargs": {}, "norm_kwargs": {}, "tokenizer_kwargs": {}, "block_type": "default"}
        if key in neutral and (value is None or value == neutral[key]):
            continue
        if key == "norm_kwargs" and value == {"eps": LAYER_NORM_EPS}:
            continue
        raise UsageError(
            f"{_OWN_NOUN} cannot hold this model: it has no counterpart of {prefix}{shown_key(key)} = {shown(value)}",
            "the open_clip format holds it",
        )


def transformers_config(
    model_config: Mapping[str, Any], *, logit_scale_init: float = LOGIT_SCALE_INIT
) -> dict[str, Any]:
    """Return the ``config.json`` with which transformers' ``CLIPModel`` computes what the open_clip model does.

    Nothing is left to a default of transformers: the activation above all, which it takes for QuickGELU.

    Args:
        model_config: open_clip's ``model_cfg``.
        logit_scale_init: Log of the inverse temperature that a model made without weights starts with.

    Raises:
        UsageError: ``CLIPModel`` cannot hold the model.
        InputError: A size is missing, or no whole number within limits.
    """
    sizes = clip_sizes(model_config)
    activation = "quick_gelu" if model_config.get("quick_gelu", False) else "gelu"
    text = {
        "model_type": "clip_text_model",
        "vocab_size": VOCABULARY_SIZE,
        "max_position_embeddings": sizes.context_length,
        "bos_token_id": START_OF_TEXT,
        "eos_token_id": END_OF_TEXT,
        "pad_token_id": END_OF_TEXT,
    }
    vision = {
        "model_type": "clip_vision_model",
        "image_size": sizes.image_size,
        "patch_size": sizes.patch_size,
        "num_channels": 3,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": sizes.embed_dim,
        "logit_scale_init_value": logit_scale_init,
        "initializer_factor": 1.0,
        "text_config": {**text, **_tower_config(sizes.text, sizes.embed_dim, activation)},
        "vision_config": {**vision, **_tower_config(sizes.vision, sizes.embed_dim, activation)},
        "torch_dtype": "float32",
    }


def _tower_config(tower: TowerSizes, embed_dim: int, activation: str) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "projection_dim": embed_dim,
        "hidden_act": activation,
        "layer_norm_eps": LAYER_NORM_EPS,
        "attention_dropout": 0.0,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
    }
