"""Which path computes a call, and why."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import lru_cache

import torch

from . import cpu_small
from .problem import Problem

BACKENDS = ("auto", "reference", "cpu", "cpu_small", "triton_small", "triton_tiles")
# Below this many scores a view, a device without Triton is better off with few large operations.
FEW_SCORES = 512 * 512


def choose(problem: Problem, backend: str) -> str:
    """Return the name of the path for a call; say it on stderr, once, if ``FIGCLIP_VERBOSE`` is set.

    Raises:
        ValueError: ``backend`` is no name of a path, or that path cannot compute this call.
    """
    path, reason = explain(problem, backend)
    # The operation of a compiled graph chooses, and says it, when it runs.
    if not torch.compiler.is_compiling():
        say(path, problem, reason)
    return path


def choose_sharded(problem: Problem, backend: str) -> str:
    """Return the name of the path for one process's rows of a batch that is spread over several.

    Raises:
        ValueError: ``backend`` cannot compute a strip of the score matrix.
    """
    if backend not in ("auto", "cpu", "triton_tiles"):
        raise ValueError(f"backend must be auto, cpu or triton_tiles where a group shares the batch, got {backend!r}")
    if backend == "auto":
        backend = "triton_tiles" if _on_triton(problem) else "cpu"
    else:
        _check_able(problem, backend)
    say(backend, problem, "a strip of the scores in each process")
    return backend


def explain(problem: Problem, backend: str) -> tuple[str, str]:
    """Return the name of the path for a call and the reason, as a clause.

    Raises:
        ValueError: ``backend`` is no name of a path, or that path cannot compute this call.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend != "auto":
        _check_able(problem, backend)
        return backend, "asked for"
    device, dtype = problem.texts.device, problem.texts.dtype
    if dtype == torch.float64:
        return "reference", "float64 asks for exactness, and for gradients of gradients"
    if device.type == "cpu":
        if cpu_small.suits(problem):
            return "cpu_small", "few rows: the score matrix in one tile, fewest operations"
        return "cpu", "many rows: the score matrix in tiles that stay in the caches"
    if _on_triton(problem):
        if _is_small(problem, quick=True):
            return "triton_small", "few rows: one launch forward, one backward"
        return "triton_tiles", "many rows: the score matrix is never stored"
    if device.type == "cuda" and has_triton():
        return "cpu", "this GPU's matrix units know no bfloat16: tiles in plain torch"
    without = "no Triton" if device.type == "cuda" else f"no kernels for {device.type}"
    if problem.texts.shape[0] ** 2 <= FEW_SCORES:
        return "reference", f"{without}, and few rows"
    if device.type == "mps":
        return "reference", "no kernels for mps, and none of the float64 that tiles are summed in"
    return "cpu", f"{without}: tiles in plain torch"


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """Return whether Triton can be imported."""
    return importlib.util.find_spec("triton") is not None


def _on_triton(problem: Problem) -> bool:
    """Return whether the Triton kernels compute a problem where it is."""
    device, dtype = problem.texts.device, problem.texts.dtype
    if device.type != "cuda" or not has_triton() or dtype == torch.float64:
        return False
    return dtype != torch.bfloat16 or _multiplies_bfloat16(device)


@lru_cache
def _multiplies_bfloat16(device: torch.device) -> bool:
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (8, 0)


def _is_small(problem: Problem, quick: bool = False) -> bool:
    from . import triton_small

    return triton_small.suits_auto(problem) if quick else triton_small.suits(problem)


def _check_able(problem: Problem, backend: str) -> None:
    rows, width = problem.texts.shape
    if backend == "cpu_small" and not cpu_small.suits(problem):
        raise ValueError(f"backend 'cpu_small' is for up to {cpu_small.MAX_ROWS} rows, got {rows}; use 'cpu'")
    if backend.startswith("triton"):
        if not has_triton():
            raise ValueError(f"backend {backend!r} needs Triton, which is not installed")
        if problem.texts.dtype == torch.float64:
            raise ValueError(f"backend {backend!r} computes in float32; use 'reference' for float64")
    if backend == "triton_small" and not _is_small(problem):
        raise ValueError(f"backend 'triton_small' is for few rows, got {rows} rows of {width}; use 'triton_tiles'")


def say(path: str, problem: Problem, reason: str) -> None:
    """Say on stderr which path is taken and why, once for each, if ``FIGCLIP_VERBOSE`` is set."""
    if os.environ.get("FIGCLIP_VERBOSE"):
        rows, width = problem.texts.shape
        _print_once(f"figclip_kernels: {path} for {rows} rows of {width} {problem.texts.dtype}: {reason}")


@lru_cache(maxsize=256)
def _print_once(line: str) -> None:
    print(line, file=sys.stderr)
