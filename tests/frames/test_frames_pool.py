"""The pool: workers that crash, hang, are killed; what each costs, and whom."""

from __future__ import annotations

import os

import pytest

from figclip_cli.frames import SamplingRecipe
from figclip_cli.frames.pool import process_clips
from figclip_cli.frames.sources import find_sources

RECIPE = SamplingRecipe(size=32)


def in_workers(tmp_path, monkeypatch, what):
    """Make workers do ``what`` when they come to the clip named ``plain``; they see it through the environment."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os, signal, time, pathlib\nimport figclip_cli.frames.clip as c\nreal = c.open_video\n"
        f"def open_video(path, **part):\n    if path.stem == 'plain':\n        {what}\n    return real(path, **part)\n"
        "c.open_video = open_video\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(hook))


def run_pool(folder, **options):
    results = process_clips(find_sources([folder]), RECIPE, workers=2, **options)
    return {result.clip_id: (result.status, result.reason) for _, result in results}


OTHERS = {"avi": ("ok", ""), "b_frames": ("ok", ""), "matroska": ("ok", "")}


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("os._exit(11)", "the decoder crashed (exit status 11) three times"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "the decoder was killed by SIGSEGV three times"),
        ("raise ZeroDivisionError('odd')", "unexpected ZeroDivisionError: odd"),
        ("raise MemoryError", "not enough memory to decode it"),
        ("raise PermissionError(13, 'Permission denied')", "cannot be read: Permission denied"),
    ],
)
def test_a_clip_that_breaks_its_worker_costs_itself_alone(folder, tmp_path, monkeypatch, what, reason):
    in_workers(tmp_path, monkeypatch, what)
    assert run_pool(folder) == OTHERS | {"plain": ("failed", reason)}


def test_a_clip_that_hangs_is_given_up_and_its_worker_killed(folder, tmp_path, monkeypatch):
    in_workers(tmp_path, monkeypatch, f"pathlib.Path({str(tmp_path)!r}, str(os.getpid())).touch(); time.sleep(600)")
    assert run_pool(folder, timeout_seconds=3.0) == OTHERS | {"plain": ("timeout", "no result after 3 s")}
    pids = [int(path.name) for path in tmp_path.iterdir() if path.name.isdigit()]
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_worker_killed_once_costs_nothing(folder, tmp_path, monkeypatch):
    mark = tmp_path / "mark"
    once = f"m = pathlib.Path({str(mark)!r}); m.exists() or (m.touch(), os.kill(os.getpid(), signal.SIGKILL))"
    in_workers(tmp_path, monkeypatch, once)
    assert run_pool(folder) == OTHERS | {"plain": ("ok", "")}
    assert mark.exists()
