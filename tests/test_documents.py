"""Every command that a page shows is run, on stand-ins of the same names, or by the test that is named here."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
from document_scenes import SCENES, Stage
from documents import PAGES, ROOT, SMALL, Block, array_tasks, bare, blocks, run, small

# Lines that another test runs: the page, the lines (none: the whole page), the test, and a text by which it has them.
ELSEWHERE: tuple[tuple[str, tuple[str, ...], str, str, str], ...] = (
    (
        "README.md",
        (
            "figclip extract-frames vidsitu/",
            "figclip build-prompts vidsitu/vsann_train_lb.json",
            "figclip adapt --rank 8",
            "figclip evaluate retrieval --zero-shot",
            "figclip export",
        ),
        "commands/test_commands_pipeline.py",
        "test_every_line_of_the_readme_works_as_written",
        'readme.split("## Five stages")',
    ),
    (
        "docs/heads.md",
        (),
        "commands/test_commands_task_heads.py",
        "test_every_line_works_as_written",
        'blocks("docs/heads.md")',
    ),
    (
        "docs/troubleshooting.md",
        ("figclip doctor", "figclip doctor --json | jq .paths"),
        "commands/test_commands_doctor.py",
        "test_the_lines_of_the_page_run",
        '"docs/troubleshooting.md"',
    ),
    (
        "docs/quickstart.md",
        ("figclip demo",),
        "demo/test_demo_run.py",
        "test_the_command_passes_its_flags_on",
        '["demo"',
    ),
    (
        "docs/adapt.md",
        ("torchrun --nproc-per-node 2 -m figclip_cli adapt --name shared",),
        "adapt/test_adapt_unbreakable.py",
        "test_two_processes_equal_one_over_twenty_steps",
        '"torchrun", "--nproc-per-node", "2", "-m", "figclip_cli"',
    ),
    (
        "docs/export.md",
        ("figclip export runs/NAME --to peft --base-name openai/clip-vit-base-patch32",),
        "export/test_export_peft.py",
        "test_the_base_is_named_as_the_user_says_or_as_the_folder_it_was",
        'base_name="openai/clip-vit-base-patch32"',
    ),
    (
        "docs/clusters.md",
        ("figclip extract-frames videos/ --executor ray -o ray.h5",),
        "frames/test_frames_ray.py",
        "test_ray_gives_what_processes_give_even_when_a_worker_is_killed",
        'executor="ray"',
    ),
)
# Lines that cannot be run in a test, and why.
INSTALLS, SUITE = "installs packages from a registry", "installs, or is the test suite itself"
NEVER = {"pip install -e .": INSTALLS} | {f"make {target}": SUITE for target in ("demo", "test", "check", "coverage")}
PARTIAL = "figclip ablate paper-b32 --root data/ --report-only"
"""The one line whose exit code is 4, as the page says: nothing is finished."""
SLURM = {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "1", "SLURM_NNODES": "2", "SLURM_JOB_NODELIST": "node-[1-2]"}


@cache
def commands_of(page: str) -> tuple[tuple[Block, str], ...]:
    return tuple((block, one) for block in blocks(page) if block.is_commands for one in block.commands())


def elsewhere(page: str, command: str) -> bool:
    return any(page == named and bare(command) in (lines or [bare(command)]) for named, lines, *_ in ELSEWHERE)


@cache
def to_run(page: str) -> list[tuple[Block, str]]:
    """What no other test and no earlier page runs."""
    order = list(SCENES)
    earlier = order[: order.index(page)] if page in order else order
    known = {bare(one) for before in earlier for _, one in to_run(before)} | set(NEVER)
    return [(b, one) for b, one in commands_of(page) if not elsewhere(page, one) and bare(one) not in known]


@pytest.fixture(scope="session")
def stage(finished_run, prepared, warm_figclip) -> Stage:
    return Stage(prepared, finished_run.path, warm_figclip)


@pytest.mark.parametrize("page", list(SCENES))
def test_every_command_of_the_page_runs(page, stage, tmp_path):
    (tmp_path / "small.toml").write_text(SMALL)
    SCENES[page](stage, tmp_path)
    environment = {
        "PATH": os.pathsep.join([str(tmp_path / "bin"), os.environ["PATH"]]),
        "TMPDIR": str(tmp_path / "node"),
        **SLURM,
    }
    without_jq = []
    for block, command in to_run(page):
        if "jq " in command and shutil.which("jq") is None:
            without_jq.append(command)
            continue
        line = small(command)
        if "\n" in command and not block.is_script:
            line = f"set -e\n{line}"
        for task in array_tasks(command):
            done = run(line, tmp_path, {**environment, **task})
            assert done.returncode == (4 if bare(command) == PARTIAL else 0) and "Traceback" not in done.stderr, (
                f"{page}, line {block.line}: {command}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            )
    if without_jq:
        pytest.skip(f"jq is absent: {len(without_jq)} lines of {page} were not run")


def test_every_page_with_commands_has_a_scene_and_no_scene_is_idle():
    needed = {page for page in PAGES if to_run(page)}
    assert needed == set(SCENES), needed ^ set(SCENES)


def test_tests_that_run_lines_elsewhere_exist_and_read_them():
    for page, lines, file, test, named in ELSEWHERE:
        shown = [bare(one) for _, one in commands_of(page)]
        assert shown and set(lines) <= set(shown), f"{page} does not show {set(lines) - set(shown)} any more"
        source = (ROOT / "tests" / file).read_text()
        functions = {node.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)}
        assert test in functions and named in source, f"{file} does not run {page}"


def test_lines_that_are_never_run_are_shown_and_what_they_name_exists():
    shown = {bare(one) for page in PAGES for _, one in commands_of(page)}
    assert set(NEVER) <= shown
    for line in NEVER:
        if line.startswith("make "):
            done = subprocess.run([*line.split(), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr


def test_a_line_is_taken_whole_and_a_new_one_is_seen():
    block = Block("x", 1, "", "figclip a |\n    jq .b\nfigclip c \\\n    --d   # e\n# f\n")
    assert block.is_commands and block.commands() == ["figclip a | jq .b", "figclip c --d   # e"]
    assert bare("figclip c --d   # e") == "figclip c --d"
    assert not Block("x", 1, "", "figclip_cli/\n  app.py\n").is_commands
    assert not Block("x", 1, "json", "figclip a").is_commands
    assert small("figclip adapt --rank 8") == "figclip adapt --config small.toml --rank 8"


# What a page says besides commands


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#\s]*)(?:#[^)\s]*)?\)", (ROOT / page).read_text()):
            if target and not target.startswith(("http:", "https:")):
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    made = set()
    for heading in re.findall(r"^#+ (.*)$", path.read_text(), re.M):
        plain = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", ""))
        made.add(plain.replace(" ", "-"))
    return made


def test_links_into_pages_meet_a_heading():
    for page in PAGES:
        for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", (ROOT / page).read_text()):
            if not target.startswith("http"):
                path = (ROOT / page).parent / target if target else ROOT / page
                assert anchor in anchors(path), f"{page}: {target}#{anchor}"


def test_the_index_names_every_page():
    index = (ROOT / "docs" / "README.md").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert path.name == "README.md" or f"({path.name})" in index, f"docs/README.md does not name {path.name}"


@cache
def texts_of_the_program() -> tuple[str, ...]:
    """Every text in the source, with three dots for what is put in."""
    found = []
    for path in (ROOT / "figclip_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return tuple(found)


def test_messages_in_the_pages_are_those_of_the_program():
    said = re.findall(r"`(?:error|warning): (.*?)`", (ROOT / "docs" / "troubleshooting.md").read_text())
    assert len(said) > 20
    for message in said:
        pattern = re.compile(".*".join(map(re.escape, filter(None, message.split("...")))), re.S)
        assert any(pattern.search(text) for text in texts_of_the_program()), message
