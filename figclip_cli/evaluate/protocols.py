"""Named protocols: what public code chose for pooling, frames, crop, precision and prompt, set together.

Numbers of two papers are comparable only where these agree, so every one of them is written into every result. The
sources are read in ``docs/evaluate.md``; nothing here imports torch.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from figclip_cli.errors import UsageError, nearest
from figclip_cli.option_fields import check_choices, flag, spelled

POOLINGS = ("mean-l2", "l2-mean-l2", "l2-mean")
CROPS = ("center", "center-0.875", "squash", "letterbox")
PRECISIONS = ("fp32", "bf16", "fp16")
_PANEL = "Protocol"


@dataclass(frozen=True)
class Protocol:
    """Everything beside model and data that decides a number.

    Attributes:
        name: Of the protocol that the others come from.
        pooling: How frame features become a clip's; see :mod:`figclip_cli.models.pooling`.
        num_frames: Frames of a clip, at the midpoints of as many equal parts; with ``fps`` the most of them. None
            takes what is stored.
        fps: Frames a second, of which ``num_frames`` are taken at equal steps where there are more; 0 for midpoints.
        crop: How a picture becomes a square; None is as the frames were stored, and for images as the model wants it.
        precision: Of the towers' arithmetic; scores are float32 always.
        max_tokens: Tokens of a text, with start and end, that the tower sees; None is the model's context.
        prompts: Prompt set of action recognition.
        prompt_averaging: How the features of a class's prompts become one.
        class_names: ``split`` says "Apply Eye Makeup", ``raw`` what the list writes.
        changed: Names of the choices that were set apart from the named protocol.
    """

    name: str = "figclip"
    pooling: str = "mean-l2"
    num_frames: int | None = None
    fps: float = 0.0
    crop: str | None = None
    precision: str = "fp32"
    max_tokens: int | None = None
    prompts: str = "openai"
    prompt_averaging: str = "l2-mean-l2"
    class_names: str = "split"
    changed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "changed": list(self.changed)}


PROTOCOLS = {
    # What is stored: by default 5 events x 4 frames, as the model was adapted.
    "figclip": Protocol(),
    # ArrowLuo/CLIP4Clip, meanP: 1 frame a second, 12 of them, 32 tokens.
    "clip4clip": Protocol("clip4clip", "l2-mean-l2", num_frames=12, fps=1.0, crop="center", max_tokens=32),
    # bryant1410/fitclip: 4 midpoints, the mean left as it is, for clips and for prompts.
    "fitclip": Protocol("fitclip", "l2-mean", num_frames=4, crop="center", prompt_averaging="l2-mean"),
    # muzairkhattak/ViFi-CLIP, zero-shot: 32 midpoints, 256 to 224, the bare class name as the list writes it.
    "vifi": Protocol("vifi", num_frames=32, crop="center-0.875", prompts="bare", class_names="raw"),
    # katha-ai/VELOCITI: two frames a second of ten seconds.
    "velociti": Protocol("velociti", num_frames=20, crop="center"),
}


# What differs where texts are paragraphs.
_PARAGRAPHS: dict[str, dict[str, Any]] = {"clip4clip": {"num_frames": 64, "max_tokens": 64}}


@dataclass(frozen=True)
class ProtocolOptions:
    """The flags of a protocol: its name, and what is to differ from it. None leaves the protocol's own choice."""

    protocol: str = flag(
        "figclip", "Choices of a published evaluation, set together.", _PANEL, choices=tuple(PROTOCOLS)
    )
    pooling: str | None = flag(None, "How frames become a clip; read from left to right.", _PANEL, choices=POOLINGS)
    num_frames: int | None = flag(None, "Frames of a clip, at midpoints of equal parts.", _PANEL, min=1)
    crop: str | None = flag(None, "How a picture becomes a square.", _PANEL, choices=CROPS)
    precision: str | None = flag(None, "Of the towers' arithmetic.", _PANEL, choices=PRECISIONS)
    max_tokens: int | None = flag(None, "Tokens of a text that are seen, start and end included.", _PANEL, min=3)

    def __post_init__(self) -> None:
        check_choices(self)
        for name, least in (("num_frames", 1), ("max_tokens", 3)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(
                    f"{spelled(name)} must be at least {least}, got {value}", "the default is the protocol's"
                )

    def resolve(self, *, paragraphs: bool = False, **more: Any) -> Protocol:
        """Return the protocol with what differs from it.

        Args:
            paragraphs: Whether texts are paragraphs, for which a protocol may have choices of its own.
            more: Choices of one task, None where not made.
        """
        if self.protocol not in PROTOCOLS:
            raise UsageError(f"--protocol knows no '{self.protocol}'", nearest(self.protocol, PROTOCOLS))
        base = replace(PROTOCOLS[self.protocol], **(_PARAGRAPHS.get(self.protocol, {}) if paragraphs else {}))
        asked = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "protocol"} | more
        asked = {name: value for name, value in asked.items() if value is not None}
        differing = {name: value for name, value in asked.items() if value != getattr(base, name)}
        return replace(base, **asked, changed=tuple(sorted(differing)))
