"""A run may be killed, stopped, lose a process or be shared by several: the result is the one of a quiet run."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

FLAGS = ["--rank", "2", "--batch-clips", "4", "--lr", "1e-3", "--contextualizer-layers", "1", "--lora-dropout", "0.1"]
EPOCHS, STEPS = "20", 40  # a step takes some milliseconds: what disturbs the third must come before the last
pytestmark = pytest.mark.usefixtures("warm_figclip")


def command(prepared: Path, runs: Path, name: str, *more: str) -> list[str]:
    paths = ["--frames", prepared / "frames.h5", "--prompts", prepared / "prompts.jsonl"]
    paths += ["--model", prepared / "base-model", "--runs", runs, "--name", name]
    return ["figclip", "adapt", *FLAGS, *map(str, paths), *more]


def start(words: list[str], *launcher: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*launcher, *words], stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=hear_interrupts
    )


def hear_interrupts() -> None:
    """Undo what a shell does to jobs in the background, where these tests may run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def run_to_the_end(words: list[str], *launcher: str) -> str:
    process = start(words, *launcher)
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    return said


def steps_in(run: Path) -> int:
    file = run / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def wait_for_steps(process: subprocess.Popen[str], run: Path, steps: int) -> None:
    deadline = time.monotonic() + 200
    while process.poll() is None and steps_in(run) < steps and time.monotonic() < deadline:
        time.sleep(0.005)


def metrics_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_bytes(first: Path, second: Path) -> None:
    for name in ("adapter.safetensors", "contextualizer.safetensors", "metrics.jsonl"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def assert_close(first: Path, second: Path, bound: float = 1e-5) -> None:
    """Losses and gradient norms of every step, and the weights at the end."""
    ours, theirs = metrics_of(first), metrics_of(second)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys() and one["step"] == other["step"]
        for key in one.keys() & {"loss", "clip_event", "vc_event", "clip_video", "vc_video"}:
            assert one[key] == pytest.approx(other[key], abs=bound), (one["step"], key)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-4)
    for name in ("adapter.safetensors", "contextualizer.safetensors"):
        if not (first / name).is_file():
            assert not (second / name).is_file()
            continue
        a, b = load_file(first / name), load_file(second / name)
        assert max((a[key] - b[key]).abs().max().item() for key in a) < bound, name


@pytest.fixture(scope="module")
def quiet_run(prepared, tmp_path_factory) -> Path:
    """All steps without disturbance."""
    runs = tmp_path_factory.mktemp("quiet")
    run_to_the_end(command(prepared, runs, "run", "--epochs", EPOCHS))
    assert steps_in(runs / "run") == STEPS
    return runs / "run"


def test_killed_at_random_steps_and_resumed_gives_the_same_bytes(prepared, quiet_run, tmp_path):
    draw, kills = random.Random(0), 0
    words = command(prepared, tmp_path, "run", "--epochs", EPOCHS, "--checkpoint-every", "1", "--resume")
    for _ in range(3):
        process = start(words)
        wait_for_steps(process, tmp_path / "run", steps_in(tmp_path / "run") + draw.randint(2, 7))
        time.sleep(draw.random() * 0.02)  # anywhere in a step, or in a checkpoint
        kills += process.poll() is None
        process.kill()
        process.communicate()
    assert kills >= 2
    run_to_the_end(words)
    assert_same_bytes(tmp_path / "run", quiet_run)
    assert not list((tmp_path / "run" / "checkpoints").glob(".*")), "no torn files are left"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_with_130_and_a_checkpoint_of_the_step_at_hand(prepared, quiet_run, tmp_path, number):
    words = command(prepared, tmp_path, "run", "--epochs", EPOCHS)
    process = start([*words, "--workers", "1"])
    wait_for_steps(process, tmp_path / "run", 3)
    process.send_signal(number)
    said = process.communicate(timeout=100)[1]
    assert process.returncode == 130, said
    assert "error: interrupted" in said and "Traceback" not in said, said
    done = steps_in(tmp_path / "run")
    assert 3 <= done < STEPS
    said = run_to_the_end([*words, "--resume"])
    assert f"step {done} of {STEPS}" in said, "it goes on after the very step it was stopped in"
    assert_same_bytes(tmp_path / "run", quiet_run)


def torchrun(processes: int) -> list[str]:
    return [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--no-python"]


def distributed(words: list[str], processes: int) -> str:
    return run_to_the_end(words, *torchrun(processes))


def without_dropout(words: list[str]) -> list[str]:
    return [*words, "--lora-dropout", "0"]  # its numbers are each process's own


@pytest.fixture(scope="module")
def single_run(prepared, tmp_path_factory) -> Path:
    """Twenty steps in one process, without dropout."""
    runs = tmp_path_factory.mktemp("single")
    run_to_the_end(without_dropout(command(prepared, runs, "run", "--epochs", "10")))
    return runs / "run"


def test_two_processes_equal_one_over_twenty_steps(prepared, single_run, tmp_path):
    """Started as the page says, ``torchrun --nproc-per-node 2 -m figclip_cli adapt``: each imports all for itself."""
    words = without_dropout(command(prepared, tmp_path, "run", "--epochs", "10"))[1:]
    said = run_to_the_end(words, "torchrun", "--nproc-per-node", "2", "-m", "figclip_cli")
    assert len(metrics_of(single_run)) == 20
    assert_close(tmp_path / "run", single_run)
    assert said.count("training on 6 of 6") == 1, "one process speaks for all"
    assert json.loads((tmp_path / "run" / "config.json").read_text())["execution"]["processes"] == 2


def test_three_processes_with_uneven_shares_in_parts_equal_one(prepared, tmp_path):
    """Six clips, four a step: the last step has fewer clips than processes, and no head trains without frames."""
    more = ["--epochs", "4", "--no-contextualizer"]
    run_to_the_end(without_dropout(command(prepared, tmp_path, "one", *more)))
    distributed([*without_dropout(command(prepared, tmp_path, "three", *more)), "--micro-batch-clips", "1"], 3)
    assert_close(tmp_path / "three", tmp_path / "one")


def test_processes_that_do_not_see_the_checkpoint_get_it_from_the_first(prepared, single_run, tmp_path):
    """As on several machines: each process works in a folder of its own."""
    launcher = tmp_path / "elsewhere"
    folder = f'"{tmp_path}/machine-$RANK"'
    launcher.write_text(f'#!/bin/sh\nmkdir -p {folder} && cd {folder} && exec "$@"\n')
    launcher.chmod(0o755)
    for more in (["--epochs", "4"], ["--epochs", "10", "--resume"]):
        words = without_dropout(command(prepared, Path("runs"), "run", *more))
        distributed([str(launcher), *words], 2)
    assert not (tmp_path / "machine-1" / "runs").exists()
    assert_close(tmp_path / "machine-0" / "runs" / "run", single_run)


def test_two_processes_share_trained_texts_anchors_temperature_and_validation(prepared, tmp_path):
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("v_clip0000005_seg_0_10\n")
    more = ["--epochs", "2", "--towers", "both", "--anchor", "feature=1,geometry=1,video=1", "--learn-temperature"]
    more += ["--validation", str(held_out), "--save-tokens"]
    run_to_the_end(without_dropout(command(prepared, tmp_path, "one", *more)))
    distributed(without_dropout(command(prepared, tmp_path, "two", *more)), 2)
    one, two = ([json.loads(line) for line in (tmp_path / n / "metrics.jsonl").open()] for n in ("one", "two"))
    assert [line.keys() for line in one] == [line.keys() for line in two] and any("validation" in line for line in one)
    for mine, other in zip(one, two, strict=True):
        for key in mine.keys() - {"validation"}:
            assert mine[key] == pytest.approx(other[key], abs=1e-5), key
        for key, value in mine.get("validation", {}).items():
            assert value == pytest.approx(other["validation"][key]), key
    a, b = (load_file(tmp_path / name / "adapter.safetensors") for name in ("one", "two"))
    assert max((a[key] - b[key]).abs().max().item() for key in a) < 1e-5
    assert (tmp_path / "two" / "tokens.h5").is_file()


def test_a_process_that_dies_ends_the_others_with_a_message_and_the_run_goes_on(prepared, tmp_path):
    words = without_dropout(command(prepared, tmp_path, "run", "--epochs", "100000"))
    process = start(words, *torchrun(2))
    wait_for_steps(process, tmp_path / "run", 5)
    os.kill(rank_one(process.pid), signal.SIGKILL)
    said = process.communicate(timeout=100)[1]
    assert process.returncode != 0
    assert re.search(r"error: (another process of this run has ended|interrupted)", said), said[-2000:]
    done = steps_in(tmp_path / "run")
    alone = start([*words, "--resume"])
    wait_for_steps(alone, tmp_path / "run", done + 5)
    alone.send_signal(signal.SIGINT)
    assert f"step {done} of 200000" in alone.communicate(timeout=100)[1], "one process goes on where two were"


def rank_one(launcher: int) -> int:
    """Return the process that torchrun gave rank 1."""
    for pid in map(int, Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()):
        if b"\0RANK=1\0" in b"\0" + Path(f"/proc/{pid}/environ").read_bytes():
            return pid
    raise AssertionError("no process has rank 1")


def test_a_mistake_in_the_flags_is_told_once_by_several_processes(prepared, tmp_path):
    words = command(prepared, tmp_path, "run", "--blocks", "7-9")
    process = start(words, *torchrun(2))
    said = process.communicate(timeout=200)[1]
    assert process.returncode != 0 and said.count("error: ") == 1, said
