"""How far a run's LoRA went: the size of each module's update, without torch and without the base model."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from figclip_cli.errors import InputError
from figclip_cli.report.runs import ReportRun

_A, _B = ".lora_A", ".lora_B"
_DAMAGED = "is the run folder as figclip adapt left it?"


def update_norms(run: ReportRun) -> dict[str, float]:
    """Return the Frobenius norm of ``alpha / rank * B A`` over all projections of a module, by the module's name.

    Returns:
        Empty for a run without LoRA.

    Raises:
        InputError: The adapter is damaged, or its matrices do not fit each other.
    """
    lora = run.config["lora"]
    if not lora["rank"]:
        return {}
    path, scale = run.folder.adapter_file, lora["alpha"] / lora["rank"]  # both bounded where the run was opened
    squares: dict[str, float] = {}
    try:
        with safe_open(path, framework="numpy") as file, np.errstate(over="ignore", invalid="ignore"):
            for name in sorted(file.keys()):
                if name.endswith(_A):
                    stem = name.removesuffix(_A)
                    a, b = (file.get_tensor(stem + end).astype(np.float64) for end in (_A, _B))
                    module = stem.rpartition(".")[0]
                    squares[module] = squares.get(module, 0.0) + scale**2 * _square(a, b)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise InputError(f"adapter {path} cannot be read: {error}", _DAMAGED) from error
    if not all(map(math.isfinite, squares.values())):
        raise InputError(f"{path} has a value that is not finite", _DAMAGED)
    return {module: math.sqrt(max(0.0, square)) for module, square in squares.items()}


def _square(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """Return the squared Frobenius norm of B A, from the small products: trace((B'B)(A A'))."""
    return float(np.sum((b.T @ b) * (a @ a.T)))
