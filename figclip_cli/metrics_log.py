"""Where a run's numbers go: ``metrics.jsonl`` always, TensorBoard when asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

from figclip_cli.errors import UsageError
from figclip_cli.files import canonical_json, explaining_disk_errors


class _Writer(Protocol):
    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...
    def close(self) -> None: ...


class MetricsLog:
    """Append metrics to a run's files.

    Args:
        path: ``metrics.jsonl``. Lines of what will be done again are cut off: later steps, later epochs' validation.
        step: Finished steps.
        epoch: Finished epochs.
        tensorboard: Folder for TensorBoard files; None writes none.

    Raises:
        UsageError: TensorBoard is asked for and not installed.
    """

    def __init__(self, path: Path, *, step: int, epoch: int, tensorboard: Path | None = None) -> None:
        self._path = path
        self._writer = _tensorboard_writer(tensorboard) if tensorboard else None
        with explaining_disk_errors(path):
            if path.is_file():
                _cut(path, step, epoch)
            self._file = path.open("a", encoding="utf-8", buffering=1)  # whole lines, for who looks on

    def write(self, metrics: dict[str, Any]) -> None:
        """Append one line; its ``step`` places it."""
        with explaining_disk_errors(self._path):
            self._file.write(canonical_json(metrics) + "\n")
        if self._writer is not None:
            measured = {f"validation/{name}": value for name, value in metrics.get("validation", {}).items()}
            for name, value in {**metrics, **measured}.items():
                if isinstance(value, float):
                    self._writer.add_scalar(name, value, metrics["step"])

    def flush(self) -> None:
        """Put what was written on the disk, so that a checkpoint never is ahead of its metrics."""
        with explaining_disk_errors(self._path):
            self._file.flush()

    def close(self) -> None:
        """Close the files."""
        with explaining_disk_errors(self._path):
            self._file.close()
        if self._writer is not None:
            self._writer.close()


def _cut(path: Path, step: int, epoch: int) -> None:
    """Keep the whole lines of the first steps; a torn last line, left by a kill, goes too."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            entry = json.loads(line)
            is_done = entry["step"] <= step and ("validation" not in entry or entry["epoch"] <= epoch)
            if line.endswith("\n") and is_done:
                kept.append(line)
        except (ValueError, KeyError, TypeError):
            continue
    path.write_text("".join(kept), encoding="utf-8")


def require_tensorboard() -> None:
    """Refuse to go on without TensorBoard.

    Raises:
        UsageError: It is not installed.
    """
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise UsageError("--tensorboard needs TensorBoard", "pip install 'figclip-cli[tensorboard]'") from error


def _tensorboard_writer(folder: Path) -> _Writer:
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    writer: _Writer = SummaryWriter(str(folder))
    return writer
