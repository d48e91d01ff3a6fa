"""AdamW, and the learning rate as a function of the step: nothing of it to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.step import Model


def make_optimizer(model: Model, options: AdaptOptions) -> torch.optim.AdamW:
    """Return AdamW over the trained weights; vectors (biases, norms, tokens) and the temperature do not decay."""
    towers, heads = model.parameters()
    head_rate = options.contextualizer_lr or options.learning_rate
    of_contextualizer = set(map(id, model.contextualizer.parameters())) if model.contextualizer else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in [*towers, *heads]:
        rate = head_rate if id(parameter) in of_contextualizer else options.learning_rate
        decay = options.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    described: Sequence[dict[str, Any]] = [
        {"params": parameters, "lr": rate, "base_lr": rate, "weight_decay": decay}
        for (rate, decay), parameters in groups.items()
    ]
    return torch.optim.AdamW(described, fused=True)


def learning_rate_factor(step: int, *, warmup_steps: int, schedule: str, total_steps: int) -> float:
    """Return what the learning rate is multiplied by in a step.

    Args:
        step: Finished steps; 0 is the first step.
        warmup_steps: The factor rises linearly to one over these steps.
        schedule: ``constant``, or ``cosine`` down to zero at ``total_steps``.
        total_steps: Steps of the whole run.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    done = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
