"""Reading frames.h5: several files, other processes, and files that lie."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from PIL import Image

from figclip_cli.errors import InputError
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.frames.preprocess import decode_jpeg, encode_jpeg, to_square


@pytest.fixture(scope="module")
def good(clips, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    for part, names in (("a", ("plain", "b_frames")), ("b", ("matroska",))):
        extract([clips[name] for name in names], folder / f"{part}.h5", recipe=SamplingRecipe(size=16), workers=1)
    return folder


@pytest.fixture
def copy(good, tmp_path):
    return shutil.copy(good / "a.h5", tmp_path / "copy.h5")


def test_one_file_several_or_a_pattern(good):
    assert FramesReader(good / "a.h5").clip_ids == ("b_frames", "plain")
    several = FramesReader([good / "a.h5", good / "b.h5"])
    assert several.clip_ids == ("b_frames", "plain", "matroska") == FramesReader(f"{good}/*.h5").clip_ids
    assert len(several) == 3 and several.read("matroska").shape == (5, 4, 16, 16, 3)
    assert several.content_sha256 != FramesReader(good / "a.h5").content_sha256


def read_elsewhere(reader):
    return reader.read("plain").sum(), reader.pts_seconds("plain").sum()


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_reader_works_in_other_processes(good, method):
    reader = FramesReader(good / "a.h5")
    expected = read_elsewhere(reader)  # opens the file here first
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        assert pool.submit(read_elsewhere, reader).result() == expected
    assert read_elsewhere(pickle.loads(pickle.dumps(reader))) == expected


def test_a_closed_reader_opens_again(good):
    with FramesReader(good / "a.h5") as reader:
        first = reader.read("plain")
    assert np.array_equal(reader.read("plain"), first)


def test_another_recipe_or_the_same_clip_twice_is_refused(good, clips, copy, tmp_path):
    extract([clips["avi"]], tmp_path / "other.h5", recipe=SamplingRecipe(size=24), workers=1)
    with pytest.raises(InputError, match="another sampling recipe"):
        FramesReader([good / "a.h5", tmp_path / "other.h5"])
    with pytest.raises(InputError, match="'b_frames' is in"):
        FramesReader([good / "a.h5", copy])


def resize(name, shape):
    def change(file):
        data = file[name][()]
        del file[name]
        file[name] = np.resize(data, shape)

    return change


def retype(name, dtype):
    def change(file):
        data = file[name][()]
        del file[name]
        file[name] = np.zeros(data.shape, dtype)

    return change


def set_attribute(name, value):
    def change(file):
        of_one_length = isinstance(value, str)
        dtype = h5py.string_dtype("utf-8", len(value.encode())) if of_one_length else None
        file.attrs.create(name, value.encode() if of_one_length else value, dtype=dtype)

    return change


def of_any_length(name):
    """Store a text as h5py does where nobody asks for a length."""

    def change(file):
        if name in file:
            texts = file[name].asstr()[:].tolist()
            del file[name]
            file.create_dataset(name, data=texts, dtype=h5py.string_dtype())
        else:
            file.attrs[name] = file.attrs[name].decode()

    return change


def lying_offsets(index, value):
    return lambda file: file["jpeg_offsets"].__setitem__(index, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_attribute("format", "other"), "not a frames file"),
        (set_attribute("format_version", 99), "format version 99"),
        (set_attribute("completed", False), "unfinished"),
        (of_any_length("format"), "no text of fixed length"),
        (of_any_length("recipe"), "no text of fixed length"),
        (of_any_length("content_sha256"), "no text of fixed length"),
        (of_any_length("source_path"), "texts of any length"),
        (set_attribute("recipe", "{"), "damaged"),
        (set_attribute("recipe", '{"no_such": 1}'), "does not know"),
        (lambda file: file.attrs.__delitem__("recipe"), "damaged"),
        (lambda file: file.__delitem__("pts"), "damaged"),
        (lambda file: file.__delitem__("jpeg_bytes"), "damaged"),
        (resize("pts", (2, 5, 3)), "pts has shape"),
        (retype("pts", np.float32), "float32"),
        (retype("jpeg_bytes", np.int16), "jpeg_bytes"),
        (retype("jpeg_offsets", np.int32), "jpeg_offsets"),
        (resize("duration_seconds", (3,)), "duration_seconds has shape"),
        (retype("status", np.int64), "holds no text"),
        (lying_offsets(-1, 2**40), "do not fit"),
        (lying_offsets(0, -5), "do not fit"),
        (lying_offsets(3, 2**40), "do not fit"),
    ],
)
def test_files_that_lie_are_refused_in_one_line(copy, change, message):
    with h5py.File(copy, "r+") as file:
        change(file)
    with pytest.raises(InputError, match=message) as caught:
        FramesReader(copy)
    assert "\n" not in caught.value.message and caught.value.hint


def test_a_file_of_the_first_version_whose_texts_could_have_any_length_is_read(copy):
    expected = FramesReader(copy)
    with h5py.File(copy, "r+") as file:
        names = ["clip_id", "source_path", "status", "reason", "format", "recipe", "recipe_sha256", "content_sha256"]
        for name in names:
            of_any_length(name)(file)
        file.attrs["format_version"] = 1
    found = FramesReader(copy)
    assert found.clip_ids == expected.clip_ids and found.content_sha256 == expected.content_sha256
    assert [found.row(one) for one in found.clip_ids] == [expected.row(one) for one in found.clip_ids]


def test_missing_truncated_and_foreign_files_are_refused(copy, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        FramesReader(tmp_path / "absent.h5")
    data = (tmp_path / "copy.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="not a readable HDF5"):
        FramesReader(tmp_path / "cut.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="not a readable HDF5"):
        FramesReader(tmp_path / "text.h5")


def test_a_file_that_cannot_be_locked_is_not_called_damaged(copy):
    code = "import h5py, sys, time; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(copy)], stdout=subprocess.PIPE, text=True) as writer:
        try:
            assert writer.stdout is not None and writer.stdout.readline() == "open\n"
            with pytest.raises(InputError, match="cannot be locked") as caught:
                FramesReader(copy)
            assert "HDF5_USE_FILE_LOCKING=FALSE" in caught.value.hint
        finally:
            writer.kill()


def test_damaged_pictures_are_refused_when_read(copy):
    with h5py.File(copy, "r+") as file:
        file["jpeg_bytes"][:] = 0
    with pytest.raises(InputError, match="damaged"):
        FramesReader(copy).read("plain")


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (37, 101), (16, 16), (15, 15), (400, 17), (33, 32)])
@pytest.mark.parametrize("size", [16, 15])
def test_resizing_equals_torchvisions_to_the_bit(shape, size):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = Compose([Resize(size, interpolation=InterpolationMode.BICUBIC), CenterCrop(size)])
    difference = np.abs(to_square(picture, size).astype(int) - np.asarray(theirs(Image.fromarray(picture))))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.002


@pytest.mark.parametrize(("crop", "mode"), [("center", "shortest"), ("squash", "squash"), ("letterbox", "longest")])
@pytest.mark.parametrize("shape", [(90, 160), (160, 90), (720, 1280), (33, 47), (20, 20), (32, 300), (224, 399)])
def test_squares_are_those_of_open_clips_evaluation_transform(crop, mode, shape):
    """Noise is the worst case: every value is as far as it can be from its neighbours'."""
    from open_clip.transform import image_transform

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    transform = image_transform(32, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), resize_mode=mode)
    theirs = (transform(Image.fromarray(picture)) * 255).round().permute(1, 2, 0).numpy().astype(int)
    difference = np.abs(to_square(picture, 32, crop).astype(int) - theirs)
    assert difference.max() <= (1 if crop == "center" else 0)


@pytest.mark.parametrize("shape", [(90, 160), (720, 1280), (300, 224), (40, 40)])
def test_the_inner_centre_is_that_of_a_resize_to_8_sevenths(shape):
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = Compose([Resize(256, interpolation=InterpolationMode.BICUBIC), CenterCrop(224)])
    ours = to_square(picture, 224, "center-0.875")
    difference = np.abs(ours.astype(int) - np.asarray(theirs(Image.fromarray(picture))))
    assert difference.max() <= 1 and (difference > 0).mean() < 0.002


def test_anamorphic_pixels_are_shown_in_their_true_shape():
    """A circle stored twice as narrow as it is shown comes out round, and turned the same way."""
    y, x = np.mgrid[:128, :128]
    disc = (((x - 63.5) ** 2 + (y - 63.5) ** 2 < 40**2) * 255).astype(np.uint8)
    for stored, aspect in ((disc[:, ::2], 2.0), (disc[::2], 0.5)):
        square = to_square(np.repeat(stored[..., None], 3, axis=2), 64, "center", aspect)[..., 0] > 128
        assert abs(int(square.any(0).sum()) - int(square.any(1).sum())) <= 1
        assert abs(int(square.any(0).sum()) - 40) <= 1


def test_jpeg_keeps_pixels_close():
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    picture = np.stack([smooth, 255 - smooth, smooth // 2], axis=2)
    assert np.abs(decode_jpeg(encode_jpeg(picture, 95)).astype(int) - picture).max() <= 8
