"""From pixels to packed features: frames are read ahead by threads and encoded in batches of one size.

As with texts, every batch is filled to the same number of frames, so that a look's feature does not depend on what
is encoded beside it.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.evaluate.visuals.packing import pack
from figclip_cli.evaluate.visuals.source import LookSource, Pixels
from figclip_cli.models.clip import Clip, autocast
from figclip_cli.models.pooling import Pooling

FRAMES_ON_GPU, FRAMES_ON_CPU = 256, 32
_MOST_READERS = 8


def encode_looks(
    clip: Clip, source: LookSource, looks: Sequence[Any], *, precision: str, pooling: Pooling | None
) -> Iterator[tuple[int, Tensor | InputError]]:
    """Yield the number of each look with its packed feature on the CPU, or with why it cannot be read."""
    stream = _read_ahead(source, looks)
    size = FRAMES_ON_CPU if clip.device.type == "cpu" else FRAMES_ON_GPU
    waiting: deque[tuple[int, int]] = deque()  # looks whose frames are not all encoded, with how many they have
    pixels: list[Pixels] = []
    encoded: list[Tensor] = []
    for number, found in stream:
        if isinstance(found, InputError):
            yield number, found
            continue
        waiting.append((number, len(found)))
        pixels.append(found)
        while sum(map(len, pixels)) >= size:
            joined = np.concatenate(pixels)
            encoded.append(_encode(clip, joined[:size], size, precision))
            pixels = [joined[size:]]
            yield from _finished(waiting, encoded, pooling)
    if sum(map(len, pixels)):
        encoded.append(_encode(clip, np.concatenate(pixels), size, precision))
    yield from _finished(waiting, encoded, pooling)


@torch.no_grad()
def _encode(clip: Clip, pixels: Pixels, size: int, precision: str) -> Tensor:
    filled = np.concatenate([pixels, np.repeat(pixels[-1:], size - len(pixels), axis=0)])
    with autocast(clip.device, precision):
        return clip.encode_frames(torch.from_numpy(filled)).float().cpu()[: len(pixels)]


def _finished(
    waiting: deque[tuple[int, int]], encoded: list[Tensor], pooling: Pooling | None
) -> Iterator[tuple[int, Tensor]]:
    """Yield the looks at the head of the queue whose frames are all encoded, and drop these frames."""
    if not encoded:
        return
    features = torch.cat(encoded)
    begin = 0
    while waiting and begin + waiting[0][1] <= len(features):
        number, count = waiting.popleft()
        yield number, pack(features[begin : begin + count], pooling)
        begin += count
    encoded[:] = [features[begin:]]


def _read_ahead(source: LookSource, looks: Sequence[Any]) -> Iterator[tuple[int, Pixels | InputError]]:
    """Yield the pixels of each look in order; a few are read ahead."""
    readers = min(_MOST_READERS, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(readers, thread_name_prefix="figclip-read")
    try:
        remaining = iter(enumerate(looks))
        pending: deque[tuple[int, Future[Pixels]]] = deque(
            (number, pool.submit(source.read, look)) for number, look in islice(remaining, 2 * readers)
        )
        while pending:
            number, future = pending.popleft()
            try:
                yield number, future.result()
            except InputError as error:
                yield number, error
            pending.extend((later, pool.submit(source.read, look)) for later, look in islice(remaining, 1))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
