"""Cells made side by side: one process for each cell, one cell at a time on each device."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from typing import Any, cast

from figclip_cli.ablate.cell import Job
from figclip_cli.errors import EXIT_INTERRUPTED, UsageError
from figclip_cli.stop_signals import StopSignals

_POLL_SECONDS = 0.2
_SERVER_GONE = 255  # what multiprocessing gives where the server cannot tell any more
_PRELOADED = [
    "figclip_cli.ablate.server_signals",
    "figclip_cli.ablate.worker",
    "figclip_cli.adapt.run",
    "open_clip",
    "figclip_cli.prompts.build",
]


@dataclass(frozen=True)
class Place:
    """Where one cell at a time is made.

    Attributes:
        device: ``cpu``, or one GPU such as ``cuda:0``.
        threads: Threads on a CPU; 0 leaves them as they are.
    """

    device: str
    threads: int = 0


@dataclass(frozen=True)
class Ended:
    """How the process of a cell ended.

    Attributes:
        job: What it was to make.
        exit_code: As the process left; negative for a signal.
        failure: One line where it failed, else None.
    """

    job: Job
    exit_code: int
    failure: str | None


def places_of(devices: Sequence[str], workers: int | None) -> list[Place]:
    """Return where cells are made.

    Args:
        devices: ``cpu`` and names of GPUs; none takes every GPU, or the CPU where there is none.
        workers: Cells at a time on the CPU, which share its cores.

    Raises:
        UsageError: There is no such device, or workers are asked for without the CPU.
    """
    count = _gpu_count() if any(one != "cpu" for one in devices) or not devices else 0
    named = list(devices) or [f"cuda:{number}" for number in range(count)] or ["cpu"]
    for name in named:
        kind, _, number = name.partition(":")
        fits = name == "cpu" or (kind == "cuda" and number.isascii() and number.isdecimal() and int(number) < count)
        if not fits:
            known = ", ".join(["cpu", *(f"cuda:{one}" for one in range(count))])
            raise UsageError(f"there is no device '{name[:80]}'", f"known: {known}")
    if len(set(named)) < len(named):
        raise UsageError("--devices names one device twice", "name each once")
    if workers is not None and "cpu" not in named:
        raise UsageError("--workers is for the CPU, the devices are GPUs", "a GPU makes one cell at a time")
    at_once = workers or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = 0 if "OMP_NUM_THREADS" in os.environ or at_once == 1 else max(1, cores // at_once)
    return [
        place for name in named for place in ([Place("cpu", threads)] * at_once if name == "cpu" else [Place(name)])
    ]


def _gpu_count() -> int:
    """Return how many GPUs PyTorch sees, without touching one in this process."""
    context = _context()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_tell_gpu_count, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        return int(ours.recv())
    except EOFError:
        return 0
    finally:
        process.join()


def _tell_gpu_count(pipe: Any) -> None:
    import torch

    pipe.send(torch.cuda.device_count() if torch.cuda.is_available() else 0)


def _context() -> Any:
    """Return how processes are started: forked from a server that has imported what they need, and computes nothing."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return context


def make_all(
    jobs: Sequence[Job],
    places: Sequence[Place],
    *,
    work: Callable[[Job], None],
    on_end: Callable[[Ended], None],
    on_stop: Callable[[], None],
) -> None:
    """Make all cells; one that fails does not stop the others.

    Args:
        work: What a process does with its job.
        on_end: Called in this process after each cell, in the order in which they end.
        on_stop: Called once when a signal asks to stop.

    Raises:
        KeyboardInterrupt: A signal asked to stop. Each process has ended, with a checkpoint.
    """
    waiting, free = deque(jobs), deque(places)
    running: dict[int, tuple[Any, Job, Place]] = {}
    is_told = False
    with StopSignals(on_stop) as signals:
        try:
            while running or (waiting and not signals.requested):
                while waiting and free and not signals.requested:
                    place = free.popleft()
                    at_once = min(len(places), len(jobs))
                    job = replace(waiting.popleft(), device=place.device, threads=place.threads, at_once=at_once)
                    process = _context().Process(target=_begin, args=(work, job))
                    process.start()
                    running[process.sentinel] = process, job, place
                for sentinel in connection.wait(list(running), timeout=_POLL_SECONDS):
                    process, job, place = running.pop(cast(int, sentinel))
                    process.join()
                    free.append(place)
                    on_end(_ended(process, job, is_stopping=is_told))
                if signals.requested and not is_told:
                    is_told = True
                    _signal_all(running, signal.SIGTERM)
        except BaseException:
            _signal_all(running, signal.SIGKILL)
            raise
    if signals.requested:
        raise KeyboardInterrupt


def _begin(work: Callable[[Job], None], job: Job) -> None:
    """Hear SIGTERM again, to which the server is deaf, and do the work."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    work(job)


def _signal_all(running: dict[int, tuple[Any, Job, Place]], number: int) -> None:
    for process, _, _ in running.values():
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def _ended(process: Any, job: Job, *, is_stopping: bool) -> Ended:
    code = int(process.exitcode or 0)
    if code in (0, EXIT_INTERRUPTED) or (is_stopping and code in (-signal.SIGTERM, _SERVER_GONE)):
        return Ended(job, code, None)
    folder = job.folder.cell(job.cell)
    said = folder.read(folder.error_file) or {}
    if code < 0:
        return Ended(job, code, f"its process was killed by signal {-code}: {folder.log_file} says how far it came")
    return Ended(job, code, str(said.get("message") or f"its process left with {code}, see {folder.log_file}"))
