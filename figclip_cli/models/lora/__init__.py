"""Low-rank adaptation of the towers of CLIP (LoRA, arXiv 2106.09685), and full fine-tuning to compare it with.

The layers are loralib's, with their own arithmetic (``functional``). Where a tower never calls a projection as a
module, its attention is replaced by one that does (``attention``). After attaching, an image or a text is sent
through the tower to prove that every adapted projection was used.
"""

from __future__ import annotations

from figclip_cli.models.lora.attach import AdaptedModule, attach_lora
from figclip_cli.models.lora.attention import AdaptedAttentionPool, AdaptedCustomAttention, AdaptedSelfAttention
from figclip_cli.models.lora.config import TARGETS, LoraConfig
from figclip_cli.models.lora.layers import LinearLora, LoraLayer, QkvLora
from figclip_cli.models.lora.merge import merge_lora
from figclip_cli.models.lora.replacement import Replacement, set_submodule
from figclip_cli.models.lora.state import adapter_state, base_weights, load_adapter_state, lora_layers

__all__ = [
    "TARGETS",
    "AdaptedAttentionPool",
    "AdaptedCustomAttention",
    "AdaptedModule",
    "AdaptedSelfAttention",
    "LinearLora",
    "LoraConfig",
    "LoraLayer",
    "QkvLora",
    "Replacement",
    "adapter_state",
    "attach_lora",
    "base_weights",
    "load_adapter_state",
    "lora_layers",
    "merge_lora",
    "set_submodule",
]
