"""The same loss with the batch spread over processes: each holds some rows and computes their strip of the scores.

Texts travel to every process, once: a process scores its own rows against all texts, so views and private negatives
stay where they are and nobody holds the score matrix of others. A row's softmax is complete at home. A column's is
merged from one log-sum-exp a process, (V, C) numbers. The gradients of views and negatives are complete at home too;
those of trained texts are summed over processes, each part rounded to the features' dtype.

Peers: Inf-CL's ring (arXiv 2410.17243) and DisCo-CLIP (arXiv 2304.08480), which also lets each process compute its own
strip alone.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from . import paths
from .autocast import without_autocast
from .losses import losses, weighted
from .problem import DTYPES, Gradients, Needs, Problem, Sums, refuse_second_order

# What :func:`_call` tells of a call, in its order.
_SAME = (
    "width", "dtype", "number of views", "kinds of id", "row_mask or none", "symmetric", "path",
    "need for a gradient of texts", "weights",
)  # fmt: skip


def _call(problem: Problem, path: str) -> list[int]:
    """Return what must be equal in all processes, as numbers."""
    return [
        problem.texts.shape[1],
        DTYPES.index(problem.texts.dtype),
        len(problem.views),
        0 if problem.row_ids is None else problem.row_ids.shape[1],
        int(problem.row_mask is not None),
        int(problem.symmetric),
        int(path == "cpu"),
        int(problem.texts.requires_grad and torch.is_grad_enabled()),
        zlib.crc32(repr(problem.weights).encode()),
    ]


@dataclass(frozen=True)
class Shards:
    """How the rows are spread.

    Attributes:
        group: The processes.
        counts: Rows of each of them, in order of rank.
        rank: This process's.
    """

    group: dist.ProcessGroup
    counts: tuple[int, ...]
    rank: int

    @classmethod
    def of(cls, group: dist.ProcessGroup, problem: Problem, path: str) -> Shards:
        """Ask every process of ``group`` for its rows, and whether it makes the same call.

        Raises:
            ValueError: This process is not in the group, or calls differ; then in every process.
        """
        rank = dist.get_rank(group)
        if rank < 0:
            raise ValueError("group must hold the process that passes it")
        own = torch.tensor([len(problem.texts), *_call(problem, path)], device=problem.texts.device)
        told = [torch.empty_like(own) for _ in range(dist.get_world_size(group))]
        dist.all_gather(told, own, group=group)
        calls = torch.stack(told).tolist()
        for name, *values in zip(_SAME, *(call[1:] for call in calls), strict=True):
            if len(set(values)) > 1:
                raise ValueError(f"all processes of a group must pass the same {name}, got {values} in order of rank")
        return cls(group, tuple(call[0] for call in calls), rank)

    @property
    def own(self) -> slice:
        """Where this process's rows are among those of all."""
        start = sum(self.counts[: self.rank])
        return slice(start, start + self.counts[self.rank])

    def gather(self, own: Tensor) -> Tensor:
        """Return the rows of all processes, (C, ...), from (R, ...) of each; of any dtype, without a gradient."""
        padded = own.new_zeros(max(1, *self.counts), *own.shape[1:])
        padded[: len(own)] = own
        # As bytes: not every backend carries every dtype.
        sent = padded.reshape(len(padded), -1).view(torch.uint8)
        parts = [torch.empty_like(sent) for _ in self.counts]
        dist.all_gather(parts, sent, group=self.group)
        whole = torch.cat([part[:count] for part, count in zip(parts, self.counts, strict=True)])
        return whole.view(own.dtype).reshape(sum(self.counts), *own.shape[1:])

    def merge(self, columns: Tensor) -> Tensor:
        """Return log-sum-exps (V, C) over all processes, from those of each; -inf where a process has none."""
        parts = [torch.empty_like(columns) for _ in self.counts]
        dist.all_gather(parts, columns.contiguous(), group=self.group)
        return torch.stack(parts).logsumexp(0)

    def sum(self, part: Tensor) -> Tensor:
        """Return the sum over all processes, in the accumulator's dtype."""
        total = part.to(torch.promote_types(part.dtype, torch.float32), copy=True)
        dist.all_reduce(total, group=self.group)
        return total


# Collectives whose sizes are only known when they run are no part of a graph. torch.compiler.disable does the same, but
# imports the compiler with this module, which takes a second.
@torch._disable_dynamo
def sharded(
    problem: Problem, plus: Tensor | None, group: dist.ProcessGroup, path: str
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the loss of all processes' rows.

    Args:
        problem: This process's shard, as if it were whole.
        plus: () added to the loss, or none.
        group: Processes that all call this, each with its shard; shards may differ in size, or be empty.
        path: ``cpu`` or ``triton_tiles``.

    Returns:
        The loss (), equal on all processes; losses by view (V,); of this process's pairs (V, R); log-sum-exps of its
        rows (V, R) and of all columns (V, C).
    """
    shards = Shards.of(group, problem, path)
    strip = replace(
        problem,
        texts=shards.gather(problem.texts.detach()),  # (C, D)
        column_ids=None if problem.row_ids is None else shards.gather(problem.row_ids),  # (C, K)
        column_mask=None if problem.row_mask is None else shards.gather(problem.row_mask),  # (C,)
        offset=shards.own.start,
    )
    inputs = (plus, problem.scale, problem.texts, problem.negatives, *problem.views)
    results: tuple[Tensor, Tensor, Tensor, Tensor, Tensor] = _Sharded.apply(path, shards, strip, *inputs)
    return results


def _log_sum_exps(path: str, strip: Problem, shards: Shards, keep: bool) -> Sums:
    """Return log-sum-exps of the rows held here, and of columns over all processes."""
    views, columns = len(strip.views), len(strip.texts)
    if len(strip.views[0]):
        sums = paths.log_sum_exps(path, strip, keep)
    else:
        none = strip.texts.new_empty(views, 0, dtype=paths.kept(path, strip, Needs())[1])
        sums = Sums(none, none, none.new_full((views, columns), -torch.inf), none.new_empty(0))
    if not strip.symmetric:
        return sums
    merged = shards.merge(sums.columns)
    if strip.column_mask is not None:
        merged = merged.masked_fill(~strip.column_mask, torch.inf)
    return replace(sums, columns=merged)


class _Sharded(torch.autograd.Function):
    """A strip under autograd. All outputs but the loss are without a gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        path: str,
        shards: Shards,
        strip: Problem,
        plus: Tensor | None,
        scale: Tensor,
        texts: Tensor,
        negatives: Tensor | None,
        *views: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.needs = Needs.of(ctx.needs_input_grad[3:])
        sums = _log_sum_exps(path, strip, shards, keep=ctx.needs.any)
        part, per_row = losses(strip, sums)
        dtype = strip.accumulator
        per_view = shards.sum(part).to(dtype)
        loss = weighted(strip, per_view)
        ctx.path, ctx.shards, ctx.count = path, shards, len(views)
        # Tensors are saved, not the problem: autograd then notices when one is written to before the backward pass.
        ctx.strip = replace(strip, views=(), negatives=None, negatives_mask=None, row_ids=None, row_mask=None)
        masks = (strip.negatives_mask, strip.row_ids, strip.row_mask)
        ctx.save_for_backward(scale, negatives, *masks, sums.positives, sums.rows, sums.columns, sums.kept, *views)
        outputs = (per_view, per_row.to(dtype), sums.rows.to(dtype, copy=True), sums.columns.to(dtype, copy=True))
        ctx.mark_non_differentiable(*outputs)
        ctx.set_materialize_grads(False)
        return loss if plus is None else loss + plus, *outputs

    @staticmethod
    def backward(ctx: Any, upstream: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        refuse_second_order()
        if upstream is None:
            return (None,) * (7 + ctx.count)
        scale, negatives, present, ids, mask, positives, rows, columns, kept, *views = ctx.saved_tensors
        strip = replace(
            ctx.strip,
            views=tuple(views),
            scale=scale,
            negatives=negatives,
            negatives_mask=present,
            row_ids=ids,
            row_mask=mask,
        )
        with without_autocast(strip.texts.device.type):
            got = _gradients(ctx.path, strip, Sums(positives, rows, columns, kept), upstream, ctx.needs)
        of_texts = None
        if ctx.needs.texts:
            part = torch.zeros_like(strip.texts) if got.texts is None else got.texts  # (C, D)
            of_texts = ctx.shards.sum(part)[ctx.shards.own].to(part.dtype)  # (R, D)
        of_views = got.views if got.views is not None else (None,) * ctx.count
        plus = upstream if ctx.needs_input_grad[3] else None
        return None, None, None, plus, got.scale, of_texts, got.negatives, *of_views


def _gradients(path: str, strip: Problem, sums: Sums, upstream: Tensor, needs: Needs) -> Gradients:
    if len(strip.views[0]):
        return paths.gradients(path, strip, sums, upstream, needs)
    return Gradients(
        views=tuple(torch.zeros_like(view) for view in strip.views),
        negatives=None if strip.negatives is None else torch.zeros_like(strip.negatives),
        scale=torch.zeros_like(strip.scale),
    )
