"""Killed, fuzzed, lied to: the run goes on, the result is right or refused."""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from figclip_cli.errors import FigclipError
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.frames.clip import STATUSES
from figclip_cli.frames.journal import journal_folder
from figclip_cli.frames.sources import find_sources

RECIPE = SamplingRecipe(size=16)
COMMAND = [sys.executable, "-m", "figclip_cli", "extract-frames", "--size", "16", "--workers", "2", "--quiet"]


def datasets(path):
    with h5py.File(path) as file:
        return {name: file[name][()].tolist() for name in file} | {"content": file.attrs["content_sha256"]}


def workers_of(pid):
    """Return the processes that a program started and that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            if int(fields[1]) == pid and fields[0] != b"Z":
                found.append(int(entry.name))
    return found


def test_thirty_kills_of_workers_and_of_the_program_change_nothing(clips, tmp_path):
    """Kills come at random moments of the work, never twice before it went on a little, until 30 were done."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(400):
        (folder / f"clip{number:03d}.mp4").hardlink_to(clips[("plain", "b_frames")[number % 2]])
    extract([folder], tmp_path / "whole.h5", recipe=RECIPE, workers=2)
    output = tmp_path / "frames.h5"
    lines = journal_folder(output) / "clips.jsonl"
    dice, kills = random.Random(7), 0
    while kills < 30:
        process = subprocess.Popen([*COMMAND, str(folder), "-o", str(output)], stderr=subprocess.PIPE)
        for turn in range(5):  # four workers, then the program
            before, deadline = lines.read_bytes().count(b"\n") if lines.exists() else 0, time.monotonic() + 60
            while process.poll() is None and time.monotonic() < deadline:
                if lines.exists() and lines.read_bytes().count(b"\n") > before + 2:
                    break
                time.sleep(0.002)
            time.sleep(dice.random() * 0.05)
            if process.poll() is not None:
                break
            victims = workers_of(process.pid)
            victim = dice.choice(victims) if victims and turn < 4 else process.pid
            os.kill(victim, signal.SIGKILL)
            kills += 1
        process.communicate(timeout=120)
        if output.exists():  # it was quicker than we: begin again with what is left to kill
            assert datasets(output) == datasets(tmp_path / "whole.h5")
            output.unlink()
    last = subprocess.run([*COMMAND, str(folder), "-o", str(output)], capture_output=True, text=True, timeout=300)
    assert last.returncode == 0, last.stderr
    assert datasets(output) == datasets(tmp_path / "whole.h5")


def mutated(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Flip bytes, cut, or splice two files."""
    way = dice.randrange(3)
    if way == 0:
        changed = bytearray(data)
        for _ in range(dice.choice((1, 5, 50, 500))):
            changed[dice.randrange(len(changed))] = dice.randrange(256)
        return bytes(changed)
    place = dice.randrange(len(data))
    return data[:place] if way == 1 else data[:place] + other[dice.randrange(len(other)) :]


CONTAINERS = ("b_frames", "matroska", "vp9", "avi_b_frames", "mpegts", "mov", "fragmented", "mpeg2_ts")


def fuzz(clips, folder, count, seed):
    dice = random.Random(seed)
    folder.mkdir()
    contents = {name: (clips[name].read_bytes(), clips[name].suffix) for name in CONTAINERS}
    for number in range(count):
        data, ending = contents[CONTAINERS[number % len(CONTAINERS)]]
        other = contents[dice.choice(CONTAINERS)][0]
        (folder / f"m{number:05d}{ending}").write_bytes(mutated(data, other, dice))
    (folder / "good.mp4").write_bytes(clips["plain"].read_bytes())


def run_fuzz(clips, tmp_path, count, seed, decoder):
    folder, output = tmp_path / "fuzz", tmp_path / "frames.h5"
    fuzz(clips, folder, count, seed)
    command = [*COMMAND, str(folder), "-o", str(output), "--decoder", decoder, "--timeout", "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 + count)
    assert done.returncode == 4, done.stderr  # some clips are not ok, and that is all
    report = [json.loads(line) for line in (tmp_path / "frames-report.jsonl").read_text().splitlines()]
    assert len(report) == count + 1
    for row in report:
        times = [time for time in row["pts_seconds"] if time is not None]
        assert row["status"] in STATUSES and "unexpected" not in row["reason"], row
        assert bool(row["reason"]) == (row["status"] != "ok") and "\n" not in row["reason"], row
        assert times == sorted(times) and all(np.isfinite(times)), row
        assert (len(times) == 20) if row["status"] == "ok" else True, row
        assert (len(times) == 0) if row["status"] in ("failed", "timeout") else True, row
        assert row["status"] != "timeout", row
    reader = FramesReader(output)
    assert "good" in reader.clip_ids
    for clip_id in reader.clip_ids:
        assert reader.read(clip_id).shape == (5, 4, 16, 16, 3)
    return report


@pytest.mark.parametrize("decoder", ["pyav", "ffmpeg"])
def test_a_hundred_mutated_videos(clips, tmp_path, decoder):
    report = run_fuzz(clips, tmp_path, 100 if decoder == "pyav" else 40, 1, decoder)
    assert {"ok", "short", "failed"} <= {row["status"] for row in report}


@pytest.mark.fuzz
def test_thousands_of_mutated_videos(clips, tmp_path):
    run_fuzz(clips, tmp_path, int(os.environ.get("FIGCLIP_FUZZ", "2400")), 2, "pyav")


def test_a_cut_file_is_never_ok_where_its_header_says_how_long_it_was(clips, tmp_path):
    dice, folder = random.Random(3), tmp_path / "cut"
    folder.mkdir()
    for number in range(40):
        source = clips[("matroska", "vp9", "avi", "open_groups_mkv")[number % 4]]
        data = source.read_bytes()
        (folder / f"{number:02d}{source.suffix}").write_bytes(data[: int(len(data) * dice.uniform(0.2, 0.7))])
    summary = extract([folder], tmp_path / "frames.h5", recipe=RECIPE, workers=2)
    assert summary.by_status["ok"] == 0 and summary.by_status["short"] > 10


@pytest.fixture(scope="module")
def good_file(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for name in ("plain", "b_frames"):
        (folder / f"{name}.mp4").write_bytes(clips[name].read_bytes())
    extract([folder], folder / "frames.h5", recipe=RECIPE, workers=1)
    return folder / "frames.h5"


READ = """
import sys
from figclip_cli.errors import FigclipError
from figclip_cli.frames import FramesReader
for path in sys.argv[1:]:
    try:
        reader = FramesReader(path)
        for clip in reader.clip_ids:
            reader.read(clip)
    except FigclipError as error:
        assert "\\n" not in str(error), path
"""


def test_frames_files_with_wrong_bytes_are_refused_or_read_and_crash_nothing(good_file, tmp_path):
    dice, data = random.Random(11), good_file.read_bytes()
    paths = []
    for number in range(300):
        changed = bytearray(data)
        reach = 4096 if number % 2 else len(data)  # HDF5's own structures are at the beginning
        for _ in range(dice.choice((1, 4, 40))):
            changed[dice.randrange(reach)] = dice.randrange(256)
        path = tmp_path / f"{number}.h5"
        path.write_bytes(changed if number % 3 else changed[: dice.randrange(len(changed))])
        paths.append(str(path))
    done = subprocess.run([sys.executable, "-c", READ, *paths], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def retyped(name, data):
    def change(file):
        attributes = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=data).attrs.update(attributes)

    return change


def huge(file):
    del file["jpeg_offsets"]
    file.create_dataset("jpeg_offsets", shape=(1 << 40,), dtype=np.int64, chunks=(1 << 16,))


@pytest.mark.parametrize(
    "change",
    [
        retyped("jpeg_offsets", np.full(41, -5, dtype=np.int64)),
        retyped("jpeg_offsets", np.arange(41, dtype=np.float32)),
        retyped("jpeg_bytes", np.zeros((3, 3), dtype=np.uint8)),
        retyped("pts", np.zeros(3)),
        retyped("pts", np.zeros((2, 5, 4), dtype=np.int8)),
        retyped("clip_id", np.zeros(2)),
        retyped("duration_seconds", np.array([b"a", b"b"])),
        huge,
    ],
)
def test_frames_files_that_lie_are_refused_in_one_line(good_file, tmp_path, change):
    path = tmp_path / "lie.h5"
    path.write_bytes(good_file.read_bytes())
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(FigclipError) as caught:
        FramesReader(path)
    assert "lie.h5" in str(caught.value) and "\n" not in str(caught.value)


def test_links_in_circles_end_and_broken_ones_are_reported(clips, tmp_path):
    folder = tmp_path / "videos"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "up").symlink_to(folder)
    (folder / "elsewhere").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.mp4").write_bytes(clips["plain"].read_bytes())
    (folder / "self.mp4").symlink_to(folder / "self.mp4")
    (folder / "gone.mp4").symlink_to(folder / "nowhere.mp4")
    summary = extract([folder / "deep" / ".."], tmp_path / "frames.h5", recipe=RECIPE, workers=1)
    assert summary.by_status == {"ok": 1, "short": 0, "failed": 2, "timeout": 0}
    assert set(summary.by_reason) == {"the file does not exist", "cannot be read: Too many levels of symbolic links"}


def test_a_hundred_thousand_files_in_a_folder_are_listed(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(100_000):
        (folder / f"{number:05d}.mp4").touch()
    assert len(find_sources([folder])) == 100_000


def test_a_read_only_target_is_said_before_anything_is_decoded(clips, tmp_path):
    if os.geteuid() == 0:
        target = "/proc/frames.h5"  # root may write anywhere else
    else:
        (tmp_path / "locked").mkdir(mode=0o500)
        target = str(tmp_path / "locked" / "frames.h5")
    done = subprocess.run([*COMMAND, str(clips["plain"]), "-o", target], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("error:") == 1 and "Traceback" not in done.stderr


def test_a_file_that_vanishes_midway_is_that_clips_loss_alone(clips, tmp_path, monkeypatch):
    module = importlib.import_module("figclip_cli.frames.extract")

    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.mp4").write_bytes(clips["plain"].read_bytes())
    real = module.open_journal

    def after_listing(*arguments, **options):
        (folder / "b.mp4").unlink()
        return real(*arguments, **options)

    monkeypatch.setattr(module, "open_journal", after_listing)
    summary = extract([folder], tmp_path / "frames.h5", recipe=RECIPE, workers=1)
    assert summary.by_status["ok"] == 1 and summary.by_reason == {"the file does not exist": 1}
