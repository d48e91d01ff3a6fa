"""How images are prepared, from the files of open_clip and of transformers, as open_clip's ``preprocess_cfg``.

A preparation that cannot be repeated exactly is refused: features of pixels prepared otherwise look right and are not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.models.model_sizes import shown

INTERPOLATIONS = ("bicubic", "bilinear")
RESIZE_MODES = ("shortest", "squash", "longest")
_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # the numbers of PIL.Image.Resampling
_PROCESSORS = ("CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor")
_STEPS = ("do_resize", "do_rescale", "do_normalize")


def checked_preprocess(values: Any, where: Path | str) -> dict[str, Any]:
    """Return the entries of open_clip's ``preprocess_cfg`` that say how images are prepared, checked.

    Args:
        values: The content of the file, or None where it says nothing.
        where: What the file is to the user.

    Raises:
        InputError: A value is of the wrong kind, or asks for a preparation that figclip does not have.
    """
    if values is None:
        return {}
    if not isinstance(values, Mapping):
        raise InputError(f"preprocess_cfg in {where} must be an object, got {shown(values)}", "is it the right file?")
    if values.get("mode", "RGB") != "RGB":
        raise InputError(f"mode in {where} is {shown(values['mode'])}, not RGB", "choose another model")
    checked: dict[str, Any] = {}
    for key, known in (("interpolation", INTERPOLATIONS), ("resize_mode", RESIZE_MODES)):
        if key in values:
            checked[key] = _one_of(values[key], known, key, where)
    for key in ("mean", "std"):
        if values.get(key) is not None:
            checked[key] = _channels(values[key], key, where)
    return checked


def _one_of(value: Any, known: tuple[str, ...], key: str, where: Path | str) -> str:
    if not isinstance(value, str) or value not in known:
        raise InputError(
            f"{key} in {where} is {shown(value)}; figclip has {', '.join(known)}",
            "choose a model that uses one of them",
        )
    return value


def _channels(value: Any, key: str, where: Path | str) -> tuple[float, float, float]:
    numbers = list(value) if isinstance(value, (list, tuple)) else [value] * 3
    sound = len(numbers) == 3 and all(
        isinstance(one, (int, float)) and not isinstance(one, bool) and abs(one) < 1e6 and math.isfinite(one)
        for one in numbers
    )
    if not sound or (key == "std" and min(numbers) <= 0):
        raise InputError(
            f"{key} in {where} must be three numbers{' over 0' if key == 'std' else ''}, got {shown(value)}",
            "is it the right file?",
        )
    return float(numbers[0]), float(numbers[1]), float(numbers[2])


def preprocess_of_processor(values: Any, image_size: int, where: Path) -> dict[str, Any]:
    """Return open_clip's ``preprocess_cfg`` of the image processor of a transformers CLIP.

    Args:
        values: The content of ``preprocessor_config.json``, or ``image_processor`` of ``processor_config.json``.
        image_size: Side in pixels that the image tower takes.
        where: The file.

    Raises:
        InputError: It is another processor than CLIP's, lacks a value, or prepares images as open_clip cannot.
    """
    if not isinstance(values, Mapping):
        raise InputError(f"{where} has no usable image processor", "save the CLIPProcessor beside the model")
    kind = values.get("image_processor_type", values.get("feature_extractor_type"))
    if kind not in _PROCESSORS:
        raise InputError(
            f"{where} is of the image processor {shown(kind)}, not of CLIPImageProcessor",
            "save the model's CLIPImageProcessor beside it",
        )
    absent = next((key for key in ("size", "resample", "image_mean", "image_std") if key not in values), None)
    if absent is not None:
        raise InputError(f"{where} does not say {absent}", "save the model's CLIPImageProcessor again")
    for step in _STEPS:
        if values.get(step, True) is not True:
            raise InputError(f"{step} in {where} is {shown(values[step])}: figclip always does it", "set it to true")
    factor = values.get("rescale_factor", 1 / 255)
    if not isinstance(factor, float) or not math.isclose(factor, 1 / 255, rel_tol=1e-6):
        raise InputError(f"rescale_factor in {where} is {shown(factor)}, not 1/255", "choose another model")
    resample = values["resample"]
    if type(resample) is not int or resample not in _RESAMPLE:
        raise InputError(
            f"resample in {where} is {shown(resample)}; figclip has 2 (bilinear) and 3 (bicubic)",
            "choose a model that uses one of them",
        )
    return {
        "size": [image_size, image_size],
        "mode": "RGB",
        "mean": _channels(values["image_mean"], "image_mean", where),
        "std": _channels(values["image_std"], "std", where),
        "interpolation": _RESAMPLE[resample],
        "resize_mode": _resize_mode(values, image_size, where),
    }


def _resize_mode(values: Mapping[str, Any], image_size: int, where: Path) -> str:
    """Return ``shortest`` for the short side and a centre crop, ``squash`` for both sides at once."""
    crops = values.get("do_center_crop", True)
    size = values["size"]
    if not isinstance(size, Mapping):  # before transformers 4.22, a number that means the short side
        size = {"shortest_edge": size}
    modes = {frozenset({"shortest_edge"}): "shortest", frozenset({"height", "width"}): "squash"}
    mode, sides = modes.get(frozenset(size), ""), list(size.values())
    if crops is True:
        crop = values.get("crop_size", image_size)
        sides += [crop.get("height"), crop.get("width")] if isinstance(crop, Mapping) else [crop]
    usable = mode and isinstance(crops, bool) and (crops or mode == "squash")
    if not usable or any(type(side) is not int or side != image_size for side in sides):
        raise InputError(
            f"{where} prepares images otherwise than to {image_size} x {image_size} pixels, which the model takes, "
            "by the short side and a centre crop or by both sides",
            "do size, crop_size and the model's image_size agree?",
        )
    return mode
