"""The fused paths behind one face: forward and backward of a whole problem."""

from __future__ import annotations

from torch import Tensor

from . import cpu
from .losses import losses, weighted
from .problem import Gradients, Needs, Problem, Sums


def forward(path: str, problem: Problem, plus: Tensor | None, needs: Needs) -> tuple[Tensor, Tensor, Tensor, Sums]:
    """Return loss (), losses by view (V,), losses by pair (V, R) and log-sum-exps.

    Args:
        path: ``cpu``, ``triton_small`` or ``triton_tiles``.
        problem: What is computed.
        plus: () added to the loss, or none.
        needs: Which gradients will be asked for.
    """
    if path == "triton_small":
        from . import triton_small

        return triton_small.forward(problem, plus, needs)
    sums = log_sum_exps(path, problem, keep=any((needs.views, needs.texts, needs.negatives, needs.scale)))
    per_view, per_row = losses(problem, sums)
    loss = weighted(problem, per_view)
    return (loss if plus is None else loss + plus), per_view, per_row, sums


def log_sum_exps(path: str, problem: Problem, keep: bool) -> Sums:
    """Return the log-sum-exps of a problem, which may be a strip of one; not for ``triton_small``."""
    if path == "triton_tiles":
        from . import triton_tiles

        return triton_tiles.log_sum_exps(problem)
    return cpu.log_sum_exps(problem, keep)


def gradients(path: str, problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Return the gradients of ``upstream`` times the loss; what is not needed may be none."""
    if path == "triton_small":
        from . import triton_small

        return triton_small.gradients(problem, sums, upstream, needs)
    if path == "triton_tiles":
        from . import triton_tiles

        return triton_tiles.gradients(problem, sums, upstream, needs)
    return cpu.gradients(problem, sums, upstream, needs)
