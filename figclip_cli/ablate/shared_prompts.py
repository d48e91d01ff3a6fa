"""Prompts that several cells are trained on: built once, kept in the ablation's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from figclip_cli.ablate.folder import AblationFolder, locked
from figclip_cli.ablate.plan import Cell
from figclip_cli.errors import InputError
from figclip_cli.files import clear
from figclip_cli.prompts import build, read_prompts
from figclip_cli.reporting import Reporter


def shared_prompts(folder: AblationFolder, cell: Cell, annotations: Sequence[Path], reporter: Reporter) -> Path:
    """Return the prompts file of a cell, which is built where it is not there yet.

    Two processes that want it at once build it once.

    Raises:
        FigclipError: See :func:`figclip_cli.prompts.build`.
    """
    path = folder.prompts_file(cell.prompts_sha256)
    assert cell.prompts is not None
    with locked(_lock_of(path)):
        if not path.is_file():
            build(list(annotations), path, options=cell.prompts, reporter=reporter)
    return path


def remove_damaged(folder: AblationFolder, cells: Sequence[Cell], reporter: Reporter) -> None:
    """Remove prompts files that cannot be read, so that they are built again."""
    wanted = {folder.prompts_file(cell.prompts_sha256) for cell in cells if cell.prompts is not None}
    for path in sorted(one for one in wanted if one.is_file()):
        with locked(_lock_of(path)):
            try:
                read_prompts(path)
            except InputError as error:
                reporter.warn(f"is built again: {error.message}")
                clear(path)


def _lock_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.lock")
