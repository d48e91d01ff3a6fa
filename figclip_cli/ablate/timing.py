"""How long each step of a training takes, noted as it happens, so that a training that is killed keeps its times."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from figclip_cli.reporting import Progress, Reporter

TRAINING = "adapt"  # label of the count of steps that ``adapt`` reports


@dataclass(frozen=True)
class StepTimes:
    """Times of one training, over all calls that it took.

    Attributes:
        median_seconds: Of a step; None where none was seen.
        total_seconds: Of all steps, each counted once, with the validations and checkpoints between them.
        earlier_seconds: Of it, the steps of earlier calls.
        peaks: Largest of each kind of memory that was noted after a step; empty where no step was seen.
    """

    median_seconds: float | None
    total_seconds: float
    earlier_seconds: float
    peaks: Mapping[str, int] = field(default_factory=dict)


class StepTimer:
    """A reporter that passes everything on, and appends seconds and memory of each training step to a file.

    A line names a step by how many were left after it: what is done again after a kill takes the place of what was
    lost.

    Args:
        path: The file.
        peaks: Tells the most memory of this process so far, by kind.

    Attributes:
        first_left: Steps that were left after this call's first; None before it.
    """

    def __init__(self, reporter: Reporter, path: Path, peaks: Callable[[], Mapping[str, int]] = dict) -> None:
        self._reporter, self._path, self._peaks = reporter, path, peaks
        self.first_left: int | None = None

    def info(self, message: str) -> None:
        """Pass it on."""
        self._reporter.info(message)

    def detail(self, message: str) -> None:
        """Pass it on."""
        self._reporter.detail(message)

    def warn(self, message: str) -> None:
        """Pass it on."""
        self._reporter.warn(message)

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Progress]:
        """Pass it on, and time the steps of the training."""
        with self._reporter.track(label, total, unit) as progress:
            if label != TRAINING:
                yield progress
                return
            self.first_left = total - 1
            with self._path.open("a", encoding="utf-8", buffering=1) as file:
                yield _TimedSteps(progress, file, total, self._peaks)


class _TimedSteps:
    def __init__(self, progress: Progress, file: IO[str], total: int, peaks: Callable[[], Mapping[str, int]]) -> None:
        self._progress, self._file, self._left, self._peaks = progress, file, total, peaks
        self._at = time.monotonic()

    def advance(self, count: int = 1, *, failed: int = 0, detail: str = "") -> None:
        now = time.monotonic()
        self._left -= count
        line = {"left": self._left, "seconds": (now - self._at) / max(1, count), "peaks": dict(self._peaks())}
        self._file.write(json.dumps(line) + "\n")
        self._at = now
        self._progress.advance(count, failed=failed, detail=detail)


def step_times(path: Path, first_left: int | None) -> StepTimes:
    """Return the times of a training.

    Args:
        path: What :class:`StepTimer` wrote; torn lines are passed over.
        first_left: Steps that were left after the last call's first; None where it had none.
    """
    seconds: dict[int, float] = {}
    peaks: dict[str, int] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else ():
        try:
            entry = json.loads(line)
            seconds[int(entry["left"])] = float(entry["seconds"])
            for name, number in entry.get("peaks", {}).items():
                peaks[name] = max(int(number), peaks.get(name, 0))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    if not seconds:
        return StepTimes(None, 0.0, 0.0)
    earlier = sum(value for left, value in seconds.items() if first_left is None or left > first_left)
    return StepTimes(statistics.median(seconds.values()), sum(seconds.values()), earlier, peaks)
