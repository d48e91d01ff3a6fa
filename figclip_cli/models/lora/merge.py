"""Turn an adapted model into an ordinary one."""

from __future__ import annotations

from torch import nn

from figclip_cli.models.lora.layers import LoraLayer, plain_linear
from figclip_cli.models.lora.replacement import Replacement, set_submodule


def merge_lora(model: nn.Module) -> list[str]:
    """Put ordinary modules back in place of all replaced ones, with the updates merged in float32.

    Returns:
        The names of the modules whose weights were merged, in order. A model tuned in full has none: its weights
        are where they belong.
    """
    merged = []
    # Parents come first, so a child may have gone with its parent.
    for name in [name for name, module in model.named_modules() if isinstance(module, (LoraLayer, Replacement))]:
        module = _find(model, name)
        if any(isinstance(inner, LoraLayer) for inner in module.children()) or isinstance(module, LoraLayer):
            merged.append(name)
        if isinstance(module, Replacement):
            set_submodule(model, name, module.restored())
        elif isinstance(module, LoraLayer):
            set_submodule(model, name, plain_linear(module))
    return merged


def _find(model: nn.Module, name: str) -> nn.Module:
    """Return the module of this name; an empty one if it is gone."""
    node = model
    for part in name.split("."):
        if part not in dict(node.named_children()):
            return nn.Module()
        node = dict(node.named_children())[part]
    return node
