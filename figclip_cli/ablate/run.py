"""The whole of an ablation: check, make what is missing, and say what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from figclip_cli.ablate.cell import Job, is_finished
from figclip_cli.ablate.checks import check_inputs
from figclip_cli.ablate.folder import AblationFolder, CellFolder, is_locked, locked
from figclip_cli.ablate.plan import Cell, Plan
from figclip_cli.ablate.pool import Ended, Place, make_all, places_of
from figclip_cli.ablate.scoring import Scoring
from figclip_cli.ablate.shared_prompts import remove_damaged
from figclip_cli.ablate.text_cache import text_jobs
from figclip_cli.ablate.worker import work, work_on_texts
from figclip_cli.adapt.sources import ClipLists
from figclip_cli.files import write_json
from figclip_cli.models.source import ModelSource
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


def begin(plan: Plan, folder: AblationFolder) -> None:
    """Make the folder of a plan, or take it up again.

    Raises:
        UsageError: It holds something else.
    """
    spec = plan.inputs.spec
    folder.begin(
        {
            "spec": spec.name,
            "spec_file": str(spec.path.resolve()),
            "spec_sha256": spec.sha256,
            "cells": [cell.name for cell in plan.cells],
        }
    )


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
        overwrite: Make those anew that are finished.
        work: What a process does with its job.

    Raises:
        FigclipError: An input is missing or broken, or the folder holds something else; nothing is made then.
        KeyboardInterrupt: A signal asked to stop; the same call goes on from there.
    """
    folder = AblationFolder(folder.path.absolute())  # processes may have another current folder
    folder.check()
    check_inputs(plan, cells)
    spec = plan.inputs.spec
    _warn(plan, folder, reporter)
    begin(plan, folder)
    evaluation = plan.inputs.evaluation_sha256
    if overwrite:
        begin_overwrite(folder, cells, evaluation, reporter)
    todo = [cell for cell in cells if not is_finished(folder.cell(cell), cell, evaluation)]
    kept = len(cells) - len(todo)
    reporter.info(f"{spec.name}: {len(cells)} cells, {kept} finished before, {len(todo)} to make")
    made, failures = _made(plan, folder, todo, places_of(devices, workers) if todo else [], work, reporter)
    if made == len(todo):
        folder.overwrite_file(cells).unlink(missing_ok=True)
    return Made(kept, made, failures)


def _warn(plan: Plan, folder: AblationFolder, reporter: Reporter) -> None:
    other = folder.other_spec(plan.inputs.spec.path)
    if other is not None:
        reporter.warn(f"{folder.path} was made by {other}: tables and charts become those of {plan.inputs.spec.path}")
    for line in plan.twins():
        reporter.warn(line)


def _made(
    plan: Plan,
    folder: AblationFolder,
    todo: Sequence[Cell],
    places: Sequence[Place],
    work: Callable[[Job], None],
    reporter: Reporter,
) -> tuple[int, dict[str, str]]:
    """Make cells; return how many are, and one line for each that failed, by its folder's name."""
    evaluation, failures, made = plan.inputs.evaluation_sha256, dict[str, str](), 0
    if not todo:
        return made, failures
    where = ", ".join(dict.fromkeys(place.device for place in places))
    reporter.info(f"{min(len(places), len(todo))} at a time on {where}; each says more in its log.txt")
    jobs = _jobs(plan, folder, todo)

    def on_stop() -> None:
        reporter.info("stopping after the steps at hand, with checkpoints; Ctrl-C once more stops at once")

    remove_damaged(folder, todo, reporter)
    texts = text_jobs([job for job in jobs if not folder.cell(job.cell).run.is_done])
    make_all(texts, places, work=work_on_texts, on_end=lambda _: None, on_stop=on_stop)
    with reporter.track("ablate", len(todo), "cells") as progress:

        def on_end(ended: Ended) -> None:
            nonlocal made
            cell, place = ended.job.cell, folder.cell(ended.job.cell)
            failure = ended.failure
            if ended.exit_code == 0 and not is_finished(place, cell, evaluation):
                failure = f"it left no whole cell.json, see {place.log_file}"
            if failure is not None:
                failures[place.path.name] = failure
                reporter.warn(f"{place.path.name} failed: {failure}")
                if not place.error_file.is_file():  # killed, it could not write one
                    write_json(place.error_file, {"message": failure, "hint": "", "exit_code": ended.exit_code})
            made += failure is None and ended.exit_code == 0
            if ended.exit_code == 0 or failure is not None:
                progress.advance(failed=int(failure is not None), detail=place.path.name)

        make_all(
            jobs,
            places,
            work=work,
            on_end=on_end,
            on_stop=on_stop,
            is_busy=lambda job: is_locked(folder.lock_file(job.cell)),
        )
    return made, failures


def begin_overwrite(folder: AblationFolder, cells: Sequence[Cell], evaluation_sha256: str, reporter: Reporter) -> None:
    """Remove the cells that are finished, once: an overwrite that was stopped goes on and removes none that it made.

    A cell that another process is at is left to that one.
    """
    marker = folder.overwrite_file(cells)
    known = CellFolder(marker.parent).read(marker)
    if known is None:
        pending = [cell.key for cell in cells if is_finished(folder.cell(cell), cell, evaluation_sha256)]
        write_json(marker, {"pending": pending})
    else:
        reporter.info("going on with the overwrite that was begun before")
        pending = known.get("pending") or []
    for cell in cells:
        if cell.key not in pending:
            continue
        with locked(folder.lock_file(cell), waits=False) as is_held:
            if is_held:
                folder.clear_cell(cell)
            else:
                reporter.warn(f"{cell.name} is left as it is: another process is at it")
    write_json(marker, {"pending": []})


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
