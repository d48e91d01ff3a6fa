"""What all verbs share: the common flags, configuration files, and errors turned into exit codes.

``@verb`` takes a function whose first argument is the :class:`~figclip_cli.console.Terminal` and whose other
arguments are the verb's own flags, and gives Typer a function with the common flags added.
"""

from __future__ import annotations

import errno
import functools
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional, get_type_hints

import typer

from figclip_cli.commands.config_file import load_into_context
from figclip_cli.console import Terminal, discard
from figclip_cli.errors import EXIT_INPUT, EXIT_INTERRUPTED, EXIT_UNEXPECTED, FigclipError

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_COMMON: dict[str, tuple[Any, Any]] = {
    "config": (
        Annotated[
            Optional[Path],  # noqa: UP045  (Typer on Python 3.10 wants Optional here)
            typer.Option(
                "--config",
                metavar="FILE.toml",
                help="Read flags from this file; a flag given here wins over it.",
                is_eager=True,
                callback=load_into_context,
                rich_help_panel="Common",
            ),
        ],
        None,
    ),
    "json_output": (
        Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.", rich_help_panel="Common")],
        False,
    ),
    "quiet": (
        Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.", rich_help_panel="Common")],
        False,
    ),
    "verbose": (
        Annotated[bool, typer.Option("--verbose", "-v", help="Say more.", rich_help_panel="Common")],
        False,
    ),
    "debug": (
        Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.", rich_help_panel="Common")],
        False,
    ),
}


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """Give a verb's function the common flags and the common handling of errors."""
    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "terminal"
    ]
    common = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in _COMMON.items()
    ]

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        arguments.pop("config")
        terminal = Terminal(**{name: arguments.pop(name) for name in ("json_output", "quiet", "verbose", "debug")})
        try:
            function(terminal, **arguments)
        except (typer.Exit, typer.Abort, typer.BadParameter, SystemExit):
            raise
        except BaseException as error:
            _leave(terminal, error)

    signature = inspect.Signature(own + common)
    run.__signature__ = signature  # type: ignore[attr-defined]
    run.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    del run.__wrapped__
    return run


_GO_ON = "run the same command again to go on; adapt and train-head want --resume, demo without --full --overwrite"


def _leave(terminal: Terminal, error: BaseException) -> NoReturn:
    """Say what went wrong in one line and a hint, then leave with the documented exit code."""
    if terminal.debug:
        terminal.traceback()
    if isinstance(error, FigclipError):
        if error.message:
            terminal.error(error.message, error.hint)
        raise typer.Exit(error.exit_code) from None
    if isinstance(error, KeyboardInterrupt):
        if terminal.is_first_process:
            terminal.error("interrupted", _GO_ON)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if isinstance(error, BrokenPipeError):
        discard(sys.stdout)  # its reader went away
        raise typer.Exit(EXIT_UNEXPECTED) from None
    if isinstance(error, OSError):
        _leave_of_path(terminal, error)
    terminal.error(
        f"unexpected {type(error).__name__}: {error}",
        "run it again with --debug for the traceback, and report it",
    )
    raise typer.Exit(EXIT_UNEXPECTED) from None


def _leave_of_path(terminal: Terminal, error: OSError) -> None:
    """Leave after what the operating system says of a path; come back where it is about none."""
    named = isinstance(error.filename, (str, bytes))
    if error.strerror is None or not (named or error.errno in _DISK_ERRORS):
        return
    place = f"{os.fsdecode(error.filename)}: " if named else ""
    if error.errno in _DISK_ERRORS:
        terminal.error(f"{place}{error.strerror}", "see to the disk, then run it again")
        raise typer.Exit(EXIT_UNEXPECTED) from None
    terminal.error(f"{place}{error.strerror}", "check the path, and who may read and write there")
    raise typer.Exit(EXIT_INPUT) from None
