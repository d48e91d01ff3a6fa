"""What the benchmarks share."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median wall-clock time of ``run`` after one warm-up call."""
    run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def machine() -> str:
    """Return what a figure of torch was measured on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads"
