"""The made-up batches of the contrastive benchmark, its contenders, and the float64 values they are held against."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 100.0
NO_FALSE_NEGATIVE_MASK = 4.0  # memeff leaves out a text that scores above the positive by more than this cosine
GRAPH = "/graph"
PINNED = {"memeff": "0.3.1", "inf_cl": "1.2.1"}


class LeftOut(Exception):
    """Why a contender does not take part."""


class Batch(NamedTuple):
    """One term of an objective.

    Attributes:
        views: V tensors (B, D) of unit norm, leaves that ask for a gradient.
        texts: (B, D) of unit norm; a leaf that asks for a gradient if the text side is trained.
        negatives: (B, N, D), like ``texts``, or none.
        weights: V weights of the views.
    """

    views: tuple[Tensor, ...]
    texts: Tensor
    negatives: Tensor | None
    weights: tuple[float, ...]

    def leaves(self) -> list[Tensor]:
        """Return the tensors that ask for a gradient."""
        found = [*self.views, self.texts, *([] if self.negatives is None else [self.negatives])]
        return [tensor for tensor in found if tensor.requires_grad]


Batches = tuple[Batch, ...]
Loss = Callable[[Batch], Tensor]


def make_batch(
    rows: int,
    width: int,
    negatives: int,
    *,
    trained: bool,
    dtype: torch.dtype,
    device: str,
    views: int = 1,
    seed: int = 0,
) -> Batch:
    """Return a batch whose loss is what a half-trained model has, not zero and not log B.

    Texts come eight to a topic. A view's cosine with its text is between 0.1 and 0.35, where the cosine of strangers
    has a deviation of D ** -0.5: times 100, some positives lose. Private negatives are near their text.
    """
    random = torch.Generator(device).manual_seed(seed)

    def noise(*shape: int) -> Tensor:
        return F.normalize(torch.randn(*shape, width, generator=random, device=device), dim=-1)

    topics = noise(rows // 8 + 1)  # (B / 8, D)
    texts = F.normalize(0.6 * topics[torch.arange(rows, device=device) // 8] + 0.8 * noise(rows), dim=-1)  # (B, D)
    found = []
    for _ in range(views):
        cosine = 0.1 + 0.25 * torch.rand(rows, 1, generator=random, device=device)
        found.append(F.normalize(cosine * texts + (1 - cosine**2).sqrt() * noise(rows), dim=-1))
    private = F.normalize(0.8 * texts[:, None] + 0.6 * noise(rows, negatives), dim=-1) if negatives else None
    return Batch(
        tuple(view.to(dtype).requires_grad_() for view in found),
        texts.to(dtype).requires_grad_(trained),
        None if private is None else private.to(dtype).requires_grad_(trained),
        (1.0,) * views,
    )


def make_terms(rows: int, events: int, width: int, negatives: int, **how: Any) -> Batches:
    """Return the four terms of adapting: two views of the events, and two of the clips at a quarter's weight."""
    of_clips = make_batch(rows // events, width, 0, views=2, seed=1, **how)
    return make_batch(rows, width, negatives, views=2, **how), of_clips._replace(weights=(0.25, 0.25))


def operations(batches: Batches, device: str) -> float:
    """Return the operations of the products: on a GPU with the scores made twice, since they are not stored."""
    count = 0.0
    for batch in batches:
        rows, width = batch.texts.shape
        count += 2.0 * (2 + batch.texts.requires_grad + (device == "cuda")) * len(batch.views) * rows * rows * width
    return count


def total(loss: Loss, batches: Batches) -> Tensor:
    """Return the sum of the terms' losses."""
    return sum((loss(batch) for batch in batches[1:]), loss(batches[0]))


def of_views(loss: Callable[[Tensor, Batch], Tensor], batch: Batch) -> Tensor:
    """Return the weighted sum of a loss that takes one view at a time."""
    found = [weight * loss(view, batch) for view, weight in zip(batch.views, batch.weights, strict=True)]
    return sum(found[1:], found[0])


def plain(view: Tensor, batch: Batch) -> Tensor:
    """Return two cross-entropies over the stored matrix, in float32 as autocast takes them."""
    logits = (SCALE * view @ batch.texts.T).float()  # (B, B)
    target = torch.arange(view.shape[0], device=view.device)
    to_text = logits
    if batch.negatives is not None:
        private = torch.einsum("bd,bnd->bn", SCALE * view, batch.negatives).float()
        to_text = torch.cat([logits, private], dim=1)  # (B, B + N)
    return 0.5 * (F.cross_entropy(to_text, target) + F.cross_entropy(logits.T, target))


def plain_total(batches: Batches) -> Tensor:
    """Return the objective in plain torch."""
    return total(partial(of_views, plain), batches)


def _open_clip(batches: Batches) -> Loss:
    """Return open_clip's ClipLoss, under autocast for half precision as open_clip trains."""
    if any(batch.negatives is not None for batch in batches):
        raise LeftOut("its ClipLoss has no private negatives")
    loss = _module("open_clip.loss").ClipLoss()

    def of_view(view: Tensor, batch: Batch) -> Tensor:
        half = view.dtype != torch.float32
        with torch.autocast(view.device.type, view.dtype if half else torch.bfloat16, enabled=half):
            return loss(view, batch.texts, SCALE)

    return partial(of_views, of_view)


def _memeff(batches: Batches) -> Loss:
    """Return memeff's way to the objective.

    Its CLIP loss without private negatives. With them its Qwen3 loss, which is a row's softmax over the texts and
    the row's negatives, and the same loss with the sides swapped for a column's softmax; its LiT variant makes no
    gradient for the texts of the first, nothing in it does so for the second.
    """
    _need_cuda(batches)
    memeff = _module("memeff")
    how = {"temperature": 1 / SCALE, "normalized_inputs": True, "stable": False}
    clip = memeff.MemoryEfficientCLIPLoss(**how)
    both = memeff.MemoryEfficientQwen3Loss(margin=NO_FALSE_NEGATIVE_MASK, **how)
    frozen = memeff.MemoryEfficientLiTQwen3Loss(margin=NO_FALSE_NEGATIVE_MASK, **how)

    def of_view(view: Tensor, batch: Batch) -> Tensor:
        if batch.negatives is None:
            return clip(view, batch.texts)
        to_text = both if batch.texts.requires_grad else frozen
        return 0.5 * (to_text(view, batch.texts, batch.negatives) + both(batch.texts, view))

    return partial(of_views, of_view)


def _inf_cl(batches: Batches) -> Loss:
    """Return Inf-CL's loss of a single device, once in each direction."""
    _need_cuda(batches)
    if any(batch.negatives is not None for batch in batches):
        raise LeftOut("it has no private negatives")
    width = batches[0].texts.shape[1]
    head = next((size for size in (256, 128, 64, 32, 16) if width % size == 0), None)
    if head is None:
        raise LeftOut(f"it needs a width that 16 divides, got {width}")
    loss = _module("inf_cl").cal_flash_loss

    def of_view(view: Tensor, batch: Batch) -> Tensor:
        labels = torch.arange(view.shape[0], device=view.device)
        to_text = loss(view, batch.texts, labels, SCALE, head).mean()
        return 0.5 * (to_text + loss(batch.texts, view, labels, SCALE, head).mean())

    return partial(of_views, of_view)


def _ours(backend: str, batches: Batches) -> Callable[[Batches], Tensor]:
    """Return figclip's objective; the scale is a tensor on the device, as a model's is."""
    contrastive_loss = _module("figclip_kernels").contrastive_loss
    scale = torch.tensor(SCALE, device=batches[0].texts.device)

    def summed(batches: Batches) -> Tensor:
        loss: Any = None
        for batch in batches:
            loss = contrastive_loss(
                batch.views,
                batch.texts,
                negatives=batch.negatives,
                logit_scale=scale,
                weights=batch.weights,
                plus=loss,
                backend=backend,
            ).loss
        return loss

    return summed


def _module(name: str) -> Any:
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise LeftOut(f"cannot be imported: {first_line(error)}") from error
    if name in PINNED:
        found = getattr(module, "__version__", None) or importlib.metadata.version(name)
        if found != PINNED[name]:
            raise LeftOut(f"version {found} is here, {PINNED[name]} was asked for")
    return module


def _need_cuda(batches: Batches) -> None:
    if not batches[0].texts.is_cuda:
        raise LeftOut("needs CUDA")


def first_line(error: BaseException) -> str:
    """Return what went wrong on one line."""
    said = (str(error).strip().splitlines() or ["no reason given"])[0][:160]
    return said if isinstance(error, LeftOut) else f"{type(error).__name__}: {said}"


@dataclass(frozen=True)
class Exact:
    """What float64 makes of some batches.

    Attributes:
        loss: The objective.
        rows: The rows of each leaf whose gradients are known, (r,).
        gradients: Those gradients, (r, ...), of every leaf of every batch.
    """

    loss: float
    rows: list[Tensor]
    gradients: list[Tensor]

    def errors(self, step: Step) -> dict[str, float]:
        """Return the errors of a contender's last call."""
        assert step.loss is not None and step.gradients is not None
        worst = []
        for got, rows, wanted in zip(step.gradients, self.rows, self.gradients, strict=True):
            worst.append(float((got[rows].double() - wanted).abs().max() / wanted.abs().max()))
        error = math.nan if any(map(math.isnan, worst)) else max(worst)
        return {"loss_error": abs(float(step.loss) - self.loss) / abs(self.loss), "gradient_error": error}


def exact(batches: Batches, rows_of: Callable[[int], Tensor], chunk: int) -> Exact:
    """Compute the objective in float64, some rows of the score matrix at a time.

    Args:
        batches: The objective.
        rows_of: The rows whose gradients are wanted, (r,), of a batch of B.
        chunk: How many rows to hold at a time.
    """
    loss, all_rows, gradients = 0.0, [], []
    for batch in batches:
        rows = rows_of(len(batch.texts))
        value, found = _exact_batch(batch, rows, chunk)
        loss += value
        all_rows += [rows] * len(found)
        gradients += found
    return Exact(loss, all_rows, gradients)


def _exact_batch(batch: Batch, rows: Tensor, chunk: int) -> tuple[float, list[Tensor]]:
    texts = batch.texts.detach().double()  # (B, D)
    negatives = None if batch.negatives is None else batch.negatives.detach().double()  # (B, N, D)
    loss, of_views, of_texts, of_negatives = 0.0, [], 0.0, 0.0
    for leaf, weight in zip(batch.views, batch.weights, strict=True):
        view = leaf.detach().double()  # (B, D)
        by_row, by_column = _exact_sums(view, texts, chunk)
        if negatives is not None:
            private = SCALE * torch.einsum("bd,bnd->bn", view, negatives)  # (B, N)
            by_row = torch.logaddexp(by_row, private.logsumexp(1))
        positives = SCALE * (view * texts).sum(1)  # (B,)
        loss += weight * float((0.5 * (by_row + by_column) - positives).mean())
        own = _exact_gradient(view, texts, by_row, by_column, rows, chunk)  # (r, D)
        if negatives is not None:
            shares = 0.5 * SCALE / len(texts) * (private - by_row[:, None]).exp()[rows]  # (r, N)
            own += torch.einsum("rn,rnd->rd", shares, negatives[rows])
            of_negatives = of_negatives + weight * shares[:, :, None] * view[rows, None]
        of_views.append(weight * own)
        if batch.texts.requires_grad:
            of_texts = of_texts + weight * _exact_gradient(texts, view, by_column, by_row, rows, chunk)
    if not batch.texts.requires_grad:
        return loss, of_views
    return loss, [*of_views, of_texts, *([] if negatives is None else [of_negatives])]


def _exact_sums(view: Tensor, texts: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Return the (B,) log-sum-exps over a row's texts and over a text's rows."""
    by_row, by_column = [], torch.full_like(view[:, 0], float("-inf"))
    for part in view.split(chunk):
        scores = SCALE * part @ texts.T  # (c, B)
        by_row.append(scores.logsumexp(1))
        by_column = torch.logaddexp(by_column, scores.logsumexp(0))
    return torch.cat(by_row), by_column


def _exact_gradient(
    own: Tensor, other: Tensor, own_sums: Tensor, other_sums: Tensor, rows: Tensor, chunk: int
) -> Tensor:
    """Return the (r, D) gradient of rows of one side, private negatives aside."""
    found = []
    for part in rows.split(chunk):
        scores = SCALE * own[part] @ other.T  # (c, B)
        shares = 0.5 * ((scores - own_sums[part, None]).exp() + (scores - other_sums).exp())
        found.append(SCALE / len(own) * (shares @ other - other[part]))
    return torch.cat(found)


class Step:
    """One contender on one set of batches: forward and backward."""

    def __init__(self, name: str, batches: Batches) -> None:
        self.name, self.batches = name, batches
        self.leaves = [leaf for batch in batches for leaf in batch.leaves()]
        self.loss: Tensor | None = None
        self.gradients: tuple[Tensor, ...] | None = None
        self.compile_seconds: float | None = None
        self._total = total_of(name, batches)

    def __call__(self) -> None:
        """Compute the loss and the gradients of the leaves."""
        self.clear()
        loss = self._total(self.batches)
        self.gradients = torch.autograd.grad(loss, self.leaves)
        self.loss = loss.detach()

    def warm_up(self) -> None:
        """Do the first call; note how much longer than the next it took, if it compiled."""
        started = time.perf_counter()
        self()
        if self.name == "compiled":
            first = time.perf_counter() - started
            started = time.perf_counter()
            self()
            self.compile_seconds = first - (time.perf_counter() - started)

    def clear(self) -> None:
        """Forget the loss and the gradients."""
        self.loss = self.gradients = None


class GraphStep(Step):
    """A contender recorded as a CUDA graph; a call replays it."""

    def __init__(self, name: str, batches: Batches) -> None:
        _need_cuda(batches)
        super().__init__(name.removesuffix(GRAPH), batches)
        self.name = name
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(3):
                super().__call__()
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            super().__call__()
        self._kept = self.loss, self.gradients

    def __call__(self) -> None:
        """Replay; the answers lie where they lay before."""
        self._graph.replay()
        self.loss, self.gradients = self._kept


def make_step(name: str, batches: Batches) -> Step:
    """Return a contender by name: ``ours/BACKEND`` names a backend, ``NAME/graph`` records a CUDA graph.

    Raises:
        LeftOut: The contender cannot do this.
    """
    return (GraphStep if name.endswith(GRAPH) else Step)(name, batches)


def total_of(name: str, batches: Batches) -> Callable[[Batches], Tensor]:
    """Return the function that computes the objective the contender's way."""
    kind, _, backend = name.partition("/")
    if kind == "plain":
        return plain_total
    if kind == "compiled":
        torch._dynamo.reset()  # no other contender compiles; every size is compiled on its own
        return torch.compile(plain_total, dynamic=False)
    if kind == "ours":
        return _ours(backend or "auto", batches)
    makers = {"open_clip": _open_clip, "memeff": _memeff, "inf_cl": _inf_cl}
    if kind not in makers:
        raise LeftOut("there is no such contender")
    return partial(total, makers[kind](batches))
