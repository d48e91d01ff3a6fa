"""The base CLIP towers, LoRA, the video contextualizer, pooling, and features of texts and frames."""

from __future__ import annotations
