"""One cell, in a process of its own: train, note what it cost, score, and write ``cell.json`` last."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from figclip_cli.ablate.folder import AblationFolder, CellFolder, locked
from figclip_cli.ablate.memory import MemoryWatch
from figclip_cli.ablate.plan import CELL_VERSION, Cell
from figclip_cli.ablate.scoring import Scoring
from figclip_cli.ablate.shared_prompts import shared_prompts
from figclip_cli.ablate.timing import StepTimer, StepTimes, step_times
from figclip_cli.adapt import AdaptSummary, ClipLists, Execution, SourceFiles, adapt
from figclip_cli.files import write_json
from figclip_cli.frames import FramesReader
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import Reporter

RECORD_FORMAT = "figclip-ablation-cell"


@dataclass(frozen=True)
class Job:
    """Everything that a process needs to know to make one cell.

    Attributes:
        folder: The ablation.
        cell: The cell.
        frames: Frames files that are trained on.
        prompts: The prompts file that is given; None where prompts are built.
        annotations: What they are built from.
        lists: Clips to features, to leave out and to hold out.
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
    record = folder.read(folder.record_file)
    return record is not None and not missing_uses(record, cell, evaluation_sha256)


def missing_uses(record: dict[str, Any] | None, cell: Cell, evaluation_sha256: str) -> list[str]:
    """Return in which ways a cell is still to be scored; all of them where its record is none of this cell."""
    known = record or {}
    if (
        known.get("format") != RECORD_FORMAT
        or known.get("version") != CELL_VERSION
        or known.get("sha256") != cell.sha256
    ):
        return list(cell.features)
    quality = known.get("quality")
    scored = quality if isinstance(quality, dict) else {}
    return [
        features
        for features in cell.features
        if not isinstance(scored.get(features), dict) or scored[features].get("evaluation_sha256") != evaluation_sha256
    ]


def make_cell(job: Job, reporter: Reporter) -> None:
    """Train, or go on with, one cell, and score it; what is finished is kept.

    Raises:
        FigclipError: See ``adapt`` and the evaluations.
        KeyboardInterrupt: A signal asked to stop; the training goes on from there the next time.
    """
    folder = job.folder.cell(job.cell)
    folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder.path / ".lock"):
        if is_finished(folder, job.cell, job.evaluation_sha256):
            return
        device = _set_up(job)
        cost = folder.read(folder.cost_file) if folder.run.is_done else None
        if cost is None:
            cost = _train(job, folder, device, reporter)
            write_json(folder.cost_file, cost)
        record = folder.read(folder.record_file)
        wanted = missing_uses(record, job.cell, job.evaluation_sha256)
        quality = {} if record is None or set(wanted) == set(job.cell.features) else dict(record["quality"])
        for features in wanted:
            started = time.monotonic()
            tasks = job.scoring.score(folder, features, job.source, device, reporter)
            seconds = time.monotonic() - started
            quality[features] = {"evaluation_sha256": job.evaluation_sha256, "seconds": seconds, "tasks": tasks}
        write_json(folder.record_file, _record(job, cost, quality))
        folder.error_file.unlink(missing_ok=True)


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
    timer = StepTimer(reporter, folder.steps_file)
    if not folder.run.config_file.is_file():
        folder.steps_file.unlink(missing_ok=True)
    memory, started = MemoryWatch(device), time.monotonic()
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
    return {
        **_cost(summary, times, _images(folder, job)),
        "seconds": seconds + times.earlier_seconds,
        "peak_memory_bytes": memory.peak_bytes,
        "process_peak_bytes": memory.process_peak_bytes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "cells_at_once": job.at_once,
    }


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


def _record(job: Job, cost: dict[str, Any], quality: dict[str, Any]) -> dict[str, Any]:
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
        "cost": cost,
        "quality": quality,
    }
