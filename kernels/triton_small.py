"""Few rows: one launch computes a call forward, one computes all its gradients.

At a hundred rows a step is bound by how many kernels it starts, so one program holds the whole score matrix of a view
in registers and goes from features to the loss, without atomics and with every output written once: the same bits each
time. The masked scores are kept for the backward pass (64 KiB a view at the most), which then needs neither ids nor
masks and computes no score again. Nothing here asks the device for a value, so calls can be captured in a CUDA graph.
The price is that one multiprocessor reads all features forward; exact float32 products, which tensor cores cannot do,
are the slowest. Shape letters are those of :mod:`figclip_kernels.problem`; P is the tile's side, the power of two that
holds R.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from .problem import Gradients, Needs, Problem, Sums
from .triton_config import check_device, is_interpreted, precision, unit_stride
from .triton_small_forward import forward_kernel
from .triton_small_gradients import gradients_kernel

MAX_ROWS = 128
MAX_VIEWS = 4
MAX_WIDTH = 2048
MAX_NEGATIVES = 64
# Views times negatives of a row times width, of which one program reads a hundred rows in well under a millisecond.
MAX_PRIVATE_AUTO = 16_384
# The interpreter multiplies bfloat16 as the integers that hold its bits: there features are widened first.
_INTERPRETED = is_interpreted()
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def suits(problem: Problem) -> bool:
    """Return whether this path can compute a problem: a whole one (R = C, offset 0) of few rows."""
    rows, width = problem.texts.shape
    return (
        problem.offset == 0
        and problem.views[0].shape[0] == rows
        and 0 < rows <= MAX_ROWS
        and 0 < width <= MAX_WIDTH
        and len(problem.views) <= MAX_VIEWS
        and problem.texts.dtype in DTYPES
        and (problem.negatives is None or problem.negatives.shape[1] <= MAX_NEGATIVES)
    )


def suits_auto(problem: Problem) -> bool:
    """Return whether this path can compute a problem and is likely the fastest.

    One program scores all private negatives, without tensor cores: many of them are better spread over a GPU.
    """
    negatives = 0 if problem.negatives is None else problem.negatives.shape[1]
    return suits(problem) and len(problem.views) * negatives * problem.texts.shape[1] <= MAX_PRIVATE_AUTO


def forward(problem: Problem, plus: Tensor | None, needs: Needs) -> tuple[Tensor, Tensor, Tensor, Sums]:
    """Compute losses and log-sum-exps in one launch.

    Args:
        problem: One that :func:`suits`.
        plus: () float32 that is added to the loss, or none.
        needs: Which gradients :func:`gradients` will be asked for; without any, no scores are kept.

    Returns:
        () loss; (V,) losses by view; (V, R) losses by pair, 0 for a padded row; log-sum-exps, of which ``kept`` holds
        what :func:`gradients` wants back. All float32.

    Raises:
        RuntimeError: CPU tensors, and Triton does not interpret.
    """
    texts, views, negatives = unit_stride(problem.texts), _views(problem), _negatives(problem)
    rows, width = texts.shape
    count = 0 if negatives is None else negatives.shape[1]
    keep = needs.any
    block = tile_side(rows)
    new: dict[str, Any] = {"dtype": torch.float32, "device": texts.device}
    loss = torch.empty((), **new)
    per_view = torch.empty(len(views), **new)  # (V,)
    per_row = torch.empty((len(views), rows), **new)  # (V, R)
    sums = torch.empty((3, len(views), rows), **new)  # (3, V, R): positives, rows, columns
    kept = torch.empty(kept_numel(problem), **new) if keep else None
    ids, mask, present = problem.row_ids, problem.row_mask, problem.negatives_mask
    launch(
        forward_kernel,
        (1,),
        *_four(views),
        texts,
        negatives,
        None if ids is None else ids.contiguous(),
        None if mask is None else mask.contiguous(),
        None if present is None or negatives is None else present.contiguous(),
        problem.scale,
        plus,
        loss,
        per_view,
        per_row,
        sums,
        kept,
        rows,
        width,
        count,
        views[0].stride(0),
        texts.stride(0),
        *_four_weights(problem),
        VIEWS=len(views),
        KINDS=0 if ids is None else ids.shape[1],
        SYMMETRIC=problem.symmetric,
        SCALE=needs.scale,
        BLOCK=block,
        **forward_options(texts.dtype, block),
    )
    positives, by_row, by_column = sums.unbind(0)  # (V, R) each
    if not problem.symmetric:
        by_column = torch.empty((len(views), 0), **new)  # (V, 0)
    return loss, per_view, per_row, Sums(positives, by_row, by_column, torch.empty(0, **new) if kept is None else kept)


def gradients(problem: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    """Compute the gradients that are asked for in one launch.

    Args:
        problem: As given to :func:`forward`.
        sums: What :func:`forward` returned, with ``needs`` of at least what is needed here.
        upstream: () float32, the gradient with respect to the loss.
        needs: What is asked for.

    Returns:
        Gradients of the features' dtype, that of the scale in float32.

    Raises:
        RuntimeError: CPU tensors, and Triton does not interpret.
    """
    texts, views, negatives = unit_stride(problem.texts), _views(problem), _negatives(problem)
    rows, width = texts.shape
    new: dict[str, Any] = {"dtype": texts.dtype, "device": texts.device}
    of_views = torch.empty((len(views), rows, width), **new) if needs.views else None  # (V, R, D)
    of_texts = torch.empty((rows, width), **new) if needs.texts else None  # (R, D)
    of_negatives, count = None, 0  # (R, N, D)
    if negatives is not None:
        count = negatives.shape[1]
        of_negatives = torch.empty((rows, count, width), **new) if needs.negatives else None
    of_scale = torch.empty((), dtype=torch.float32, device=texts.device) if needs.scale else None
    jobs = (len(views) if needs.views else 0) + int(needs.texts) + (count if of_negatives is not None else 0)
    if jobs or of_scale is not None:
        options = gradients_options(texts.dtype, tile_side(rows))
        blocks, slices = triton.cdiv(rows, options["BLOCK_R"]), triton.cdiv(width, options["BLOCK_D"])
        launch(
            gradients_kernel,
            (blocks, slices, jobs) if jobs else (1, 1, 1),
            *_four(views),
            texts,
            negatives,
            problem.scale,
            upstream,
            sums.rows,
            sums.columns,
            sums.kept,
            of_views,
            of_texts,
            of_negatives,
            of_scale,
            rows,
            width,
            count,
            views[0].stride(0),
            texts.stride(0),
            *_four_weights(problem),
            VIEWS=len(views),
            SYMMETRIC=problem.symmetric,
            BLOCK=tile_side(rows),
            **options,
        )
    return Gradients(None if of_views is None else of_views.unbind(0), of_texts, of_negatives, of_scale)


def kept_numel(problem: Problem) -> int:
    """Return how many float32 numbers ``Sums.kept`` holds if any gradient is needed.

    In this order: masked scores (V, R, P); those of negatives (V, R, N); what float32 rounds off the log-sum-exps of
    rows and of columns (2, V, R); the derivative of the loss by the scale; and 1 over the number of pairs.
    """
    rows = problem.texts.shape[0]
    count = 0 if problem.negatives is None else problem.negatives.shape[1]
    return len(problem.views) * rows * (tile_side(rows) + count + 2) + 2


def tile_side(rows: int) -> int:
    """Return P: the power of two, at least 16 as the tensor cores want it, that holds ``rows``."""
    return max(16, triton.next_power_of_2(rows))


def forward_options(dtype: torch.dtype, block: int) -> dict[str, Any]:
    """Return the compile-time options of :func:`forward_kernel` for features of ``dtype`` and tiles of ``block``.

    Three stages of two tiles of 128 x 128 bytes take 96 KiB of shared memory at 128 rows, which leaves the rest of an
    H100's 256 KiB as a cache for features that are read twice. 16 warps hold 128 x 128 scores in 32 registers a
    thread. Wider tiles of negatives spill more (ptxas -v). Chosen by these, not measured on a GPU.
    """
    wide = dtype == torch.float32
    return {
        "BLOCK_D": 32 if wide else 64,
        "BLOCK_P": 16 if wide else 32,
        "PRECISION": precision(dtype),
        "WIDEN": _INTERPRETED and dtype == torch.bfloat16,
        "num_warps": 16 if block == 128 else 8 if block == 64 else 4,
        "num_stages": 3,
    }


def gradients_options(dtype: torch.dtype, block: int) -> dict[str, Any]:
    """Return the compile-time options of :func:`gradients_kernel` for features of ``dtype`` and tiles of ``block``.

    32 rows by 64 features a program make 32 programs a job at 100 rows of 512: with two views, texts and four
    negatives 224, for an H100's 132 multiprocessors. Chosen by counting, not
    measured on a GPU.
    """
    # Features of 16 bits fit TF32 without loss, and it keeps 10 bits of a coefficient where bfloat16 would keep 7.
    # There is too little work for its lower speed to matter.
    exact = precision(dtype) if dtype == torch.float32 else "tf32"
    return {
        "BLOCK_R": min(32, block),
        "BLOCK_K": min(32, block),
        "BLOCK_D": 64,
        "PRECISION": exact,
        "num_warps": 4,
        "num_stages": 2,
    }


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
    """Start one kernel on the device of its first argument, a tensor.

    Raises:
        RuntimeError: CPU tensors, and Triton does not interpret.
    """
    device = arguments[0].device
    check_device(arguments[0])
    if device.type == "cuda" and device.index != torch.cuda.current_device():
        with torch.cuda.device(device):
            kernel[grid](*arguments, **options)
    else:
        kernel[grid](*arguments, **options)


def _views(problem: Problem) -> tuple[Tensor, ...]:
    """Return V tensors (R, D) with one row stride in common, by copies where they differ."""
    first = problem.views[0].stride()
    if first[1] == 1 and all(view.stride() == first for view in problem.views):
        return problem.views
    return tuple(view.contiguous() for view in problem.views)


def _negatives(problem: Problem) -> Tensor | None:
    if problem.negatives is None or not problem.negatives.shape[1]:
        return None
    return problem.negatives.contiguous()


def _four(views: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return four tensors for the kernels' fixed places: the last repeat the first and are not read."""
    return (*views, *views[:1] * (MAX_VIEWS - len(views)))


def _four_weights(problem: Problem) -> tuple[float, ...]:
    return (*problem.weights, *(0.0,) * (MAX_VIEWS - len(problem.weights)))
