"""Saved state of an unfinished run: everything to go on from after the last finished epoch.

One checkpoint is one safetensors file, so it is whole or absent; counters travel in its metadata.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from figclip_cli.models.lora import adapter_state, load_adapter_state
from figclip_cli.models.tensors import load_tensors, save_tensors


def save_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    contextualizer: nn.Module | None,
    optimizer: torch.optim.Optimizer,
    epoch: int,
    step: int,
) -> None:
    """Save everything needed to go on after ``epoch`` finished epochs."""
    tensors = {f"adapter.{name}": tensor for name, tensor in adapter_state(model).items()}
    if contextualizer is not None:
        tensors |= {f"contextualizer.{name}": tensor for name, tensor in contextualizer.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    tensors["random_state"] = torch.get_rng_state()
    save_tensors(path, tensors, {"epoch": epoch, "step": step})


def load_checkpoint(
    path: Path, *, model: nn.Module, contextualizer: nn.Module | None, optimizer: torch.optim.Optimizer
) -> tuple[int, int]:
    """Restore a checkpoint in place; return (finished epochs, finished steps)."""
    tensors, metadata = load_tensors(path, "checkpoint")
    load_adapter_state(model, _under("adapter.", tensors))
    if contextualizer is not None:
        contextualizer.load_state_dict(_under("contextualizer.", tensors))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _under("optimizer.", tensors).items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    torch.set_rng_state(tensors["random_state"])
    return int(metadata["epoch"]), int(metadata["step"])


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
