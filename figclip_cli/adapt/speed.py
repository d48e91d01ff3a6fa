"""How fast a run is, and whether it waits for its frames."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from figclip_cli.adapt.batches import Batch


class Speed:
    """How fast a run is, and which share of its time the step waits for frames.

    Attributes:
        frames: Frames of all processes so far.
        seconds: Time of training so far.
        waiting_seconds: Of it, time in which no frames were there.
    """

    def __init__(self) -> None:
        self.frames, self.seconds, self.waiting_seconds = 0, 0.0, 0.0
        self._aside = 0.0

    @property
    def images_per_second(self) -> float:
        """Frames a second."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def idle_share(self) -> float:
        """Share of the time spent waiting for frames."""
        return self.waiting_seconds / self.seconds if self.seconds else 0.0

    def watch(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield batches, and note how long each was waited for and used."""
        asked = time.monotonic()
        for batch in batches:
            waited, self._aside = time.monotonic() - asked, 0.0
            yield batch
            self.frames += sum(batch.frame_counts)
            self.waiting_seconds += waited
            self.seconds += time.monotonic() - asked - self._aside
            asked = time.monotonic()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Leave out the time of something that is not training: validation, saving."""
        started = time.monotonic()
        try:
            yield
        finally:
            self._aside += time.monotonic() - started
