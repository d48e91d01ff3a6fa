"""The terminal: results on stdout, everything else on stderr, progress that suits where it goes.

On a terminal progress is a live bar; elsewhere (a log, Slurm) it is one plain line every ten seconds.
``NO_COLOR`` is honoured by Rich itself.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from figclip_cli.errors import MachineError
from figclip_cli.reporting import SILENT
from figclip_cli.reporting import Progress as ProgressProtocol

PLAIN_PROGRESS_INTERVAL_SECONDS = 10.0
_UNLIMITED_COLUMNS = 1000


class Terminal:
    """What one run of the program says, and how; also the :class:`~figclip_cli.reporting.Reporter`.

    Attributes:
        json_output: Print one JSON document on stdout instead of tables.
        quiet: Say nothing on stderr but errors.
        verbose: Say details too.
        debug: Show tracebacks.
        is_first_process: Whether results are printed by this process.
    """

    def __init__(
        self, *, json_output: bool = False, quiet: bool = False, verbose: bool = False, debug: bool = False
    ) -> None:
        self.json_output = json_output
        # torchrun starts several processes of one run: the first one speaks for all, each tells its own errors.
        self._rank = os.environ.get("RANK", "0") if "WORLD_SIZE" in os.environ else "0"
        self.is_first_process = self._rank == "0"
        self.quiet = quiet or not self.is_first_process
        self.verbose = verbose
        self.debug = debug
        # File names and annotation go through here: brackets and colons in them are text, not markup or emoji.
        plain: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
        _open_closed_streams()
        self._out = _Console(file=sys.stdout, width=_width(sys.stdout), **plain)
        self._err = _Console(file=sys.stderr, **plain)

    def info(self, message: str) -> None:
        """Say an ordinary remark on stderr."""
        if not self.quiet:
            self._err.print(message)

    def detail(self, message: str) -> None:
        """Say a remark for ``--verbose`` on stderr."""
        if self.verbose and not self.quiet:
            self._err.print(message, style="dim")

    def warn(self, message: str) -> None:
        """Say a warning on stderr."""
        if not self.quiet:
            self._err.print(f"warning: {message}", style="yellow")

    def error(self, message: str, hint: str = "") -> None:
        """Say an error and its hint on stderr, each on one line; where stderr is gone the exit code alone tells."""
        who = "" if self.is_first_process else f"process {self._rank}: "
        try:
            self._err.print(f"error: {who}{_one_line(message)}", style="red")
            if hint:
                self._err.print(f"hint: {_one_line(hint)}")
        except OSError:
            discard(sys.stderr)

    def default(self, given: Path | None, default: Path, what: str) -> Path:
        """Return ``given``, or the default name after saying that it is used."""
        if given is not None:
            return given
        self.info(f"{what}: {default} (default)")
        return default

    def traceback(self) -> None:
        """Print the traceback of the exception being handled."""
        self._err.print_exception(show_locals=False)

    def result(
        self, document: dict[str, Any], *tables: RenderableType, text: str = "", then: Exception | None = None
    ) -> None:
        """Print a verb's result on stdout: ``document`` under ``--json``, else the tables and the text.

        Args:
            then: Raised afterwards, also where nobody reads stdout any more.

        Raises:
            BrokenPipeError: The reader of stdout went away.
            MachineError: Stdout cannot be written.
        """
        try:
            self._print_result(document, tables, text)
        except OSError as error:
            discard(sys.stdout)
            if then is None and isinstance(error, BrokenPipeError):
                raise
            if then is None:
                raise MachineError(
                    f"the result cannot be printed: {error.strerror}", "see where stdout goes"
                ) from error
        if then is not None:
            raise then

    def _print_result(self, document: dict[str, Any], tables: Sequence[RenderableType], text: str) -> None:
        if self.json_output:
            json.dump(document, sys.stdout, sort_keys=True, ensure_ascii=False, indent=2, allow_nan=False)
            sys.stdout.write("\n")
            sys.stdout.flush()  # at the exit it would be too late to say that it failed
            return
        for table in tables:
            self._out.print(table)
        if text:
            self._out.print(text)

    @property
    def in_colour(self) -> bool:
        """Whether stdout shows colours: it is a terminal, and ``NO_COLOR`` is not set."""
        return self._out.is_terminal and not self._out.no_color

    @contextmanager
    def track(self, label: str, total: int, unit: str) -> Iterator[ProgressProtocol]:
        """Show a running count of ``total`` items on stderr."""
        if self.quiet:
            with SILENT.track(label, total, unit) as silent:
                yield silent
        elif self._err.is_terminal:
            with _bar(self._err) as bar:
                yield _LiveProgress(bar, label, total, unit)
        else:
            plain = _PlainProgress(self, label, total, unit)
            yield plain
            plain.close()


class _Console(Console):
    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the verb; Rich would end the program here."""
        raise BrokenPipeError


def _open_closed_streams() -> None:
    """Give stdout and stderr somewhere to go where the caller closed them: Python has None for them then.

    Opening takes the lowest free number, so that no data file is opened under the number of a stream either.
    """
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  (open until the program ends)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115


def discard(stream: TextIO) -> None:
    """Point a stream that cannot be written elsewhere, so that what is left of it says nothing at the exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _width(stream: TextIO) -> int | None:
    """Return a width that cuts nothing off where the reader is a file or a program; a terminal knows its own."""
    return None if stream.isatty() else _UNLIMITED_COLUMNS


def _one_line(text: str) -> str:
    """Make sure that text from a file name or another library cannot break the one-line rule."""
    return " ".join(text.split())


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}  {task.fields[rate]}{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )


class _LiveProgress:
    def __init__(self, bar: Progress, label: str, total: int, unit: str) -> None:
        self._bar = bar
        self._failed = 0
        self._started = time.monotonic()
        self._task = bar.add_task(label, total=total, unit=unit, rate="", note="")

    def advance(self, count: int = 1, *, failed: int = 0, detail: str = "") -> None:
        self._failed += failed
        task = self._bar.tasks[self._task]
        rate = _rate(task.completed + count, time.monotonic() - self._started)
        self._bar.update(self._task, advance=count, rate=rate, note=_note(self._failed, detail))


class _PlainProgress:
    def __init__(self, terminal: Terminal, label: str, total: int, unit: str) -> None:
        self._terminal = terminal
        self._label, self._total, self._unit = label, total, unit
        self._done = self._failed = 0
        self._started = self._said = time.monotonic()

    def advance(self, count: int = 1, *, failed: int = 0, detail: str = "") -> None:
        self._done += count
        self._failed += failed
        if time.monotonic() - self._said >= PLAIN_PROGRESS_INTERVAL_SECONDS:
            self._say(detail)

    def close(self) -> None:
        self._say("")

    def _say(self, detail: str) -> None:
        self._said = time.monotonic()
        elapsed = self._said - self._started
        parts = [f"{self._label}: {self._done}/{self._total} {self._unit}", _rate(self._done, elapsed)]
        if 0 < self._done < self._total:
            parts.append(f"{elapsed / self._done * (self._total - self._done):.0f} s left")
        self._terminal.info(", ".join(part for part in parts if part) + _note(self._failed, detail))


def _rate(done: float, elapsed_seconds: float) -> str:
    return f"{done / elapsed_seconds:.1f}/s" if elapsed_seconds > 0 and done else ""


def _note(failed: int, detail: str) -> str:
    note = f", {failed} failed" if failed else ""
    return note + (f", {detail}" if detail else "")
