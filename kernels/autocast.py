"""Scores keep their float32 under autocast, forward and backward."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def without_autocast(device: str) -> AbstractContextManager[Any]:
    """Return a context in which products on a kind of device keep their dtype; autocast would round scores."""
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else _AS_IT_IS


_AS_IT_IS = nullcontext()
