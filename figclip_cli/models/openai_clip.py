"""OpenAI's CLIP weights without a configuration: the architecture from the shapes, as OpenAI's own loader finds it.

Source: ``build_model`` of https://github.com/openai/CLIP. Shapes do not tell the number of heads, which is the width
divided by 64 in every model that OpenAI released; nor the activation, which the file shows or the user says.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.stored_weights import StoredWeights, TensorHeader, unusable

PREPROCESS: dict[str, Any] = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
_HEAD_WIDTH = 64
# Entries that are no weights but state what the shapes state too.
_STATED = ("input_resolution", "context_length", "vocab_size")
_HINT = "name the architecture instead: --model NAME --pretrained FILE"
_TEXT_BLOCK = re.compile(r"transformer\.resblocks\.(0|[1-9]\d{0,3})\.ln_1\.weight")
_IMAGE_BLOCK = re.compile(r"visual\.transformer\.resblocks\.(0|[1-9]\d{0,3})\.ln_1\.weight")
_STAGE_BLOCK = re.compile(r"visual\.layer([1-4])\.(0|[1-9]\d{0,3})\.conv1\.weight")


def is_openai_layout(stored: StoredWeights) -> bool:
    """Say whether the names are those of OpenAI's CLIP, with either image tower."""
    names = stored.headers
    image = "visual.proj" in names or "visual.attnpool.positional_embedding" in names
    return image and {"text_projection", "positional_embedding", "ln_final.weight"} <= set(names)


def without_stated(stored: StoredWeights) -> StoredWeights:
    """Return the weights without the entries that merely state sizes, after comparing those with the shapes.

    Raises:
        InputError: An entry contradicts the shapes.
    """
    stated = [name for name in _STATED if name in stored.headers]
    kept = {name: header for name, header in stored.headers.items() if name not in stated}
    if is_openai_layout(stored):
        _check_stated(stored, stated)

    def read() -> dict[str, Any]:
        return {name: tensor for name, tensor in stored.read().items() if name in kept}

    return StoredWeights(stored.path, kept, read, stored.activations, stored.numbers) if stated else stored


def _check_stated(stored: StoredWeights, stated: list[str]) -> None:
    numbers = {name: stored.numbers[name] for name in _STATED if name in stored.numbers}
    if stated:
        tensors = stored.read()
        for name in stated:
            tensor = tensors[name]
            if tensor.numel() != 1 or tensor.dtype.is_floating_point or tensor.dtype.is_complex:
                unusable(stored.path, f"{name} in it is no whole number")
            numbers[name] = int(tensor)
    if not numbers:
        return
    config = _sizes(stored)
    found = {
        "input_resolution": config["vision_cfg"]["image_size"],
        "context_length": config["text_cfg"]["context_length"],
        "vocab_size": config["text_cfg"]["vocab_size"],
    }
    for name, number in numbers.items():
        if number != found[name]:
            unusable(stored.path, f"it says {name} {number}, its tensors are made for {found[name]}")


def openai_model_config(stored: StoredWeights, activation: str | None) -> dict[str, Any]:
    """Return open_clip's ``model_cfg`` of weights in OpenAI's layout.

    Args:
        activation: ``gelu`` or ``quickgelu``, as the user says, or None.

    Raises:
        InputError: The weights are of another layout, or of a model whose number of heads cannot be known.
        UsageError: The file does not show its activation and the user does not say it, or says another one.
    """
    if not is_openai_layout(stored):
        raise InputError(
            f"{stored.path} does not hold the tensors of one of OpenAI's CLIP models, so its architecture is unknown",
            _HINT,
        )
    config = _sizes(stored)
    _check_heads(stored, config)
    return {**config, "quick_gelu": activation_of(stored, activation) == "quickgelu"}


def activation_of(stored: StoredWeights, asked: str | None) -> str:
    """Return the activation: the one that an archive's classes show, or the one that the user says.

    Raises:
        UsageError: Neither is there, or they contradict each other.
    """
    if len(stored.activations) == 1:
        (shown,) = stored.activations
        if asked not in (None, shown):
            raise UsageError(f"--activation {asked} contradicts {stored.path}, which was made with {shown}", "omit it")
        return shown
    if asked is None:
        why = "has both GELU and QuickGELU in it" if stored.activations else "does not say"
        raise UsageError(
            f"{stored.path} {why}: was it trained with GELU or QuickGELU?",
            "pass --activation quickgelu (OpenAI's weights and those derived from them) or --activation gelu",
        )
    return asked


def _sizes(stored: StoredWeights) -> dict[str, Any]:
    shapes = _Shapes(stored)
    embed_dim = shapes.of("text_projection", 2)[1]
    context = shapes.of("positional_embedding", 2)[0]
    width = shapes.of("ln_final.weight", 1)[0]
    text = {
        "context_length": context,
        "vocab_size": shapes.of("token_embedding.weight", 2)[0],
        "width": width,
        "heads": _heads(stored, width),
        "layers": _count(stored, _TEXT_BLOCK),
    }
    vit = "visual.proj" in stored.headers
    return {"embed_dim": embed_dim, "vision_cfg": _vit(shapes) if vit else _resnet(shapes), "text_cfg": text}


class _Shapes:
    def __init__(self, stored: StoredWeights) -> None:
        self.stored = stored

    def of(self, name: str, dimensions: int) -> tuple[int, ...]:
        header: TensorHeader | None = self.stored.headers.get(name)
        if header is None:
            unusable(self.stored.path, f"it lacks the tensor {name}")
        if len(header.shape) != dimensions or 0 in header.shape:
            unusable(self.stored.path, f"the tensor {name} has the shape {header.shape}")
        return header.shape


def _vit(shapes: _Shapes) -> dict[str, Any]:
    width, _, _, patch = shapes.of("visual.conv1.weight", 4)
    grid = _grid(shapes, "visual.positional_embedding")
    _heads(shapes.stored, width)
    return {
        "layers": _count(shapes.stored, _IMAGE_BLOCK),
        "width": width,
        "head_width": _HEAD_WIDTH,
        "patch_size": patch,
        "image_size": patch * grid,
    }


def _resnet(shapes: _Shapes) -> dict[str, Any]:
    width = shapes.of("visual.layer1.0.conv1.weight", 4)[0]
    _heads(shapes.stored, 32 * width)
    return {
        "layers": [_count(shapes.stored, _STAGE_BLOCK, str(stage)) for stage in (1, 2, 3, 4)],
        "width": width,
        "head_width": _HEAD_WIDTH,
        "image_size": 32 * _grid(shapes, "visual.attnpool.positional_embedding"),
    }


def _grid(shapes: _Shapes, name: str) -> int:
    positions = shapes.of(name, 2)[0]
    grid = math.isqrt(max(positions - 1, 0))
    if grid < 1 or grid * grid + 1 != positions:
        unusable(shapes.stored.path, f"the {positions} positions of {name} are not those of a square image")
    return grid


def _heads(stored: StoredWeights, width: int) -> int:
    if width % _HEAD_WIDTH:
        unusable(stored.path, f"a width of {width} does not divide into heads of {_HEAD_WIDTH}", hint=_HINT)
    return width // _HEAD_WIDTH


def _count(stored: StoredWeights, pattern: re.Pattern[str], stage: str | None = None) -> int:
    matches = [match for name in stored.headers if (match := pattern.fullmatch(name))]
    numbers = {int(match[match.re.groups]) for match in matches if stage is None or match[1] == stage}
    if numbers != set(range(len(numbers))) or not numbers:
        unusable(stored.path, "its blocks are not numbered from 0 on")
    return len(numbers)


def _check_heads(stored: StoredWeights, config: Mapping[str, Any]) -> None:
    """Refuse weights whose heads may be of another width than OpenAI's: no shape would show it.

    An archive may state its heads. Otherwise the sizes are compared with those of the models that open_clip knows
    to have other heads, such as ViT-H-14.
    """
    stated = {name: number for name, number in stored.numbers.items() if name.endswith(".attn.num_heads")}
    vision, text = config["vision_cfg"], config["text_cfg"]
    heads = {"visual": vision["width"] // _HEAD_WIDTH, "transformer": text["heads"]}
    for name, number in stated.items():
        if number != heads.get(name.partition(".")[0], number):
            unusable(stored.path, f"its attention has {number} heads, not one for each {_HEAD_WIDTH} of its width")
    if not stated and (known := _known_with_other_heads(vision, text)):
        unusable(stored.path, f"its sizes are those of {known}, whose heads are not {_HEAD_WIDTH} wide", hint=_HINT)


def _known_with_other_heads(vision: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    import open_clip

    for name in open_clip.list_models():
        known: Any = open_clip.get_model_config(name)
        image, words = known["vision_cfg"], known["text_cfg"]
        same_image = all(image.get(key) == vision[key] for key in ("width", "layers"))
        same_text = all(words.get(key) == text[key] for key in ("width", "layers"))
        if same_image and image.get("head_width", _HEAD_WIDTH) != _HEAD_WIDTH:
            return str(name)
        if same_image and same_text and words.get("heads") != text["heads"]:
            return str(name)
    return None
