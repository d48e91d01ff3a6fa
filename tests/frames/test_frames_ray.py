"""The same clips on a Ray cluster of this machine, one of whose workers is killed."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from figclip_cli.frames import SamplingRecipe, extract
from figclip_cli.frames.ray_executor import process_clips_on_ray
from figclip_cli.frames.sources import find_sources

RECIPE = SamplingRecipe(size=32)


@pytest.fixture(scope="module")
def cluster():
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray = pytest.importorskip("ray", reason="pip install 'figclip-cli[ray]'")
    ray.init(address="local", num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def folder(clips, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("plain", "b_frames", "matroska", "avi"):
        shutil.copy(clips[name], videos)
    (videos / "text.mp4").write_text("no video\n" * 100)
    return videos


def busy_workers():
    """Return the processes that run a clip of ours now; Ray names them after the function."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                title = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::process_clip"):
                found.append(int(entry.name))
    return found


def test_ray_gives_what_processes_give_even_when_a_worker_is_killed(cluster, folder, tmp_path, clips):
    for number in range(300):
        (folder / f"more{number:03d}.mp4").hardlink_to(clips["b_frames"])
    here = extract([folder], tmp_path / "here.h5", recipe=RECIPE, workers=2)
    killed = []

    def kill_one():
        deadline = time.monotonic() + 60
        while not killed and time.monotonic() < deadline:
            for pid in busy_workers():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return
            time.sleep(0.002)

    killer = threading.Thread(target=kill_one)
    killer.start()
    there = extract([folder], tmp_path / "there.h5", recipe=RECIPE, workers=2, executor="ray")
    killer.join()
    assert killed, "no worker was seen at work"
    assert there.content_sha256 == here.content_sha256 and there.by_status == here.by_status
    assert there.by_status["ok"] == 304 and there.by_status["failed"] == 1


def test_a_clip_that_takes_too_long_on_ray_is_given_up(cluster, folder, monkeypatch):
    import figclip_cli.frames.ray_executor as module

    def stuck(source, recipe):
        import time

        from figclip_cli.frames.clip import process_clip

        time.sleep(600 if source.clip_id == "plain" else 0)
        return process_clip(source, recipe)

    monkeypatch.setattr(module, "process_clip", stuck)
    results = process_clips_on_ray(find_sources([folder]), RECIPE, workers=2, timeout_seconds=8.0)
    statuses = {result.clip_id: result.status for _, result in results}
    assert statuses == {"plain": "timeout", "b_frames": "ok", "matroska": "ok", "avi": "ok", "text": "failed"}
