"""How library code tells a person what it is doing, without knowing what a terminal is.

Every long-running library function takes a :class:`Reporter`. The command line passes one that draws
progress bars; a script that passes none gets :data:`SILENT`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Progress(Protocol):
    """One running count."""

    def advance(self, count: int = 1, *, failed: int = 0, detail: str = "") -> None:
        """Add ``count`` finished items, ``failed`` of them failures; ``detail`` is a short live remark."""
        ...


class Reporter(Protocol):
    """Where remarks and progress go."""

    def info(self, message: str) -> None:
        """Say something a user wants to know in an ordinary run."""
        ...

    def detail(self, message: str) -> None:
        """Say something only a user who asked for ``--verbose`` wants to know."""
        ...

    def warn(self, message: str) -> None:
        """Say something that may change how the result should be read."""
        ...

    def track(self, label: str, total: int, unit: str) -> AbstractContextManager[Progress]:
        """Open a running count of ``total`` items named by ``unit`` (plural)."""
        ...


class _SilentProgress:
    def advance(self, count: int = 1, *, failed: int = 0, detail: str = "") -> None:
        pass


class SilentReporter:
    """A reporter that says nothing."""

    def info(self, message: str) -> None:
        """Say nothing."""

    def detail(self, message: str) -> None:
        """Say nothing."""

    def warn(self, message: str) -> None:
        """Say nothing."""

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Progress]:
        """Count nothing."""
        yield _SilentProgress()


SILENT: Reporter = SilentReporter()
