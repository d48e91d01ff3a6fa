"""What to export: in which forms, how far from the base, in which precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from figclip_cli.errors import UsageError, nearest

CONTEXTUALIZER = "contextualizer"
FORMATS = ("open-clip", "transformers", "peft", "loralib", "onnx", "torch-export", CONTEXTUALIZER)
DTYPES = ("fp32", "bf16", "fp16")


@dataclass(frozen=True)
class ExportOptions:
    """Every pair of a format and a scale makes one folder.

    Attributes:
        to: Formats, among :data:`FORMATS`.
        scales: How far to go from the base (0) to the adapted weights (1).
        dtype: Of the tensors that are written. Merging is in float32, and casting comes after it.
        base_name: What an adapter's folder calls its base model; None for what the run started from.
        licence: Licence of the base, where its own files do not say.
        results: Results of ``figclip evaluate`` for the model card.
        frames: Frames files to compare on; seeded pictures otherwise.
        prompts: A prompts file with texts to compare on, beside the built-in ones.

    Raises:
        UsageError: A value that cannot be meant.
    """

    to: tuple[str, ...] = ("open-clip",)
    scales: tuple[float, ...] = (1.0,)
    dtype: str = "fp32"
    base_name: str | None = None
    licence: str | None = None
    results: tuple[Path, ...] = ()
    frames: tuple[Path, ...] = ()
    prompts: Path | None = None

    def __post_init__(self) -> None:
        for name in self.to:
            if name not in FORMATS:
                raise UsageError(f"--to {name} is not a format", nearest(name, FORMATS))
        if self.dtype not in DTYPES:
            raise UsageError(f"--dtype {self.dtype} is not known", nearest(self.dtype, DTYPES))
        for scale in self.scales:
            if not 0 <= scale <= 1:
                raise UsageError(
                    f"--scale must be from 0 (the base) to 1 (the adapted weights), got {scale:g}", "try 0.5"
                )
        for flag, given in (("--to", self.to), ("--scale", self.scales)):
            if not given or len(set(given)) < len(given):
                raise UsageError(f"{flag} names {'one twice' if given else 'nothing'}", "name each once")

    @property
    def targets(self) -> tuple[Target, ...]:
        """What is asked for, by scale and then by format."""
        made = [Target(name, scale, self.dtype) for scale in self.scales for name in self.to if name != CONTEXTUALIZER]
        # It has no base to interpolate with, and was trained on the features of the adapted tower.
        return tuple(made + ([Target(CONTEXTUALIZER, 1.0, self.dtype)] if CONTEXTUALIZER in self.to else []))


@dataclass(frozen=True)
class Target:
    """One folder to be made.

    Attributes:
        format: Among :data:`FORMATS`.
        scale: How far it goes from the base (0) to the adapted weights (1).
        dtype: Of its tensors.
    """

    format: str
    scale: float
    dtype: str

    @property
    def name(self) -> str:
        """Name of the folder: the format, with whatever is not the default."""
        scale = "" if self.scale == 1 else f"-scale-{spelled(self.scale)}"
        return self.format + scale + ("" if self.dtype == "fp32" else f"-{self.dtype}")


def spelled(scale: float) -> str:
    """Return a scale with as many digits as tell it from every other one."""
    return repr(abs(scale)).removesuffix(".0")


def read_scales(text: str) -> tuple[float, ...]:
    """Read ``0,0.5,1``.

    Raises:
        UsageError: A part of it is no number.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--scale '{text}' cannot be read", "give numbers from 0 to 1: 0.5, or 0,0.5,1") from None
