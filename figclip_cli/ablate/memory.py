"""The most memory that a training took: of a GPU as PyTorch gave it out, of a CPU as the process grew."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class MemoryWatch:
    """Watches this process from here on.

    Args:
        device: Where the training is computed.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        with suppress(OSError):  # Linux alone: a forked process begins with the peak of the one that it was forked from
            _REFERENCES.write_text("5", encoding="ascii")
        self._start_bytes = _status_bytes("VmRSS") or 0

    @property
    def process_peak_bytes(self) -> int:
        """Most memory of the whole process, programs and libraries included."""
        unit = 1 if sys.platform == "darwin" else 1024
        return _status_bytes("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    @property
    def peak_bytes(self) -> int:
        """Most memory of the training: of the GPU all that was given out, of a CPU what came on top of the start."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return max(0, self.process_peak_bytes - self._start_bytes)

    def peaks(self) -> dict[str, int]:
        """Return both."""
        return {"peak_memory_bytes": self.peak_bytes, "process_peak_bytes": self.process_peak_bytes}


def _status_bytes(name: str) -> int | None:
    """Return a number of this process in bytes; None where the system does not say it."""
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
