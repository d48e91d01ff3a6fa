"""Cells made side by side: one process for each cell, one cell at a time on each device."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
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
    jobs: Sequence[Any],
    places: Sequence[Place],
    *,
    work: Callable[[Any], None],
    on_end: Callable[[Ended], None],
    on_stop: Callable[[], None],
    is_busy: Callable[[Any], bool] = lambda _: False,
) -> None:
    """Make all cells; one that fails does not stop the others.

    Args:
        jobs: Each has a ``job``, or is one.
        work: What a process does with its job.
        on_end: Called in this process after each cell, in the order in which they end.
        on_stop: Called once when a signal asks to stop.
        is_busy: Whether another program makes a cell just now: others come first.

    Raises:
        KeyboardInterrupt: A signal asked to stop. Each process has ended, with a checkpoint.
    """
    waiting, free = deque(jobs), deque(places)
    running: dict[int, tuple[Any, Any, Place]] = {}
    is_told = False
    with StopSignals(on_stop) as signals:
        try:
            while running or (waiting and not signals.requested):
                while free and not signals.requested and (next_job := _first_free(waiting, is_busy)) is not None:
                    place = free.popleft()
                    at_once = min(len(places), len(jobs))
                    job = _placed(next_job, place, at_once)
                    process = _context().Process(target=_begin, args=(work, job))
                    process.start()
                    running[process.sentinel] = process, job, place
                if not running:
                    time.sleep(_POLL_SECONDS)
                for sentinel in connection.wait(list(running), timeout=_POLL_SECONDS) if running else ():
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


def _first_free(waiting: deque[Any], is_busy: Callable[[Any], bool]) -> Any | None:
    """Take the first job that no other program is at; None where there is none."""
    for place, job in enumerate(waiting):
        if not is_busy(job):
            del waiting[place]
            return job
    return None


def _placed(job: Any, place: Place, at_once: int) -> Any:
    """Return a job, or what holds one, that knows where it is made."""
    if isinstance(job, Job):
        return replace(job, device=place.device, threads=place.threads, at_once=at_once)
    return replace(job, job=_placed(job.job, place, at_once))


def _begin(work: Callable[[Any], None], job: Any) -> None:
    """Hear SIGTERM again, to which the server is deaf, and do the work."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        work(job)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _signal_all(running: dict[int, tuple[Any, Any, Place]], number: int) -> None:
    for process, _, _ in running.values():
        try:
            os.kill(process.pid, number)
        except ProcessLookupError:
            continue


def _ended(process: Any, job: Any, *, is_stopping: bool) -> Ended:
    job = job if isinstance(job, Job) else job.job
    code = int(process.exitcode or 0)
    if code == 0 or (is_stopping and code in (EXIT_INTERRUPTED, -signal.SIGTERM, _SERVER_GONE)):
        return Ended(job, code, None)
    folder = job.folder.cell(job.cell)
    said = (folder.read(folder.error_file) or {}).get("message")
    if code == EXIT_INTERRUPTED:
        said = "its process was told to stop, and left a checkpoint where it had begun to train"
    elif code < 0:
        said = f"its process was killed by signal {-code}: {folder.log_file} says how far it came"
        said += ", signal 9 is often a lack of memory" if code == -signal.SIGKILL else ""
    return Ended(job, code, str(said or f"its process left with {code}, see {folder.log_file}"))
