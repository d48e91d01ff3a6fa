"""The tiny base model that is shipped; ``examples/train_demo_base.py`` reproduces it."""

from __future__ import annotations

from pathlib import Path


def base_model_folder() -> Path:
    """Return the shipped folder, in open_clip's format; its ``README.md`` is the model card."""
    return Path(__file__).resolve().parent / "data" / "base"
