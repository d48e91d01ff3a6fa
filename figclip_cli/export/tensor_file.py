"""Safetensors files for other libraries, whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from figclip_cli.files import replacing


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, each with memory of its own, under the metadata that transformers insists on."""
    with replacing(path) as temporary:
        save_file(dict(sorted(tensors.items())), temporary, metadata={"format": "pt"})
