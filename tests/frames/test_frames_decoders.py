"""Both decoders give the frame that a player shows at a time, of every kind of file, and the same one."""

from __future__ import annotations

import dataclasses
import subprocess

import bar_code_videos as videos
import numpy as np
import pytest

from figclip_cli.frames import decoder_pyav
from figclip_cli.frames import video as video_module
from figclip_cli.frames.decoder_ffmpeg import ffmpeg_program
from figclip_cli.frames.sampling import SamplingRecipe, shown_at
from figclip_cli.frames.video import ClipError

RECIPE = SamplingRecipe()
decode, probe = videos.decode, videos.probe
KINDS = (
    "plain", "b_frames", "film_rate", "variable_rate", "matroska", "mpegts", "avi", "avi_b_frames", "vp9",
    "hevc_10_bit", "av1", "odd_size", "one_frame", "no_duration", "turned_90", "turned_180", "turned_270",
    "late_start", "edit_list", "short_groups", "open_groups", "open_groups_mkv", "intra_refresh", "pyramid",
    "interlaced", "anamorphic", "mpeg2_ts", "hevc_b_frames", "mov", "vp9_alt_ref", "fragmented",
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


def same_pictures(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first.pictures, second.pictures, strict=True))


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
    decoded = decode(clips[kind], targets, decoder)
    times, numbers = expected_at(clips[kind], targets)
    found = [videos.read_bar_code(upright(kind, picture)) for picture in decoded.pictures]
    assert found == numbers
    assert decoded.pts_seconds == pytest.approx(times, abs=6e-6)  # showinfo prints six digits
    assert decoded.reason == ""


@pytest.mark.parametrize("kind", KINDS)
def test_decoders_agree_exactly_on_times_and_closely_on_pixels(clips, kind):
    if kind not in clips:
        pytest.skip(f"this ffmpeg cannot make {kind}")
    info = probe(clips[kind])
    targets = RECIPE.target_times_seconds(info.duration_seconds)
    first, second = (decode(clips[kind], targets, decoder) for decoder in DECODERS)
    assert np.array_equal(first.pts_seconds, second.pts_seconds)
    for a, b in zip(first.pictures, second.pictures, strict=True):
        assert a.shape == b.shape
        assert np.abs(a.astype(int) - b).max() <= 3


@pytest.fixture
def in_order(monkeypatch):
    """Decode every frame from the first on: what the short cuts are measured by."""

    def run(path, targets, **part):
        def refuse(*_):
            raise decoder_pyav._PlanFailedError

        with monkeypatch.context() as patch:
            patch.setattr(decoder_pyav, "_decode_planned", refuse)
            return decode(path, targets, **part)

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_leaving_packets_out_changes_no_pixel(clips, kind, in_order):
    """Each frame alone, then random handfuls: whatever is left out before it, the picture is the same."""
    if kind not in clips:
        pytest.skip(f"this ffmpeg cannot make {kind}")
    info = probe(clips[kind])
    ticks = info.ticks
    times = info.seconds(ticks) if ticks is not None else np.arange(0, 2, 0.04)
    every = in_order(clips[kind], times)
    generator = np.random.default_rng(5)
    handfuls = [[number] for number in range(len(times))]
    handfuls += [sorted(generator.choice(len(times), min(4, len(times)), replace=False)) for _ in range(10)]
    for chosen in handfuls:
        found = decode(clips[kind], times[chosen])
        assert np.array_equal(found.pts_seconds, every.pts_seconds[chosen])
        for number, picture in zip(chosen, found.pictures, strict=True):
            assert np.array_equal(picture, every.pictures[number]), (chosen, number)


@pytest.mark.parametrize("kind", ["b_frames", "matroska", "mpegts", "avi", "open_groups", "open_groups_mkv", "vp9"])
@pytest.mark.parametrize("decoder", DECODERS)
def test_a_segment_shows_what_the_whole_file_shows_then(clips, kind, decoder, in_order):
    targets = np.array([1.21, 1.3, 1.52])
    whole = in_order(clips[kind], targets)
    part = decode(clips[kind], targets, decoder, from_seconds=1.2, until_seconds=1.6)
    assert np.array_equal(part.pts_seconds, whole.pts_seconds)
    numbers = [videos.read_bar_code(picture) for picture in part.pictures]
    assert numbers == [videos.read_bar_code(picture) for picture in whole.pictures]


def test_a_stream_that_never_has_a_whole_key_frame_is_decoded_in_order(clips):
    """With periodic intra refresh, decoding from a "key frame" on would give pictures that are half missing."""
    with video_module.open_video(clips["intra_refresh"]) as video:
        assert video.info.packets is not None
    targets = np.array([1.5])
    assert videos.read_bar_code(decode(clips["intra_refresh"], targets).pictures[0]) == 37


@pytest.mark.parametrize("name", ["bigbuckbunny", "bikes"])
def test_decoders_agree_on_real_videos(real_videos, name):
    info = probe(real_videos[name])
    targets = RECIPE.target_times_seconds(info.duration_seconds)
    first, second = (decode(real_videos[name], targets, decoder) for decoder in DECODERS)
    assert np.array_equal(first.pts_seconds, second.pts_seconds)
    assert len(set(first.pts_seconds)) == 20
    for a, b in zip(first.pictures, second.pictures, strict=True):
        difference = np.abs(a.astype(int) - b)
        assert difference.max() <= 2 and difference.mean() < 0.1


def test_times_on_frame_boundaries_pick_the_frame_that_begins_there(clips):
    targets = np.arange(50) / 25
    for decoder in DECODERS:
        decoded = decode(clips["plain"], targets, decoder)
        assert [videos.read_bar_code(picture) for picture in decoded.pictures] == list(range(50))


def test_rotation_turns_the_picture_as_ffmpeg_does(clips):
    """A landscape bar code whose display is turned becomes a portrait picture, the same in both decoders."""
    for turn in (90, 270):
        for decoder in DECODERS:
            picture = decode(clips[f"turned_{turn}"], np.array([1.0]), decoder).pictures[0]
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
    decoded = decode(clips["plain"], np.array([1.9, 2.5, 9.0]), decoder)
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


def test_times_in_packets_that_no_frame_has_make_both_decoders_look_at_every_frame(clips, monkeypatch):
    """Packets whose times do not match the frames', as in some broken files: still no wrong frame."""
    targets = RECIPE.target_times_seconds(2.0)
    honest = {decoder: decode(clips["b_frames"], targets, decoder) for decoder in DECODERS}
    real = video_module._PacketTable.packets

    def lying(table):
        packets = real(table)
        return dataclasses.replace(packets, ticks=packets.ticks + 7)

    monkeypatch.setattr(video_module._PacketTable, "packets", lying)
    for decoder in DECODERS:
        found = decode(clips["b_frames"], targets, decoder)
        assert np.array_equal(honest[decoder].pts_seconds, found.pts_seconds)
        assert same_pictures(honest[decoder], found)


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
    pictures = [decode(path, np.array([0.5]), decoder).pictures[0] for decoder in DECODERS]
    assert np.abs(pictures[0].astype(int) - pictures[1]).max() <= 2
    wanted = [[int(c[2:][i : i + 2], 16) for i in (0, 2, 4)] for c in colours]
    for picture in pictures:
        assert np.abs(picture[32, 16::32].astype(int) - wanted).max() <= 5
