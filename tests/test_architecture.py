"""The house keeps its shape: stage order, thin commands, quick help, sizes, documented names."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "figclip_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
STAGES = ("frames", "prompts", "adapt", "evaluate", "heads", "export")
# What a room may import from figclip_cli, besides itself and the modules beside the rooms.
MAY_IMPORT = {
    "frames": {"models"},
    "prompts": {"models"},
    "models": set(),
    "adapt": {"models", "frames", "prompts"},
    "evaluate": {"models", "frames", "prompts"},
    "heads": {"models", "frames", "prompts", "evaluate"},
    "export": {"models", "frames", "prompts", "adapt", "evaluate"},
    "ablate": {"models", "frames", "prompts", "adapt", "evaluate"},
    "report": {"models", "frames", "prompts", "adapt", "evaluate", "heads"},
    "demo": {"models", "report", *STAGES},
    "commands": {"ablate", "models", "demo", "report", *STAGES},
}
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 80


def imported_modules(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def public_definitions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Yield public functions and classes of a module, and public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (m for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_"))


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[0] == "figclip_cli" and parts[1] in MAY_IMPORT else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_data_flows_one_way(path):
    room = path.relative_to(PACKAGE).parts[0]
    allowed = MAY_IMPORT.get(room, set(MAY_IMPORT) if path.name in ("app.py", "__main__.py") else set()) | {room}
    forbidden = {m for m in imported_modules(path) if (r := room_of(m)) is not None and r not in allowed}
    assert not forbidden, f"{path.name} must not import {forbidden}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_knows_typer_and_rich(path):
    if path.relative_to(PACKAGE).parts[0] in ("commands", "app.py", "console.py"):
        return
    assert not {module.split(".")[0] for module in imported_modules(path)} & {"typer", "rich", "click"}


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "kernels").rglob("*.py"))], ids=lambda path: path.name)
def test_files_and_functions_stay_short_and_public_names_are_documented(path):
    text = path.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION_LINES, f"{path.name}: {node.name} has {length} lines"
    for node in public_definitions(tree):
        assert ast.get_docstring(node), f"{path.name}: {node.name} has no docstring"


def test_tests_share_helpers_by_names_that_mean_one_file():
    """No folder of tests is a package: of two files of one name, the one that is found first hides the other."""
    places: dict[str, list[str]] = {}
    for path in TESTS:
        assert "conftest" not in imported_modules(path), f"{path}: move what it imports from conftest into a helper"
        places.setdefault(path.stem, []).append(str(path.relative_to(ROOT)))
    del places["conftest"]  # which pytest alone imports, one for each folder
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


VERBS = (
    ["--help"],
    ["extract-frames", "--help"],
    ["build-prompts", "--help"],
    ["audit-negatives", "--help"],
    ["schema", "--help"],
    ["adapt", "--help"],
    ["train-head", "situation", "--help"],
    ["train-head", "dense-captioning", "--help"],
    ["predict", "situation", "--help"],
    ["predict", "dense-captioning", "--help"],
    ["evaluate", "--help"],
    ["evaluate", "retrieval", "--help"],
    ["evaluate", "situation", "--help"],
    ["evaluate", "dense-captioning", "--help"],
    ["compare", "--help"],
    ["ablate", "--help"],
    ["search", "--help"],
    ["embed", "--help"],
    ["export", "--help"],
    ["diff-weights", "--help"],
    ["report", "--help"],
    ["demo", "--help"],
    ["doctor", "--help"],
)


# One interpreter imports the program; each verb is asked in a fork of it. Writes what was said, and what was imported.
HELP = """
import json, os, sys
from pathlib import Path
sys.argv[0] = "figclip"
from figclip_cli.app import app
folder, verbs = Path(sys.argv[1]), json.loads(sys.argv[2])
for number, arguments in enumerate(verbs):
    if os.fork() == 0:
        said = os.open(folder / f"{number}.txt", os.O_WRONLY | os.O_CREAT)
        os.dup2(said, 1)
        os.dup2(said, 2)
        try:
            app(arguments, prog_name="figclip")
        except SystemExit:
            sys.stdout.flush()
            (folder / f"{number}.json").write_text(json.dumps(sorted(sys.modules)))
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def helped(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("help")
    subprocess.run([sys.executable, "-c", HELP, folder, json.dumps(VERBS)], check=True)
    return folder


@pytest.mark.parametrize("number", range(len(VERBS)), ids=lambda number: " ".join(VERBS[number]))
def test_help_imports_nothing_heavy(helped, number):
    said = (helped / f"{number}.txt").read_text()
    assert "Usage: figclip" in said, said
    heavy = {"torch", "h5py", "av", "open_clip", "numpy", "PIL"}
    assert not heavy & set(json.loads((helped / f"{number}.json").read_text()))


def test_help_answers_under_400_ms_of_processor_time(figclip):
    """Processor time, not wall-clock time, so that a busy machine does not decide; best of three."""
    figclip("--help", NO_COLOR="1")

    def seconds() -> float:
        before = os.times()
        assert figclip("--help", NO_COLOR="1").returncode == 0
        after = os.times()
        return (after.children_user - before.children_user) + (after.children_system - before.children_system)

    started = time.monotonic()
    assert min(seconds() for _ in range(3)) < 0.4, time.monotonic() - started


def test_the_version_is_said_once_and_the_changelog_agrees(figclip):
    from figclip_cli import __version__

    assert figclip("--version").stdout.strip() == f"figclip {__version__}"
    assert f'version = "{__version__}"' in (ROOT / "pyproject.toml").read_text()
    headings = [line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert headings[0] == "## Unreleased"


def test_the_list_of_verbs_says_what_each_verb_says_of_itself():
    from typer.main import get_command

    from figclip_cli.app import VERBS, app

    commands = get_command(app).commands
    assert list(commands) == list(VERBS)
    for name, (_, said) in VERBS.items():
        assert commands[name].name == name
        assert " ".join(commands[name].help.split("\n\n")[0].split()) == said


def test_an_unknown_verb_and_flag_are_usage_errors(figclip):
    assert figclip("extract").returncode == 2
    assert figclip("adapt", "--rnak", "8").returncode == 2


def test_help_lists_the_verbs_in_stage_order(figclip):
    text = figclip("--help").stdout
    verbs = [
        "extract-frames",
        "build-prompts",
        "audit-negatives",
        "schema",
        "adapt ",
        "train-head",
        "predict",
        "evaluate",
        "compare",
        "ablate",
        "search",
        "embed",
        "export",
        "demo",
        "doctor",
    ]
    places = [text.index(f"│ {verb}") for verb in verbs]
    assert places == sorted(places)
