"""AdamW over what is trained."""

from __future__ import annotations

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
