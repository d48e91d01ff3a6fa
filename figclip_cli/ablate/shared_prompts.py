"""Prompts that several cells are trained on: built once, kept in the ablation's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from figclip_cli.ablate.folder import AblationFolder, locked
from figclip_cli.ablate.plan import Cell
from figclip_cli.errors import InputError
from figclip_cli.prompts import build, read_prompts
from figclip_cli.reporting import Reporter


def shared_prompts(folder: AblationFolder, cell: Cell, annotations: Sequence[Path], reporter: Reporter) -> Path:
    """Return the prompts file of a cell, which is built where it is not there yet or is damaged.

    Two processes that want it at once build it once.

    Raises:
        FigclipError: See :func:`figclip_cli.prompts.build`.
    """
    path = folder.prompts_file(cell.prompts_sha256)
    assert cell.prompts is not None
    with locked(path.with_name(f".{path.name}.lock")):
        if not _is_sound(path, reporter):
            build(list(annotations), path, options=cell.prompts, overwrite=True, reporter=reporter)
    return path


def _is_sound(path: Path, reporter: Reporter) -> bool:
    if not path.is_file():
        return False
    try:
        read_prompts(path)
    except InputError as error:
        reporter.warn(f"built again: {error.message}")
        return False
    return True
