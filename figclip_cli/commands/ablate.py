"""``figclip ablate``: a specification -> a grid of adaptations, and one table and one chart for each question."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.tables import one_line, table
from figclip_cli.console import Terminal
from figclip_cli.errors import PartialError, UsageError

if TYPE_CHECKING:
    from figclip_cli.ablate.collect import Collected
    from figclip_cli.ablate.folder import AblationFolder
    from figclip_cli.ablate.plan import Cell, Plan

_OUTPUT, _PART, _SLURM = Path("ablations"), "Which cells", "Slurm"
_DEMO_MODEL = "demo-base"
_SHOWN = 5

Root = Annotated[
    Path, typer.Option("--root", help="Folder of the files that the specification names. Default: the current one.")
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Default: ablations/NAME/")]
Devices = Annotated[
    str | None,
    typer.Option("--devices", metavar="NAME,...", help="cpu, cuda:0, ... Default: every GPU, else the CPU."),
]
Workers = Annotated[
    int | None, typer.Option("--workers", help="Cells at a time on the CPU, which share its cores. Default: 1", min=1)
]
Seeds = Annotated[
    str | None,
    typer.Option("--seeds", metavar="N,...", help="Instead of the specification's.", rich_help_panel=_PART),
]
Only = Annotated[list[str] | None, typer.Option("--only", help="Only this question; repeat.", rich_help_panel=_PART)]
CellNumber = Annotated[
    int | None, typer.Option("--cell", help="Make only this cell, by its number in --list.", rich_help_panel=_PART)
]
ShardFlag = Annotated[
    str | None,
    typer.Option(
        "--shard", help="Make every N-th cell: I/N, I from 0; or slurm in a job array.", rich_help_panel=_PART
    ),
]
ListSpecs = Annotated[bool, typer.Option("--list-specs", help="Name the specifications that are shipped, and stop.")]
ListCells = Annotated[
    bool, typer.Option("--list", help="List the cells with their numbers, and stop.", rich_help_panel=_PART)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and stop.", rich_help_panel=_PART)]
ReportOnly = Annotated[bool, typer.Option("--report-only", help="Make nothing; tables and charts of what is finished.")]
SlurmScript = Annotated[
    bool, typer.Option("--slurm-script", help="Print a script for sbatch, and stop.", rich_help_panel=_SLURM)
]
SlurmTasks = Annotated[
    int | None,
    typer.Option(
        "--slurm-tasks", help="Tasks of its array. Default: one for each cell.", min=1, rich_help_panel=_SLURM
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make the cells anew that are finished now.")]


def ablate(
    terminal: Terminal,
    spec: Annotated[
        str | None, typer.Argument(metavar="SPEC", help="A specification (.toml), or the name of a shipped one.")
    ] = None,
    root: Root = Path(),
    output: Output = None,
    devices: Devices = None,
    workers: Workers = None,
    report_only: ReportOnly = False,
    overwrite: Overwrite = False,
    list_specs: ListSpecs = False,
    seeds: Seeds = None,
    only: Only = None,
    cell: CellNumber = None,
    shard: ShardFlag = None,
    list_cells: ListCells = False,
    dry_run: DryRun = False,
    slurm_script: SlurmScript = False,
    slurm_tasks: SlurmTasks = None,
) -> None:
    """Train and score a grid of settings, resumable and in parallel; one table and one chart for each question."""
    from figclip_cli.ablate.shipped import spec_file, spec_names

    if list_specs:
        terminal.result({"specs": spec_names()}, text="\n".join(spec_names()))
        return
    if spec is None:
        raise UsageError("no specification is named", "figclip ablate --list-specs names those that are shipped")
    from figclip_cli.ablate.collect import collect
    from figclip_cli.ablate.folder import AblationFolder
    from figclip_cli.ablate.plan import make_plan
    from figclip_cli.ablate.run import begin, make_cells
    from figclip_cli.ablate.spec import read_spec
    from figclip_cli.demo.base_model import base_model_folder
    from figclip_cli.frames.shards import parse_shard

    read = read_spec(spec_file(spec))
    plan = make_plan(read, root, models={_DEMO_MODEL: base_model_folder()}, seeds=_seeds(seeds))
    named = tuple(only or ())
    cells = plan.chosen(named, cell, None if shard is None else parse_shard(shard))
    folder = AblationFolder(terminal.default(output, _OUTPUT / read.name, "output"))
    if slurm_script:
        if cell is not None or shard is not None:
            raise UsageError("--slurm-script goes neither with --cell nor with --shard", "its tasks share all cells")
        tasks = min(slurm_tasks or len(cells), len(cells))
        told = _arguments(root, folder.path, seeds, named, devices)
        told_once = (["--workers", str(workers)] if workers else []) + (["--overwrite"] if overwrite else [])
        _print_script(terminal, spec, read.name, told, told_once, tasks, devices)
        return
    if list_cells or dry_run:
        folder.check()
        _list(terminal, plan, folder, cells, dry_run=dry_run)
        return
    if report_only:
        if overwrite:
            raise UsageError("--report-only makes nothing: --overwrite says nothing there", "leave one out")
        folder.check()
        if not folder.plan_file.is_file():
            begin(plan, folder)  # what holds tables alone would be taken for something else later
        other = folder.other_spec(read.path)
        if other is not None:
            terminal.warn(f"{folder.path} was made by {other}: tables and charts become those of {read.path}")
        _report(terminal, plan, folder, collect(plan, folder), named)
        return
    made = make_cells(
        plan,
        folder,
        cells,
        devices=[one.strip() for one in (devices or "").split(",") if one.strip()],
        workers=workers,
        overwrite=overwrite,
        reporter=terminal,
    )
    if cell is not None or shard is not None:
        _say_part(terminal, folder, made.kept, made.made, made.failures)
        return
    _report(terminal, plan, folder, collect(plan, folder), named)


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isascii() and part.isdecimal() and len(part) < 19 for part in parts):
        raise UsageError(f"--seeds '{text}' is no list of whole numbers", "for example --seeds 0,1,2")
    return list(dict.fromkeys(map(int, parts)))


def _arguments(root: Path, output: Path, seeds: str | None, only: tuple[str, ...], devices: str | None) -> list[str]:
    """Return what a task of a job array is told beside its shard; paths hold from any folder."""
    told = ["--root", str(root.absolute()), "--output", str(output.absolute())]
    told += ["--seeds", seeds] if seeds else []
    told += ["--devices", devices] if devices else []
    return told + [word for name in only for word in ("--only", name)]


def _print_script(
    terminal: Terminal,
    spec: str,
    name: str,
    arguments: list[str],
    making: list[str],
    tasks: int,
    devices: str | None,
) -> None:
    from figclip_cli.ablate.slurm import slurm_script

    named = str(Path(spec).resolve()) if Path(spec).suffix == ".toml" else spec
    script = slurm_script(name, tasks, [named, *arguments], making, uses_gpu=devices != "cpu")
    terminal.result({"script": script, "tasks": tasks}, text=script.rstrip("\n"))


def _list(terminal: Terminal, plan: Plan, folder: AblationFolder, cells: tuple[Cell, ...], *, dry_run: bool) -> None:
    from figclip_cli.ablate.cell import is_finished

    evaluation = plan.inputs.evaluation_sha256
    shown = table(f"{plan.inputs.spec.name}: cells", "cell", "name", "state", "scored by", numbers_from=9)
    listed = []
    for cell in cells:
        place = folder.cell(cell)
        finished = is_finished(place, cell, evaluation)
        begun = place.run.config_file.is_file()
        state = "finished" if finished else "failed" if place.error_file.is_file() else "begun" if begun else "to make"
        shown.add_row(str(cell.number), place.path.name, state, ", ".join(cell.features))
        listed.append({"cell": cell.number, "name": place.path.name, "state": state, "features": cell.features})
    document: dict[str, Any] = {"output": str(folder.path), "cells": listed}
    if dry_run:
        wanted = sorted({cell.prompts_sha256 for cell in cells if cell.prompts is not None})
        files = [folder.prompts_file(one) for one in wanted]
        missing = [str(path) for path in files if not path.is_file()]
        document |= {"dry_run": True, "prompts_to_build": missing}
        todo = sum(one["state"] != "finished" for one in listed)
        terminal.info(f"would make {todo} of {len(listed)} cells, and build {len(missing)} prompts files")
    terminal.result(document, shown)


def _say_part(terminal: Terminal, folder: AblationFolder, kept: int, made: int, failures: dict[str, str]) -> None:
    document = {"output": str(folder.path), "kept": kept, "made": made, "failed": failures}
    said = f"{made} cells made, {kept} kept; when all are done: --report-only"
    terminal.result(document, text=said, then=_failed(failures) if failures else None)


def _failed(failures: dict[str, str]) -> PartialError:
    first, why = next(iter(failures.items()))
    return PartialError(
        f"{len(failures)} cells failed, the first is {first}: {why}",
        "the others are finished; the same command makes those that are missing",
    )


def _report(
    terminal: Terminal, plan: Plan, folder: AblationFolder, collected: Collected, only: tuple[str, ...]
) -> None:
    """Write what there is, print what was asked for; exit code 4 where something of that is missing."""
    from figclip_cli.ablate.report import write_report
    from figclip_cli.ablate.views import view_of

    document = write_report(plan, folder, collected)
    tables: list[Any] = []
    for answer in collected.answers:
        if not only or answer.question.name in only:
            view = view_of(answer)
            made = table(one_line(view.title), *view.columns)
            for row in view.rows:
                made.add_row(*row)
            tables += [made, one_line(view.notes[0]), ""]
    terminal.result(document, *tables, text=str(folder.path), then=_missing(plan, folder, collected, only))


def _missing(plan: Plan, folder: AblationFolder, collected: Collected, only: tuple[str, ...]) -> PartialError | None:
    asked = {cell.number for cell in plan.asked_by(only)}
    problems = [
        answer.problem for answer in collected.answers if answer.problem and (not only or answer.question.name in only)
    ]
    missing = [cell for cell in collected.missing if cell.number in asked]
    if not missing and problems:
        return PartialError(f"no table for {len(problems)} questions: {problems[0]}", "other questions have theirs")
    if not missing:
        incomplete = list(collected.incomplete(asked).values())
        if incomplete:
            where = f"results/ of each cell in {folder.cells} name what is missing"
            return PartialError(f"not everything was evaluated: {'; '.join(incomplete)}", where)
        return None
    names = {cell.sha256: folder.cell(cell).path.name for cell in missing}
    failures = {names[key]: why for key, why in collected.failed.items() if key in names}
    if failures:
        return _failed(failures)
    shown = ", ".join(list(names.values())[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return PartialError(
        f"{len(missing)} cells are not finished: {shown}{more}", "the same command without --report-only makes them"
    )
