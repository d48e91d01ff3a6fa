"""What formats that hold an adapter alone have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from figclip_cli.errors import UsageError
from figclip_cli.export.material import Material
from figclip_cli.models.lora.state import TEMPERATURE


def check_has_adapter(config: Mapping[str, Any], format_name: str, *, instead: str) -> None:
    """Refuse a run of rank 0.

    Args:
        instead: The format that holds its weights.

    Raises:
        UsageError: The run tuned the weights themselves.
    """
    if config["lora"]["rank"] == 0:
        raise UsageError(
            f"the run was tuned in full (rank 0): there is no adapter for --to {format_name}",
            f"--to {instead} holds the weights",
        )


def low_rank_tensors(material: Material) -> dict[tuple[str, str], tuple[Tensor, Tensor]]:
    """Return A (r, D_in) and B (D_out, r) by the parent's name and the target, as in ``adapter.safetensors``."""
    pairs = {}
    for name in sorted(material.adapter):
        if name.endswith(".lora_A"):
            stem = name.removesuffix(".lora_A")
            parent, _, target = stem.rpartition(".")
            pairs[parent, target] = material.adapter[name], material.adapter[f"{stem}.lora_B"]
    return pairs


def temperature_tensors(material: Material) -> dict[str, Tensor]:
    """Return the learned ``logit_scale`` by its name, or nothing.

    It stays float32 whatever the adapter is cast to: float16 would move the logits by a thousandth.
    """
    return {TEMPERATURE: material.adapter[TEMPERATURE].float()} if TEMPERATURE in material.adapter else {}
