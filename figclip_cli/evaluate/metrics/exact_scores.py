"""Scores of pairs that do not depend on how they are computed, and fast products with a bound on their error.

The score of two float32 features is their exact dot product, rounded to float64 and then to float32. Equal features
score the same to the last bit, and no block size, BLAS, number of threads or device changes a score.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import torch
from torch import Tensor

# Unit roundoffs: what one rounding adds, relative to the result.
_FLOAT32, _FLOAT64, _BFLOAT16 = 2.0**-24, 2.0**-53, 2.0**-8
_PAIRS_AT_ONCE = 256
_PROBE_ROWS = 512
# Fewer scores are not worth the probe, which is made once in a process.
_PROBE_SCORES = 1 << 19


class Precision(NamedTuple):
    """How a block's product is computed.

    Attributes:
        dtype: Of the factors; the results are always float32.
        doubt: Share of a block's scores in doubt from which the next precision is the cheaper one.
        output_error: Relative rounding of a result, and more.
        input_error: Relative rounding of a float32 factor, where the device may round it; none of bfloat16, whose
            rounding is measured feature by feature.
    """

    dtype: torch.dtype
    doubt: float
    output_error: float
    input_error: float = 0.0

    @property
    def is_exact(self) -> bool:
        """Whether the products are the scores themselves."""
        return self.dtype == torch.float64

    @property
    def is_rough(self) -> bool:
        """Whether factors are rounded, so that far more scores are in doubt than in float32."""
        return self.dtype == torch.bfloat16 or self.input_error > 0


PLAIN = Precision(torch.float32, 1 / 32, 4 * _FLOAT32)
_ROUGH = Precision(torch.bfloat16, 1 / 8, 1.01 * _BFLOAT16)
_EXACT = Precision(torch.float64, 1.0, 0.0)


@dataclass(frozen=True)
class Block:
    """Some features of one side.

    Attributes:
        features: (n, D) float32.
        lengths: (n,) float64, L2 norms.
        losses: (n,) float64, L2 norms of what rounding to bfloat16 takes away.
    """

    features: Tensor
    lengths: Tensor
    losses: Tensor

    @cached_property
    def rounded(self) -> Tensor:
        """(n, D) bfloat16."""
        return self.features.bfloat16()


def make_block(features: Tensor) -> Block:
    """Measure features (n, D) float32."""
    losses = features - features.bfloat16()  # exact: the bits that are cut off
    return Block(features, _lengths(features), _lengths(losses))


def _lengths(vectors: Tensor) -> Tensor:
    """Return L2 norms (n,) float64, right to 4 digits at least; not finite where a vector is not."""
    lengths = torch.linalg.vector_norm(vectors, dim=1).double()
    odd = ((lengths < 2.0**-40) | ~(lengths < 2.0**40)).nonzero()[:, 0]  # squares may be too small or large for float32
    lengths[odd] = torch.linalg.vector_norm(vectors[odd], dim=1, dtype=torch.float64)
    return lengths


def exact_scores(a: Tensor, b: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the scores (n,) float32 of pairs of rows.

    Args:
        a: (n, D) float32.
        b: (n, D) float32.
        lengths: (n,) float64, the product of the two L2 norms, where they are known.
    """
    if lengths is None:
        lengths = _lengths(a) * _lengths(b)
    parts = zip(*(x.split(_PAIRS_AT_ONCE) for x in (a, b, lengths)), strict=True)
    return torch.cat([_few_scores(*part) for part in parts])


def exact_scores_of(a: Block, b: Block, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the scores (n,) float32 of pairs given by their rows in ``a`` and ``b``."""
    scores = []
    for i, j in zip(rows.split(_PAIRS_AT_ONCE), columns.split(_PAIRS_AT_ONCE), strict=True):
        few = a.features.index_select(0, i), b.features.index_select(0, j)
        scores.append(_few_scores(*few, a.lengths.index_select(0, i) * b.lengths.index_select(0, j)))
    return torch.cat(scores)


def _few_scores(a: Tensor, b: Tensor, lengths: Tensor) -> Tensor:
    total = a.double().mul_(b).sum(dim=1)  # of exact products: 24 bits times 24 bits
    # A sum of D terms in any order is off by at most (D - 1) u / (1 - (D - 1) u) of the sum of magnitudes, which is at
    # most |a| |b|; the rest of the factor 2 covers the roundings of this bound itself.
    bound = lengths * (2 * a.shape[1] * _FLOAT64)
    scores = (total - bound).float()
    # Rounding is monotonic: where both ends round to one number, so does the exact sum.
    unclear = (scores != (total + bound).float()).nonzero()[:, 0]
    if len(unclear):
        products = a[unclear].double().mul_(b[unclear]).tolist()
        scores[unclear] = torch.tensor([math.fsum(row) for row in products], dtype=torch.float64).float().to(a.device)
    return scores


def exact_product(a: Block, b: Block, out: Tensor) -> None:
    """Write all scores of two blocks into ``out`` (n, m) float32."""
    total = a.features.double() @ b.features.double().T
    if _is_coarse(a.features) and _is_coarse(b.features):
        out.copy_(total)
        return
    bound = (2 * a.features.shape[1] * _FLOAT64) * a.lengths[:, None] * b.lengths.max()
    out.copy_(total - bound)
    rows, columns = (out != total.add_(bound).float()).nonzero().T
    out[rows, columns] = exact_scores_of(a, b, rows, columns)


def _is_coarse(features: Tensor) -> bool:
    """Return whether float64 sums of products of such features are exact in any order.

    They are if all values are multiples of 2^-20 of a power of two above the largest, as small integers and one-hot
    features are: a sum of D products is then an integer below D 2^40 times a constant.
    """
    largest = float(features.abs().max())
    scaled = features.double() * 2.0 ** (20 - math.frexp(largest)[1])
    return features.shape[1] <= 4096 and bool((scaled == scaled.round()).all())


def float32_products_of(a: Tensor, b: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the dot products (n,) of pairs, ``rows`` ascending, in float32 without rounded factors."""
    if not len(rows):
        return a.new_empty(0)
    if a.device.type != "cpu":
        parts = zip(rows.split(1 << 14), columns.split(1 << 14), strict=True)
        return torch.cat([(a[i] * b[j]).sum(dim=1) for i, j in parts])
    ends = torch.searchsorted(rows, torch.arange(len(a) + 1))
    wanted = torch.sparse_csr_tensor(ends, columns, torch.zeros(len(rows)), (len(a), len(b)), check_invariants=False)
    return torch.sparse.sampled_addmm(wanted, a, b.T, beta=0.0).values()


def largest_errors(mine: Block, others: Block, precision: Precision) -> Tensor:
    """Return (n,) float64: how far any product of each of my features with another may be from the exact one.

    With x' and y' what the product is made of, |x.y - x'.y'| <= |x - x'| |y| + |x'| |y - y'| (Cauchy-Schwarz). A sum
    of D products in float32, in any order, fused or not, is off by at most g = D u / (1 - D u) of the sum of their
    magnitudes, which is at most |x'| |y'|; units for rounded factors may also cut where they should round, and add in
    several steps, for which D counts four times. 1.01 covers the roundings of this bound, and the last term products
    so small that they are flushed to zero. What rounding a result adds is not in it, see :func:`limits`.
    """
    length, width = others.lengths.max(), mine.features.shape[1]
    if precision.dtype == torch.bfloat16:
        mine_loss, loss = mine.losses, others.losses.max()
    else:
        mine_loss, loss = precision.input_error * mine.lengths, precision.input_error * length
    steps = 4 * width if precision.is_rough else width
    summing = steps * _FLOAT32 / (1 - steps * _FLOAT32)
    mine_rounded = mine.lengths + mine_loss
    error = mine_loss * length + mine_rounded * loss + summing * mine_rounded * (length + loss)
    return 1.01 * error + 2.0**-125 * width * (1 + mine.lengths) * (1 + length)


def limits(scores: Tensor, errors: Tensor, precision: Precision) -> tuple[Tensor, Tensor]:
    """Return float32 limits (low, high): a product above ``high`` is of a higher score, one up to ``low`` of a lower.

    Args:
        scores: (n,) float32 scores to compare with.
        errors: (n,) of :func:`largest_errors`.
    """
    scores = scores.double()
    band = errors + precision.output_error * scores.abs()
    infinity = torch.tensor(math.inf, device=scores.device)
    high = torch.nextafter((scores + band).float(), infinity)
    return torch.nextafter((scores - band).float(), -infinity), high


class Products:
    """Room for the products of one block after another, so that none is allocated twice.

    Args:
        size: Most products of a block.
    """

    def __init__(self, size: int, device: torch.device) -> None:
        self._room = {dtype: torch.empty(0, dtype=dtype, device=device) for dtype in (torch.float32, torch.bfloat16)}
        self._size = size

    def make(self, a: Block, b: Block, precision: Precision) -> Tensor:
        """Return the products of two blocks (n, m), bfloat16 or else float32; the next call overwrites them."""
        dtype = torch.bfloat16 if precision.dtype == torch.bfloat16 else torch.float32
        if not len(self._room[dtype]):
            self._room[dtype] = self._room[dtype].new_empty(self._size)
        out = self._room[dtype][: len(a.features) * len(b.features)].view(len(a.features), len(b.features))
        if precision.is_exact:
            exact_product(a, b, out)
        elif dtype == torch.bfloat16:
            torch.mm(a.rounded, b.rounded.T, out=out)
        else:
            torch.mm(a.features, b.features.T, out=out)
        return out


def precisions(device: torch.device, width: int, scores: int) -> tuple[Precision, ...]:
    """Return the precisions worth trying, the fastest first; the last is exact.

    bfloat16 is among them if so many scores are asked for that a probe pays, and it is faster on this processor.
    """
    if _may_round_factors(device):
        return _ROUGH._replace(dtype=torch.float32, output_error=PLAIN.output_error, input_error=_BFLOAT16), _EXACT
    if device.type == "cpu" and scores >= _PROBE_SCORES and _pays(_ROUGH, PLAIN, width):
        return _ROUGH, PLAIN, _EXACT
    return PLAIN, _EXACT


@cache
def _pays(rough: Precision, plain: Precision, width: int) -> bool:
    """Return whether a rough product is faster, and keeps the bound it should, on features made for this."""
    generator = torch.Generator().manual_seed(0)
    a, b = (make_block(torch.randn(_PROBE_ROWS, width, generator=generator)) for _ in range(2))
    products = Products(_PROBE_ROWS * _PROBE_ROWS, torch.device("cpu"))
    if _seconds(a, b, plain, products) < 1.3 * _seconds(a, b, rough, products):
        return False
    exact = a.features.double() @ b.features.double().T
    allowed = largest_errors(a, b, rough)[:, None] + rough.output_error * exact.abs()
    return bool(((products.make(a, b, rough) - exact).abs() <= allowed).all())


def _seconds(a: Block, b: Block, precision: Precision, products: Products) -> float:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        products.make(a, b, precision)
        times.append(time.perf_counter() - started)
    return min(times)


def _may_round_factors(device: torch.device) -> bool:
    """Return whether torch may multiply float32 as TF32 or bfloat16 here; where it cannot be told, yes."""
    backend = torch.backends.cuda.matmul if device.type == "cuda" else getattr(torch.backends.mkldnn, "matmul", None)
    try:
        return torch.get_float32_matmul_precision() != "highest" or getattr(backend, "fp32_precision", "ieee") not in (
            "ieee",
            "none",
        )
    except RuntimeError:  # it was set in two ways that contradict each other
        return True
