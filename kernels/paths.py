"""The fused paths behind one face: forward and backward of a whole problem."""

from __future__ import annotations

import torch
from torch import Tensor

from . import cpu, cpu_small
from .losses import losses, weighted
from .problem import Gradients, Needs, Problem, Sums


def forward(
    path: str, problem: Problem, plus: Tensor | None, needs: Needs, details: bool = True
) -> tuple[Tensor, Tensor, Tensor, Sums]:
    """Compute losses and log-sum-exps.

    Args:
        path: ``cpu``, ``cpu_small``, ``triton_small`` or ``triton_tiles``.
        problem: What is computed.
        plus: () added to the loss, or none.
        needs: Which gradients will be asked for.
        details: Whether log-sum-exps are wanted for themselves.

    Returns:
        Loss (); losses by view (V,); losses by pair (V, R); log-sum-exps.
    """
    if path == "triton_small":
        from . import triton_small

        return triton_small.forward(problem, plus, needs)
    if path == "cpu_small":
        per_view, per_row, sums = cpu_small.forward(problem, details)
    else:
        sums = log_sum_exps(path, problem, keep=needs.any)
        per_view, per_row = (each.to(problem.accumulator) for each in losses(problem, sums))
    loss = weighted(problem, per_view)
    return (loss if plus is None else loss + plus), per_view, per_row, sums


def log_sum_exps(path: str, problem: Problem, keep: bool) -> Sums:
    """Return the log-sum-exps of a problem, which may be a strip of one; not for the small paths."""
    if path == "triton_tiles":
        from . import triton_tiles

        return triton_tiles.log_sum_exps(problem)
    return cpu.log_sum_exps(problem, keep)


def kept(path: str, problem: Problem, needs: Needs) -> tuple[tuple[int, ...], torch.dtype]:
    """Return the shape of ``Sums.kept`` after a forward pass, and the dtype of all other sums; not of ``cpu_small``."""
    if path == "triton_small":
        from . import triton_small

        return (triton_small.kept_numel(problem) if needs.any else 0,), torch.float32
    if path == "triton_tiles":
        if problem.negatives is None:
            return (0,), torch.float64
        return (len(problem.views), *problem.negatives.shape[:2]), torch.float64
    return (cpu.kept_numel(problem) if needs.any else 0,), torch.float64


def gradients(path: str, problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Return the gradients of ``upstream`` times the loss; what is not needed may be none."""
    if path == "triton_small":
        from . import triton_small

        return triton_small.gradients(problem, sums, upstream, needs)
    if path == "triton_tiles":
        from . import triton_tiles

        return triton_tiles.gradients(problem, sums, upstream, needs)
    if path == "cpu_small":
        return cpu_small.gradients(problem, sums, upstream, needs)
    return cpu.gradients(problem, sums, upstream, needs)
