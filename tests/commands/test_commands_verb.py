"""Common flags, configuration files, streams and exit codes, on a small program built like ours."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import pytest
import typer
from rich.table import Table
from typer.testing import CliRunner

from figclip_cli.commands.verb import verb
from figclip_cli.console import Terminal
from figclip_cli.errors import InputError, MachineError, PartialError, UsageError, VerificationError


class Colour(str, Enum):
    red = "red"
    blue = "blue"


def cook(
    terminal: Terminal,
    things: Annotated[list[Path] | None, typer.Argument()] = None,
    max_rank: Annotated[int, typer.Option("--max-rank", "--rank")] = 64,
    colour: Annotated[Colour, typer.Option("--colour")] = Colour.red,
    fast: Annotated[bool, typer.Option("--fast/--slow")] = False,
    fail: Annotated[str, typer.Option("--fail")] = "",
) -> None:
    """Cook."""
    errors = {
        "input": InputError("no salt\nin line 3", "add some"),
        "usage": UsageError("u"),
        "partial": PartialError("p"),
        "verification": VerificationError("v"),
        "machine": MachineError("m"),
        "interrupt": KeyboardInterrupt(),
        "bug": ValueError("surprise"),
        "pipe": BrokenPipeError(),
        "closed": PermissionError(errno.EACCES, "Permission denied", "closed/x"),
        "long": OSError(errno.ENAMETOOLONG, "File name too long", b"xxx"),
        "full": OSError(errno.ENOSPC, "No space left on device"),
        "bare": OSError("no number"),
    }
    if fail:
        raise errors[fail]
    terminal.info("a remark")
    terminal.detail("a detail")
    terminal.warn("a warning")
    table = Table("rank")
    table.add_row(str(max_rank))
    given = terminal.default(things[0] if things else None, Path("pot"), "vessel")
    with terminal.track("cook", 2, "pots") as progress:
        progress.advance()
        progress.advance(failed=1)
    document = {"rank": max_rank, "colour": colour.value, "fast": fast, "thing": str(given)}
    terminal.result(document, table, text="done", then=PartialError("one is missing") if max_rank == 44 else None)


def stew(terminal: Terminal, salt: Annotated[int, typer.Option("--salt")] = 1) -> None:
    """Stew."""


def build() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("cook")(verb(cook))
    group = typer.Typer()
    group.command("soup")(verb(cook))
    group.command("stew")(verb(stew))
    app.add_typer(group, name="make")
    return app


def run(*arguments):
    return CliRunner().invoke(build(), [str(argument) for argument in arguments])


def test_json_prints_one_document_on_stdout_and_nothing_else():
    result = run("cook", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"rank": 64, "colour": "red", "fast": False, "thing": "pot"}
    assert "a remark" in result.stderr and "warning: a warning" in result.stderr


def test_defaults_are_said_and_given_names_are_not():
    assert "vessel: pot (default)" in run("cook").stderr
    assert "(default)" not in run("cook", "bowl").stderr


def test_tables_go_to_stdout_and_remarks_to_stderr():
    result = run("cook")
    assert "64" in result.stdout and "done" in result.stdout and "remark" not in result.stdout


def test_quiet_silences_everything_but_results_and_errors():
    result = run("cook", "--quiet")
    assert result.stderr == "" and "done" in result.stdout
    assert "error: no salt" in run("cook", "--quiet", "--fail", "input").stderr


def test_verbose_adds_details():
    assert "a detail" not in run("cook").stderr
    assert "a detail" in run("cook", "--verbose").stderr


def test_progress_off_a_terminal_is_a_plain_line():
    line = next(line for line in run("cook").stderr.splitlines() if line.startswith("cook:"))
    assert line.startswith("cook: 2/2 pots") and line.endswith("1 failed") and "\r" not in line


@pytest.mark.parametrize(
    ("kind", "code"),
    [("input", 3), ("usage", 2), ("partial", 4), ("verification", 5), ("machine", 1), ("interrupt", 130), ("bug", 1)],
)
def test_every_error_has_its_exit_code_and_one_line(kind, code):
    result = run("cook", "--fail", kind)
    assert result.exit_code == code
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ") and len(lines) <= 2
    assert "Traceback" not in result.stderr


def test_a_message_of_several_lines_is_printed_as_one():
    assert run("cook", "--fail", "input").stderr == "error: no salt in line 3\nhint: add some\n"


def test_an_unexpected_error_names_itself_and_debug_shows_where():
    assert "error: unexpected ValueError: surprise" in run("cook", "--fail", "bug").stderr
    assert "Traceback" in run("cook", "--fail", "bug", "--debug").stderr


@pytest.mark.parametrize(
    ("kind", "code", "line"),
    [
        ("closed", 3, "error: closed/x: Permission denied"),
        ("long", 3, "error: xxx: File name too long"),
        ("full", 1, "error: No space left on device"),
        ("bare", 1, "error: unexpected OSError: no number"),
    ],
)
def test_what_the_system_says_of_a_path_is_one_line(kind, code, line):
    result = run("cook", "--fail", kind)
    assert (result.exit_code, result.stderr.splitlines()[0]) == (code, line)


def in_bash(line, tmp_path):
    """Run a line of bash, in which ``cook`` is the program of this file; return its code and what it said."""
    program = "import test_commands_verb as own; own.build()()"
    (tmp_path / "cook").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$@"\n')
    (tmp_path / "cook").chmod(0o755)
    folder = Path(__file__).parent
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = os.pathsep.join((str(folder), str(folder.parents[1])))
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, env=environment, timeout=60)
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr, done.stderr
    return done


@pytest.mark.parametrize("flags", ["", "--json"])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_do_no_harm(tmp_path, closed, flags):
    assert in_bash(f"cook cook {flags} {closed}", tmp_path).returncode == 0
    assert in_bash(f"cook cook --fail input {flags} {closed}", tmp_path).returncode == 3


@pytest.mark.parametrize("flags", ["", "--json"])
def test_a_full_stdout_is_one_line(tmp_path, flags):
    done = in_bash(f"cook cook --quiet {flags} > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the result cannot be printed: No space left on device\n")
    assert in_bash(f"cook cook --quiet --fail input {flags} 2> /dev/full", tmp_path).returncode == 3


@pytest.mark.parametrize("flags", ["", "--json"])
def test_what_is_missing_is_said_even_where_nobody_reads_stdout(tmp_path, flags):
    gone = "| { exec <&-; sleep 3; }; exit ${PIPESTATUS[0]}"
    done = in_bash(f"cook cook --quiet --rank 44 {flags} {gone}", tmp_path)
    assert (done.returncode, done.stderr) == (4, "error: one is missing\n")
    done = in_bash(f"cook cook --quiet {flags} {gone}", tmp_path)
    assert (done.returncode, done.stderr) == (1, "")


def config(tmp_path, text):
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def document(*arguments):
    result = run(*arguments, "--json", "--quiet")
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default(tmp_path):
    path = config(tmp_path, 'max-rank = 8\ncolour = "blue"\nfast = true\n')
    assert document("cook", "--config", path) == {"rank": 8, "colour": "blue", "fast": True, "thing": "pot"}
    assert document("cook", "--rank", "4", "--slow", "--config", path)["rank"] == 4
    assert document("cook", "--config", path, "--slow")["fast"] is False


@pytest.mark.parametrize("key", ["max-rank", "max_rank", "rank"])
def test_keys_are_spelled_like_flags(tmp_path, key):
    assert document("cook", "--config", config(tmp_path, f"{key} = 8"))["rank"] == 8


def test_a_verb_reads_its_own_table_and_not_its_neighbours(tmp_path):
    path = config(tmp_path, "[cook]\nrank = 8\n[make.soup]\nrank = 2\n")
    assert document("cook", "--config", path)["rank"] == 8
    assert document("make", "soup", "--config", path)["rank"] == 2


def test_a_table_of_a_group_is_read_by_its_verbs_and_the_more_specific_wins(tmp_path):
    path = config(tmp_path, 'rank = 1\n[make]\nmax-rank = 2\ncolour = "blue"\n[make.soup]\ncolour = "red"\n')
    assert document("make", "soup", "--config", path) == {"rank": 2, "colour": "red", "fast": False, "thing": "pot"}
    assert document("make", "soup", "--rank", "3", "--config", path)["rank"] == 3
    assert document("cook", "--config", path)["rank"] == 1


def test_a_table_of_a_group_may_have_what_another_verb_of_it_takes_and_nothing_else(tmp_path):
    path = config(tmp_path, "[make]\nsalt = 2\nrank = 3\n")
    assert document("make", "soup", "--config", path)["rank"] == 3
    result = run("make", "soup", "--config", config(tmp_path, "[make]\nsallt = 2\n"))
    assert result.exit_code == 2 and "unknown key 'sallt' for make" in result.stderr
    assert "did you mean 'salt'?" in result.stderr
    result = run("make", "soup", "--config", config(tmp_path, "[make.soup]\nsalt = 2\n"))
    assert result.exit_code == 2 and "unknown key 'salt' for make soup" in result.stderr


def test_arguments_and_json_can_come_from_the_file(tmp_path):
    result = run("cook", "--config", config(tmp_path, 'things = ["bowl"]\njson = true\n'))
    assert json.loads(result.stdout)["thing"] == "bowl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rnak = 3", "unknown key 'rnak'"),
        ("rnak = 3", "did you mean 'rank'?"),
        ("[cok]\nrank = 3", "unknown table [cok]"),
        ("[make.sop]\nrank = 3", "unknown table [make.sop]"),
        ("rank = ", "not TOML"),
        ("rank = ", 'write keys as in ties = "average", and tables on a line of their own as in [evaluate.action]'),
        ("rank = " + "[" * 10**4, "not TOML"),
        ("make = 3", "unknown key 'make'"),
        ('rank = "many"', "integer"),
        ('colour = "green"', "green"),
    ],
)
def test_a_wrong_file_is_a_usage_error_that_names_what_is_wrong(tmp_path, text, message):
    result = run("cook", "--config", config(tmp_path, text))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_value_where_a_table_belongs_is_an_unknown_key(tmp_path):
    result = run("make", "soup", "--config", config(tmp_path, "make = 3"))
    assert result.exit_code == 2 and "unknown key 'make' for make soup" in result.stderr


def test_a_missing_configuration_file_is_a_usage_error(tmp_path):
    result = run("cook", "--config", tmp_path / "absent.toml")
    assert result.exit_code == 2 and "cannot be read" in result.stderr


def test_brackets_and_colons_in_names_are_text():
    """Not Rich's markup or emoji: ``[/red]`` would even be an error."""
    result = run("cook", "[/red]x[bold]:smile:")
    assert result.exit_code == 0 and "(default)" not in result.stderr
    terminal_text = CliRunner().invoke(build_echo(), ["[/red]:smile:"])
    assert "[/red]:smile:" in terminal_text.stdout and "[/red]:smile:" in terminal_text.stderr


def build_echo() -> typer.Typer:
    def echo(terminal: Terminal, text: Annotated[str, typer.Argument()]) -> None:
        """Say a text in every way."""
        table = Table("text", title=text)
        table.add_row(text)
        terminal.info(text)
        terminal.warn(text)
        terminal.result({}, table, text=text)

    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("echo")(verb(echo))
    return app


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")
@pytest.mark.parametrize("no_colour", [False, True])
def test_progress_on_a_terminal_is_a_live_bar_and_no_color_is_honoured(tmp_path, no_colour):
    ours, theirs = os.openpty()
    code = (
        "from figclip_cli.console import Terminal\nt = Terminal()\nt.warn('careful')\n"
        "with t.track('cook', 3, 'pots') as progress:\n"
        "    progress.advance()\n    progress.advance(2, failed=1, detail='hot')\n"
    )
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **({"NO_COLOR": "1"} if no_colour else {})}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    said = b""
    while True:
        try:
            block = os.read(ours, 4096)
        except OSError:  # the other end was closed
            break
        if not block:
            break
        said += block
    os.close(ours)
    assert process.wait(timeout=30) == 0
    text = said.decode()
    assert "3/3" in text and "pots" in text and "1 failed, hot" in text and "warning: careful" in text
    assert ("\x1b[33m" in text) is not no_colour
