"""Spread clips over worker processes; results come back in order, and a worker that dies costs one clip."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from figclip_cli.frames.clip import ClipResult, Source, failed, process_clip
from figclip_cli.frames.sampling import SamplingRecipe

_IN_FLIGHT_PER_WORKER = 4


def process_clips(sources: Sequence[Source], recipe: SamplingRecipe, *, workers: int) -> Iterator[ClipResult]:
    """Yield one result per source, in order, with a bounded number of clips in memory."""
    if min(workers, len(sources)) <= 1:
        yield from (process_clip(source, recipe) for source in sources)
        return
    waiting = deque(sources)
    while waiting:
        try:
            for result in _in_parallel(list(waiting), recipe, workers):
                waiting.popleft()
                yield result
        except BrokenProcessPool:
            # Someone in flight killed a worker. The next ones go alone, so that the guilty one is known.
            for _ in range(min(len(waiting), workers * _IN_FLIGHT_PER_WORKER)):
                yield _alone(waiting.popleft(), recipe)


def _executor(workers: int) -> ProcessPoolExecutor:
    # Spawned, not forked: a fork copies the locks of threads that are not there any more.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """Leave Ctrl-C to the parent, which stops the pool in order; end when the parent is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _in_parallel(sources: Sequence[Source], recipe: SamplingRecipe, workers: int) -> Iterator[ClipResult]:
    executor = _executor(min(workers, len(sources)))
    flying: deque[Future[ClipResult]] = deque()
    try:
        for source in sources:
            flying.append(executor.submit(process_clip, source, recipe))
            if len(flying) >= workers * _IN_FLIGHT_PER_WORKER:
                yield flying.popleft().result()
        while flying:
            yield flying.popleft().result()
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _alone(source: Source, recipe: SamplingRecipe) -> ClipResult:
    with _executor(1) as executor:
        try:
            return executor.submit(process_clip, source, recipe).result()
        except BrokenProcessPool:
            return failed(source, recipe, "the decoder crashed")
