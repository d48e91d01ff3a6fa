"""``ablations/NAME/``: where an ablation keeps its cells, its prompts, its tables and its charts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.ablate.plan import Cell
from figclip_cli.errors import FigclipError, UsageError
from figclip_cli.files import clear, explaining_disk_errors, make_folder, read_json, sha256_of_json, write_json
from figclip_cli.run_folder import RunFolder

FORMAT, FORMAT_VERSION = "figclip-ablation", 1


@dataclass(frozen=True)
class CellFolder:
    """Paths of one cell.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def run(self) -> RunFolder:
        """The ordinary run folder."""
        return RunFolder(self.path / "run")

    @property
    def steps_file(self) -> Path:
        """Seconds of each step."""
        return self.path / "steps.jsonl"

    @property
    def cost_file(self) -> Path:
        """What the training cost, written when it is done."""
        return self.path / "cost.json"

    @property
    def record_file(self) -> Path:
        """``cell.json``: cost and quality, written last."""
        return self.path / "cell.json"

    @property
    def error_file(self) -> Path:
        """Why the last attempt failed."""
        return self.path / "error.json"

    @property
    def log_file(self) -> Path:
        """What the cell's process said."""
        return self.path / "log.txt"

    def results_file(self, features: str, task: str) -> Path:
        """Ordinary results of one task."""
        return self.path / "results" / features / f"{task}.json"

    def read(self, path: Path) -> dict[str, Any] | None:
        """Return what a JSON file holds; None where there is none, or where it is not whole."""
        try:
            document = read_json(path, "record")
        except FigclipError:
            return None
        return document if isinstance(document, dict) else None


@dataclass(frozen=True)
class AblationFolder:
    """Paths of one ablation.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def plan_file(self) -> Path:
        """What says that the folder is an ablation's."""
        return self.path / "plan.json"

    @property
    def cells(self) -> Path:
        """Folder of the cells."""
        return self.path / "cells"

    @property
    def summary_file(self) -> Path:
        """Everything, as JSON."""
        return self.path / "ablation.json"

    @property
    def csv_file(self) -> Path:
        """One row for each setting and seed."""
        return self.path / "ablation.csv"

    def table_file(self, question: str) -> Path:
        """A question's table."""
        return self.path / f"table-{question}.md"

    def chart_file(self, question: str) -> Path:
        """A question's chart."""
        return self.path / f"chart-{question}.svg"

    def prompts_file(self, sha256: str) -> Path:
        """Prompts that all cells share that are trained on them."""
        return self.path / "prompts" / f"prompts-{sha256[:12]}.jsonl"

    def cell(self, cell: Cell) -> CellFolder:
        """Return a cell's folder, by its hash: its readable part may be that of another question."""
        if not (self.cells / cell.name).exists() and self.cells.is_dir():
            found = next(iter(sorted(self.cells.glob(f"*-{cell.key}"))), None)
            if found is not None:
                return CellFolder(found)
        return CellFolder(self.cells / cell.name)

    def lock_file(self, cell: Cell) -> Path:
        """What a process holds that makes a cell; beside the cells, so that a cell can be removed under it."""
        return self.path / "locks" / f"{cell.key}.lock"

    def overwrite_file(self, cells: Sequence[Cell]) -> Path:
        """What is still to be removed by an overwrite of some cells; there until all of them are made anew."""
        return self.path / "locks" / f"overwrite-{sha256_of_json([cell.key for cell in cells])[:12]}.json"

    def other_spec(self, spec: Path) -> str | None:
        """Return the file of the specification that the folder was last made by, where that is another one."""
        known = CellFolder(self.path).read(self.plan_file) or {}
        file = known.get("spec_file")
        return file if isinstance(file, str) and file != str(spec.resolve()) else None

    def begin(self, about: dict[str, Any]) -> None:
        """Make the folder, or take it up again.

        Raises:
            UsageError: It holds something else.
        """
        self.check()
        make_folder(self.cells)
        write_json(self.plan_file, {"format": FORMAT, "format_version": FORMAT_VERSION, **about})

    def check(self) -> None:
        """Refuse a folder that holds something else.

        Raises:
            UsageError: It is no folder, or not one of an ablation.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return
        known = CellFolder(self.path).read(self.plan_file) if self.path.is_dir() else None
        if known is None or known.get("format") != FORMAT:
            raise UsageError(f"{self.path} is not an ablation of figclip, and is left alone", "pass another --output")

    def clear_cell(self, cell: Cell) -> None:
        """Remove everything that was made for a cell."""
        folder = self.cell(cell)
        with explaining_disk_errors(folder.path):
            clear(folder.path)


@contextmanager
def locked(path: Path, *, waits: bool = True) -> Iterator[bool]:
    """Hold a lock while the block runs; the kernel frees those of the dead.

    Where files cannot be locked nothing is: then two processes must not be given the same cell.

    Args:
        waits: Wait for another process that holds it.

    Yields:
        Whether it is held; always true where ``waits``.
    """
    make_folder(path.parent)
    if sys.platform == "win32":
        yield True
        return
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_held = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except BlockingIOError:
            is_held = False
        except OSError:  # a file system without locks
            pass
        yield is_held
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return whether another process holds a lock."""
    with locked(path, waits=False) as is_held:
        return not is_held
