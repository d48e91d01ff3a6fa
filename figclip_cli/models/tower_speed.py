"""Exact savings in open_clip's own image tower, for training and for encoding.

* The features are those of the class token, so the last block computes its query, output projection and MLP for
  that token alone; keys and values are still those of all tokens.
* QuickGELU, ``x sigmoid(1.702 x)``, is ``silu(1.702 x) / 1.702``: one kernel forward and one backward, and one
  saved tensor in place of three.

Values are the same to float rounding. Names of parameters do not change, and merging puts the original modules back.
Intermediate features of the last block (``forward_intermediates``) are those of the class token alone.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from figclip_cli.models.lora import AdaptedSelfAttention, Replacement, set_submodule

_SLOPE = 1.702


def speed_up(model: nn.Module) -> list[str]:
    """Replace what can be computed more cheaply; call it after :func:`~figclip_cli.models.lora.attach_lora`.

    Args:
        model: An open_clip model. Whatever is not recognised stays as it is.

    Returns:
        One remark for each saving; empty if there is none.
    """
    from open_clip.transformer import VisionTransformer

    visual = model.visual
    if not isinstance(visual, VisionTransformer):
        return []
    remarks = []
    last = f"visual.transformer.resblocks.{len(visual.transformer.resblocks) - 1}"
    if _only_class_token_is_used(visual) and _has_separable_query(block := model.get_submodule(last)):
        set_submodule(model, last, ClassTokenBlock(block, batch_first=visual.transformer.batch_first))
        remarks.append("the last block of the image tower computes the class token alone")
    if count := _replace_activations(model):
        remarks.append(f"QuickGELU in {count} blocks takes one kernel and keeps one tensor")
    return remarks


def _only_class_token_is_used(visual: Any) -> bool:
    return visual.pool_type == "tok" and visual.attn_pool is None and not visual.output_tokens


def _has_separable_query(block: nn.Module) -> bool:
    """Recognise open_clip's plain block, whose attention takes a query of its own."""
    from open_clip.transformer import ResidualAttentionBlock

    plain = type(block) is ResidualAttentionBlock and not hasattr(block, "ln_1_kv")
    return plain and isinstance(block.attn, (nn.MultiheadAttention, AdaptedSelfAttention))


def _replace_activations(model: nn.Module) -> int:
    from open_clip.transformer import QuickGELU

    names = [name for name, module in model.named_modules() if type(module) is QuickGELU]
    for name in names:
        set_submodule(model, name, FastQuickGELU(model.get_submodule(name)))
    return len(names)


class ClassTokenBlock(Replacement):
    """The last residual block of an image tower, computed for the class token alone."""

    ln_1: nn.Module
    attn: nn.Module
    ls_1: nn.Module
    ln_2: nn.Module
    mlp: nn.Module
    ls_2: nn.Module

    def __init__(self, original: nn.Module, *, batch_first: bool) -> None:
        super().__init__(original)
        self.share()
        self.batch_first = batch_first

    def forward(self, x: Tensor, k_x: None = None, v_x: None = None, attn_mask: Tensor | None = None) -> Tensor:
        """Return the block's output at the class token.

        Args:
            x: (N, L, D) when ``batch_first``, else (L, N, D); the class token is the first of the L.

        Returns:
            (N, 1, D) or (1, N, D).

        Raises:
            NotImplementedError: Other keys, or a mask; image towers have neither.
        """
        if k_x is not None or v_x is not None or attn_mask is not None:
            raise NotImplementedError("the last block of an image tower takes neither other keys nor a mask")
        tokens = self.ln_1(x)
        attended = self.attn(self._class_token(tokens), tokens, tokens, need_weights=False)[0]
        y = self._class_token(x) + self.ls_1(attended)
        out: Tensor = y + self.ls_2(self.mlp(self.ln_2(y)))
        return out

    def _class_token(self, x: Tensor) -> Tensor:
        return x[:, :1] if self.batch_first else x[:1]

    def get_weight_dtype(self) -> torch.dtype:
        """Return the type of the weights; open_clip asks its first block, which may be this one."""
        weights: torch.dtype = self.original.get_weight_dtype()
        return weights


class _QuickGelu(torch.autograd.Function):
    """Keeps 1.702 x, which is all that the derivative needs."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        steep = x * _SLOPE
        ctx.save_for_backward(steep)
        return F.silu(steep).mul_(1 / _SLOPE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        (steep,) = ctx.saved_tensors
        dx: Tensor = torch.ops.aten.silu_backward(dy, steep)
        return dx


class FastQuickGELU(Replacement):
    """``x sigmoid(1.702 x)``, of any shape."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it elementwise."""
        y: Tensor = _QuickGelu.apply(x)
        return y
