"""The whole of an ablation: check, make what is missing, and say what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from figclip_cli.ablate.cell import Job, is_finished
from figclip_cli.ablate.folder import AblationFolder
from figclip_cli.ablate.plan import Cell, Plan
from figclip_cli.ablate.pool import Ended, make_all, places_of
from figclip_cli.ablate.scoring import Scoring
from figclip_cli.ablate.tasks import read_task
from figclip_cli.ablate.worker import work
from figclip_cli.adapt.sources import ClipLists
from figclip_cli.models.source import ModelSource, resolve
from figclip_cli.reporting import SILENT, Reporter


@dataclass(frozen=True)
class Made:
    """What a call did.

    Attributes:
        kept: Cells that were finished before.
        made: Cells that this call finished.
        failures: One line for each cell that failed, by its folder's name.
    """

    kept: int
    made: int
    failures: dict[str, str]


def make_cells(
    plan: Plan,
    folder: AblationFolder,
    cells: Sequence[Cell],
    *,
    devices: Sequence[str] = (),
    workers: int | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
    work: Callable[[Job], None] = work,
) -> Made:
    """Make the cells that are not finished, side by side where there are devices.

    Args:
        cells: Of the plan, those of this call.
        devices: ``cpu`` and names of GPUs; none takes every GPU, or the CPU where there is none.
        workers: Cells at a time on the CPU.
        overwrite: Make them all anew.
        work: What a process does with its job.

    Raises:
        FigclipError: An input is missing or broken, or the folder holds something else; nothing is made then.
        KeyboardInterrupt: A signal asked to stop; the same call goes on from there.
    """
    folder = AblationFolder(folder.path.absolute())  # processes may have another current folder
    folder.check()
    check_inputs(plan)
    spec = plan.inputs.spec
    folder.begin({"spec": spec.name, "spec_sha256": spec.sha256, "cells": [cell.name for cell in plan.cells]})
    if overwrite:
        for cell in cells:
            folder.clear_cell(cell)
    for line in plan.twins():
        reporter.warn(line)
    evaluation = plan.inputs.evaluation_sha256
    todo = [cell for cell in cells if not is_finished(folder.cell(cell), cell, evaluation)]
    kept = len(cells) - len(todo)
    reporter.info(f"{spec.name}: {len(cells)} cells, {kept} finished before, {len(todo)} to make")
    failures: dict[str, str] = {}
    if todo:
        places = places_of(devices, workers)
        where = ", ".join(dict.fromkeys(place.device for place in places))
        reporter.info(f"{min(len(places), len(todo))} at a time on {where}; each says more in its log.txt")
        with reporter.track("ablate", len(todo), "cells") as progress:

            def on_end(ended: Ended) -> None:
                name = folder.cell(ended.job.cell).path.name
                if ended.failure is not None:
                    failures[name] = ended.failure
                    reporter.warn(f"{name} failed: {ended.failure}")
                if ended.exit_code == 0 or ended.failure is not None:
                    progress.advance(failed=int(ended.failure is not None), detail=name)

            def on_stop() -> None:
                reporter.info("stopping after the steps at hand, with checkpoints; once more stops at once")

            make_all(_jobs(plan, folder, todo), places, work=work, on_end=on_end, on_stop=on_stop)
    return Made(kept, len(todo) - len(failures), failures)


def check_inputs(plan: Plan) -> None:
    """Read what scoring reads and look for what training reads, before hours are spent.

    Raises:
        InputError: Something is missing or broken.
    """
    inputs = plan.inputs
    for task in inputs.spec.tasks:
        read_task(task, inputs.root)
    if Path(inputs.source.model).is_dir():
        resolve(inputs.source)


def _jobs(plan: Plan, folder: AblationFolder, cells: Sequence[Cell]) -> list[Job]:
    inputs, spec = plan.inputs, plan.inputs.spec
    data = spec.data
    lists = ClipLists(
        inputs.below(data.clips),
        inputs.below(data.exclude),
        None if data.validation is None else inputs.root / data.validation,
    )
    return [
        Job(
            folder=folder,
            cell=cell,
            frames=inputs.frames,
            prompts=None if data.prompts is None else inputs.root / data.prompts,
            annotations=inputs.below(data.annotations),
            lists=lists,
            source=_lasting(inputs.source),
            scoring=Scoring(inputs.root, spec.protocol, spec.tasks, folder.path),
            execution=spec.execution,
            evaluation_sha256=inputs.evaluation_sha256,
        )
        for cell in cells
    ]


def _lasting(source: ModelSource) -> ModelSource:
    """Return a source that stays what it is from any folder."""
    if Path(source.model).exists():
        return ModelSource(str(Path(source.model).resolve()), source.pretrained, source.activation)
    return source
