"""Where a tower can be adapted: its blocks, and in each block the modules that hold the projections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.lora.attention import AdaptedAttentionPool, AdaptedCustomAttention, AdaptedSelfAttention
from figclip_cli.models.lora.config import ATTENTION_PARTS, TARGETS, LoraConfig, choose_blocks
from figclip_cli.models.lora.layers import LinearLora, QkvLora

_ATTENTION = (*ATTENTION_PARTS, "o")


@dataclass(frozen=True)
class Place:
    """A module that can be replaced by an adapted one.

    Attributes:
        name: Its dotted name in the model.
        module: The module as it is.
        targets: The projections it holds.
    """

    name: str
    module: nn.Module
    targets: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Name of the module's class."""
        return type(self.module).__name__

    def adapted(self, config: LoraConfig) -> nn.Module:
        """Return the module that takes this one's place; the model is not changed."""
        if isinstance(self.module, nn.MultiheadAttention):
            return AdaptedSelfAttention(self.module, config)
        if not isinstance(self.module, nn.Linear):
            pools = self.kind == "AttentionPool2d"
            return (AdaptedAttentionPool if pools else AdaptedCustomAttention)(self.module, config)
        if self.targets == ATTENTION_PARTS:
            return QkvLora(self.module.weight, self.module.bias, config)
        return LinearLora(self.module.weight, self.module.bias, config, self.targets[0])


def find_places(model: nn.Module, config: LoraConfig, tower: str) -> list[Place]:
    """Return the places of one tower that the configuration adapts, in tower order.

    Args:
        model: An open_clip model.
        tower: ``image`` or ``text``.

    Raises:
        InputError: The tower has no block that can be adapted.
        UsageError: A block or a target is asked for that the tower does not have.
    """
    blocks = _blocks(model, tower)
    found = [target for target in TARGETS if any(target in place.targets for block in blocks for place in block)]
    if not found:
        kind = _kind(model, tower)
        raise InputError(
            f"LoRA matched no layer: the {tower} tower {kind} has no attention block that can be adapted",
            "choose a ViT or one of OpenAI's ResNets; --rank 0 tunes every weight of any tower"
            if tower == "image"
            else "adapt the image tower alone, or choose a model with open_clip's own text tower",
        )
    chosen = [place for number in choose_blocks(config.blocks, len(blocks), tower) for place in blocks[number]]
    for target in config.targets:
        if not any(target in place.targets for place in chosen):
            raise UsageError(
                f"the {tower} tower {_kind(model, tower)} has no '{target}' that can be adapted",
                f"it has {', '.join(found)}",
            )
    return [place for place in chosen if any(target in config.targets for target in place.targets)]


def tower_root(model: nn.Module, tower: str) -> tuple[str, nn.Module]:
    """Return (dotted name, module) under which a tower's blocks are found."""
    name = "visual" if tower == "image" else "text" if hasattr(model, "text") else ""
    return name, (model.get_submodule(name) if name else model)


def _kind(model: nn.Module, tower: str) -> str:
    _, root = tower_root(model, tower)
    trunk = getattr(root, "trunk", None)
    return type(root).__name__ + (f" ({type(trunk).__name__})" if trunk is not None else "")


def _blocks(model: nn.Module, tower: str) -> list[list[Place]]:
    """Return the places of each block of a tower; a ResNet's attention pool counts as its only block."""
    name, root = tower_root(model, tower)
    prefix = f"{name}." if name else ""
    if _children(root, "transformer", "resblocks"):
        blocks = _children(root, "transformer", "resblocks")
        return [_open_clip_block(f"{prefix}transformer.resblocks.{i}", block) for i, block in enumerate(blocks)]
    if _children(root, "trunk", "blocks"):
        blocks = _children(root, "trunk", "blocks")
        return [_timm_block(f"{prefix}trunk.blocks.{i}", block) for i, block in enumerate(blocks)]
    pool: Any = getattr(root, "attnpool", None)
    if type(pool).__name__ == "AttentionPool2d" and all(hasattr(pool, f"{part}_proj") for part in "qkvc"):
        return [[Place(f"{prefix}attnpool", pool, _ATTENTION)]]
    return []


def _children(root: nn.Module, *names: str) -> Sequence[nn.Module]:
    node: Any = root
    for name in names:
        node = getattr(node, name, None)
    return list(node) if isinstance(node, (nn.ModuleList, nn.Sequential)) else []


def _open_clip_block(name: str, block: Any) -> list[Place]:
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    places: list[Place] = []
    if attention is not None and _is_fused_attention(attention):
        places.append(Place(f"{name}.attn", attention, _ATTENTION))
    places += _linear(f"{name}.mlp.c_fc", getattr(mlp, "c_fc", None), "fc")
    return places + _linear(f"{name}.mlp.c_proj", getattr(mlp, "c_proj", None), "proj")


def _is_fused_attention(attention: Any) -> bool:
    """Recognise both attentions of open_clip, but for forms that the adapted ones do not compute."""
    if isinstance(attention, nn.MultiheadAttention):
        return attention.in_proj_weight is not None and attention.bias_k is None and not attention.add_zero_attn
    own = type(attention).__name__ == "Attention" and hasattr(attention, "in_proj_weight")
    return own and attention.logit_scale is None


def _timm_block(name: str, block: Any) -> list[Place]:
    attention, mlp = getattr(block, "attn", None), getattr(block, "mlp", None)
    qkv = getattr(attention, "qkv", None)
    places: list[Place] = []
    if type(qkv) is nn.Linear and qkv.out_features == 3 * qkv.in_features:
        places.append(Place(f"{name}.attn.qkv", qkv, ATTENTION_PARTS))
    places += _linear(f"{name}.attn.proj", getattr(attention, "proj", None), "o")
    places += _linear(f"{name}.mlp.fc1", getattr(mlp, "fc1", None), "fc")
    return places + _linear(f"{name}.mlp.fc2", getattr(mlp, "fc2", None), "proj")


def _linear(name: str, module: Any, target: str) -> list[Place]:
    return [Place(name, module, (target,))] if type(module) is nn.Linear else []
