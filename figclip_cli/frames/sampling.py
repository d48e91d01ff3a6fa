"""When to look: target times of a clip, and the recipe that says how they are made."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import sha256_of_json

Times = npt.NDArray[np.float64]
DECODERS = ("pyav", "ffmpeg")
STORAGES = ("jpeg", "raw")


@dataclass(frozen=True)
class SamplingRecipe:
    """Everything that decides which pixels are stored. Its hash is stored with them and checked at load.

    Attributes:
        events: P, equal parts of a clip.
        frames_per_event: T, frames of each event.
        size: Side of the stored square in pixels.
        decoder: ``pyav`` or ``ffmpeg``; both give the same frames.
        storage: ``jpeg`` or ``raw``.
        jpeg_quality: 1 to 95.
        policy: ``midpoints`` of equal parts.
        crop: ``center``, after resizing the short side.
        interpolation: ``bicubic``, antialiased.
    """

    events: int = 5
    frames_per_event: int = 4
    size: int = 224
    decoder: str = "pyav"
    storage: str = "jpeg"
    jpeg_quality: int = 95
    policy: str = "midpoints"
    crop: str = "center"
    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        for name in ("events", "frames_per_event", "size"):
            value = getattr(self, name)
            if value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}", "5 x 4 is the default")
        if not 1 <= self.jpeg_quality <= 95:
            raise UsageError(f"--jpeg-quality must be from 1 to 95, got {self.jpeg_quality}", "95 is the default")
        for name, known in (("decoder", DECODERS), ("storage", STORAGES)):
            if getattr(self, name) not in known:
                raise UsageError(f"--{name} {getattr(self, name)} is not known", f"choose {' or '.join(known)}")

    @property
    def frames(self) -> int:
        """Frames of a clip, events x frames per event."""
        return self.events * self.frames_per_event

    @property
    def sha256(self) -> str:
        """Hash of all fields."""
        return sha256_of_json(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> SamplingRecipe:
        """Return the recipe that :meth:`as_dict` wrote.

        Raises:
            InputError: Fields are missing or unknown.
        """
        try:
            return cls(**values)
        except (TypeError, UsageError) as error:
            raise InputError(
                f"{where} has a sampling recipe this version does not know: {error}", "extract again"
            ) from error

    def target_times_seconds(self, duration_seconds: float) -> Times:
        """Return the (events x frames per event,) times to look at, in seconds from the clip's start."""
        return (np.arange(self.frames) + 0.5) / self.frames * duration_seconds


def shown_at(pts_seconds: Times, targets_seconds: Times) -> npt.NDArray[np.int64]:
    """Return, for each target, the index of the frame that a player shows then.

    That is the last frame whose presentation time is not after the target, or the first frame where none is.

    Args:
        pts_seconds: (n,) ascending presentation times.
        targets_seconds: (m,) times.
    """
    # Times made by division may fall a rounding error short of the frame they name.
    return np.clip(np.searchsorted(pts_seconds, targets_seconds + 1e-9, side="right") - 1, 0, None)
