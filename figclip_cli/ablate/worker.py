"""The process of one cell: its own log, its own memory, and an end that leaves a checkpoint.

It is forked from a server that has imported torch and open_clip, so that its start costs nothing and its peak memory is
its own. It is in no group that a terminal interrupts: the program that started it passes one signal on, and where that
program is gone the process stops itself.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, parent_process
from typing import IO

from figclip_cli.ablate.cell import Job, make_cell
from figclip_cli.ablate.text_cache import TextJob, encode_texts
from figclip_cli.errors import EXIT_INTERRUPTED, EXIT_UNEXPECTED, FigclipError
from figclip_cli.files import make_folder, write_json
from figclip_cli.reporting import Progress


class _Count:
    def advance(self, count: int = 1, *, failed: int = 0, detail: str = "") -> None:
        pass


class LogReporter:
    """Writes what is said to a file, one line each; counts are left out."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def info(self, message: str) -> None:
        """Write it."""
        self._file.write(message + "\n")

    def detail(self, message: str) -> None:
        """Leave it out."""

    def warn(self, message: str) -> None:
        """Write it."""
        self._file.write(f"warning: {message}\n")

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[Progress]:
        """Write what is counted."""
        self._file.write(f"{label}: {total} {unit}\n")
        yield _Count()


def work(job: Job) -> None:
    """Make one cell and end the process; a failure is written to the cell's ``error.json``."""
    _stand_alone()
    folder = job.folder.cell(job.cell)
    make_folder(folder.path)
    folder.error_file.unlink(missing_ok=True)
    with folder.log_file.open("a", encoding="utf-8", buffering=1) as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            make_cell(job, LogReporter(log))
        except FigclipError as error:
            write_json(folder.error_file, {"message": error.message, "hint": error.hint, "exit_code": error.exit_code})
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            sys.exit(EXIT_INTERRUPTED)
        except BaseException as error:
            traceback.print_exc(file=log)
            message = f"unexpected {type(error).__name__}: {error}"
            hint = f"{folder.log_file} has the traceback"
            write_json(folder.error_file, {"message": message, "hint": hint, "exit_code": EXIT_UNEXPECTED})
            sys.exit(EXIT_UNEXPECTED)


def work_on_texts(asked: TextJob) -> None:
    """Encode texts; whatever goes wrong is left to the cells to say, which read the same files, in their logs."""
    _stand_alone()
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        encode_texts(asked)
    except Exception:
        sys.exit(EXIT_UNEXPECTED)


def _stand_alone() -> None:
    with suppress(OSError):
        os.setpgid(0, 0)
    _stop_with_parent()


def _stop_with_parent() -> None:
    """Watch the program that started this process; once it is gone, stop as after a signal, with a checkpoint."""
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        connection.wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
