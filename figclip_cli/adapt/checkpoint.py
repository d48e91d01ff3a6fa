"""Saved state of an unfinished run: everything to go on from after any finished step.

One checkpoint is one safetensors file, so it is whole or absent. It holds the trained weights, the optimizer's
moments and, in its metadata, the position (epoch and step in it), the gradient scaler and the validation record. The
learning rate is a function of the step, and every random draw of a step comes from (seed, step): the position is
the state of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from figclip_cli.errors import InputError
from figclip_cli.models.lora import adapter_state, load_adapter_state
from figclip_cli.models.tensors import load_tensors, save_tensors


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        epoch: Finished epochs.
        number: Finished steps of the epoch after them.
        step: Finished steps in all.
        best_score: Best validation score so far; None before the first.
        best_step: The step it was reached after.
        validations_since_best: Validations since then.
    """

    epoch: int = 0
    number: int = 0
    step: int = 0
    best_score: float | None = None
    best_step: int = 0
    validations_since_best: int = 0


@dataclass(frozen=True)
class Trained:
    """What a run trains, and what trains it.

    Attributes:
        model: The CLIP model with its adapter.
        contextualizer: The VC, or None.
        optimizer: Holds the moments.
        scaler: Scales losses under fp16; disabled otherwise.
    """

    model: nn.Module
    contextualizer: nn.Module | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))


def weights_of(trained: Trained) -> dict[str, Tensor]:
    """Return the trained weights, under ``adapter.`` and ``contextualizer.``."""
    tensors = {f"adapter.{name}": tensor for name, tensor in adapter_state(trained.model).items()}
    if trained.contextualizer is not None:
        tensors |= {f"contextualizer.{name}": value for name, value in trained.contextualizer.state_dict().items()}
    return tensors


def load_weights(trained: Trained, tensors: Mapping[str, Tensor]) -> None:
    """Restore the trained weights in place."""
    load_adapter_state(trained.model, _under("adapter.", tensors))
    if trained.contextualizer is not None:
        trained.contextualizer.load_state_dict(_under("contextualizer.", tensors))


def save_weights(path: Path, trained: Trained, progress: Progress) -> None:
    """Save the trained weights alone, as the best state so far."""
    save_tensors(path, weights_of(trained), {"progress": asdict(progress)})


def save_checkpoint(path: Path, trained: Trained, progress: Progress) -> None:
    """Save everything needed to go on."""
    tensors = weights_of(trained)
    for index, state in trained.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    save_tensors(path, tensors, {"progress": asdict(progress), "scaler": trained.scaler.state_dict()})


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return the tensors and the metadata of a checkpoint; None where there is none yet.

    Raises:
        InputError: The file is damaged, or of another version.
    """
    if not path.is_file():
        return None
    tensors, metadata = load_tensors(path, "checkpoint")
    try:
        Progress(**metadata["progress"]), metadata["scaler"]
    except (KeyError, TypeError) as error:
        raise InputError(f"checkpoint {path} is of another version of figclip", "start the run anew") from error
    return tensors, metadata


def restore(trained: Trained, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Progress:
    """Put what :func:`read_checkpoint` returned in place; return how far it is.

    Raises:
        InputError: It is of another model.
    """
    load_weights(trained, tensors)
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = tensor
    trained.optimizer.load_state_dict({**trained.optimizer.state_dict(), "state": moments})
    if metadata["scaler"]:
        trained.scaler.load_state_dict(metadata["scaler"])
    return Progress(**metadata["progress"])


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
