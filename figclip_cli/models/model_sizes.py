"""Numbers in a model's configuration, read within limits before anything is built from them.

A configuration is a file from elsewhere: a size in it may be text, NaN or 10**12. Every size is a whole number within
the limits here, so that building the architecture, even without memory, ends.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from figclip_cli.errors import InputError

# (lowest, highest). The largest model that open_clip knows has 56 layers of width 1792 and a vocabulary of 901,629.
LIMITS: dict[str, tuple[int, int]] = {
    "layers": (1, 512),
    "width": (1, 65_536),
    "heads": (1, 4_096),
    "head_width": (1, 65_536),
    "mlp_width": (1, 1 << 20),
    "patch_size": (1, 4_096),
    "image_size": (1, 8_192),
    "embed_dim": (1, 65_536),
    "context_length": (2, 4_096),
    "vocab_size": (2, 4_000_000),
}
HIGHEST_MLP_RATIO = 64.0


def shown(value: Any) -> str:
    """Return a value from a file for a message: on one line, short, whatever it is."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def shown_key(key: str) -> str:
    """Return the name of a field or of a tensor from a file for a message: on one line, and short."""
    return key if key.isprintable() and len(key) <= 120 else ascii(key)[1:-1][:120]


def whole_number(
    values: Mapping[str, Any], key: str, default: int | None, *, where: str, limit: str | None = None
) -> int:
    """Return a whole number of a configuration.

    Args:
        default: The value where the key is absent; None where it must be there.
        where: What the configuration is to the user, for example ``"vision_cfg of model/open_clip_config.json"``.
        limit: Name of its limits in :data:`LIMITS`; the key itself if it is not given.

    Raises:
        InputError: The key is missing, or the value is no whole number within its limits.
    """
    value = values.get(key, default)
    lowest, highest = LIMITS[limit or key]
    if value is None and key not in values:
        raise InputError(f"{where} does not say {key}", "is the file complete?")
    if type(value) is not int or not lowest <= value <= highest:
        raise InputError(
            f"{key} in {where} must be a whole number from {lowest} to {highest}, got {shown(value)}",
            "is it the right file?",
        )
    return value


def square_side(values: Mapping[str, Any], key: str, default: int | None, *, where: str) -> int:
    """Return the side of something square, given as a whole number or as two equal ones.

    Raises:
        InputError: The key is missing, the two differ, or one is no whole number within its limits.
    """
    value = values.get(key, default)
    if isinstance(value, (list, tuple)) and len(value) == 2:
        sides = [whole_number({key: side}, key, None, where=where) for side in value]
        if sides[0] != sides[1]:
            raise InputError(f"{key} in {where} is {sides[0]} x {sides[1]}, not square", "choose a square model")
        return sides[0]
    return whole_number(values, key, default, where=where)


def mlp_width(values: Mapping[str, Any], width: int, *, where: str) -> int:
    """Return the width of a block's MLP, ``width`` times ``mlp_ratio`` (4 by default), cut off as open_clip does.

    Raises:
        InputError: The ratio is no number within its limits.
    """
    ratio = values.get("mlp_ratio", 4.0)
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio <= HIGHEST_MLP_RATIO:
        raise InputError(
            f"mlp_ratio in {where} must be a number over 0, up to {HIGHEST_MLP_RATIO:g}, got {shown(ratio)}",
            "is it the right file?",
        )
    return whole_number({"mlp_width": int(width * ratio)}, "mlp_width", None, where=where)


def mlp_ratio(mlp: int, width: int) -> float:
    """Return a ratio from which open_clip computes exactly ``mlp``; it rounds the product down."""
    ratio = mlp / width
    while int(width * ratio) < mlp:
        ratio = math.nextafter(ratio, math.inf)
    return ratio
