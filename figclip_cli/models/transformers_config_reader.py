"""open_clip's configuration of a model from the ``config.json`` of transformers' ``CLIPModel``.

The activation is the one thing that no shape tells. It is taken from the file, or asked for where the file does not
say it; a default is relied on only in files that transformers itself wrote, where absent means the default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.model_sizes import mlp_ratio, shown, shown_key, square_side, whole_number
from figclip_cli.models.transformers_config import END_OF_TEXT, LAYER_NORM_EPS, VOCABULARY_SIZE

_ACTIVATIONS = {"gelu": "gelu", "quick_gelu": "quickgelu"}
_LEGACY_END_OF_TEXT = 2  # in files before transformers 4.31; it then pools at the highest token, which is the end
# Defaults of CLIPTextConfig and CLIPVisionConfig, the same in every version of transformers.
_TEXT_DEFAULTS: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "vocab_size": VOCABULARY_SIZE,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": LAYER_NORM_EPS,
}
_VISION_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": LAYER_NORM_EPS,
}


def model_config_of(config: Mapping[str, Any], activation: str | None, *, where: str = "config.json") -> dict[str, Any]:
    """Return open_clip's ``model_cfg`` of a ``CLIPModel``; sizes that are absent are transformers' defaults.

    Args:
        config: The content of transformers' ``config.json``.
        activation: ``gelu`` or ``quickgelu``, as the user says, or None.
        where: What the file is to the user.

    Raises:
        UsageError: The activation is stated nowhere, or the user says another one than the file.
        InputError: The model is none that both libraries compute alike, or a size is unusable.
    """
    if config.get("model_type") != "clip":
        raise InputError(
            f"{where} is of a model of type {shown(config.get('model_type'))}, not of a whole CLIP ('clip')",
            "both towers are needed: save the CLIPModel itself",
        )
    text, vision = (_merged(config, f"{tower}_config", where) for tower in ("text", "vision"))
    quick = _activation(config, text, vision, activation, where) == "quickgelu"
    for tower, name in ((text, "text_config"), (vision, "vision_config")):
        eps = tower.get("layer_norm_eps", LAYER_NORM_EPS)
        if eps != LAYER_NORM_EPS:
            raise InputError(f"layer_norm_eps in {name} of {where} is {shown(eps)}, not 1e-05", "choose another model")
    if vision.get("num_channels", 3) != 3:
        raise InputError(f"{where} is of a model for images of other than 3 channels", "choose another model")
    _check_tokens(text, f"text_config of {where}")
    side = f"vision_config of {where}"
    return {
        "embed_dim": whole_number(config, "projection_dim", 512, where=where, limit="embed_dim"),
        "vision_cfg": {
            "image_size": square_side(vision, "image_size", _VISION_DEFAULTS["image_size"], where=side),
            "patch_size": square_side(vision, "patch_size", _VISION_DEFAULTS["patch_size"], where=side),
            **_open_clip_tower(vision, _VISION_DEFAULTS, side, "head_width"),
        },
        "text_cfg": {
            "context_length": whole_number(
                text, "max_position_embeddings", 77, where=f"text_config of {where}", limit="context_length"
            ),
            "vocab_size": VOCABULARY_SIZE,
            **_open_clip_tower(text, _TEXT_DEFAULTS, f"text_config of {where}", "heads"),
        },
        "quick_gelu": quick,
    }


def _merged(config: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """Return a tower's settings.

    Old files have them twice. transformers then obeys the second place alone: what is absent there is its default.
    """
    first, second = config.get(key), config.get(f"{key}_dict")
    for name, part in ((key, first), (f"{key}_dict", second)):
        if part is not None and not isinstance(part, Mapping):
            raise InputError(f"{name} in {where} must be an object, got {shown(part)}", "is it the right file?")
    if first is None and second is None:
        raise InputError(f"{where} has no {key}", "is the file complete?")
    if first is None or second is None:
        return first or second or {}
    effective = {**(_VISION_DEFAULTS if key == "vision_config" else _TEXT_DEFAULTS), **second}
    for name in sorted(set(first) & set(effective) - {"transformers_version"}):
        if first[name] != effective[name]:
            raise InputError(
                f"{where} says two things: {shown_key(name)} is {shown(first[name])} in {key} and "
                f"{shown(effective[name])} in {key}_dict",
                "save the model again with a current transformers",
            )
    return {**first, **second}


def _activation(
    config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any], asked: str | None, where: str
) -> str:
    found = {_stated_activation(config, tower, name, where) for tower, name in ((text, "text"), (vision, "vision"))}
    stated = found - {None}
    if len(stated) > 1:
        raise InputError(
            f"the towers of {where} have two different activations, gelu and quick_gelu",
            "open_clip's model has one; this model cannot be loaded",
        )
    if None in found and asked is None:
        raise UsageError(
            f"{where} does not say which activation its towers have (hidden_act)",
            "pass --activation quickgelu (OpenAI's weights and those derived from them) or --activation gelu",
        )
    said = next(iter(stated), None)
    if asked is not None and said is not None and asked != said:
        raise UsageError(f"--activation {asked} contradicts {where}, which says {said}", "leave it out")
    return str(said or asked)


def _stated_activation(config: Mapping[str, Any], tower: Mapping[str, Any], name: str, where: str) -> str | None:
    """Return the activation of a tower, or None where it is not stated.

    transformers before version 5 wrote only what differs from its defaults: in a file that it wrote, absent means
    QuickGELU, the default of ``CLIPTextConfig`` and ``CLIPVisionConfig`` in every version.
    """
    if "hidden_act" not in tower:
        version = config.get("transformers_version") or tower.get("transformers_version")
        return "quickgelu" if isinstance(version, str) and version[:1].isdigit() else None
    value = tower["hidden_act"]
    if not isinstance(value, str) or value not in _ACTIVATIONS:
        raise InputError(
            f"hidden_act in {name}_config of {where} is {shown(value)}, which open_clip does not have",
            "it has gelu and quick_gelu",
        )
    return _ACTIVATIONS[value]


def _check_tokens(text: Mapping[str, Any], where: str) -> None:
    vocabulary = whole_number(text, "vocab_size", VOCABULARY_SIZE, where=where)
    if vocabulary != VOCABULARY_SIZE:
        raise InputError(
            f"vocab_size in {where} is {vocabulary}, not that of CLIP's vocabulary, {VOCABULARY_SIZE}",
            "choose a model with CLIP's vocabulary",
        )
    end = text.get("eos_token_id", END_OF_TEXT)
    if type(end) is not int or end not in (END_OF_TEXT, _LEGACY_END_OF_TEXT):
        raise InputError(
            f"eos_token_id in {where} is {shown(end)}: texts would not be pooled at CLIP's end of text, {END_OF_TEXT}",
            "choose a model with CLIP's vocabulary",
        )


def _open_clip_tower(
    values: Mapping[str, Any], defaults: Mapping[str, Any], where: str, heads_key: str
) -> dict[str, Any]:
    """Return a tower's sizes in open_clip's terms."""

    def size(key: str, limit: str) -> int:
        return whole_number(values, key, defaults[key], where=where, limit=limit)

    width, mlp = size("hidden_size", "width"), size("intermediate_size", "mlp_width")
    layers, heads = size("num_hidden_layers", "layers"), size("num_attention_heads", "heads")
    if width % heads:
        raise InputError(f"hidden_size {width} in {where} does not divide into {heads} heads", "is it the right file?")
    return {
        "layers": layers,
        "width": width,
        heads_key: width // heads if heads_key == "head_width" else heads,
        "mlp_ratio": mlp_ratio(mlp, width),
    }
