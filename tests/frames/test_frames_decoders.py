"""Both decoders give the frame that a player shows at a time, of every kind of file, and the same one."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest

from figclip_cli.frames.decoder import get_decoder
from figclip_cli.frames.decoder_ffmpeg import ffmpeg_program
from figclip_cli.frames.probe import ClipError, probe
from figclip_cli.frames.sampling import SamplingRecipe, shown_at

_spec = importlib.util.spec_from_file_location("frames_conftest", Path(__file__).with_name("conftest.py"))
videos = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(videos)

RECIPE = SamplingRecipe()
KINDS = (
    "plain", "b_frames", "film_rate", "variable_rate", "matroska", "mpegts", "avi", "avi_b_frames", "vp9",
    "hevc_10_bit", "av1", "odd_size", "one_frame", "no_duration", "turned_90", "turned_180", "turned_270",
    "late_start", "edit_list",
)  # fmt: skip
DECODERS = ("pyav", "ffmpeg")


def all_frames(path):
    """Every frame's time from the clip's start and bar code, by ffmpeg's own account: the reference."""
    log = subprocess.run(
        [ffmpeg_program(), "-copyts", "-noautorotate", "-i", str(path), "-vf", "showinfo", "-fps_mode", "passthrough",
         "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"],
        capture_output=True, check=True,
    )  # fmt: skip
    times = [float(part.split()[0]) for part in log.stderr.decode().split("pts_time:")[1:]]
    size = (131, 67) if "odd_size" in path.name else (videos.WIDTH, videos.HEIGHT)
    pictures = np.frombuffer(log.stdout, np.uint8).reshape(len(times), size[1], size[0], 3)
    return times, [videos.read_bar_code(picture) for picture in pictures]


def expected_at(path, targets):
    """The number shown at each target: the last frame not after it, or the first. One at a time."""
    times, numbers = all_frames(path)
    start = probe(path).start_seconds
    shown = []
    for target in targets:
        candidates = [
            (time, number) for time, number in zip(times, numbers, strict=True) if time - start <= target + 1e-6
        ]
        shown.append(max(candidates) if candidates else min(zip(times, numbers, strict=True)))
    return [time - start for time, _ in shown], [number for _, number in shown]


def upright(kind, picture):
    """Undo the rotation that the decoder applied, so that the bar code reads from the left again."""
    turns = {"turned_90": 3, "turned_180": 2, "turned_270": 1}.get(kind, 0)
    return np.rot90(picture, turns)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_stored_frame_is_the_one_shown_at_that_time(clips, kind, decoder):
    if kind not in clips:
        pytest.skip(f"this ffmpeg cannot make {kind}")
    info = probe(clips[kind])
    targets = RECIPE.target_times_seconds(info.duration_seconds)
    decoded = get_decoder(decoder)(clips[kind], info, targets)
    times, numbers = expected_at(clips[kind], targets)
    found = [videos.read_bar_code(upright(kind, picture)) for picture in decoded.pictures]
    assert found == numbers
    assert decoded.pts_seconds == pytest.approx(times, abs=2e-6)  # showinfo prints six digits
    assert decoded.reason == ""


@pytest.mark.parametrize("kind", KINDS)
def test_decoders_agree_exactly_on_times_and_closely_on_pixels(clips, kind):
    if kind not in clips:
        pytest.skip(f"this ffmpeg cannot make {kind}")
    info = probe(clips[kind])
    targets = RECIPE.target_times_seconds(info.duration_seconds)
    first, second = (get_decoder(decoder)(clips[kind], info, targets) for decoder in DECODERS)
    assert np.array_equal(first.pts_seconds, second.pts_seconds)
    for a, b in zip(first.pictures, second.pictures, strict=True):
        assert a.shape == b.shape
        assert np.abs(a.astype(int) - b).max() <= 3


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
def test_decoders_agree_on_real_videos(real_videos, name):
    info = probe(real_videos[name])
    targets = RECIPE.target_times_seconds(info.duration_seconds)
    first, second = (get_decoder(decoder)(real_videos[name], info, targets) for decoder in DECODERS)
    assert np.array_equal(first.pts_seconds, second.pts_seconds)
    assert len(set(first.pts_seconds)) == 20
    for a, b in zip(first.pictures, second.pictures, strict=True):
        difference = np.abs(a.astype(int) - b)
        assert difference.max() <= 2 and difference.mean() < 0.1


def test_times_on_frame_boundaries_pick_the_frame_that_begins_there(clips):
    info = probe(clips["plain"])
    targets = np.arange(50) / 25
    for decoder in DECODERS:
        decoded = get_decoder(decoder)(clips["plain"], info, targets)
        assert [videos.read_bar_code(picture) for picture in decoded.pictures] == list(range(50))


def test_rotation_turns_the_picture_as_ffmpeg_does(clips):
    """A landscape bar code whose display is turned becomes a portrait picture, the same in both decoders."""
    for turn in (90, 270):
        info = probe(clips[f"turned_{turn}"])
        for decoder in DECODERS:
            picture = get_decoder(decoder)(clips[f"turned_{turn}"], info, np.array([1.0])).pictures[0]
            assert picture.shape == (videos.WIDTH, videos.HEIGHT, 3)


def test_midpoints_are_the_middles_of_twenty_equal_parts():
    targets = RECIPE.target_times_seconds(10.0)
    assert targets.tolist() == pytest.approx([0.25 + 0.5 * k for k in range(20)])
    assert SamplingRecipe(events=1, frames_per_event=1).target_times_seconds(3.0).tolist() == [1.5]


def test_shown_at_is_the_last_frame_not_after_the_target():
    pts = np.array([0.1, 0.2, 0.5])
    assert shown_at(pts, np.array([0.0, 0.1, 0.19999, 0.2, 0.4, 9.0])).tolist() == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize("decoder", DECODERS)
def test_targets_after_the_end_have_no_frame_rather_than_a_repeated_one(clips, decoder):
    info = probe(clips["plain"])
    decoded = get_decoder(decoder)(clips["plain"], info, np.array([1.9, 2.5, 9.0]))
    assert np.isnan(decoded.pts_seconds).tolist() == [False, True, True]
    assert decoded.pictures[1] is None and decoded.pictures[0] is not None
    assert "end at 2.00 s" in decoded.reason


def test_a_stream_without_presentation_times_is_refused_not_guessed(clips):
    with pytest.raises(ClipError, match="no presentation times"):
        probe(clips["no_times"])


def test_a_file_without_any_duration_is_measured_by_its_packets(clips):
    info = probe(clips["no_duration"])
    assert info.duration_seconds == pytest.approx(2.0, abs=0.05)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.mp4", b"", "empty"),
        ("text.mp4", b"this is no video\n" * 50, "not a video"),
        ("noise.mp4", bytes(range(256)) * 40, "not a video|no video stream|no frame"),
    ],
)
def test_files_that_are_no_videos_have_a_reason(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ClipError, match=message) as caught:
        probe(path)
    assert "\n" not in str(caught.value)


def test_sound_without_pictures_has_a_reason(tmp_path):
    path = tmp_path / "sound.mp4"
    subprocess.run([ffmpeg_program(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", str(path)], check=True)
    with pytest.raises(ClipError, match=r"no video stream \(only audio\)"):
        probe(path)


def test_without_any_ffmpeg_program_the_other_decoder_is_offered(monkeypatch):
    import sys

    from figclip_cli.errors import InputError

    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    ffmpeg_program.cache_clear()
    with pytest.raises(InputError, match="no ffmpeg program") as caught:
        ffmpeg_program()
    ffmpeg_program.cache_clear()
    assert "--decoder pyav" in caught.value.hint


def test_the_ffmpeg_decoder_falls_back_to_listing_all_frames(clips, monkeypatch):
    """Packets whose times do not match the frames', as in some broken files: still no wrong frame."""
    import dataclasses

    info = probe(clips["b_frames"])
    lying = dataclasses.replace(info, ticks=info.ticks + 7)
    targets = RECIPE.target_times_seconds(info.duration_seconds)
    honest = get_decoder("ffmpeg")(clips["b_frames"], info, targets)
    found = get_decoder("ffmpeg")(clips["b_frames"], lying, targets)
    assert np.array_equal(honest.pts_seconds, found.pts_seconds)


@pytest.mark.parametrize("tags", ["bt601", "bt709", "bt2020", "full_range"])
def test_colours_are_converted_as_ffmpeg_does_for_the_tagged_matrix_and_range(tmp_path, tags):
    """The known colours come back: a wrong matrix shifts saturated green by 10 and more, a wrong range black by 16."""
    matrix = {"bt601": "smpte170m", "bt2020": "bt2020nc"}.get(tags, "bt709")
    in_filter = {"bt601": "bt601", "bt2020": "bt2020"}.get(tags, "bt709")
    level = "pc" if tags == "full_range" else "tv"
    path = tmp_path / f"{tags}.mp4"
    colours = ["0xC82828", "0x28B428", "0x2850DC", "0x101010"]
    sources = [item for c in colours for item in ("-f", "lavfi", "-i", f"color={c}:s=32x64:d=1:r=5,format=rgb24")]
    join = f"hstack=4,scale=out_color_matrix={in_filter}:out_range={level},format=yuv444p"
    subprocess.run(
        [ffmpeg_program(), "-v", "error", *sources, "-filter_complex", join, "-c:v", "libx264", "-crf", "4",
         "-colorspace", matrix, "-color_range", level, "-y", str(path)],
        check=True,
    )  # fmt: skip
    info = probe(path)
    pictures = [get_decoder(decoder)(path, info, np.array([0.5])).pictures[0] for decoder in DECODERS]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 2
    wanted = [[int(c[2:][i : i + 2], 16) for i in (0, 2, 4)] for c in colours]
    for picture in pictures:
        assert np.abs(picture[32, 16::32].astype(int) - wanted).max() <= 5
