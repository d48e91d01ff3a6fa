"""Features of a batch's texts: looked up where the text tower is frozen, encoded in every step where it is trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.adapt.batches import Batch
from figclip_cli.adapt.encoding import PartwiseFeatures
from figclip_cli.adapt.layout import Layout
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.processes import Processes
from figclip_cli.adapt.sources import Source
from figclip_cli.adapt.texts import ClipRef, ClipTexts, annotations_by_clip, texts_of
from figclip_cli.models.clip import Clip, autocast
from figclip_cli.models.text_encoding import quick_tokenizer
from figclip_cli.models.text_features import TextFeatures, encode_distinct, overlong_texts
from figclip_cli.reporting import Reporter


class TextSide(Protocol):
    """Where the features of texts come from."""

    def known(self, layout: Layout) -> Tensor | None:
        """Return (U, D) unit-length features of the layout's texts on the device, where they are known beforehand."""
        ...

    def features(self, batch: Batch, *, parts: int, seed: Callable[[int], int] | None) -> Tensor:
        """Return (U, D) unit-length features of the batch's texts, on the device."""
        ...

    def backward(self) -> None:
        """Send gradients into the tower's weights; call it after the loss's own ``backward``."""
        ...


class FrozenTexts:
    """Features that were computed before training."""

    def __init__(self, table: TextFeatures, device: torch.device) -> None:
        self._table, self._device = table, device

    def known(self, layout: Layout) -> Tensor:
        """Look the features up, (U, D)."""
        features = self._table.gather(layout.text_rows)
        on_gpu = self._device.type == "cuda"
        return (features.pin_memory() if on_gpu else features).to(self._device, non_blocking=True)

    def features(self, batch: Batch, *, parts: int, seed: Callable[[int], int] | None) -> Tensor:
        """Return what the batch brought along."""
        return self.known(batch.layout) if batch.texts is None else batch.texts

    def backward(self) -> None:
        """Nothing is trained."""


class TrainedTexts:
    """Features by a text tower that is being trained.

    Args:
        encode: Turns (n, context) int64 tokens into (n, D) raw features.
        tokens: (n, context) int32 tokens of all distinct texts.
        processes: Share the work.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], tokens: Tensor, processes: Processes) -> None:
        self._encode, self._tokens, self._processes = encode, tokens, processes
        self._encoded: PartwiseFeatures | None = None

    def known(self, layout: Layout) -> None:
        """Return nothing: the features change with every step."""

    def features(self, batch: Batch, *, parts: int, seed: Callable[[int], int] | None) -> Tensor:
        """Encode the texts, each process its share, (U, D)."""
        shares = batch.layout.text_rows.tensor_split(self._processes.count)
        own = self._tokens[shares[self._processes.rank]].long().to(self._processes.device)
        self._encoded = PartwiseFeatures(self._encode, own, parts=parts, seed=seed)
        gathered = self._processes.gather(self._encoded.features, [len(share) for share in shares])
        return F.normalize(gathered, dim=-1)

    def backward(self) -> None:
        """Send the features' gradients into the tower."""
        assert self._encoded is not None, "features come first"
        self._encoded.backward()
        self._encoded = None


def tokens_of(texts: Sequence[str], tokenizer: Callable[[Sequence[str]], Tensor], block: int = 4096) -> Tensor:
    """Return (n, context) int32 tokens."""
    return torch.cat([tokenizer(list(texts[i : i + block])).int() for i in range(0, len(texts), block)])


@dataclass(frozen=True)
class RunTexts:
    """The texts of a run.

    Attributes:
        side: Where their features come from.
        annotations: Annotations of each clip, in terms of the rows that ``side`` knows.
        overlong: Texts whose end the text tower does not see.
    """

    side: TextSide
    annotations: dict[ClipRef, list[ClipTexts]]
    overlong: int


def texts_of_run(
    clip: Clip,
    sources: Sequence[Source],
    kinds: Sequence[str],
    options: AdaptOptions,
    processes: Processes,
    *,
    beside: Path,
    reporter: Reporter,
) -> RunTexts:
    """Encode every distinct text once, or make its tokens where the text tower is trained.

    Args:
        kinds: Kinds of negatives that are used.
        beside: Features are kept beside this file, and found there by later runs.
    """
    wanted = texts_of(sources, kinds)
    if options.towers == "image":
        table = encode_distinct(clip, wanted, cache_beside=beside, reporter=reporter)
        annotations = annotations_by_clip(sources, kinds, table.rows)
        return RunTexts(FrozenTexts(table, processes.device), annotations, len(table.overlong))
    distinct = sorted(set(wanted))
    row_of = {text: row for row, text in enumerate(distinct)}
    annotations = annotations_by_clip(sources, kinds, lambda texts: torch.tensor([row_of[text] for text in texts]))

    def encode(tokens: Tensor) -> Tensor:
        if not len(tokens):
            return torch.zeros(0, clip.width, device=clip.device)
        with autocast(clip.device, options.precision):
            features: Tensor = clip.model.encode_text(tokens)  # type: ignore[operator]
        return features

    side = TrainedTexts(encode, tokens_of(distinct, quick_tokenizer(clip.tokenizer)), processes)
    return RunTexts(side, annotations, len(overlong_texts(clip, distinct)))
