"""Spread clips over worker processes that can be killed one by one; what one clip does costs no other.

Each worker has a pipe of its own and shares no lock with anyone, so it may die at any moment, by a signal or by our
hand, and only the clip it was at is affected.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from figclip_cli.frames.clip import ClipResult, Source, failed, process_clip
from figclip_cli.frames.sampling import SamplingRecipe

DEFAULT_TIMEOUT_SECONDS = 300.0
KILLED = "the decoder was killed by SIGKILL three times: is there enough memory?"
# A worker may crash or be killed for reasons that are not the clip's; it is tried again, when others have been.
_ATTEMPTS = 3
_MEMORY_BYTES = 6 << 30  # 8K video needs about 2 GB; a header that claims more must not take the machine down


@dataclass
class _Job:
    source: Source
    attempts: int = 0


def process_clips(
    sources: Sequence[Source],
    recipe: SamplingRecipe,
    *,
    workers: int,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
) -> Iterator[tuple[Source, ClipResult]]:
    """Yield each source with its result as soon as it is there, in whatever order they finish.

    Args:
        sources: Clips.
        recipe: What to take of each.
        workers: Processes.
        timeout_seconds: Wall-clock limit for one clip; its worker is killed then.
    """
    waiting = deque(_Job(source) for source in sources)
    team = [_Worker(recipe) for _ in range(min(workers, len(sources)))]
    try:
        while waiting or any(worker.job for worker in team):
            for worker in team:
                if worker.job is None and waiting:
                    worker.give(waiting.popleft())
            yield from _collect(team, waiting, recipe, timeout_seconds)
    finally:
        for worker in team:
            worker.kill()


def _collect(
    team: list[_Worker], waiting: deque[_Job], recipe: SamplingRecipe, timeout_seconds: float
) -> Iterator[tuple[Source, ClipResult]]:
    """Wait until something happens, then yield what finished and replace what died."""
    busy = [worker for worker in team if worker.job is not None]
    until_next = min(worker.started for worker in busy) + timeout_seconds - time.monotonic()
    ready = wait([worker.connection for worker in busy], timeout=max(0.0, until_next))
    finished: list[tuple[Source, ClipResult]] = []
    for worker in busy:
        job = worker.job
        assert job is not None
        if worker.connection in ready:
            result = worker.result()
            if result is not None:
                finished.append((job.source, result))
                worker.job = None
                if waiting:  # before anything else, so that no worker waits for what is done with the result
                    worker.give(waiting.popleft())
                continue
            job.attempts += 1
            if job.attempts < _ATTEMPTS:
                waiting.append(job)
            else:
                finished.append((job.source, failed(job.source, recipe, worker.cause_of_death())))
        elif time.monotonic() - worker.started >= timeout_seconds:
            reason = f"no result after {timeout_seconds:g} s"
            finished.append((job.source, failed(job.source, recipe, reason, status="timeout")))
        else:
            continue
        worker.kill()
        team[team.index(worker)] = _Worker(recipe)
    yield from finished


class _Worker:
    """A process, its pipe, and the clip it is at."""

    def __init__(self, recipe: SamplingRecipe) -> None:
        # Spawned, not forked: a fork copies the locks of threads that are not there any more.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, recipe), daemon=True)
        self._process.start()
        theirs.close()  # ours is then the only other end: when either side dies, the other reads the end of the pipe
        self.job: _Job | None = None
        self.started = 0.0

    def give(self, job: _Job) -> None:
        self.job, self.started = job, time.monotonic()
        with suppress(OSError):  # it died while idle; reading its result finds that out
            self.connection.send(job.source)

    def result(self) -> ClipResult | None:
        """Return what came through the pipe, or None where its other end is gone."""
        try:
            received: ClipResult = self.connection.recv()
        except (EOFError, OSError):
            return None
        return received

    def cause_of_death(self) -> str:
        self._process.join(timeout=5)
        code = self._process.exitcode or 0
        with suppress(ValueError):
            if code < 0:
                name = signal.Signals(-code).name
                return KILLED if name == "SIGKILL" else f"the decoder was killed by {name} three times"
        return f"the decoder crashed (exit status {code}) three times"

    def kill(self) -> None:
        """Kill the process and what it started."""
        self.connection.close()
        if self._process.pid is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()


def _serve(connection: Connection, recipe: SamplingRecipe) -> None:
    """Sample clips until the pipe ends; the body of a worker."""
    with suppress(OSError):
        os.setsid()  # a group of its own, to be killed with the programs it started
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which stops everyone in order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory()
    with suppress(EOFError, OSError):
        while True:
            source: Source = connection.recv()
            connection.send(_guarded(source, recipe))


def _guarded(source: Source, recipe: SamplingRecipe) -> ClipResult:
    """Sample a clip; an error nobody thought of is that clip's alone, and is named."""
    try:
        return process_clip(source, recipe)
    except Exception as error:
        return failed(source, recipe, f"unexpected {type(error).__name__}: {error}")


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        with suppress(OSError):
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    limits: Any = getattr(resource, "RLIMIT_DATA", resource.RLIMIT_AS)
    _, hard = resource.getrlimit(limits)
    wanted = _MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(_MEMORY_BYTES, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(limits, (wanted, hard))
