"""The one family of errors that figclip raises on purpose, and the exit codes they carry.

Library code raises these; only the command line turns them into text and an exit status. Each has one line
that says what is wrong and where, and a hint that says what to do about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

EXIT_OK = 0
EXIT_UNEXPECTED = 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_PARTIAL = 4
EXIT_VERIFICATION = 5
EXIT_INTERRUPTED = 130


class FigclipError(Exception):
    """Base of every deliberate error.

    Args:
        message: What is wrong and where, in one line.
        hint: What the user can do about it, in one line; empty when there is nothing to say.
    """

    exit_code = EXIT_UNEXPECTED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class MachineError(FigclipError):
    """The machine, not the user, is in the way: a full disk, a device that cannot be written."""

    exit_code = EXIT_UNEXPECTED


class EndedElsewhere(FigclipError):
    """Another process of the same run failed and says why; this one ends with the same exit code, silently."""

    def __init__(self, exit_code: int) -> None:
        super().__init__("")
        self.exit_code = exit_code


class UsageError(FigclipError):
    """A flag, a configuration key or a combination of them that cannot be meant."""

    exit_code = EXIT_USAGE


class InputError(FigclipError):
    """An input is missing, unreadable or breaks its format."""

    exit_code = EXIT_INPUT


class PartialError(FigclipError):
    """The work is done and written, but some items of it failed; the report names them."""

    exit_code = EXIT_PARTIAL


class VerificationError(FigclipError):
    """A result was computed and proved wrong: a reload that differs, a loss that is not finite."""

    exit_code = EXIT_VERIFICATION


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"`` for the nearest of ``known``, else the sorted list of them."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    if close:
        return f"did you mean '{close[0]}'?"
    return "known: " + ", ".join(options)
