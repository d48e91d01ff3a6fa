"""Threads that each compute alone.

Many short parallel sections make every thread wait for the slowest, again and again, which is slow as soon as another
process wants a core. Here each thread does a whole piece of work by itself instead.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")
Room = TypeVar("Room")


class Workers(Generic[Room]):
    """As many threads as torch would use; torch's own are off while these are on.

    Args:
        device: The threads are for a CPU. With another device the caller's thread does the work.
        make_room: Makes what a thread keeps from one piece of work to the next.
    """

    def __init__(self, device: torch.device, make_room: Callable[[], Room]) -> None:
        self._make_room = make_room
        self._local = threading.local()
        self._threads = torch.get_num_threads() if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._threads) if self._threads > 1 else None

    def __enter__(self) -> Workers[Room]:
        if self._pool is not None:
            torch.set_num_threads(1)  # for this thread and those that start later
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            torch.set_num_threads(self._threads)

    def in_order(self, work: Callable[[Item, Room], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results in the order of the items, of which few are taken ahead."""
        if self._pool is None:
            for item in items:
                yield self._do(work, item)
            return
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(self._pool.submit(self._do, work, item))
            if len(waiting) >= 2 * self._threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _do(self, work: Callable[[Item, Room], Result], item: Item) -> Result:
        if not hasattr(self._local, "room"):
            self._local.room = self._make_room()
        with torch.inference_mode():
            return work(item, self._local.room)
