"""Texts into unit-length features, in batches of one size whatever their number.

A matrix product may round otherwise when it has another number of rows, so every batch is filled up to the same
size: a text's feature then depends on the text alone, not on what was encoded beside it. This holds for one kind
of device, one number of threads and one release of torch; across those the last bits may differ.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.errors import VerificationError
from figclip_cli.models.clip import Clip
from figclip_cli.models.feature_shards import rows_not_unit
from figclip_cli.models.feature_store import PIECE_ROWS
from figclip_cli.reporting import Reporter

BATCH = 256
BATCH_ON_CPU = 32  # as fast as 256 there, and a handful of texts need not wait for 256
_PIECE_SECONDS = 300.0


def encode_in_pieces(clip: Clip, texts: Sequence[str], reporter: Reporter) -> Iterator[Tensor]:
    """Yield features of unit length, (n, D) float32 on the CPU, in the order of the texts.

    A piece has at most 50,000 rows and about five minutes of work, so that a caller who keeps each piece loses
    little when interrupted.

    Raises:
        VerificationError: The model gives a feature without a direction: not finite, or zero.
    """
    size = BATCH_ON_CPU if clip.device.type == "cpu" else BATCH
    clip = replace(clip, tokenizer=quick_tokenizer(clip.tokenizer))
    parts: list[Tensor] = []
    with reporter.track("encode texts", len(texts), "texts") as progress:
        begun = time.monotonic()
        for start in range(0, len(texts), size):
            batch = list(texts[start : start + size])
            filled = batch + batch[-1:] * (size - len(batch))
            # Left on the device: a GPU works on this batch while the next one is tokenized.
            parts.append(F.normalize(clip.encode_texts(filled), dim=-1)[: len(batch)])
            progress.advance(len(batch))
            if (len(parts) + 1) * size > PIECE_ROWS or time.monotonic() - begun > _PIECE_SECONDS:
                yield _joined(clip, parts)
                parts, begun = [], time.monotonic()
    if parts:
        yield _joined(clip, parts)


def _joined(clip: Clip, parts: Sequence[Tensor]) -> Tensor:
    features = torch.cat(list(parts)).cpu()
    wrong = rows_not_unit(features)
    if wrong:
        raise VerificationError(
            f"{clip.name} gives {wrong} of {len(features)} text features that are not finite or are zero",
            "its weights are damaged",
        )
    return features


def quick_tokenizer(tokenizer: Callable[[Sequence[str]], Tensor]) -> Callable[[Sequence[str]], Tensor]:
    """Return a tokenizer with the same output as open_clip's ``SimpleTokenizer``; any other is returned as it is.

    Most of that tokenizer's time goes into mending Unicode, which changes nothing in plain ASCII; and none of its
    tokens reaches across white space. So a plain text is taken word by word, and each word is tokenized once.
    """
    from open_clip.tokenizer import SimpleTokenizer

    simple: Any = tokenizer
    if type(tokenizer) is not SimpleTokenizer or simple.reduction_fn is not None or not simple.context_length:
        return tokenizer
    context = int(simple.context_length)
    encode, begin, end = simple.encode, int(simple.sot_token_id), int(simple.eot_token_id)
    encode_word = lru_cache(maxsize=1 << 17)(encode)

    def tokenize(texts: Sequence[str]) -> Tensor:
        tokens = torch.zeros(len(texts), context, dtype=torch.int64)
        for row, text in enumerate(texts):
            plain = text.isascii() and text.isprintable() and "&" not in text  # "&" may begin an HTML entity
            ids = list(chain.from_iterable(map(encode_word, text.split()))) if plain else encode(text)
            seen = [begin, *ids[: context - 2], end]
            tokens[row, : len(seen)] = torch.tensor(seen)
        return tokens

    return tokenize
