"""Policies, segments, shards: which clips, and when to look."""

from __future__ import annotations

import json
import shutil

import bar_code_videos as videos
import numpy as np
import pytest

from figclip_cli.errors import InputError, UsageError
from figclip_cli.frames import FramesReader, SamplingRecipe, extract, plan
from figclip_cli.frames.clip import Source, process_clip
from figclip_cli.frames.merge import merge
from figclip_cli.frames.shards import Shard, parse_shard, shard_of
from figclip_cli.frames.sources import find_sources

RAW = {"size": 32, "storage": "raw"}


def numbers_of(result, size=32):
    """The bar codes that stored squares show; the centre square of a bar code has its middle four bits."""
    squares = [np.frombuffer(picture, np.uint8).reshape(size, size, 3) for picture in result.pictures if picture]
    return [videos.read_bar_code(square) for square in squares]


def recipe(**values):
    return SamplingRecipe(**{**RAW, "crop": "squash", **values})


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"policy": "uniform", "events": 1, "frames_per_event": 5}, [0, 12, 24, 37, 49]),
        ({"policy": "midpoints", "events": 1, "frames_per_event": 5}, [5, 15, 25, 35, 45]),
        ({"policy": "midpoints", "events": 5, "frames_per_event": 1}, [5, 15, 25, 35, 45]),
        ({"policy": "fps", "fps": 2.0}, [0, 12, 25, 37]),
        ({"policy": "fps", "fps": 25.0}, list(range(50))),
        ({"policy": "fps", "fps": 0.1}, [0]),
    ],
)
def test_policies_store_the_frames_shown_at_their_times(clips, policy, expected):
    for decoder in ("pyav", "ffmpeg"):
        result = process_clip(Source("plain", clips["plain"]), recipe(decoder=decoder, **policy))
        assert (result.status, numbers_of(result)) == ("ok", expected)


def test_random_draws_one_time_in_each_part_from_seed_and_clip_alone():
    draw = SamplingRecipe(policy="random", seed=3)
    times = draw.target_times_seconds(10.0, clip_id="a")
    assert ((times // 0.5).astype(int) == np.arange(20)).all()
    assert np.array_equal(times, draw.target_times_seconds(10.0, clip_id="a"))
    assert not np.allclose(times, draw.target_times_seconds(10.0, clip_id="b"))
    assert not np.allclose(times, SamplingRecipe(policy="random", seed=4).target_times_seconds(10.0, clip_id="a"))
    drawn = np.concatenate([draw.target_times_seconds(20.0, clip_id=str(n)) % 1 for n in range(200)])
    assert abs(drawn.mean() - 0.5) < 0.02 and drawn.min() < 0.01 and drawn.max() > 0.99


@pytest.mark.parametrize(
    "values",
    [{"policy": "fps"}, {"fps": 2.0}, {"policy": "fps", "fps": -1.0}, {"policy": "x"}, {"crop": "x"},
     {"hwaccel": "cuda"}, {"events": 1000, "frames_per_event": 1000}],
)  # fmt: skip
def test_recipes_that_mean_nothing_are_refused(values):
    with pytest.raises(UsageError):
        SamplingRecipe(**values)


@pytest.mark.parametrize("storage", ["jpeg", "raw"])
def test_a_fixed_rate_stores_as_many_frames_as_a_clip_is_long(clips, tmp_path, storage):
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("plain", "one_frame", "film_rate"):
        shutil.copy(clips[name], folder)
    (folder / "bad.mp4").write_text("no video")
    ragged = SamplingRecipe(size=32, policy="fps", fps=4.0, storage=storage)
    extract([folder], tmp_path / "frames.h5", recipe=ragged, workers=1)
    reader = FramesReader(tmp_path / "frames.h5")
    assert {name: reader.read(name).shape[:2] for name in reader.clip_ids} == {
        "film_rate": (1, 9), "one_frame": (1, 1), "plain": (1, 8),
    }  # fmt: skip
    assert reader.pts_seconds("plain").ravel() == pytest.approx([0, 0.24, 0.48, 0.72, 1.0, 1.24, 1.48, 1.72])
    assert [len(reader.stored(row.clip_id)) for row in reader.clips] == [0, 9, 1, 8]


def write_csv(tmp_path, *lines, header="clip_id,file,start,end"):
    path = tmp_path / "segments.csv"
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_segments_of_a_csv_are_cut_by_time(clips, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(clips["b_frames"], folder / "long.mp4")
    segments = write_csv(
        tmp_path,
        "late,long.mp4,1.2,1.6",
        "all,long.mp4,,",
        "over,long.mp4,1.5,3",
        "after,long.mp4,5,6",
        "gone,x.mp4,0,1",
    )
    five = recipe(events=1, frames_per_event=5)
    summary = extract([folder], tmp_path / "frames.h5", recipe=five, segments=segments, workers=1)
    assert summary.by_status == {"ok": 2, "short": 1, "failed": 2, "timeout": 0}
    assert (summary.listed, summary.found) == (5, 4)
    reader = FramesReader(tmp_path / "frames.h5")
    assert [videos.read_bar_code(p) for p in reader.read("late")[0]] == [31, 33, 35, 37, 39]
    assert [videos.read_bar_code(p) for p in reader.read("all")[0]] == [5, 15, 25, 35, 45]
    rows = {row.clip_id: row for row in reader.clips}
    assert (rows["late"].start_seconds, rows["late"].duration_seconds) == (1.2, pytest.approx(0.4))
    assert "the segment says 3.00 s" in rows["over"].reason and "begins at 5.00 s" in rows["after"].reason
    assert rows["gone"].reason == "the file does not exist"


def test_vidsitu_ids_take_the_cut_file_or_cut_the_whole_video(clips, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(clips["plain"], folder / "v_abc_seg_0_2.mp4")
    shutil.copy(clips["b_frames"], folder / "xyz.mp4")
    ids = tmp_path / "vseg_split_train_lb.json"
    ids.write_text(json.dumps(["v_abc_seg_0_2", "v_xyz_seg_1_2", "v_none_seg_0_10"]))
    sources = find_sources([folder], ids)
    assert [(s.clip_id, s.path.name, s.start_seconds, s.end_seconds) for s in sources] == [
        ("v_abc_seg_0_2", "v_abc_seg_0_2.mp4", 0.0, None),
        ("v_none_seg_0_10", "v_none_seg_0_10", 0.0, None),
        ("v_xyz_seg_1_2", "xyz.mp4", 1.0, 2.0),
    ]
    shown = [numbers_of(process_clip(source, recipe(events=1, frames_per_event=2))) for source in sources]
    assert shown == [[12, 37], [], [31, 43]]


def test_a_file_shorter_than_its_name_says_is_short(clips, tmp_path):
    path = shutil.copy(clips["plain"], tmp_path / "v_abc_seg_10_20.mp4")
    result = process_clip(Source("v_abc_seg_10_20", path), recipe())
    assert (result.status, result.reason) == ("short", "the name says 10 s, the file has 2.00 s")


@pytest.mark.parametrize(
    ("lines", "header", "message"),
    [
        (["a,long.mp4,2,1"], None, "line 2: the end 1 is not after the start 2"),
        (["a,long.mp4,x,1"], None, "'x' is no time in seconds"),
        (["a,long.mp4,nan,1"], None, "'nan' is no time"),
        ([",long.mp4,0,1"], None, "no clip_id"),
        (["a,,0,1"], None, "no file"),
        (["a,b.mp4,0,1", "a,b.mp4,1,2"], None, "clip 'a' is twice"),
        ([], None, "names no clip"),
        (["a,b.mp4,0"], "clip_id,file,start", "lacks the column end"),
    ],
)
def test_wrong_segments_name_the_line(clips, tmp_path, lines, header, message):
    path = write_csv(tmp_path, *lines, **({"header": header} if header else {}))
    with pytest.raises(InputError, match=message):
        find_sources([clips["plain"]], path)


def test_shards_share_out_every_clip_once_and_merge_to_the_whole(clips, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(9):
        (folder / f"clip{number}.mp4").hardlink_to(clips["plain"])
    (folder / "bad.mp4").write_text("no video")
    small = SamplingRecipe(size=16)
    whole = extract([folder], tmp_path / "whole.h5", recipe=small, workers=2)
    for index in range(3):
        extract([folder], tmp_path / f"part-{index}.h5", recipe=small, shard=Shard(index, 3), workers=1)
    merged = merge([tmp_path / "part-*.h5"], tmp_path / "merged.h5")
    assert merged.content_sha256 == whole.content_sha256 and merged.files == 3
    assert merged.by_status == {"ok": 9, "short": 0, "failed": 1, "timeout": 0}
    assert (
        FramesReader(tmp_path / "merged.h5").read("clip3") == FramesReader(tmp_path / "whole.h5").read("clip3")
    ).all()
    with pytest.raises(InputError, match="1 of 3 shards are missing: 1/3"):
        merge([tmp_path / "part-0.h5", tmp_path / "part-2.h5"], tmp_path / "x.h5")
    (tmp_path / "lone").mkdir()
    shutil.copy(clips["plain"], tmp_path / "lone" / "lone.mp4")
    extract([tmp_path / "lone"], tmp_path / "lone.h5", recipe=small, workers=1)
    with pytest.raises(InputError, match="is no shard"):
        merge([tmp_path / "part-0.h5", tmp_path / "lone.h5"], tmp_path / "x.h5")
    (folder / "clip8.mp4").unlink()
    extract([folder], tmp_path / "part-1.h5", recipe=small, shard=Shard(1, 3), workers=1, overwrite=True)
    with pytest.raises(InputError, match="another list of clips"):
        merge([tmp_path / "part-*.h5"], tmp_path / "x.h5")
    with pytest.raises(UsageError, match="one of the files to merge"):
        merge([tmp_path / "lone.h5"], tmp_path / "lone.h5", overwrite=True)


def test_a_shard_depends_on_the_id_alone_and_never_changes():
    assert [shard_of(f"v_{n}_seg_0_10", 4) for n in range(8)] == [2, 1, 3, 0, 3, 0, 3, 3]
    counts = np.bincount([shard_of(f"clip{n}", 7) for n in range(7000)])
    assert counts.min() > 850


@pytest.mark.parametrize("text", ["", "/8", "3/", "8/8", "-1/8", "1", "a/b", "1/0", "²/8"])
def test_a_share_that_is_none_is_a_usage_error(text):
    with pytest.raises(UsageError):
        parse_shard(text, {})


def test_slurms_variables_name_the_share():
    names = ("ID", "MIN", "MAX", "COUNT")
    environment = dict(zip((f"SLURM_ARRAY_TASK_{n}" for n in names), ("5", "3", "6", "4"), strict=True))
    assert parse_shard("slurm", environment) == Shard(2, 4)
    with pytest.raises(UsageError, match="TASK_ID is empty"):
        parse_shard("slurm", {**environment, "SLURM_ARRAY_TASK_ID": ""})
    with pytest.raises(UsageError, match="gaps or steps"):
        parse_shard("slurm", {**environment, "SLURM_ARRAY_TASK_MAX": "12"})


def test_a_dry_run_counts_and_writes_nothing(clips, tmp_path, figclip):
    shutil.copy(clips["plain"], tmp_path / "a.mp4")
    done = figclip("extract-frames", "--dry-run", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    assert done.returncode == 0
    assert (document["listed"], document["found"], document["taken_up"], document["to_do"]) == (1, 1, 0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]
    extract([tmp_path], tmp_path / "frames.h5", recipe=SamplingRecipe(), workers=1)
    with pytest.raises(UsageError, match="already exists"):
        plan([tmp_path], tmp_path / "frames.h5", recipe=SamplingRecipe())


def test_inspect_says_what_is_inside_and_draws_it(clips, tmp_path, figclip):
    from PIL import Image

    shutil.copy(clips["plain"], tmp_path / "good.mp4")
    videos.cut(clips["matroska"], tmp_path / "half.mkv")
    assert figclip("extract-frames", "--size", "32", cwd=tmp_path).returncode == 4
    done = figclip("inspect", "--sheet", "out.png", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["by_status"] == {"ok": 1, "short": 1}
    with Image.open(tmp_path / "out.png") as sheet:
        assert sheet.size == (20 * 116 + 4, 2 * (18 + 112 + 18 + 4))
        assert sheet.getpixel((sheet.width - 60, sheet.height - 70)) == (200, 200, 200)  # missing, not invented
    assert figclip("inspect", "--sheet", "out.gif", cwd=tmp_path).returncode == 2
    assert figclip("inspect", "--sheet", "out.png", cwd=tmp_path).returncode == 2  # it is there already
    assert figclip("inspect", "--sheet", "new.png", "--clip", "absent", cwd=tmp_path).returncode == 3


def test_a_device_that_is_absent_is_one_line(clips, tmp_path, figclip):
    for name in ("cuda", "nonsense"):
        done = figclip("extract-frames", clips["plain"], "--decoder", "ffmpeg", "--hwaccel", name, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.count("error:") == 1 and f"--hwaccel {name}" in done.stderr
    assert figclip("extract-frames", clips["plain"], "--hwaccel", "cuda", cwd=tmp_path).returncode == 2


def test_stages_that_want_equal_lengths_refuse_a_fixed_rate_in_one_line(clips, tmp_path, figclip):
    shutil.copy(clips["plain"], tmp_path / "a.mp4")
    assert figclip("extract-frames", "--fps", "2", "--size", "32", cwd=tmp_path).returncode == 0
    with pytest.raises(InputError, match="extracted with --fps"):
        FramesReader(tmp_path / "frames.h5").require_equal_lengths()


def test_an_empty_shard_is_a_file_without_clips(clips, tmp_path):
    shutil.copy(clips["plain"], tmp_path / "a.mp4")
    own = shard_of("a", 5)
    for index in range(5):
        summary = extract([tmp_path], tmp_path / f"f{index}.h5", recipe=SamplingRecipe(size=16), shard=Shard(index, 5))
        assert summary.listed == (index == own)
    assert merge([tmp_path / "f*.h5"], tmp_path / "frames.h5").by_status["ok"] == 1
