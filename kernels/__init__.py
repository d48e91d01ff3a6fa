"""The contrastive objective of figclip: bidirectional InfoNCE with private hard negatives.

Installed as ``figclip_kernels``. The package depends on torch alone and knows nothing of videos.
"""

from __future__ import annotations

from .op import contrastive_loss
from .problem import ContrastiveOutput

__all__ = ["ContrastiveOutput", "contrastive_loss"]
