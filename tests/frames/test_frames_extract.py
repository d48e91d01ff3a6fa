"""The stage: statuses, reports, resuming, storage, and every error."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from figclip_cli.errors import InputError, MachineError, UsageError
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.frames import journal as journal_module
from figclip_cli.frames.clip import Source, failed, process_clip
from figclip_cli.frames.journal import journal_folder, open_journal
from figclip_cli.frames.sources import find_sources

RECIPE = SamplingRecipe(size=32)


def datasets(path):
    with h5py.File(path) as file:
        return {name: file[name][()].tolist() for name in file} | {"content": file.attrs["content_sha256"]}


def report_of(path):
    return {row["clip_id"]: row for row in map(json.loads, path.read_text().splitlines())}


def broken_folder(clips, tmp_path, cut):
    """A folder with one good clip and one of every kind of bad file."""
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(clips["plain"], videos / "good.mp4")
    cut(clips["matroska"], videos / "half_mkv.mkv")
    cut(clips["plain"], videos / "half_mp4.mp4")  # its index is at the end, which is missing
    faststart = tmp_path / "faststart.mp4"
    subprocess.run(
        [shutil.which("ffmpeg") or ffmpeg(), "-v", "error", "-i", clips["plain"], "-c", "copy", "-movflags",
         "+faststart", str(faststart)], check=True,
    )  # fmt: skip
    cut(faststart, videos / "half_faststart.mp4")
    (videos / "text.mp4").write_text("hello\n" * 100)
    (videos / "empty.mp4").touch()
    sound = ["-f", "lavfi", "-i", "sine=duration=1", str(videos / "sound.mp4")]
    subprocess.run([shutil.which("ffmpeg") or ffmpeg(), "-v", "error", *sound], check=True)
    return videos


def ffmpeg():
    from figclip_cli.frames.decoder_ffmpeg import ffmpeg_program

    return ffmpeg_program()


def cut(source, target, share=0.6):
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])


def test_every_clip_is_stored_in_id_order_with_its_times(folder, tmp_path):
    summary = extract([folder], tmp_path / "frames.h5", recipe=RECIPE, workers=1)
    assert summary.by_status == {"ok": 4, "short": 0, "failed": 0, "timeout": 0}
    reader = FramesReader(tmp_path / "frames.h5")
    assert reader.clip_ids == ("avi", "b_frames", "matroska", "plain")
    assert reader.read("plain").shape == (5, 4, 32, 32, 3)
    assert reader.pts_seconds("plain").ravel().tolist() == pytest.approx(
        [0.04 * int((k + 0.5) * 2.5) for k in range(20)]
    )
    assert reader.recipe == RECIPE and reader.content_sha256 == summary.content_sha256


def test_a_bad_clip_costs_nobody_else_and_is_never_ok(clips, tmp_path):
    videos = broken_folder(clips, tmp_path, cut)
    summary = extract([videos], tmp_path / "frames.h5", recipe=RECIPE, workers=1)
    report = report_of(summary.report)
    assert {name: row["status"] for name, row in report.items()} == {
        "good": "ok", "half_mkv": "short", "half_faststart": "short", "half_mp4": "failed", "text": "failed",
        "empty": "failed", "sound": "failed",
    }  # fmt: skip
    assert "header says 2.00 s" in report["half_faststart"]["reason"]
    assert "audio" in report["sound"]["reason"] and "incomplete" in report["half_mp4"]["reason"]
    assert all("\n" not in row["reason"] for row in report.values())
    reader = FramesReader(summary.output)
    assert reader.clip_ids == ("good",) and len(reader.clips) == 7
    with pytest.raises(InputError, match="no ok clip 'half_mkv'"):
        reader.read("half_mkv")


def test_a_short_clip_keeps_what_there_is_and_invents_nothing(clips, tmp_path):
    videos = broken_folder(clips, tmp_path, cut)
    extract([videos], tmp_path / "frames.h5", recipe=RECIPE, workers=1)
    with h5py.File(tmp_path / "frames.h5") as file:
        row = list(file["clip_id"].asstr()).index("half_faststart")
        pts = file["pts"][row].ravel()
        sizes = np.diff(file["jpeg_offsets"][row * 20 : row * 20 + 21])
    there = ~np.isnan(pts)
    assert there[0] and not there[-1] and (np.diff(there.astype(int)) <= 0).all()
    assert ((sizes > 0) == there).all()


def test_both_decoders_call_a_broken_file_the_same(clips, tmp_path):
    videos = broken_folder(clips, tmp_path, cut)
    for path in videos.iterdir():
        results = [process_clip(Source("x", path), SamplingRecipe(decoder=d, size=32)) for d in ("pyav", "ffmpeg")]
        assert results[0].status == results[1].status, path.name
        assert np.isnan(results[0].pts_seconds).tolist() == np.isnan(results[1].pts_seconds).tolist(), path.name


def test_nothing_stored_is_an_error_with_the_first_reason_and_only_a_report(tmp_path):
    (tmp_path / "notes.mp4").write_text("hello\n" * 100)
    with pytest.raises(InputError, match=r"notes\.mp4: not a video") as caught:
        extract([tmp_path / "notes.mp4"], tmp_path / "frames.h5", recipe=RECIPE)
    assert "frames-report.jsonl" in caught.value.hint
    assert not (tmp_path / "frames.h5").exists()
    assert report_of(tmp_path / "frames-report.jsonl")["notes"]["status"] == "failed"


def test_any_number_of_workers_gives_the_same_bytes(folder, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        extract([folder], tmp_path / name / "frames.h5", recipe=RECIPE, workers=workers)
    digests = {hashlib.sha256((tmp_path / n / "frames.h5").read_bytes()).hexdigest() for n in ("one", "two")}
    assert len(digests) == 1


def test_raw_storage_holds_the_exact_pixels_and_jpeg_close_ones(folder, tmp_path):
    extract([folder], tmp_path / "raw.h5", recipe=SamplingRecipe(size=32, storage="raw"), workers=1)
    extract([folder], tmp_path / "jpeg.h5", recipe=RECIPE, workers=1)
    raw, jpeg = FramesReader(tmp_path / "raw.h5").read("plain"), FramesReader(tmp_path / "jpeg.h5").read("plain")
    assert np.abs(raw.astype(int) - jpeg).mean() < 2.0
    exact = process_clip(Source("plain", folder / "plain.mp4"), SamplingRecipe(size=32, storage="raw"))
    assert raw.tobytes() == b"".join(exact.pictures)


def test_an_existing_output_is_kept_unless_told_otherwise(folder, tmp_path):
    output = tmp_path / "frames.h5"
    output.write_text("precious")
    with pytest.raises(UsageError, match="already exists"):
        extract([folder], output, recipe=RECIPE)
    assert output.read_text() == "precious"
    extract([folder], output, recipe=RECIPE, workers=1, overwrite=True)
    assert len(FramesReader(output)) == 4


def start(folder, output, *flags):
    command = [sys.executable, "-m", "figclip_cli", "extract-frames", str(folder), "-o", str(output), "--size", "32"]
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


MANY = 300  # enough that a signal sent after the fifth clip arrives long before the last one


def many(clips, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY):
        (folder / f"clip{number:03d}.mp4").hardlink_to(clips["b_frames"])
    return folder


def finished(output):
    lines = journal_folder(output) / "clips.jsonl"
    return lines.read_bytes().count(b"\n") if lines.is_file() else 0


def interrupt_after(process, output, count, how):
    deadline = time.monotonic() + 60
    while finished(output) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(how)
    return process.communicate(timeout=60)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_killed_midway_and_run_again_gives_the_same_file_without_starting_over(clips, tmp_path, workers):
    folder, output = many(clips, tmp_path), tmp_path / "frames.h5"
    interrupt_after(start(folder, output, "--workers", workers), output, 5, signal.SIGKILL)
    assert not output.exists()
    done = finished(output)
    assert 5 <= done < MANY
    again = start(folder, output, "--workers", workers, "--json")
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert json.loads(out)["taken_up"] >= done - 1 and "going on" in err
    extract([folder], tmp_path / "whole.h5", recipe=RECIPE, workers=1)
    assert datasets(output) == datasets(tmp_path / "whole.h5")
    assert not journal_folder(output).exists()


def test_ctrl_c_is_130_and_goes_on_later(clips, tmp_path):
    folder, output = many(clips, tmp_path), tmp_path / "frames.h5"
    process = start(folder, output, "--workers", "1")
    _, err = interrupt_after(process, output, 5, signal.SIGINT)
    assert process.returncode == 130 and "error: interrupted" in err and "Traceback" not in err
    assert extract([folder], output, recipe=RECIPE, workers=1).taken_up >= 5


def fill(folder, output, recipe=RECIPE):
    """Leave a journal with every clip, as a program killed just before the end would."""
    sources = find_sources([folder])
    with open_journal(output, recipe, overwrite=False) as journal:
        for source in sources:
            journal.append(source, journal_module.source_stamp(source), process_clip(source, recipe))
    return journal_folder(output)


@pytest.mark.parametrize("lost", [1, 30, 500])
def test_a_torn_journal_loses_only_its_tail(folder, tmp_path, lost):
    extract([folder], tmp_path / "whole.h5", recipe=RECIPE, workers=1)
    for file in ("clips.jsonl", "pixels.bin"):
        output = tmp_path / f"{file}-{lost}.h5"
        torn = fill(folder, output) / file
        os.truncate(torn, torn.stat().st_size - lost)
        summary = extract([folder], output, recipe=RECIPE, workers=1)
        assert summary.taken_up == 3
        assert datasets(output) == datasets(tmp_path / "whole.h5")


def test_a_changed_source_is_decoded_again(folder, clips, tmp_path):
    output = tmp_path / "frames.h5"
    fill(folder, output)
    shutil.copy(clips["late_start"], folder / "plain.mp4")
    assert extract([folder], output, recipe=RECIPE, workers=1).taken_up == 3


def test_a_journal_of_another_recipe_is_not_mixed_in(folder, tmp_path):
    output = tmp_path / "frames.h5"
    fill(folder, output)
    other = SamplingRecipe(size=16)
    with pytest.raises(UsageError, match="another recipe"):
        extract([folder], output, recipe=other)
    assert extract([folder], output, recipe=other, workers=1, overwrite=True).taken_up == 0


def test_a_second_program_on_the_same_output_says_so(folder, tmp_path):
    with (
        open_journal(tmp_path / "frames.h5", RECIPE, overwrite=False),
        pytest.raises(UsageError, match="another program is writing"),
    ):
        extract([folder], tmp_path / "frames.h5", recipe=RECIPE)


def test_a_full_disk_is_one_line_and_loses_nothing(folder, tmp_path, monkeypatch):
    output = tmp_path / "frames.h5"
    real, calls = journal_module._format, []

    def full_at_the_third(entry):
        calls.append(entry)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        return real(entry)

    monkeypatch.setattr(journal_module, "_format", full_at_the_third)
    with pytest.raises(MachineError, match="no space left"):
        extract([folder], output, recipe=RECIPE, workers=1)
    monkeypatch.undo()
    assert extract([folder], output, recipe=RECIPE, workers=1).taken_up == 2


def test_a_full_disk_while_assembling_keeps_the_journal(folder, tmp_path, monkeypatch):
    from figclip_cli.frames import store

    def full(*_):
        raise OSError("Can't write data (file write failed: errno = 28)")

    monkeypatch.setattr(store, "_write_jpeg", full)
    with pytest.raises(MachineError, match="no space left"):
        extract([folder], tmp_path / "frames.h5", recipe=RECIPE, workers=1)
    monkeypatch.undo()
    assert not (tmp_path / "frames.h5").exists()
    assert extract([folder], tmp_path / "frames.h5", recipe=RECIPE, workers=1).taken_up == 4


def test_a_clip_that_ran_out_of_time_is_tried_again_by_the_next_run(folder, tmp_path):
    output = tmp_path / "frames.h5"
    sources = find_sources([folder])
    with open_journal(output, RECIPE, overwrite=False) as journal:
        for source in sources:
            stamp = journal_module.source_stamp(source)
            journal.append(source, stamp, failed(source, RECIPE, "no result after 3 s", status="timeout"))
    summary = extract([folder], output, recipe=RECIPE, workers=1)
    assert summary.taken_up == 0 and summary.by_status["ok"] == 4


def test_sources_are_found_recursively_and_named_files_whatever_their_ending(folder, tmp_path):
    (folder / "notes.txt").touch()
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "plain.mp4", folder / ".hidden" / "x.mp4")
    assert [source.clip_id for source in find_sources([folder])] == ["avi", "b_frames", "matroska", "plain"]
    shutil.copy(folder / "plain.mp4", tmp_path / "clip.video")
    assert [source.clip_id for source in find_sources([tmp_path / "clip.video", folder / "plain.mp4"])] == [
        "clip",
        "plain",
    ]
    assert len(find_sources([folder, folder / "plain.mp4"])) == 4  # the same file twice is one clip


def test_wrong_sources_are_refused(folder, tmp_path):
    (tmp_path / "nothing").mkdir()
    with pytest.raises(InputError, match="does not exist"):
        find_sources([tmp_path / "absent"])
    with pytest.raises(InputError, match="no video found in .*nothing"):
        find_sources([tmp_path / "nothing"])
    shutil.copy(folder / "plain.mp4", folder / "deep" / "plain.mkv")
    with pytest.raises(InputError, match="two files have the clip id 'plain'"):
        find_sources([folder])


def test_odd_file_names_survive(clips, tmp_path):
    names = [b"with space", b"new\nline", b"not utf-8 \xff", "ü é 映画".encode()]
    folder = tmp_path / "names"
    folder.mkdir()
    for name in names:
        shutil.copy(clips["plain"], os.fsencode(folder) + b"/" + name + b".mp4")
    for decoder in ("pyav", "ffmpeg"):
        output = tmp_path / f"{decoder}.h5"
        recipe = SamplingRecipe(size=32, decoder=decoder)
        summary = extract([folder], output, recipe=recipe, workers=1)
        assert summary.by_status["ok"] == 4, summary.by_reason
        assert set(FramesReader(output).clip_ids) == {"with space", "new\nline", "not utf-8 \\xff", "ü é 映画"}


@pytest.mark.parametrize(
    "values",
    [{"events": 0}, {"frames_per_event": 0}, {"size": 0}, {"jpeg_quality": 96}, {"decoder": "x"}, {"storage": "x"}],
)
def test_recipes_that_cannot_be_meant_are_refused(values):
    with pytest.raises(UsageError):
        SamplingRecipe(**values)


def test_the_command_prints_a_table_reports_and_says_what_failed(clips, tmp_path, figclip):
    videos = broken_folder(clips, tmp_path, cut)
    done = figclip("extract-frames", videos, "--size", "32", cwd=tmp_path)
    assert done.returncode == 4
    assert "output: frames.h5 (default)" in done.stderr and "error: 6 of 7 clips are not ok" in done.stderr
    assert "hint: frames-report.jsonl" in done.stderr and "failed" in done.stdout
    again = figclip("extract-frames", videos, "--size", "32", "--overwrite", "--json", "--quiet", cwd=tmp_path)
    assert (
        json.loads(again.stdout)["by_status"] == {"ok": 1, "short": 2, "failed": 4, "timeout": 0}
        and again.returncode == 4
    )
    assert figclip("extract-frames", videos, cwd=tmp_path).returncode == 2
    assert figclip("extract-frames", "absent", cwd=Path(tmp_path / "videos")).returncode == 3
