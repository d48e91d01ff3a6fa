"""Attention modules that call their projections, in place of those that pass the weights to fused functions.

open_clip's attention never calls a projection as a module, so a wrapped layer would be bypassed without a word.
The modules here compute the same function through projections that can be adapted.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figclip_cli.models.lora.config import ATTENTION_PARTS, LoraConfig
from figclip_cli.models.lora.layers import LinearLora, LoraLayer, QkvLora, adapted_linear, plain_linear
from figclip_cli.models.lora.replacement import Replacement

_Q, _KV = slice(0, 1), slice(1, 3)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """Return (N, L, D) as (N, H, L, D / H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


class _FusedProjection(Replacement):
    """Shared by the two attentions of open_clip, whose q, k, v weights are one tensor, ``in_proj_weight``."""

    in_proj_weight: Tensor
    in_proj_bias: Tensor | None
    out_proj: nn.Linear | LinearLora

    def __init__(self, original: nn.Module, config: LoraConfig) -> None:
        super().__init__(original)
        self.share(without=("in_proj_weight", "in_proj_bias", "out_proj"))
        weight, bias = self.original.in_proj_weight, self.original.in_proj_bias
        self.num_heads: int = self.original.num_heads
        self.qkv: QkvLora | None = None
        if any(part in config.targets for part in ATTENTION_PARTS):
            self.qkv = QkvLora(weight, bias, config)
        else:
            self.register_parameter("in_proj_weight", weight)
            self.register_parameter("in_proj_bias", bias)
        self.out_proj = adapted_linear(self.original.out_proj, config, "o")

    def _project(self, x: Tensor, parts: slice | None = None) -> tuple[Tensor, ...]:
        """Project (..., D) to q, k, v, or to some of them, each (..., D)."""
        count = 3 if parts is None else parts.stop - parts.start
        if self.qkv is not None:
            y = self.qkv(x) if parts is None else self.qkv(x, parts)
        else:
            width = x.shape[-1]
            rows = slice(None) if parts is None else slice(parts.start * width, parts.stop * width)
            bias = self.in_proj_bias
            y = F.linear(x, self.in_proj_weight[rows], None if bias is None else bias[rows])
        return y.chunk(count, dim=-1)

    def _additive(self, mask: Tensor | None, dtype: torch.dtype, batch: int) -> Tensor | None:
        """Return the mask as something to add to the scores: (L, S) or, from (N H, L, S), (N, H, L, S)."""
        if mask is None:
            return None
        if mask.dtype == torch.bool:  # true where attention is forbidden
            mask = torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
        mask = mask.to(dtype)
        return mask.unflatten(0, (batch, self.num_heads)) if mask.dim() == 3 else mask

    def restored(self) -> nn.Module:
        """Return the original with the updates merged into its weights."""
        original = self.original
        if self.qkv is not None:
            original.in_proj_weight = nn.Parameter(self.qkv.merged_weight(), requires_grad=False)
        if isinstance(self.out_proj, LinearLora):
            original.out_proj.weight = nn.Parameter(self.out_proj.merged_weight(), requires_grad=False)
        return original.train(self.training)


class AdaptedSelfAttention(_FusedProjection):
    """Attention equal to the ``nn.MultiheadAttention`` it replaces, with projections that can be adapted."""

    def __init__(self, original: nn.MultiheadAttention, config: LoraConfig) -> None:
        super().__init__(original, config)
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
        """Attend from ``query`` to ``key``, which is also ``value``.

        Args:
            query: (N, L, D) when ``batch_first``, else (L, N, D).
            key: (N, S, D) or (S, N, D); the same tensor as ``query`` in self-attention.
            value: The same tensor as ``key``.
            attn_mask: (L, S) or (N H, L, S): added to the scores, or true where attention is forbidden.

        Returns:
            The shape of ``query``, and None for the weights.

        Raises:
            NotImplementedError: ``value`` is not ``key``, weights are asked for, or an option is set that towers
                do not use.
        """
        if (
            value is not key
            or query.dim() != 3
            or need_weights
            or any(item is not None and item is not False for item in other.values())
        ):
            raise NotImplementedError("the adapted attention computes attention with one key and value, no weights")
        projected = self._project(query) if key is query else (*self._project(query, _Q), *self._project(key, _KV))
        q, k, v = (self._heads(part) for part in projected)  # (N, H, L, D / H)
        mask = self._additive(attn_mask, q.dtype, q.shape[0])
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        rows = attended.transpose(1, 2) if self.batch_first else attended.permute(2, 0, 1, 3)
        return self.out_proj(rows.flatten(2)), None

    def _heads(self, x: Tensor) -> Tensor:
        """Return (N, L, D) or (L, N, D) as (N, H, L, D / H)."""
        if self.batch_first:
            return _split_heads(x, self.num_heads)
        return x.unflatten(-1, (self.num_heads, -1)).permute(1, 2, 0, 3)


class AdaptedCustomAttention(_FusedProjection):
    """Attention equal to open_clip's own ``Attention``, the one of its custom blocks."""

    attn_drop: nn.Dropout
    out_drop: nn.Dropout
    ln_q: nn.Module
    ln_k: nn.Module
    ln_inner: nn.Module

    def __init__(self, original: nn.Module, config: LoraConfig) -> None:
        super().__init__(original, config)
        self.head_scale: nn.Parameter | None = self.original.head_scale

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Attend within x (N, L, D); the mask is (L, L) or (N H, L, L)."""
        q, k, v = (_split_heads(part, self.num_heads) for part in self._project(x))
        mask = self._additive(attn_mask, q.dtype, x.shape[0])
        dropout = self.attn_drop.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(self.ln_q(q), self.ln_k(k), v, attn_mask=mask, dropout_p=dropout)
        if self.head_scale is not None:
            attended = attended * self.head_scale
        out: Tensor = self.out_drop(self.out_proj(self.ln_inner(attended.transpose(1, 2).flatten(2))))
        return out


class AdaptedAttentionPool(Replacement):
    """The attention pool of open_clip's ResNet, with its four projections called as modules.

    The original computes the attention of every position and returns that of the mean; here the mean alone asks.
    """

    positional_embedding: nn.Parameter
    q_proj: nn.Module
    k_proj: nn.Module
    v_proj: nn.Module
    c_proj: nn.Module

    def __init__(self, original: nn.Module, config: LoraConfig) -> None:
        super().__init__(original)
        self.share(without=tuple(POOL_PROJECTIONS))
        for name, target in POOL_PROJECTIONS.items():
            self.add_module(name, adapted_linear(getattr(original, name), config, target))
        self.num_heads: int = self.original.num_heads

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, h, w) to (N, D)."""
        x = x.flatten(2).transpose(1, 2)  # (N, h w, C)
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        q = _split_heads(self.q_proj(x[:, :1]), self.num_heads)
        k, v = (_split_heads(projection(x), self.num_heads) for projection in (self.k_proj, self.v_proj))
        attended = F.scaled_dot_product_attention(q, k, v)  # (N, H, 1, C / H)
        pooled: Tensor = self.c_proj(attended.flatten(1))
        return pooled

    def restored(self) -> nn.Module:
        """Return the original with the updates merged into its weights."""
        for name in POOL_PROJECTIONS:
            layer = getattr(self, name)
            if isinstance(layer, LoraLayer):
                setattr(self.original, name, plain_linear(layer))
        return self.original.train(self.training)


POOL_PROJECTIONS = {"q_proj": "q", "k_proj": "k", "v_proj": "v", "c_proj": "o"}
