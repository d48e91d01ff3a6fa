"""Ctrl-C and SIGTERM (a cluster that takes its machine back) end a run after the step at hand, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, the first signal is remembered and a second Ctrl-C raises ``KeyboardInterrupt`` at once.

    A second SIGTERM says nothing new: a cluster sends it to every process of a job, and a parent passes its own on.

    Args:
        on_first: Called when the first signal comes, to say so.

    Attributes:
        requested: Whether a signal came.
    """

    def __init__(self, on_first: Callable[[], None]) -> None:
        self.requested = False
        self._on_first = on_first
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python refuses handlers
            # What is ignored stays so: a shell starts background jobs deaf to the Ctrl-C of others.
            heard = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heard}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested = True
            self._on_first()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
