"""How a head is trained: what every task has. No torch here, since flags are made from the fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from figclip_cli.errors import UsageError
from figclip_cli.evaluate.task_options import PLAIN, TOKENS
from figclip_cli.option_fields import flag, refuse_below, spelled

FEATURES = (TOKENS, PLAIN)  # event tokens of a run's contextualizer, or pooled frames
_PANEL = "Training"


@dataclass(frozen=True)
class TrainingOptions:
    """The optimizer and its schedule; see each field's help."""

    epochs: int = flag(20, "Times that every example is seen.", _PANEL)
    batch_size: int = flag(32, "Clips of one step.", _PANEL)
    lr: float = flag(1e-3, "Learning rate at its highest, after the warm-up.", _PANEL)
    weight_decay: float = flag(0.01, "Of AdamW; vectors do not decay.", _PANEL)
    warmup: float = flag(0.05, "Share of the steps in which the learning rate rises.", _PANEL)
    max_gradient_norm: float = flag(1.0, "Longer gradients are shortened to this length; 0 leaves them.", _PANEL)
    dropout: float = flag(0.1, "Share of activations that a step leaves out.", _PANEL)
    seed: int = flag(0, "Of weights, order and dropout.", _PANEL)

    def __post_init__(self) -> None:
        refuse_below(self, 1, "epochs", "batch_size", verb="train-head")
        refuse_below(self, 0, "weight_decay", "warmup", "max_gradient_norm", "dropout", "seed", verb="train-head")
        for name in ("weight_decay", "max_gradient_norm"):
            if not getattr(self, name) < float("inf"):
                raise UsageError(f"{spelled(name)} must be a number, got {getattr(self, name)}", "0 is none")
        if not 0 < self.lr < float("inf"):
            raise UsageError(f"--lr must be above 0, got {self.lr}", "1e-3 is usual")
        for name in ("warmup", "dropout"):
            if not getattr(self, name) < 1:
                raise UsageError(f"--{name} must be below 1, got {getattr(self, name)}", "it is a share")

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)
