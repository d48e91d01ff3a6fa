"""What a run of ``adapt`` can be told; the defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from figclip_cli.errors import UsageError
from figclip_cli.models.lora import LoraConfig


@dataclass(frozen=True)
class AdaptOptions:
    """Options of one run.

    Attributes:
        rank: LoRA rank; 64 in the paper.
        alpha: LoRA alpha; the rank when None, so that the update is scaled by one.
        lora_dropout: Dropout on the low-rank path.
        targets: Projections to adapt, among q, k, v.
        epochs: Passes over the clips.
        batch_clips: Clips per step; 20 clips of 5 events are 100 event pairs.
        learning_rate: AdamW's, for LoRA and the contextualizer alike.
        weight_decay: AdamW's.
        video_weight: Weight of the two video terms; the event terms weigh one.
        contextualizer: Whether to train the video contextualizer and its two terms.
        contextualizer_layers: Its depth.
        hard_negatives: Whether made negatives enter the event terms.
        seed: Decides LoRA's start, the contextualizer's, and the order of clips.
        precision: ``fp32``, or ``bf16`` autocast of the image tower.
    """

    rank: int = 64
    alpha: float | None = None
    lora_dropout: float = 0.0
    targets: tuple[str, ...] = ("q", "k", "v")
    epochs: int = 40
    batch_clips: int = 20
    learning_rate: float = 1e-6
    weight_decay: float = 0.01
    video_weight: float = 0.25
    contextualizer: bool = True
    contextualizer_layers: int = 6
    hard_negatives: bool = True
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_clips", "contextualizer_layers"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise UsageError(f"--{flag} must be at least 1, got {getattr(self, name)}", "see figclip adapt --help")
        if self.batch_clips < 2:
            raise UsageError("--batch-clips must be at least 2: one clip has no other clip to differ from", "try 20")
        if not self.learning_rate > 0:
            raise UsageError(f"--learning-rate must be above 0, got {self.learning_rate}", "the paper uses 1e-6")
        self.lora()

    def lora(self) -> LoraConfig:
        """Return the LoRA part."""
        alpha = float(self.rank) if self.alpha is None else self.alpha
        return LoraConfig(self.rank, alpha, self.lora_dropout, self.targets)

    def as_dict(self) -> dict[str, Any]:
        """Return the resolved options as plain JSON values."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "alpha": self.lora().alpha, "targets": list(self.targets)}
