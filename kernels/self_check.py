"""Every path of this machine against the reference in float64: does the operation compute here what it should?

A broken driver, compiler or build of torch shows in one run of :func:`self_check`, before hours of training do.
Problems are random, the same in every run, and made on the CPU by a generator of their own, so that no random state of
the caller's moves.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .choose import explain, has_triton
from .op import contrastive_loss
from .problem import Problem
from .triton_config import allows_tf32
from .triton_config import is_interpreted as _interpreted

# Relative to the largest value. A GPU's approximate exponentials fit in; a wrong kernel is off by far more.
FLOAT32_TOLERANCE = 2e-5
# What rounds to bfloat16 is off by 2^-9 once for the probability and once for the gradient.
ROUNDED_TOLERANCE = 2e-2
_SIZES = ((5, 70), (100, 512), (1100, 64))  # rows, width; 1,100 rows are several tiles of any path, either way
_INTERPRETED_ROWS = 5  # Interpreted kernels take seconds at more.
_NEGATIVES, _KINDS = 4, 2
_WEIGHTS = (1.0, 0.25)
_SCALE, _FAR_SCALE = 20.0, 400.0  # with the latter, scores leave the range of a float's exponent
_UPSTREAM = 1.7  # Not 1, so that a path that forgets it is found out.


@dataclass(frozen=True)
class PathCheck:
    """How one path did on one device with features of one dtype.

    Attributes:
        path: A name of a path, see :data:`figclip_kernels.choose.BACKENDS`.
        device: Where it ran, such as ``cpu`` or ``cuda:0``.
        dtype: Of the features, such as ``float32``.
        cases: How many problems were computed.
        complete: Whether no problem was left out for want of time.
        loss_error: Largest error of a loss, relative to it where it is above 1; inf if one is not finite.
        gradient_error: Largest error of a gradient, relative to its largest value; inf if one is not finite.
        tolerance: What both may be.
        failure: What went wrong first, in one line; empty if nothing did.
    """

    path: str
    device: str
    dtype: str
    cases: int
    complete: bool
    loss_error: float
    gradient_error: float
    tolerance: float
    failure: str

    @property
    def status(self) -> str:
        """``ok``, ``FAILED``, or ``not run`` where time ran out before the first problem."""
        if self.failure:
            return "FAILED"
        return "ok" if self.cases else "not run"


def self_check(device: torch.device | str, seconds: float = 10.0) -> list[PathCheck]:
    """Compare loss and gradients of every path that a device can run with the reference in float64, on the CPU.

    Nothing of the process is changed: no random state, default dtype or number of threads. An error that a path raises
    is reported, not raised.

    Args:
        device: Where to compute, such as ``cpu`` or ``cuda:0``.
        seconds: No new problem is begun after this long; each path computes one in float32 whatever it takes, as
            kernels that are compiled first may need all the time there is.

    Returns:
        One check for each path and dtype, in the order of paths.
    """
    where = torch.device(device)
    ends = time.monotonic() + seconds
    tallies = [_Tally(path, where, dtype) for path in paths_on(where) for dtype in dtypes_on(where)]
    # Under the caller's no_grad or inference_mode there would be no gradients to look at.
    with torch.inference_mode(False), torch.enable_grad():
        for number, case in enumerate(_cases()):
            for dtype in dtypes_on(where):
                _check(case, [tally for tally in tallies if tally.dtype == dtype], ends, must=number == 0)
    return [tally.result() for tally in tallies]


def paths_on(device: torch.device) -> tuple[str, ...]:
    """Return the paths that can run on a device; the Triton paths on a CPU only where Triton interprets."""
    triton = ("triton_small", "triton_tiles") if has_triton() else ()
    if device.type == "cpu":
        return ("cpu_small", "cpu", *(triton if _interpreted() else ()))
    if device.type == "cuda" and triton:
        return (*triton, "cpu")
    return ("reference",) if device.type == "mps" else ("reference", "cpu")


def dtypes_on(device: torch.device) -> tuple[torch.dtype, ...]:
    """Return the dtypes of features that a device computes with."""
    if device.type == "cuda" and torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0):
        return (torch.float32, torch.float16)
    if device.type == "mps":
        return (torch.float32, torch.float16)
    return (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class _Case:
    """A problem before its numbers."""

    rows: int
    width: int
    views: int
    negatives: bool
    ids: bool
    padding: bool
    symmetric: bool
    seed: int
    scale: float = _SCALE

    def __str__(self) -> str:
        switches = {"negatives": self.negatives, "ids": self.ids, "padding": self.padding, "symmetric": self.symmetric}
        with_switches = "".join(f", {name}" for name, on in switches.items() if on)
        return f"{self.rows} rows of {self.width}, {self.views} view(s), scale {self.scale:g}{with_switches}"

    def problem(self, dtype: torch.dtype) -> Problem:
        """Return the problem, on the CPU, of unit features."""
        generator = torch.Generator("cpu").manual_seed(self.seed)

        def features(*shape: int) -> Tensor:
            values = torch.randn(*shape, generator=generator, dtype=torch.float64, device="cpu")
            return F.normalize(values, dim=-1).to(dtype)

        def chance(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64, device="cpu")

        ids = (chance(self.rows, _KINDS) * self.rows).long() if self.ids else None
        mask = chance(self.rows) > 0.2 if self.padding else None
        if mask is not None:
            mask[:3] = True  # So that something is left to compute with few rows.
        return Problem(
            views=tuple(features(self.rows, self.width) for _ in range(self.views)),
            texts=features(self.rows, self.width),
            scale=torch.tensor(self.scale, dtype=torch.float32, device="cpu"),
            negatives=features(self.rows, _NEGATIVES, self.width) if self.negatives else None,
            negatives_mask=chance(self.rows, _NEGATIVES) > 0.3 if self.negatives else None,
            row_ids=ids,
            column_ids=ids,
            row_mask=mask,
            column_mask=mask,
            weights=_WEIGHTS[: self.views],
            symmetric=self.symmetric,
        )


def _cases() -> Iterator[_Case]:
    """Yield all problems, everything switched on first, and every size early.

    Eight settings of the five switches hold both values of each switch with both of each other.
    """
    settings = itertools.product((True, False), repeat=3)
    for seed, ((a, b, c), (rows, width)) in enumerate(itertools.product(settings, _SIZES)):
        yield _Case(rows, width, 2 if a else 1, negatives=b, ids=c, padding=a == b, symmetric=a == c, seed=seed)
    yield _Case(100, 64, 2, negatives=True, ids=True, padding=True, symmetric=True, seed=seed + 1, scale=_FAR_SCALE)


def _check(case: _Case, tallies: list[_Tally], ends: float, must: bool) -> None:
    """Compute one problem on every path, all of whose tallies are of one dtype."""
    wanted: dict[str, Tensor] = {}
    problem: Problem | None = None
    for tally in tallies:
        if tally.crashed or not tally.takes(case):
            continue
        if time.monotonic() >= ends and not (must and tally.dtype == torch.float32):
            tally.complete = False
            continue
        if problem is None:
            problem = case.problem(tally.dtype)
            wanted = _outcome(_moved(problem, torch.device("cpu"), torch.float64), "reference")
        tally.add(case, problem, wanted)


class _Tally:
    """What is known of one path and dtype so far."""

    def __init__(self, path: str, device: torch.device, dtype: torch.dtype) -> None:
        self.path, self.device, self.dtype = path, device, dtype
        self.crashed, self.complete = False, True
        self._cases, self._failure = 0, ""
        self._loss_error = self._gradient_error = 0.0
        # Where torch is allowed to multiply float32 as TF32, it rounds to 16 bits or so.
        exact = dtype == torch.float32 and not allows_tf32()
        self._tolerance = FLOAT32_TOLERANCE if exact else ROUNDED_TOLERANCE

    def takes(self, case: _Case) -> bool:
        """Return whether a case is not too slow to be interpreted."""
        return case.rows <= _INTERPRETED_ROWS or not (self.path.startswith("triton") and _interpreted())

    def add(self, case: _Case, problem: Problem, wanted: dict[str, Tensor]) -> None:
        """Compute a problem and compare; an error of any kind is kept in words."""
        try:
            placed = _moved(problem, self.device, self.dtype)
            if not _able(placed, self.path):
                return
            got = _outcome(placed, self.path)
        except Exception as raised:  # Whatever a compiler or driver throws is what a check is there to say.
            self.crashed = True
            self._failure = self._failure or f"{_first_line(raised)} ({case})"
            return
        self._cases += 1
        for name, value in wanted.items():
            least = 1.0 if name == "loss" else 1e-6
            # A score is rounded in proportion to the scale, and a probability by as much as its score.
            error = _error(got[name], value, least) * _SCALE / case.scale
            if name == "loss":
                self._loss_error = max(self._loss_error, error)
            else:
                self._gradient_error = max(self._gradient_error, error)
            if error > self._tolerance and not self._failure:
                self._failure = f"{name} is off by {error:.1e}, allowed is {self._tolerance:.0e} ({case})"

    def result(self) -> PathCheck:
        """Return what is known."""
        if self.complete and not self._cases and not self._failure and self.dtype == torch.float32:
            self._failure = "it takes none of the problems"
        return PathCheck(
            path=self.path,
            device=str(self.device),
            dtype=str(self.dtype).removeprefix("torch."),
            cases=self._cases,
            complete=self.complete,
            loss_error=self._loss_error,
            gradient_error=self._gradient_error,
            tolerance=self._tolerance,
            failure=self._failure,
        )


def _first_line(error: BaseException) -> str:
    """Return an error's name and the first line of its message that is not empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _able(problem: Problem, path: str) -> bool:
    """Return whether a path is meant for a problem: those for few rows refuse many."""
    try:
        explain(problem, path)
    except ValueError:
        return False
    return True


def _moved(problem: Problem, device: torch.device, dtype: torch.dtype) -> Problem:
    def move(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    scale = problem.scale.to(device, torch.float64 if dtype == torch.float64 else torch.float32)
    return replace(
        problem,
        views=tuple(view.to(device, dtype) for view in problem.views),
        texts=problem.texts.to(device, dtype),
        scale=scale,
        negatives=None if problem.negatives is None else problem.negatives.to(device, dtype),
        negatives_mask=move(problem.negatives_mask),
        row_ids=move(problem.row_ids),
        column_ids=move(problem.column_ids),
        row_mask=move(problem.row_mask),
        column_mask=move(problem.column_mask),
    )


def _outcome(problem: Problem, path: str) -> dict[str, Tensor]:
    """Return the loss and all gradients by name, as float64 on the CPU."""
    views = [view.clone().requires_grad_() for view in problem.views]
    leaves = {f"gradient of view {number}": view for number, view in enumerate(views)}
    leaves["gradient of the texts"] = texts = problem.texts.clone().requires_grad_()
    leaves["gradient of the scale"] = scale = problem.scale.clone().requires_grad_()
    negatives = None if problem.negatives is None else problem.negatives.clone().requires_grad_()
    if negatives is not None:
        leaves["gradient of the negatives"] = negatives
    loss = contrastive_loss(
        views,
        texts,
        logit_scale=scale,
        negatives=negatives,
        negatives_mask=problem.negatives_mask,
        ids=problem.row_ids,
        row_mask=problem.row_mask,
        weights=problem.weights,
        symmetric=problem.symmetric,
        backend=path,
    ).loss
    gradients = torch.autograd.grad(loss * _UPSTREAM, list(leaves.values()))
    named = {"loss": loss.detach(), **dict(zip(leaves, gradients, strict=True))}
    return {name: value.to("cpu").double() for name, value in named.items()}


def _error(got: Tensor, wanted: Tensor, least: float) -> float:
    """Return the largest difference relative to the largest wanted value, or to ``least`` if that is smaller."""
    error = float((got - wanted).abs().max()) / max(float(wanted.abs().max()), least)
    return error if math.isfinite(error) else math.inf
