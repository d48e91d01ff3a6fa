"""One cell, in a process of its own: train, note what it cost, score, and write ``cell.json`` last."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from figclip_cli.ablate.folder import AblationFolder, CellFolder, locked
from figclip_cli.ablate.memory import MemoryWatch
from figclip_cli.ablate.plan import CELL_VERSION, Cell
from figclip_cli.ablate.record import RECORD_FORMAT, missing_features, read_record, read_trained
from figclip_cli.ablate.scoring import Scoring
from figclip_cli.ablate.shared_prompts import shared_prompts
from figclip_cli.ablate.timing import StepTimer, StepTimes, step_times
from figclip_cli.adapt import AdaptSummary, ClipLists, Execution, SourceFiles, adapt
from figclip_cli.errors import FigclipError
from figclip_cli.files import write_json
from figclip_cli.frames import FramesReader
from figclip_cli.models.source import ModelSource
from figclip_cli.prompts import read_prompts
from figclip_cli.reporting import Reporter
from figclip_cli.run_folder import environment

PEAKS = ("peak_memory_bytes", "process_peak_bytes")


@dataclass(frozen=True)
class Job:
    """Everything that a process needs to know to make one cell.

    Attributes:
        folder: The ablation.
        cell: The cell.
        frames: Frames files that are trained on.
        prompts: The prompts file that is given; None where prompts are built.
        annotations: What they are built from.
        lists: Clips to use, to leave out and to hold out.
        source: The base model.
        scoring: What it is scored by.
        evaluation_sha256: Hash of all that scoring reads.
        device: ``cpu``, or one GPU.
        threads: Threads on a CPU; 0 leaves them.
        at_once: Cells that are made at the same time on this machine.
    """

    folder: AblationFolder
    cell: Cell
    frames: tuple[Path, ...]
    prompts: Path | None
    annotations: tuple[Path, ...]
    lists: ClipLists
    source: ModelSource
    scoring: Scoring
    execution: Execution
    evaluation_sha256: str
    device: str = "cpu"
    threads: int = 0
    at_once: int = 1


def is_finished(folder: CellFolder, cell: Cell, evaluation_sha256: str) -> bool:
    """Return whether a cell is trained and scored in every way that is asked, by the files that are there now."""
    record, _ = read_record(folder.record_file, cell, evaluation_sha256)
    return not missing_features(record, cell)


def make_cell(job: Job, reporter: Reporter) -> None:
    """Train, or go on with, one cell, and score it; what is finished is kept, also where a later part fails.

    Raises:
        FigclipError: See ``adapt`` and the evaluations.
        KeyboardInterrupt: A signal asked to stop; the training goes on from there the next time.
    """
    folder = job.folder.cell(job.cell)
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(job.folder.lock_file(job.cell)):
        record, _ = read_record(folder.record_file, job.cell, job.evaluation_sha256)
        wanted = missing_features(record, job.cell)
        if not wanted:
            return
        device = _set_up(job)
        trained = read_trained(folder.cost_file) if folder.run.is_done else None
        if trained is None:
            trained = _train(job, folder, device, reporter)
            write_json(folder.cost_file, trained)
        quality = {} if record is None else dict(record["quality"])
        _score(job, folder, device, trained, quality, wanted, reporter)
        folder.error_file.unlink(missing_ok=True)


def _score(
    job: Job,
    folder: CellFolder,
    device: torch.device,
    trained: dict[str, Any],
    quality: dict[str, Any],
    wanted: Sequence[str],
    reporter: Reporter,
) -> None:
    """Score in each way and write the record after each; one that fails is raised when the others are done."""
    failed: FigclipError | None = None
    for features in wanted:
        started = time.monotonic()
        try:
            tasks = job.scoring.score(folder, features, job.source, device, reporter)
        except FigclipError as error:
            failed = failed or error
            continue
        seconds = time.monotonic() - started
        quality[features] = {"evaluation_sha256": job.evaluation_sha256, "seconds": seconds, "tasks": tasks}
        write_json(folder.record_file, _record(job, trained, quality))
    if failed is not None:
        raise failed


def _set_up(job: Job) -> torch.device:
    device = torch.device(job.device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    elif job.threads:
        torch.set_num_threads(job.threads)
    return device


def _train(job: Job, folder: CellFolder, device: torch.device, reporter: Reporter) -> dict[str, Any]:
    """Train, or go on, and return what it cost in all."""
    prompts = job.prompts or shared_prompts(job.folder, job.cell, job.annotations, reporter)
    memory, started = MemoryWatch(device), time.monotonic()
    timer = StepTimer(reporter, folder.steps_file, memory.peaks)
    if not folder.run.config_file.is_file():
        folder.steps_file.unlink(missing_ok=True)
    summary = adapt(
        [SourceFiles(job.frames, prompts)],
        folder.run,
        source=job.source,
        options=job.cell.options,
        lists=job.lists,
        execution=job.execution,
        device=device,
        resume=True,
        reporter=timer,
    )
    seconds = time.monotonic() - started
    times = step_times(folder.steps_file, timer.first_left)
    now = memory.peaks() if timer.first_left is not None else {}
    cost = {
        **_cost(summary, times, _images(folder, job)),
        **{name: _largest(times.peaks.get(name), now.get(name)) for name in PEAKS},
        "seconds": seconds + times.earlier_seconds,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cells_at_once": job.at_once,
    }
    return {"cost": cost, "data": _data(summary, prompts), "environment": environment()}


def _largest(*numbers: int | None) -> int | None:
    """Return the largest number that is there: no step, no number."""
    return max((one for one in numbers if one is not None), default=None)


def _data(summary: AdaptSummary, prompts: Path) -> dict[str, Any]:
    """Return how much of the annotation was trained on, and what the prompts left out."""
    counts = read_prompts(prompts).header.get("counts")
    known = counts if isinstance(counts, dict) else {}
    skipped = {name: known.get(name, 0) for name in ("records_left_out", "events_left_out")}
    return {**asdict(summary.coverage), **skipped}


def _cost(summary: AdaptSummary, times: StepTimes, images: int) -> dict[str, Any]:
    return {
        "trainable_parameters": summary.lora_parameters + summary.contextualizer_parameters,
        "tower_parameters": summary.lora_parameters,
        "contextualizer_parameters": summary.contextualizer_parameters,
        "base_parameters": summary.base_parameters,
        "clips": summary.coverage.used,
        "steps": summary.steps,
        "step_seconds": times.median_seconds,
        "images_per_second": images / times.total_seconds if times.total_seconds else None,
        "train_seconds": times.total_seconds,
    }


def _images(folder: CellFolder, job: Job) -> int:
    """Return how many frames all steps saw."""
    with FramesReader(list(job.frames)) as reader:
        frames = reader.recipe.frames
    clips = 0
    for line in folder.run.metrics_file.read_text(encoding="utf-8").splitlines():
        clips += json.loads(line).get("clips", 0)
    return clips * frames


def _record(job: Job, trained: dict[str, Any], quality: dict[str, Any]) -> dict[str, Any]:
    cell = job.cell
    prompts = cell.prompts
    return {
        "format": RECORD_FORMAT,
        "version": CELL_VERSION,
        "sha256": cell.sha256,
        "seed": cell.options.seed,
        "options": cell.options.as_dict(),
        "prompts": None
        if prompts is None
        else {"template": prompts.template, "negatives": dict(prompts.negatives), "balance": prompts.balance},
        **trained,
        "quality": quality,
    }
