"""Strengths at which a run is evaluated, from the base (0) to the adapted weights (1). No torch here."""

from __future__ import annotations

import re
from collections.abc import Iterable

from figclip_cli.errors import UsageError

FEWEST_SCALES = 2
_NUMBER = re.compile(r"(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_EXAMPLE = "for example --scales 0,0.25,0.5,0.75,1"


def read_scales(text: str) -> tuple[float, ...]:
    """Return the scales that a list such as ``0,0.25,1`` names, in ascending order.

    Raises:
        UsageError: One is no number from 0 to 1 or is named twice, or there are fewer than two.
    """
    scales: list[float] = []
    for part in (piece.strip() for piece in text.split(",")):
        scale = float(part) if _NUMBER.fullmatch(part) else -1.0
        if not 0.0 <= scale <= 1.0:
            raise UsageError(f"--scales: '{part}' is no number from 0 (the base) to 1 (the run)", _EXAMPLE)
        if scale in scales:
            raise UsageError(f"--scales names {scale_text(scale)} twice", "name each scale once")
        scales.append(scale)
    if len(scales) < FEWEST_SCALES:
        raise UsageError(
            f"--scales {text}: one scale is no curve", f"{_EXAMPLE}; without --scales the run counts whole"
        )
    return tuple(sorted(scales))


def scale_text(scale: float) -> str:
    """Return the shortest text of a scale, of which no two scales have the same: ``0``, ``0.25``, ``1``."""
    return repr(float(scale)).removesuffix(".0")


def scales_text(scales: Iterable[float]) -> str:
    """Return scales as a list."""
    return ", ".join(map(scale_text, scales))
