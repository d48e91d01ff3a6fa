"""open_clip's ``model_cfg``, checked before anything is built from it, and the names in it that lead elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.files import read_json
from figclip_cli.models.model_sizes import mlp_width, shown, shown_key, square_side, whole_number

_PARTS = ("vision_cfg", "text_cfg", "multimodal_cfg")
_SIDES = ("image_size", "patch_size")
# Whole numbers that no limit is named for: queries and heads of poolers, numbers of tokens.
_SMALL = {"attn_pooler_queries": 4096, "attn_pooler_heads": 4096, "n_queries": 4096, "dim_head": 65_536}
_SIZES = ("layers", "width", "heads", "head_width", "context_length", "vocab_size")
_TOKENIZER_KWARGS = ("clean", "strip_sep_token", "language")
_CACHE_HINT = "fetch it by name on a machine with network, or choose a model with CLIP's own text tower"
_MOST_BYTES = 64 << 20


def check_model_config(model_config: Mapping[str, Any], where: str) -> None:
    """Refuse a configuration whose sizes are none or out of bounds, or whose switches are no switches.

    Raises:
        InputError: Names the entry.
    """
    whole_number(model_config, "embed_dim", None, where=where)
    for key in ("quick_gelu", "custom_text", "nonscalar_logit_scale", "output_dict"):
        if not isinstance(model_config.get(key, False), bool):
            value = shown(model_config[key])
            raise InputError(f"{key} in {where} must be true or false, got {value}", "is it the right file?")
    for part in _PARTS:
        if part not in model_config and part == "multimodal_cfg":
            continue
        values = model_config.get(part)
        if not isinstance(values, Mapping):
            raise InputError(f"{part} in {where} must be an object, got {shown(values)}", "is it the right file?")
        _check_part(values, f"{part} of {where}")


def _check_part(values: Mapping[str, Any], where: str) -> None:
    stages = isinstance(values.get("layers"), (list, tuple))
    for key, value in values.items():
        if key == "layers" and stages:
            if len(value) != 4:
                raise InputError(f"layers in {where} must be one whole number or four", "is it the right file?")
            for one in value:
                whole_number({"layers": one}, "layers", None, where=where)
        elif key in _SIDES and not (value is None and stages):  # a ResNet has no patches
            square_side(values, key, None, where=where)
        elif key in _SIZES:
            whole_number(values, key, None, where=where)
        elif key in _SMALL and (type(value) is not int or not 1 <= value <= _SMALL[key]):
            raise InputError(f"{key} in {where} must be a whole number, got {shown(value)}", "is it the right file?")
        elif key == "mlp_ratio":
            mlp_width(values, whole_number(values, "width", 768, where=where), where=where)
        elif key in ("timm_model_name", "hf_model_name", "hf_tokenizer_name") and value is not None:
            _check_name(key, value, where)
    width = values.get("width")
    if isinstance(width, int) and not stages:
        heads = values.get("heads") or width // values.get("head_width", min(width, 64))
        if heads < 1 or width % heads:
            raise InputError(f"a width of {width} in {where} does not divide into heads", "is it the right file?")


def _check_name(key: str, value: Any, where: str) -> None:
    """Refuse names that lead out of a registry: to the hub, by a scheme, or to a path."""
    tricks = isinstance(value, str) and (":" in value or ".." in value or value.startswith(("/", ".")))
    if not isinstance(value, str) or not value.isprintable() or not value or tricks or len(value) > 200:
        raise InputError(f"{key} in {where} is {shown(value)}, which is no name", "is it the right file?")
    if key == "timm_model_name" and "/" in value:
        raise InputError(
            f"{key} in {where} is {shown(value)}, which is no name that timm knows", "choose another model"
        )


def is_foreign(model_config: Mapping[str, Any]) -> bool:
    """Say whether a tower is of another library than open_clip."""
    towers = [model_config.get(part) or {} for part in _PARTS]
    return any(tower.get("timm_model_name") or tower.get("hf_model_name") for tower in towers)


def with_cached_names(model_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with each name of a hub repository replaced by its folder in the local cache.

    A local folder's configuration can name any repository. Nothing is fetched for it, and no code of it is run.

    Raises:
        InputError: A name is not in the cache, has code of its own, or its tokenizer takes other arguments than
            how texts are cleaned.
    """
    copied = copy.deepcopy(dict(model_config))
    text = copied["text_cfg"]
    for key, file in (("hf_model_name", "config.json"), ("hf_tokenizer_name", "tokenizer_config.json")):
        if text.get(key) is not None:
            text[key] = str(_cached_folder(text[key], key, file))
    kwargs = text.get("tokenizer_kwargs") or {}
    if not isinstance(kwargs, Mapping):
        raise InputError(f"tokenizer_kwargs must be an object, got {shown(kwargs)}", "check open_clip_config.json")
    for name in kwargs:
        if name not in _TOKENIZER_KWARGS:
            raise InputError(f"tokenizer_kwargs has {shown_key(name)}, which is not taken", "remove it from the file")
    return copied


def _cached_folder(name: str, key: str, file: str) -> Path:
    from huggingface_hub import try_to_load_from_cache

    try:
        found = try_to_load_from_cache(name, file)
    except Exception as error:  # a name that is none
        raise InputError(f"{key} {shown(name)} is no name of a hub repository", _CACHE_HINT) from error
    if not isinstance(found, str):
        raise InputError(f"{key} {shown(name)} is not in this machine's hub cache, and is not fetched", _CACHE_HINT)
    path = Path(found)
    if path.stat().st_size > _MOST_BYTES or "auto_map" in str(read_json(path, key)):
        raise InputError(f"{key} {shown(name)} has code of its own, which is not run", _CACHE_HINT)
    return path.parent
