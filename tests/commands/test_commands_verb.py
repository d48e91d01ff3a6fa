"""Common flags, configuration files, streams and exit codes, on a small program built like ours."""

from __future__ import annotations

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
    terminal.result(document, table, text="done")


def build() -> typer.Typer:
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command("cook")(verb(cook))
    group = typer.Typer()
    group.command("soup")(verb(cook))
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
        ('rank = "many"', "integer"),
        ('colour = "green"', "green"),
    ],
)
def test_a_wrong_file_is_a_usage_error_that_names_what_is_wrong(tmp_path, text, message):
    result = run("cook", "--config", config(tmp_path, text))
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.replace("│", " ").split())


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
