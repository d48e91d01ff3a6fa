"""Features of clips and images: the same whatever they are encoded beside, kept by content, damage listed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.protocols import PROTOCOLS, ProtocolOptions
from figclip_cli.evaluate.visuals import ImageFiles, StoredClips, encoding, visual_features
from figclip_cli.evaluate.visuals.frame_choice import FrameChoice, choose_frames, recipe_of
from figclip_cli.evaluate.visuals.packing import pack, unpack
from figclip_cli.frames import FramesReader, SamplingRecipe
from figclip_cli.frames.preprocess import to_square_whole
from figclip_cli.models.clip import load_clip
from figclip_cli.models.pooling import POOLINGS, pool_frames
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SilentReporter

STORED = PROTOCOLS["figclip"]


class Listener(SilentReporter):
    def __init__(self):
        self.details, self.warnings = [], []

    def detail(self, message):
        self.details.append(message)

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture(scope="module")
def clip(tiny_model):
    return load_clip(ModelSource(str(tiny_model)))


@pytest.fixture
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), STORED)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "val").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(5):
        pixels = generator.integers(0, 256, (40, 50 + number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "val" / f"{number}.png")
    return ImageFiles([folder], size=32, crop="center")


@pytest.fixture
def encoded(monkeypatch):
    """Count the frames that reach the tower's batches."""
    counts = []
    real = encoding._encode
    monkeypatch.setattr(
        encoding, "_encode", lambda c, pixels, *rest: counts.append(len(pixels)) or real(c, pixels, *rest)
    )
    return counts


@pytest.mark.parametrize("pooling", POOLINGS)
def test_packed_means_give_all_three_poolings(pooling):
    frames = torch.randn(7, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 8.0)[:, None]
    packed = pack(frames, pooling)
    assert packed.norm() == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(unpack(packed, pooling), pool_frames(frames, pooling=pooling), atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_clips_and_events_are_encoded_as_one_frame_at_a_time_would_be(clip, clips, pooling):
    clip_ids = clips.reader.clip_ids
    looks = [(clip_ids[0], None), (clip_ids[2], 3), (clip_ids[5], None), (clip_ids[2], None)]
    found = visual_features(clip, clips, looks, pooling=pooling)
    assert found.looks == tuple(looks) and not found.failed and found.all().shape == (4, 32)
    for row, (clip_id, event) in enumerate(looks):
        pixels = torch.from_numpy(clips.reader.read(clip_id).copy())
        pixels = pixels.flatten(0, 1) if event is None else pixels[event]
        with torch.no_grad():
            frames = torch.cat([clip.encode_frames(one[None]) for one in pixels])
        assert torch.allclose(found.all()[row], pool_frames(frames, pooling=pooling), atol=1e-5)


def test_a_feature_does_not_depend_on_what_is_encoded_beside_it(clip, clips):
    looks = [(clip_id, None) for clip_id in clips.reader.clip_ids]
    together = visual_features(clip, clips, looks, pooling="mean-l2").all()
    for row in (0, 3, 5):
        alone = visual_features(clip, clips, looks[row : row + 1], pooling="mean-l2").all()
        assert torch.equal(alone[0], together[row])


def test_what_was_encoded_is_found_again_whatever_the_pooling(clip, clips, tmp_path, encoded):
    looks = [(clip_id, None) for clip_id in clips.reader.clip_ids]
    first = visual_features(clip, clips, looks[:4], pooling="mean-l2", cache=tmp_path)
    assert sum(encoded) == 80
    listener = Listener()
    both = visual_features(clip, clips, looks, pooling="mean-l2", cache=tmp_path, reporter=listener)
    assert sum(encoded) == 120 and "features of 4 of 6 clips" in listener.details[0]
    assert torch.equal(both.all()[:4], first.all())
    visual_features(clip, clips, looks, pooling="l2-mean", cache=tmp_path)
    assert sum(encoded) == 120
    visual_features(clip, clips, looks[:1], pooling="mean-l2", precision="bf16", cache=tmp_path)
    assert sum(encoded) == 140
    visual_features(clip, clips, [(looks[0][0], 0)], pooling="mean-l2", cache=tmp_path)
    assert sum(encoded) == 144


def test_an_interrupted_encoding_keeps_what_it_did(clip, clips, tmp_path, encoded, monkeypatch):
    from figclip_cli.evaluate.visuals import features

    monkeypatch.setattr(features, "_PIECE_LOOKS", 2)
    looks = [(clip_id, None) for clip_id in clips.reader.clip_ids]
    real, calls = clips.read, []

    def read(look):
        calls.append(look)
        if look == looks[5]:
            raise KeyboardInterrupt
        return real(look)

    monkeypatch.setattr(clips, "read", read)
    with pytest.raises(KeyboardInterrupt):
        visual_features(clip, clips, looks, pooling="mean-l2", cache=tmp_path)
    monkeypatch.setattr(clips, "read", real)
    listener = Listener()
    found = visual_features(clip, clips, looks, pooling="mean-l2", cache=tmp_path, reporter=listener)
    assert len(found) == 6 and "features of 4 of 6" in listener.details[0]


def test_another_model_or_adapter_shares_nothing(clip, clips, finished_run, tmp_path, encoded):
    from figclip_cli.models.adapted import attach_run, load_base

    looks = [(clips.reader.clip_ids[0], None)]
    base = visual_features(clip, clips, looks, pooling="mean-l2", cache=tmp_path)
    adapted = attach_run(load_base(finished_run), finished_run)
    half = attach_run(load_base(finished_run), finished_run, scale=0.5)
    others = [visual_features(one, clips, looks, pooling="mean-l2", cache=tmp_path) for one in (adapted, half)]
    assert sum(encoded) == 60
    assert not torch.equal(base.all(), others[0].all()) and not torch.equal(others[0].all(), others[1].all())


def test_images_are_cut_to_their_box_and_found_below_any_folder(clip, images):
    looks = [("val/0.png", None), ("val/0.png", (5, 0, 33, 36)), ("somewhere/val/1.png", None), ("2.png", None)]
    found = visual_features(clip, images, looks, pooling="mean-l2")
    assert found.looks == tuple(looks[:3])
    assert found.failed == {("2.png", None): f"image 2.png: not in {images.roots[0]}"}
    whole = np.asarray(Image.open(images.roots[0] / "val" / "0.png"))
    cut = torch.from_numpy(to_square_whole(whole[0:36, 5:38], 32, "center", "bicubic").copy())
    with torch.no_grad():
        expected = normalize(clip.encode_frames(cut[None])[0], dim=0)
    assert torch.allclose(found.all()[1], expected, atol=1e-5)
    assert not torch.allclose(found.all()[0], expected, atol=1e-3)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("crop", "mode"), [("center", "shortest"), ("squash", "squash"), ("letterbox", "longest")])
def test_images_become_squares_to_the_bit_as_in_open_clip(images, crop, mode, interpolation):
    from open_clip.transform import image_transform

    source = ImageFiles(images.roots, size=32, crop=crop, interpolation=interpolation)
    transform = image_transform(
        32, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode, interpolation=interpolation
    )
    theirs = (transform(Image.open(images.roots[0] / "val" / "3.png")) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(source.read(("val/3.png", None))[0], theirs.astype(np.uint8))


def test_two_folders_with_different_images_of_one_name_are_refused(images, tmp_path):
    (tmp_path / "other" / "val").mkdir(parents=True)
    (tmp_path / "other" / "val" / "0.png").write_bytes((images.roots[0] / "val" / "0.png").read_bytes())
    both = ImageFiles([*images.roots, tmp_path / "other"], size=32)
    assert both.find("coco/val/0.png") == images.roots[0] / "val" / "0.png" and both.shortened == 1
    (tmp_path / "other" / "val" / "1.png").write_bytes((images.roots[0] / "val" / "0.png").read_bytes())
    with pytest.raises(InputError, match="image val/1.png is in .* and another in"):
        both.find("val/1.png")


def test_a_name_that_no_file_can_have_is_missing(images):
    assert images.why_missing("x" * 5000 + ".png") is not None and images.why_missing("..") is not None


def test_an_unknown_way_of_resizing_is_refused(images):
    with pytest.raises(InputError, match="resized by 'nearest'"):
        ImageFiles(images.roots, size=32, interpolation="nearest")


def test_a_picture_that_changes_between_two_models_is_noticed(clip, images):
    from figclip_cli.evaluate.encoders import Encoding, encoders
    from figclip_cli.evaluate.looked_at import require_same_looks

    looks = [("val/0.png", None), ("val/1.png", None)]
    encoder = next(encoders(clip, None, Encoding(STORED)))
    first = encoder.looks(images, looks)
    require_same_looks(first, encoder.looks(images, looks), encoder)
    (images.roots[0] / "val" / "1.png").write_bytes((images.roots[0] / "val" / "2.png").read_bytes())
    changed = encoder.looks(images, looks)
    assert changed.sha256 != first.sha256
    with pytest.raises(InputError, match="val/1.png is not what it was"):
        require_same_looks(first, changed, encoder)


def test_events_beyond_the_frames_cannot_be_asked_for(clips):
    clips.check([(clips.reader.clip_ids[0], 4), (clips.reader.clip_ids[1], None)])
    with pytest.raises(InputError, match="event 5 of clip .* the frames have 5 events"):
        clips.check([(clips.reader.clip_ids[0], 5)])


def test_a_damaged_image_is_listed_and_the_others_are_encoded(clip, images):
    path = images.roots[0] / "val" / "1.png"
    path.write_bytes(path.read_bytes()[:200])
    (images.roots[0] / "val" / "copy.png").write_bytes(path.read_bytes())
    (images.roots[0] / "val" / "2.png").write_bytes(b"")
    looks = [(f"val/{name}.png", None) for name in ("0", "1", "2", "3", "copy")] + [("val/4.png", (500, 0, 9, 9))]
    found = visual_features(clip, images, looks, pooling="mean-l2")
    assert [look[0] for look in found.looks] == ["val/0.png", "val/3.png"]
    assert [look[0] for look in found.failed] == ["val/1.png", "val/2.png", "val/4.png", "val/copy.png"]
    assert (
        "cannot be read" in found.failed["val/1.png", None] and "outside" in found.failed["val/4.png", (500, 0, 9, 9)]
    )


def test_equal_pixels_under_two_names_have_equal_features(clip, images, encoded):
    (images.roots[0] / "val" / "copy.png").write_bytes((images.roots[0] / "val" / "3.png").read_bytes())
    looks = [(f"val/{name}.png", None) for name in ("0", "3", "1", "copy")]
    found = visual_features(clip, images, looks, pooling="mean-l2").all()
    assert torch.equal(found[1], found[3]) and sum(encoded) == 3


def test_features_that_are_not_finite_are_refused(clips, tiny_model):
    broken = load_clip(ModelSource(str(tiny_model)))
    with torch.no_grad():
        broken.model.visual.proj.fill_(float("nan"))
    with pytest.raises(VerificationError, match="not finite or are zero"):
        visual_features(broken, clips, [(clips.reader.clip_ids[0], None)], pooling="mean-l2")


def test_a_missing_folder_of_images_is_named(tmp_path):
    with pytest.raises(InputError, match="absent does not exist"):
        ImageFiles([tmp_path / "absent"], size=32, crop="center")


def test_equal_steps_are_those_of_a_uniform_slice():
    assert FrameChoice(at_most=12).indices(30).tolist() == np.linspace(0, 29, 12).astype(int).tolist()
    assert FrameChoice(at_most=12).indices(7).tolist() == list(range(7))
    assert FrameChoice().indices(20).tolist() == list(range(20))


def test_midpoints_of_fewer_parts_are_taken_where_they_are_stored():
    recipe = SamplingRecipe(events=4, frames_per_event=3, size=32)  # 12 midpoints
    choice = choose_frames(ProtocolOptions(num_frames=4).resolve(), recipe, "frames.h5")
    times = recipe.target_times_seconds(10.0)[choice.indices(12)]
    assert times.tolist() == pytest.approx([1.25, 3.75, 6.25, 8.75])


@pytest.mark.parametrize(
    ("recipe", "options", "said"),
    [
        (SamplingRecipe(size=32), {"num_frames": 10}, "has 20 frames at midpoints, .* asks for 10 frames"),
        (SamplingRecipe(size=32), {"num_frames": 7}, "asks for 7 frames"),
        (SamplingRecipe(size=32, policy="uniform"), {"num_frames": 4}, "20 frames at uniform"),
        (SamplingRecipe(size=32), {"protocol": "clip4clip"}, "asks for 1 frames a second"),
        (SamplingRecipe(size=32, policy="fps", fps=2.0), {"protocol": "clip4clip"}, "has 2 frames a second"),
        (SamplingRecipe(size=32), {"protocol": "vifi"}, "has crop 'center'"),
        (SamplingRecipe(size=32, crop="squash"), {"crop": "center"}, "has crop 'squash'"),
    ],
)
def test_frames_that_a_protocol_does_not_take_are_refused_with_the_command_that_makes_them(recipe, options, said):
    protocol = ProtocolOptions(**options).resolve()
    with pytest.raises(InputError, match=said) as caught:
        choose_frames(protocol, recipe, "frames.h5")
    assert "figclip extract-frames VIDEOS" in caught.value.hint
    made = recipe_of(protocol, size=32, crop="center")
    assert choose_frames(protocol, made, "new.h5") is not None


def test_named_protocols_say_what_differs_from_them():
    protocol = ProtocolOptions(protocol="fitclip", pooling="mean-l2", num_frames=4).resolve()
    assert protocol.pooling == "mean-l2" and protocol.num_frames == 4 and protocol.changed == ("pooling",)


@pytest.mark.parametrize(
    ("asked", "frames", "tokens", "changed"),
    [
        ({}, 64, 64, ()),
        ({"num_frames": 24}, 24, 64, ("num_frames",)),
        ({"num_frames": 12, "max_tokens": 32}, 12, 32, ("max_tokens", "num_frames")),
        ({"num_frames": 64}, 64, 64, ()),
    ],
)
def test_paragraphs_have_choices_of_their_own_that_a_flag_wins_over(asked, frames, tokens, changed):
    protocol = ProtocolOptions(protocol="clip4clip", **asked).resolve(paragraphs=True)
    assert (protocol.num_frames, protocol.max_tokens, protocol.changed) == (frames, tokens, changed)
    assert ProtocolOptions(protocol="clip4clip").resolve().num_frames == 12
    assert ProtocolOptions().resolve(paragraphs=True) == ProtocolOptions().resolve()


@pytest.mark.parametrize("mode", ["P", "L", "LA", "RGBA", "CMYK", "1"])
def test_images_of_eight_bits_are_read_whatever_their_mode(images, mode):
    path = images.roots[0] / ("x.tif" if mode == "CMYK" else "x.png")
    Image.new("RGB", (40, 40), (200, 30, 60)).convert(mode).save(path)
    assert images.read((path.name, None)).shape == (1, 32, 32, 3)


def test_images_of_more_bits_are_refused_rather_than_cut_to_white(clip, images):
    Image.fromarray(np.full((40, 40), 30_000, dtype=np.uint16)).save(images.roots[0] / "deep.png")
    (images.roots[0] / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match="image deep.png has more than 8 bits a channel"):
        images.read(("deep.png", None))
    with pytest.raises(InputError, match="image empty.png is empty or of no known format$"):
        images.read(("empty.png", None))
    with pytest.raises(InputError, match="its box .* is far larger"):
        images.read(("val/0.png", (0, 0, 100_000, 100_000)))


def test_what_was_encoded_before_ctrl_c_is_kept(clip, clips, tmp_path, monkeypatch):
    looks = [(clip_id, None) for clip_id in clips.reader.clip_ids]
    real = clips.read

    def read(look):
        if look == looks[5]:
            raise KeyboardInterrupt
        return real(look)

    monkeypatch.setattr(clips, "read", read)
    with pytest.raises(KeyboardInterrupt):
        visual_features(clip, clips, looks, pooling="mean-l2", cache=tmp_path)
    monkeypatch.setattr(clips, "read", real)
    listener = Listener()
    visual_features(clip, clips, looks, pooling="mean-l2", cache=tmp_path, reporter=listener)
    kept = int(listener.details[0].split()[2])
    assert kept >= 3  # 32 frames of 20 a clip make a batch: what is not encoded yet is lost


def test_the_reason_of_a_failed_clip_is_told(prepared, tmp_path):
    from figclip_cli.frames import extract

    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "broken.mp4").write_text("no video")
    video = next((prepared / "vidsitu").glob("*.mp4"))
    (tmp_path / "videos" / "whole.mp4").write_bytes(video.read_bytes())
    extract([tmp_path / "videos"], tmp_path / "f.h5", recipe=SamplingRecipe(size=32), workers=1)
    clips = StoredClips(FramesReader(tmp_path / "f.h5"), STORED, place="among the videos")
    assert clips.why_missing("whole") is None and clips.why_missing("absent") == "not among the videos"
    assert clips.why_missing("broken").startswith("failed: ")


def test_frames_of_videos_are_extracted_once_and_again_when_their_file_is_damaged(clip, prepared, tmp_path):
    from figclip_cli.evaluate.visuals.videos import frames_of_videos

    listener = Listener()
    listener.info = listener.details.append
    protocol = ProtocolOptions(num_frames=3).resolve()
    videos = [prepared / "vidsitu"]
    first = frames_of_videos(videos, protocol, clip, cache=tmp_path, reporter=listener)
    assert (first.recipe.frames, first.recipe.size, first.recipe.crop) == (3, 32, "center")
    frames_of_videos(videos, protocol, clip, cache=tmp_path, reporter=listener)
    assert [("extracted before" in said) for said in listener.details] == [False, True]
    first.close()
    first.paths[0].write_bytes(first.paths[0].read_bytes()[:1000])
    again = frames_of_videos(videos, protocol, clip, cache=tmp_path, reporter=listener)
    assert again.content_sha256 == first.content_sha256
    assert "the videos are extracted anew" in listener.warnings[0]
