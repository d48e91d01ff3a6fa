"""Safetensors files with JSON metadata, written whole or not at all and read with one-line errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.files import canonical_json, replacing

_METADATA_KEY = "figclip"


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
    """Write tensors and JSON metadata, whole or not at all; tensors are moved to the CPU."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with replacing(path) as temporary:
        save_file(on_cpu, temporary, metadata={_METADATA_KEY: canonical_json(metadata)})


def load_tensors(path: Path, what: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read tensors and metadata written by :func:`save_tensors`.

    Args:
        what: What the file is to the user, for example ``"adapter"``.

    Raises:
        InputError: The file is missing, damaged or not ours.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads(file.metadata()[_METADATA_KEY])
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except FileNotFoundError as error:
        raise InputError(f"{what} {path} does not exist", "is the run folder complete?") from error
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{what} {path} cannot be read: {error}", "the file is damaged or not figclip's") from error
