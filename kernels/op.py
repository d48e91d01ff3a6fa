"""The public operation: checks, choice of a path, autograd."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from . import paths, reference, registered
from .autocast import without_autocast
from .choose import choose, choose_sharded
from .distributed import sharded
from .losses import losses, weighted
from .problem import ContrastiveOutput, Needs, Problem, Sums, check, refuse_second_order


def contrastive_loss(
    views: Tensor | Sequence[Tensor],
    texts: Tensor,
    *,
    logit_scale: Tensor | float,
    negatives: Tensor | None = None,
    negatives_mask: Tensor | None = None,
    ids: Tensor | None = None,
    row_mask: Tensor | None = None,
    weights: Sequence[float] | None = None,
    symmetric: bool = True,
    plus: Tensor | None = None,
    details: bool = False,
    group: ProcessGroup | None = None,
    backend: str = "auto",
) -> ContrastiveOutput:
    """Compute InfoNCE between each view and the texts, with negatives that are private to a row.

    Row i's positive is text i. Its denominator over texts holds every text j, except those that share an id
    with i, and its own N negatives. The denominator of text j over rows holds every row i, except those that
    share an id with j; negatives have no row of their own and do not enter it. Features are used as given:
    pass them L2-normalised for cosine similarity. Scores are computed and summed in float32, in float64 for
    float64 features. Source: FiGCLIP (arXiv 2401.07669), section 3.3; InfoNCE (arXiv 1807.03748).

    Args:
        views: (V, B, D) or a sequence of V tensors (B, D), of float32, bfloat16, float16 or float64. Where views,
            texts and negatives differ in dtype, the widest is taken.
        texts: (B, D).
        logit_scale: Inverse temperature, already exponentiated; a float or a scalar tensor, which may ask for
            a gradient.
        negatives: (B, N, D), or none.
        negatives_mask: (B, N) bool, true where a negative is present. What is absent must be finite.
        ids: (B,) or (B, K) integers. Two different rows with an equal id in any column are never each other's
            negative.
        row_mask: (B,) bool, false where a row is padding: it is nobody's positive or negative, and the mean is over
            the others. What it holds must be finite.
        weights: V weights of the views; ones by default.
        symmetric: Average both directions; else only row -> text.
        plus: Scalar that is added to the loss, such as the loss of another call; a sum of calls then costs no
            launch of its own.
        details: Return the losses of pairs and the log-sum-exps too.
        group: Processes over which the batch is spread. Each passes its own rows, not all of one count perhaps, to the
            same call; all get the loss of the whole batch, and each the whole gradient of its own features. The
            gradient of ``logit_scale``, and of all parameters before the features, is the sum over processes:
            multiply the loss by their number where gradients are averaged, as DistributedDataParallel does.
        backend: ``auto``, or the name of a path: ``reference``, ``cpu``, ``cpu_small``, ``triton_small``,
            ``triton_tiles``. With ``FIGCLIP_VERBOSE`` set, stderr says which path is taken and why.

    Raises:
        ValueError: Shapes or dtypes that do not fit one another, or a path that cannot compute this call.
    """
    if isinstance(views, Tensor) and views.ndim != 3:
        raise ValueError(f"views must be (V, B, D) or a list of (B, D), got {tuple(views.shape)}")
    each = tuple(views.unbind(0)) if isinstance(views, Tensor) else tuple(views)
    check(each, texts, negatives, negatives_mask, ids, row_mask, weights)
    problem = _problem(each, texts, logit_scale, negatives, negatives_mask, ids, row_mask, weights, symmetric)
    if plus is not None:
        plus = _scalar("plus", plus, problem.accumulator, texts.device)
    if group is not None:
        path = choose_sharded(problem, backend)
        with without_autocast(texts.device.type):
            return _output(sharded(problem, plus, group, path), details, symmetric)
    path = choose(problem, backend)
    if texts.shape[0] == 0:
        return _nothing(problem, plus, details)
    with without_autocast(texts.device.type):
        return _output(_computed(path, problem, plus, details), details, symmetric)


def _output(computed: tuple[Tensor, ...], details: bool, symmetric: bool) -> ContrastiveOutput:
    loss, per_view, *rest = computed
    if not details:
        return ContrastiveOutput(loss, per_view)
    per_row, rows, columns = rest
    return ContrastiveOutput(loss, per_view, per_row, rows, columns if symmetric else None)


def _computed(path: str, problem: Problem, plus: Tensor | None, details: bool) -> tuple[Tensor, ...]:
    """Return loss (), losses by view, and at least for details losses by pair and log-sum-exps by row and by column.

    The loss alone carries gradients.
    """
    if path == "reference":
        sums = reference.log_sum_exps(problem)
        per_view, per_row = losses(problem, sums)
        loss = weighted(problem, per_view)
        rest = (each.detach() for each in (per_view, per_row, sums.rows, sums.columns))
        return (loss if plus is None else loss + plus), *rest
    inputs = (plus, problem.scale, problem.texts, problem.negatives, *problem.views)
    if torch.compiler.is_compiling():
        wanted = [torch.is_grad_enabled() and each is not None and each.requires_grad for each in inputs]
        return registered.contrastive_loss(problem, plus, path, Needs.of(wanted))
    return _Fused.apply(path, problem, details, *inputs)


def _problem(
    views: tuple[Tensor, ...],
    texts: Tensor,
    logit_scale: Tensor | float,
    negatives: Tensor | None,
    negatives_mask: Tensor | None,
    ids: Tensor | None,
    row_mask: Tensor | None,
    weights: Sequence[float] | None,
    symmetric: bool,
) -> Problem:
    """Bring all to one dtype and device, and leave out what is empty."""
    if negatives is not None and negatives.shape[1] == 0:
        negatives = negatives_mask = None
    dtype, device = texts.dtype, texts.device
    features = views if negatives is None else (*views, negatives)
    if any(each.dtype != dtype for each in features):
        for each in features:
            dtype = torch.promote_types(dtype, each.dtype)
        views, texts = tuple(view.to(dtype) for view in views), texts.to(dtype)
        negatives = None if negatives is None else negatives.to(dtype)
    kinds = None if ids is None else ids.to(device, torch.int64)
    if kinds is not None:
        kinds = kinds[:, None] if kinds.ndim == 1 else kinds if kinds.shape[1] else None  # (R, K)
    mask = None if row_mask is None else row_mask.to(device)
    return Problem(
        views,
        texts,
        _scalar("logit_scale", logit_scale, torch.float64 if dtype == torch.float64 else torch.float32, device),
        negatives,
        None if negatives_mask is None else negatives_mask.to(device),
        kinds,
        kinds,
        mask,
        mask,
        weights=(1.0,) * len(views) if weights is None else tuple(float(weight) for weight in weights),
        symmetric=symmetric,
    )


def _scalar(name: str, value: Tensor | float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a number or a tensor of one as a () tensor."""
    if not isinstance(value, Tensor):
        return torch.full((), float(value), dtype=dtype, device=device)
    if value.ndim == 0 and value.dtype == dtype and value.device == device:
        return value
    if value.numel() != 1:
        raise ValueError(f"{name} must be a number or a tensor of one, got {tuple(value.shape)}")
    return value.to(device, dtype).reshape(())


def _nothing(problem: Problem, plus: Tensor | None, details: bool) -> ContrastiveOutput:
    """Return the output of no rows: zero, with gradients of zero."""
    features = (*problem.views, problem.texts, *(() if problem.negatives is None else (problem.negatives,)))
    loss = sum((each.sum() for each in features), problem.scale).to(problem.accumulator) * 0.0
    none = loss.detach().new_zeros(len(problem.views), 0)  # (V, 0)
    per_view = none.new_zeros(len(problem.views))
    loss = loss if plus is None else loss + plus
    if not details:
        return ContrastiveOutput(loss, per_view)
    return ContrastiveOutput(loss, per_view, none, none, none if problem.symmetric else None)


class _Fused(torch.autograd.Function):
    """The fused paths under autograd. All outputs but the loss are without a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        path: str,
        problem: Problem,
        details: bool,
        plus: Tensor | None,
        scale: Tensor,
        texts: Tensor,
        negatives: Tensor | None,
        *views: Tensor,
    ) -> tuple[Tensor, ...]:
        needs = Needs.of(ctx.needs_input_grad[3:])
        loss, per_view, per_row, sums = paths.forward(path, problem, plus, needs, details)
        ctx.path, ctx.needs, ctx.count = path, needs, len(views)
        # Tensors are saved, not the problem: autograd then notices when one is written to before the backward pass.
        masks = (problem.negatives_mask, problem.row_ids, problem.row_mask)
        ctx.rest = (problem.weights, problem.symmetric)
        ctx.save_for_backward(
            scale, texts, negatives, *masks, sums.positives, sums.rows, sums.columns, sums.kept, *views
        )
        ctx.set_materialize_grads(False)
        outputs: tuple[Tensor, ...] = (per_view,)
        if details:
            dtype = problem.accumulator
            outputs = (per_view, per_row, sums.rows.to(dtype, copy=True), sums.columns.to(dtype, copy=True))
        ctx.mark_non_differentiable(*outputs)
        return loss, *outputs

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_order()
        if upstream is None:
            return (None,) * (7 + ctx.count)
        scale, texts, negatives, present, ids, mask, positives, rows, columns, kept, *views = ctx.saved_tensors
        weights, symmetric = ctx.rest
        problem = Problem(
            tuple(views), texts, scale, negatives, present, ids, ids, mask, mask, weights=weights, symmetric=symmetric
        )
        sums = Sums(positives, rows, columns, kept)
        with without_autocast(texts.device.type):
            got = paths.gradients(ctx.path, problem, sums, upstream, ctx.needs)
        of_views = got.views if got.views is not None else (None,) * ctx.count
        plus = upstream if ctx.needs_input_grad[3] else None
        return None, None, None, plus, got.scale, got.texts, got.negatives, *of_views
