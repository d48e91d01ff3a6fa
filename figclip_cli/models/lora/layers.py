"""The adapted linear layers: loralib's classes and parameters, with our own forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import loralib
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figclip_cli.models.lora.config import ATTENTION_PARTS, LoraConfig
from figclip_cli.models.lora.functional import Update, lora_linear, merged_weight


class LoraLayer(nn.Module):
    """What the two adapted layers have in common. They share the parameters of the layer they replace.

    Attributes:
        targets: Names of the adapted projections, in the order of their parts in ``lora_A`` and ``lora_B``.
        active: Whether the update is applied; see :func:`figclip_cli.models.lora.base_weights`.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    lora_A: nn.Parameter
    lora_B: nn.Parameter
    lora_dropout: nn.Module
    in_features: int
    out_features: int
    targets: tuple[str, ...]
    active: bool
    _update: Update

    def _share(self, weight: Tensor, bias: Tensor | None, config: LoraConfig, places: Sequence[int]) -> None:
        """Take over the frozen parameters, and make A and B: zeros, on the same device and of the same type."""
        self.weight = _frozen(weight)
        self.bias = None if bias is None else _frozen(bias)
        self.lora_A = nn.Parameter(weight.new_zeros(self.lora_A.shape))
        self.lora_B = nn.Parameter(weight.new_zeros(self.lora_B.shape))
        self.lora_dropout = nn.Dropout(config.dropout) if config.dropout > 0 else nn.Identity()
        self.active = True
        self._update = Update(config.rank, config.alpha / config.rank, tuple(places))

    def train(self, mode: bool = True) -> LoraLayer:
        """Switch dropout on or off; unlike in loralib, weights are never merged in place."""
        return nn.Module.train(self, mode)

    def forward(self, x: Tensor) -> Tensor:
        """Project (..., D_in) to (..., D_out)."""
        if not self.active:
            return F.linear(x, self.weight, self.bias)
        return lora_linear(
            x, self.weight, self.bias, self.lora_A, self.lora_B, self._update, dropout=self._active_dropout()
        )

    def _active_dropout(self) -> float:
        dropout = self.lora_dropout
        return dropout.p if isinstance(dropout, nn.Dropout) and dropout.training else 0.0

    def merged_weight(self) -> Tensor:
        """Return W plus the update, (D_out, D_in), computed in float32 or wider and cast back."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        weight, a, b = (tensor.detach().to(wide) for tensor in (self.weight, self.lora_A, self.lora_B))
        return merged_weight(weight, a, b, self._update).to(self.weight.dtype)

    def projection_tensors(self) -> dict[str, Tensor]:
        """Return views ``{"q.lora_A": (r, D_in), "q.lora_B": (D_out, r), ...}`` of the trainable parameters."""
        tensors: dict[str, Tensor] = {}
        parts = self._update.chunks(self.lora_A.detach(), self.lora_B.detach())
        for target, (_, _, a, b) in zip(self.targets, parts, strict=True):
            tensors |= {f"{target}.lora_A": a, f"{target}.lora_B": b}
        return tensors


class QkvLora(LoraLayer, loralib.MergedLinear):
    """A fused q, k, v projection, (D,) to (3 D,), of which some parts are adapted."""

    def __init__(self, weight: Tensor, bias: Tensor | None, config: LoraConfig) -> None:
        """Adapt the layer with ``weight`` (3 D, D) and ``bias`` (3 D,)."""
        adapted = [part in config.targets for part in ATTENTION_PARTS]
        loralib.MergedLinear.__init__(
            self,
            weight.shape[1],
            weight.shape[0],
            r=config.rank,
            lora_alpha=config.alpha,
            enable_lora=adapted,
            merge_weights=False,
            bias=bias is not None,
            device="meta",  # the weights are shared, so none are made, and no random numbers are drawn
        )
        self.lora_ind = torch.tensor(adapted, device=weight.device).repeat_interleave(weight.shape[1])
        self.targets = tuple(part for part in ATTENTION_PARTS if part in config.targets)
        self._share(weight, bias, config, [place for place, yes in enumerate(adapted) if yes])

    def forward(self, x: Tensor, parts: slice | None = None) -> Tensor:
        """Project (..., D) to (..., 3 D), or to some of the parts alone.

        Args:
            parts: Which of q, k, v: ``slice(0, 1)`` is q, ``slice(1, 3)`` is k and v.
        """
        return super().forward(x) if parts is None else self._project(x, parts)

    def _project(self, x: Tensor, parts: slice) -> Tensor:
        rows = slice(parts.start * self.in_features, parts.stop * self.in_features)
        weight, bias = self.weight[rows], None if self.bias is None else self.bias[rows]
        inside = [i for i, place in enumerate(self._update.places) if parts.start <= place < parts.stop]
        if not inside or not self.active:
            return F.linear(x, weight, bias)
        rank, width = self._update.rank, self.in_features
        update = Update(rank, self._update.scale, tuple(self._update.places[i] - parts.start for i in inside))
        a = self.lora_A[inside[0] * rank : (inside[-1] + 1) * rank]
        b = self.lora_B[inside[0] * width : (inside[-1] + 1) * width]
        return lora_linear(x, weight, bias, a, b, update, dropout=self._active_dropout())


class LinearLora(LoraLayer, loralib.Linear):
    """An adapted single linear layer, (D_in,) to (D_out,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None, config: LoraConfig, target: str) -> None:
        """Adapt the layer with ``weight`` (D_out, D_in) and ``bias`` (D_out,), called ``target`` in tables."""
        loralib.Linear.__init__(
            self,
            weight.shape[1],
            weight.shape[0],
            r=config.rank,
            lora_alpha=config.alpha,
            merge_weights=False,
            bias=bias is not None,
            device="meta",
        )
        self.targets = (target,)
        self._share(weight, bias, config, [0])


def _frozen(tensor: Tensor) -> nn.Parameter:
    """Return the same parameter, frozen, or a frozen parameter over the same memory."""
    parameter = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor.detach(), requires_grad=False)
    parameter.requires_grad_(False)
    return parameter


def adapted_linear(linear: nn.Linear, config: LoraConfig, target: str) -> nn.Linear | LinearLora:
    """Return ``linear`` adapted if ``target`` is among the configuration's, else as it is."""
    return LinearLora(linear.weight, linear.bias, config, target) if target in config.targets else linear


def plain_linear(layer: LoraLayer) -> nn.Linear:
    """Return an ordinary ``nn.Linear`` with the update merged into its weight."""
    plain = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
    plain.weight = nn.Parameter(layer.merged_weight(), requires_grad=False)
    if layer.bias is not None:
        plain.bias = layer.bias
    return plain.train(layer.training)
