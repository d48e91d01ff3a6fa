"""The small kernel that ends a forward pass over many rows: partial log-sum-exps become whole ones.

A sum of powers of two is a base and a total, ``total * 2**base``, both float32, until it is whole. Only then is its
logarithm taken, in float64: near 100 nats a float32 is off by up to 4e-6, which is much of a loss close to 0 and of its
gradient. There are R + C of these, against R * C scores, so that a GPU's slow float64 does not matter.
"""

# Triton's functions take what has no type in Python.
# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"

from __future__ import annotations

import math

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.0 / math.log(2.0))
LN2 = tl.constexpr(math.log(2.0))
INFINITY = tl.constexpr(float("inf"))


@triton.jit
def present(index, count, mask):
    """Return which of some rows or columns exist and are not padding. ``mask`` may be none."""
    there = index < count
    if mask is not None:
        there = there & (tl.load(mask + index, mask=there, other=0) != 0)
    return there


@triton.jit
def absorb(base, total, other_base, other_total):
    """Return the sum of two sums ``total * 2**base``, so that it neither overflows nor is nan if both are empty.

    An empty sum has base -inf.
    """
    highest = tl.maximum(base, other_base)
    safe = tl.where(highest == -INFINITY, 0.0, highest)
    return highest, total * tl.exp2(base - safe) + other_total * tl.exp2(other_base - safe)


@triton.jit
def _absorb_parts(base, total, bases, totals, items, inside, count, part_stride, PARTS: tl.constexpr):
    """Return ``base`` and ``total`` (B,) with ``count`` sums of each item absorbed, in order; no totals are ones."""
    for start in range(0, count, PARTS):
        part = start + tl.arange(0, PARTS)  # (P,)
        at = part.to(tl.int64)[:, None] * part_stride + items[None, :]  # (P, B)
        there = (part < count)[:, None] & inside[None, :]  # (P, B)
        part_base = tl.load(bases + at, mask=there, other=-INFINITY)  # (P, B)
        highest = tl.max(part_base, 0)  # (B,)
        safe = tl.where(highest == -INFINITY, 0.0, highest)
        powers = tl.exp2(part_base - safe[None, :])  # (P, B)
        if totals is not None:
            powers *= tl.load(totals + at, mask=there, other=0.0)
        base, total = absorb(base, total, highest, tl.sum(powers, 0))
    return base, total


@triton.jit
def _in_nats(base, total):
    """Return the natural logarithm of ``total * 2**base`` as float64."""
    return (base.to(tl.float64) + tl.log2(total.to(tl.float64))) * LN2


@triton.jit(
    do_not_specialize=["R", "C", "N", "blocks", "runs", "earlier"],
    do_not_specialize_on_alignment=["private", "row_mask", "positives", "row_sums", "column_sums"],
)
def merge_sums(
    own_scores, row_parts, column_parts, private, row_mask, column_mask, positives, row_sums, column_sums,
    R, C, N, blocks, runs, earlier, PARTS: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Store in nats, float64, positives (R,), log-sum-exps by row (R,), private scores included, and by column (C,).

    They are 0, +inf and +inf at padding. ``row_parts`` (2, runs, R) and ``column_parts`` (2, blocks, C) hold bases,
    then totals; ``own_scores`` (R,) and ``private`` (R, N) are in base 2. ``earlier`` says that ``column_sums`` already
    holds those over the rows before.
    """
    program = tl.program_id(0)
    base = tl.full((B,), -INFINITY, tl.float32)
    total = tl.zeros((B,), tl.float32)
    row_programs = tl.cdiv(R, B)
    if program < row_programs:
        rows = program * B + tl.arange(0, B)  # (B,)
        inside = rows < R
        at = rows.to(tl.int64)
        totals = row_parts + runs.to(tl.int64) * R
        base, total = _absorb_parts(base, total, row_parts, totals, at, inside, runs, R.to(tl.int64), PARTS)
        if private is not None:
            base, total = _absorb_parts(base, total, private, None, at * N, inside, N, 1, PARTS)
        there = present(rows, R, row_mask)
        tl.store(row_sums + rows, tl.where(there, _in_nats(base, total), INFINITY), mask=inside)
        positive = tl.load(own_scores + rows, mask=inside, other=0.0).to(tl.float64) * LN2
        tl.store(positives + rows, tl.where(there, positive, 0.0), mask=inside)
    else:
        if column_parts is not None:
            columns = (program - row_programs) * B + tl.arange(0, B)  # (B,)
            inside = columns < C
            at = columns.to(tl.int64)
            if earlier != 0:
                before = tl.load(column_sums + columns, mask=inside, other=-INFINITY) * LOG2E  # (B,) float64
                base = before.to(tl.float32)
                rest = tl.where(before == -INFINITY, 0.0, before - base.to(tl.float64))
                total = tl.exp2(rest.to(tl.float32))
            totals = column_parts + blocks.to(tl.int64) * C
            base, total = _absorb_parts(base, total, column_parts, totals, at, inside, blocks, C.to(tl.int64), PARTS)
            there = present(columns, C, column_mask)
            tl.store(column_sums + columns, tl.where(there, _in_nats(base, total), INFINITY), mask=inside)
