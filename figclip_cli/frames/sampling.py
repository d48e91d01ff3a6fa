"""When to look: target times of a clip, and the recipe that says how they are made and what is stored."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import sha256_of_json

Times = npt.NDArray[np.float64]
DECODERS = ("pyav", "ffmpeg")
STORAGES = ("jpeg", "raw")
POLICIES = ("midpoints", "uniform", "random", "fps")
CROPS = ("center", "center-0.875", "squash", "letterbox")
ROUNDING_SECONDS = 1e-9  # times made by division may fall a rounding error short of the frame they name
MAX_FRAMES_PER_CLIP = 36_000  # an hour at 10 frames a second; what a worker holds must stay bounded


@dataclass(frozen=True)
class SamplingRecipe:
    """Everything that decides which pixels are stored. Its hash is stored with them and checked at load.

    Attributes:
        events: P, equal parts of a clip; 1 under ``fps``.
        frames_per_event: T, frames of each event; 0 under ``fps``, where it differs from clip to clip.
        size: Side of the stored square in pixels.
        decoder: ``pyav`` or ``ffmpeg``; both give the same frames.
        storage: ``jpeg`` or ``raw``.
        jpeg_quality: 1 to 95.
        policy: ``midpoints`` of P x T equal parts; ``uniform`` from the first frame to the last; ``random``, one
            time in each of the equal parts; ``fps``, at a fixed rate from the start.
        fps: Frames per second of the ``fps`` policy, else 0.
        seed: Of the ``random`` policy, else 0.
        crop: ``center`` square after resizing the short side; ``center-0.875`` of it, the inner 7/8 (256 to 224, as
            X-CLIP and ViFi-CLIP do); ``squash`` to a square; or ``letterbox``, the whole picture between black bars.
            Without the second, what open_clip calls shortest, squash and longest.
        interpolation: ``bicubic``, antialiased.
        hwaccel: What ffmpeg decodes with, such as ``cuda``; empty for the processor.
    """

    events: int = 5
    frames_per_event: int = 4
    size: int = 224
    decoder: str = "pyav"
    storage: str = "jpeg"
    jpeg_quality: int = 95
    policy: str = "midpoints"
    fps: float = 0.0
    seed: int = 0
    crop: str = "center"
    interpolation: str = "bicubic"
    hwaccel: str = ""

    def __post_init__(self) -> None:
        for name, known in (("decoder", DECODERS), ("storage", STORAGES), ("policy", POLICIES), ("crop", CROPS)):
            if getattr(self, name) not in known:
                raise UsageError(f"--{name} {getattr(self, name)} is not known", f"choose {' or '.join(known)}")
        if (self.policy == "fps") != (self.fps != 0):
            raise UsageError("--policy fps and --fps go together", "give --fps RATE alone; it implies the policy")
        if self.is_ragged:
            if not 0 < self.fps <= 1000:
                raise UsageError(f"--fps must be above 0 and at most 1000, got {self.fps}", "1 is usual")
            object.__setattr__(self, "events", 1)
            object.__setattr__(self, "frames_per_event", 0)
        for name in ("size",) if self.is_ragged else ("events", "frames_per_event", "size"):
            if getattr(self, name) < 1:
                got = getattr(self, name)
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {got}", "5 x 4 is the default")
        if self.frames > MAX_FRAMES_PER_CLIP:
            raise UsageError(f"{self.frames} frames of each clip are too many", f"at most {MAX_FRAMES_PER_CLIP}")
        if not 1 <= self.jpeg_quality <= 95:
            raise UsageError(f"--jpeg-quality must be from 1 to 95, got {self.jpeg_quality}", "95 is the default")
        if self.hwaccel and self.decoder != "ffmpeg":
            raise UsageError("--hwaccel needs --decoder ffmpeg", "PyAV decodes on the processor only")

    @property
    def is_ragged(self) -> bool:
        """Whether the number of frames differs from clip to clip."""
        return self.policy == "fps"

    @property
    def frames(self) -> int:
        """Frames of a clip, events x frames per event; 0 where clips differ."""
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

    def target_times_seconds(self, duration_seconds: float, *, frame_seconds: float = 0.0, clip_id: str = "") -> Times:
        """Return the times to look at, ascending, in seconds from the clip's start.

        Args:
            duration_seconds: Of the clip.
            frame_seconds: How long the last frame is shown; ``uniform`` ends in its middle.
            clip_id: What ``random`` draws from, beside the seed: never the order or number of workers.

        Raises:
            ValueError: The rate asks for more than ``MAX_FRAMES_PER_CLIP`` frames.
        """
        if self.policy == "fps":
            count = max(1, int(np.ceil(duration_seconds * self.fps - 1e-6)))
            if count > MAX_FRAMES_PER_CLIP:
                raise ValueError(f"{count} frames at {self.fps:g} a second are more than {MAX_FRAMES_PER_CLIP}")
            return np.arange(count) / self.fps
        if self.policy == "uniform":
            return np.linspace(0.0, max(0.0, duration_seconds - frame_seconds / 2), self.frames)
        within = _generator(self.seed, clip_id).random(self.frames) if self.policy == "random" else 0.5
        return (np.arange(self.frames) + within) / self.frames * duration_seconds


def _generator(seed: int, clip_id: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\0{clip_id}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def shown_at(pts_seconds: Times, targets_seconds: Times) -> npt.NDArray[np.int64]:
    """Return, for each target, the index of the frame that a player shows then.

    That is the last frame whose presentation time is not after the target, or the first frame where none is.

    Args:
        pts_seconds: (n,) ascending presentation times.
        targets_seconds: (m,) times.
    """
    return np.clip(np.searchsorted(pts_seconds, targets_seconds + ROUNDING_SECONDS, side="right") - 1, 0, None)
