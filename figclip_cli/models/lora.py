"""Low-rank adaptation of the attention projections of an image tower (LoRA, arXiv 2106.09685).

The layers are loralib's. Two things stand in their way in CLIP towers, and both are handled here:

* open_clip's blocks use ``nn.MultiheadAttention``, which never calls a projection as a module: its weights
  go straight into fused functions, so a wrapped layer would be bypassed without a word. It is replaced by
  :class:`AdaptedSelfAttention`, which computes the same function through a projection that can be adapted.
* timm's blocks have one ``qkv`` linear, which is replaced where it stands.

After attaching, one image is sent through the tower to prove that every adapted projection was used.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import loralib
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figclip_cli.errors import InputError, UsageError

PROJECTIONS = ("q", "k", "v")


@dataclass(frozen=True)
class LoraConfig:
    """How to adapt.

    Attributes:
        rank: r, the rank of the update; 64 in the paper.
        alpha: The update is scaled by alpha / rank; equal to the rank by default, a scale of one.
        dropout: Dropout probability on the input of the low-rank path, in training only.
        targets: Which of ``q``, ``k``, ``v`` to adapt.
    """

    rank: int
    alpha: float
    dropout: float = 0.0
    targets: tuple[str, ...] = PROJECTIONS

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(f"LoRA rank must be at least 1, got {self.rank}", "the paper uses --rank 64")
        if not 0.0 <= self.dropout < 1.0:
            raise UsageError(f"LoRA dropout must be in [0, 1), got {self.dropout}", "0 is the default")
        if not self.targets or any(target not in PROJECTIONS for target in self.targets):
            raise UsageError(f"LoRA targets must be among q, k, v, got {','.join(self.targets)}", "try q,k,v")


@dataclass(frozen=True)
class AdaptedModule:
    """One row of the table of adapted modules."""

    name: str
    kind: str
    targets: tuple[str, ...]
    shape: tuple[int, int]
    parameters: int


class QkvLora(loralib.MergedLinear):
    """A fused q, k, v projection whose parts can be adapted: ``x W^T + b`` plus a low-rank update of each part.

    The weight is shared with the layer it replaces and stays frozen. loralib's own forward builds the full
    (3D, D) update and multiplies by it; here the low-rank path is taken, which is the same function at
    r / D of the cost.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, config: LoraConfig) -> None:
        out_features, in_features = weight.shape
        super().__init__(
            in_features,
            out_features,
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            enable_lora=[part in config.targets for part in PROJECTIONS],
            merge_weights=False,  # merging in place on every train()/eval() would drift, bit by bit
            bias=bias is not None,
            device=weight.device,
            dtype=weight.dtype,
        )
        self.weight = nn.Parameter(weight.detach(), requires_grad=False)
        if bias is not None:
            self.bias = nn.Parameter(bias.detach(), requires_grad=False)
        self.targets = tuple(part for part in PROJECTIONS if part in config.targets)

    def forward(self, x: Tensor) -> Tensor:
        """Project (..., D) to (..., 3D)."""
        base = F.linear(x, self.weight, self.bias)  # (..., 3D)
        groups = len(self.targets)
        low = F.linear(self.lora_dropout(x), self.lora_A).unflatten(-1, (groups, self.r))  # (..., G, r)
        up = self.lora_B.unflatten(0, (groups, -1))  # (G, D, r)
        update = torch.einsum("...gr,gdr->...gd", low, up) * self.scaling  # (..., G, D)
        if groups == len(PROJECTIONS):
            return base + update.flatten(-2)
        parts = list(base.chunk(len(PROJECTIONS), dim=-1))
        for position, target in enumerate(self.targets):
            index = PROJECTIONS.index(target)
            parts[index] = parts[index] + update[..., position, :]
        return torch.cat(parts, dim=-1)

    def merged_weight(self) -> Tensor:
        """Return W plus the update, (3D, D), computed in float32 or wider and cast back."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        groups = len(self.targets)
        a = self.lora_A.detach().to(wide).unflatten(0, (groups, self.r))  # (G, r, D)
        b = self.lora_B.detach().to(wide).unflatten(0, (groups, -1))  # (G, D, r)
        merged = self.weight.detach().to(wide).clone().unflatten(0, (len(PROJECTIONS), -1))  # (3, D, D)
        for position, target in enumerate(self.targets):
            merged[PROJECTIONS.index(target)] += (b[position] @ a[position]) * self.scaling
        return merged.flatten(0, 1).to(self.weight.dtype)

    def projection_tensors(self) -> dict[str, Tensor]:
        """Return views ``{"q.lora_A": (r, D), "q.lora_B": (D, r), ...}`` of the trainable parameters."""
        groups = len(self.targets)
        a, b = self.lora_A.detach().chunk(groups), self.lora_B.detach().chunk(groups)
        tensors: dict[str, Tensor] = {}
        for position, target in enumerate(self.targets):
            tensors[f"{target}.lora_A"] = a[position]
            tensors[f"{target}.lora_B"] = b[position]
        return tensors


class AdaptedSelfAttention(nn.Module):
    """Self-attention equal to the ``nn.MultiheadAttention`` it replaces, with an adaptable projection."""

    def __init__(self, original: nn.MultiheadAttention, config: LoraConfig) -> None:
        super().__init__()
        weight = cast(Tensor, original.in_proj_weight)
        self.qkv = QkvLora(weight, original.in_proj_bias, config)
        self.out_proj = original.out_proj
        self.num_heads = original.num_heads
        self.dropout = float(original.dropout)
        self.batch_first = original.batch_first

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        **other: Any,
    ) -> tuple[Tensor, None]:
        """Attend; (N, L, D) in and out when ``batch_first``, else (L, N, D)."""
        if (
            key is not query
            or value is not query
            or need_weights
            or any(item is not None and item is not False for item in other.values())
        ):
            raise NotImplementedError("the adapted attention computes plain self-attention without weights")
        x = query if self.batch_first else query.transpose(0, 1)  # (N, L, D)
        q, k, v = (self._heads(part) for part in self.qkv(x).chunk(3, dim=-1))  # (N, H, L, D / H)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=dropout)
        out = self.out_proj(attended.transpose(1, 2).flatten(2))  # (N, L, D)
        return (out if self.batch_first else out.transpose(0, 1)), None

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def merged(self) -> nn.MultiheadAttention:
        """Return an ordinary ``nn.MultiheadAttention`` with the update merged into its weights."""
        width = self.out_proj.in_features
        plain = nn.MultiheadAttention(
            width, self.num_heads, self.dropout, bias=self.qkv.bias is not None, batch_first=self.batch_first
        )
        plain.in_proj_weight = nn.Parameter(self.qkv.merged_weight(), requires_grad=False)
        if self.qkv.bias is not None:
            plain.in_proj_bias = nn.Parameter(self.qkv.bias.detach(), requires_grad=False)
        plain.out_proj = cast(Any, self.out_proj)
        return plain.train(self.training)


def attach_lora(model: nn.Module, config: LoraConfig, *, seed: int, image_size: int) -> list[AdaptedModule]:
    """Freeze ``model`` and adapt the q, k and v projections of every attention block of its image tower.

    Args:
        model: An open_clip model with a ``visual`` tower.
        seed: A's initial values depend on this and on the module's name alone. B starts at zero, so the
            adapted model starts as the base model.
        image_size: Side in pixels of the image used to prove that each adapted projection is reached.

    Returns:
        The table of adapted modules, in tower order.

    Raises:
        InputError: The tower has no attention block that can be adapted, or one that bypasses the adaptation.
    """
    model.requires_grad_(False)
    visual = cast(nn.Module, model.visual)
    rows: list[AdaptedModule] = []
    for name, module in list(visual.named_modules()):
        replacement = _replacement(name, module, config)
        if replacement is None:
            continue
        _set_submodule(visual, name, replacement)
        layer = replacement.qkv if isinstance(replacement, AdaptedSelfAttention) else replacement
        full_name = f"visual.{name}"
        _initialise(layer, full_name, seed)
        parameters = layer.lora_A.numel() + layer.lora_B.numel()
        kind = type(module).__name__
        rows.append(AdaptedModule(full_name, kind, layer.targets, tuple(layer.weight.shape), parameters))
    if not rows:
        raise InputError(
            f"LoRA matched no layer: the image tower {type(visual).__name__} has no attention block with q, k, v",
            "choose a ViT model; convolutional towers cannot be adapted",
        )
    _prove_reached(visual, image_size)
    return rows


def _replacement(name: str, module: nn.Module, config: LoraConfig) -> AdaptedSelfAttention | QkvLora | None:
    if isinstance(module, nn.MultiheadAttention) and ".resblocks." in f".{name}." and module.in_proj_weight is not None:
        return AdaptedSelfAttention(module, config)
    if not isinstance(module, nn.Linear) or isinstance(module, loralib.LoRALayer):
        return None
    if name.rpartition(".")[2] == "qkv" and module.out_features == 3 * module.in_features:
        return QkvLora(module.weight, module.bias, config)
    return None


def _set_submodule(root: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent) if parent else root, child, module)


def _initialise(layer: QkvLora, name: str, seed: int) -> None:
    """Give A the values of ``nn.Linear``'s default, uniform in +-1/sqrt(D), from (seed, name)."""
    digest = hashlib.sha256(f"lora/{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    bound = 1.0 / math.sqrt(layer.in_features)
    values = torch.rand(layer.lora_A.shape, generator=generator) * (2 * bound) - bound
    with torch.no_grad():
        layer.lora_A.copy_(values)
        layer.lora_B.zero_()


def lora_layers(model: nn.Module) -> Iterator[tuple[str, QkvLora]]:
    """Yield (module name, layer) of every adapted projection; the name is that of the block's attention."""
    for name, module in model.named_modules():
        if isinstance(module, QkvLora):
            yield name.removesuffix(".qkv"), module


def _prove_reached(visual: nn.Module, image_size: int) -> None:
    """Send one image through the tower and check that every adapted projection was called."""
    reached: set[str] = set()
    with _recording_calls(visual, reached), torch.no_grad():
        device = next(visual.parameters()).device
        visual(torch.zeros(1, 3, image_size, image_size, device=device))
    missed = sorted({name for name, _ in lora_layers(visual)} - reached)
    if missed:
        raise InputError(
            f"LoRA on {missed[0]} and {len(missed) - 1} more would have no effect: the tower bypasses the layer",
            "this kind of tower cannot be adapted",
        )


@contextmanager
def _recording_calls(visual: nn.Module, reached: set[str]) -> Iterator[None]:
    was_training = visual.training
    visual.eval()
    handles = [
        layer.register_forward_hook(lambda *_, name=name: reached.add(name)) for name, layer in lora_layers(visual)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        visual.train(was_training)


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return A (r, D) and B (D, r) of each projection, named ``MODULE.q.lora_A`` and so on, on the CPU."""
    return {
        f"{name}.{key}": tensor.to("cpu", copy=True).contiguous()
        for name, layer in lora_layers(model)
        for key, tensor in layer.projection_tensors().items()
    }


def load_adapter_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy saved A and B into a model that was attached with the same configuration.

    Raises:
        InputError: A tensor is missing, left over or of another shape.
    """
    expected = {
        f"{name}.{key}": tensor
        for name, layer in lora_layers(model)
        for key, tensor in layer.projection_tensors().items()
    }
    differing = sorted(set(expected) ^ set(state))
    if differing:
        raise InputError(
            f"the adapter does not fit the model: {len(differing)} tensors differ, the first is {differing[0]}",
            "is this the base model that the run started from?",
        )
    with torch.no_grad():
        for name, target in expected.items():
            if target.shape != state[name].shape:
                raise InputError(
                    f"the adapter does not fit the model: {name} has shape {tuple(state[name].shape)}, "
                    f"expected {tuple(target.shape)}",
                    "is this the rank that the run was made with?",
                )
            target.copy_(state[name])


def merge_lora(model: nn.Module) -> Sequence[str]:
    """Put merged ordinary layers back in place of the adapted ones; return the names of the merged modules."""
    attentions = {name: module for name, module in model.named_modules() if isinstance(module, AdaptedSelfAttention)}
    linears = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, QkvLora) and name.rpartition(".")[0] not in attentions
    }
    for name, attention in attentions.items():
        _set_submodule(model, name, attention.merged())
    for name, layer in linears.items():
        plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
        plain.weight = nn.Parameter(layer.merged_weight(), requires_grad=False)
        if layer.bias is not None:
            plain.bias = nn.Parameter(layer.bias.detach(), requires_grad=False)
        _set_submodule(model, name, plain)
    return [*attentions, *linears]
