"""Features for other programs: those of one frame at a time, in three formats that read back, damage listed."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file
from samples import restate
from torch.nn.functional import normalize

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.embed import embed_clips, embed_images, embed_texts
from figclip_cli.evaluate.embed_inputs import image_names, read_texts
from figclip_cli.evaluate.embedding_files import Embeddings, read_features, write_features
from figclip_cli.evaluate.encoders import Encoding, encoders
from figclip_cli.evaluate.protocols import PROTOCOLS, ProtocolOptions
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.evaluate.visuals.single_frames import SingleFrames
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.frames.preprocess import to_square
from figclip_cli.models.clip import load_clip
from figclip_cli.models.pooling import POOLINGS, pool_frames
from figclip_cli.models.source import ModelSource
from figclip_cli.run_folder import RunFolder

STORED = PROTOCOLS["figclip"]
NAMES = ("features.safetensors", "features.h5", "features.hdf5", "features.npz")


def encoder_of(clip, protocol=STORED, run=None):
    *_, encoder = encoders(clip, run, Encoding(protocol))
    return encoder


@pytest.fixture(scope="module")
def clip(tiny_model):
    return load_clip(ModelSource(str(tiny_model)))


@pytest.fixture
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), STORED)


@pytest.fixture(scope="module")
def raw_frames(inputs, tmp_path_factory):
    """Two clips, their pixels stored as they are."""
    path = tmp_path_factory.mktemp("raw") / "raw.h5"
    videos = sorted((inputs / "vidsitu").glob("*.mp4"))[:2]
    extract(videos, path, recipe=SamplingRecipe(events=2, frames_per_event=2, size=32, storage="raw"), workers=1)
    return path


@pytest.fixture(scope="module")
def ragged_frames(inputs, tmp_path_factory):
    """Two clips at one frame a second, as clip4clip takes them."""
    path = tmp_path_factory.mktemp("ragged") / "ragged.h5"
    videos = sorted((inputs / "vidsitu").glob("*.mp4"))[:2]
    extract(videos, path, recipe=SamplingRecipe(size=32, policy="fps", fps=1.0), workers=1)
    return path


@pytest.fixture
def damaged(prepared, tmp_path):
    """The prepared frames with a picture of the second clip overwritten, and the third clip not ok."""
    path = tmp_path / "damaged.h5"
    shutil.copy(prepared / "frames.h5", path)
    with h5py.File(path, "r+") as file:
        begin, end = file["jpeg_offsets"][27:29]
        file["jpeg_bytes"][begin:end] = 0
        restate(file, "status", {2: "failed"})
        restate(file, "reason", {2: "not a video"})
    return FramesReader(path)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    generator = np.random.default_rng(0)
    for number, name in enumerate(("z.JPG", "b/1.png", "b/deep/2.webp", "a.bmp", ".hidden/no.png")):
        Image.fromarray(generator.integers(0, 256, (40, 50 + number, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def one_at_a_time(clip, pixels):
    with torch.no_grad():
        return torch.cat([clip.encode_frames(torch.from_numpy(one[None].copy())) for one in pixels])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_features_of_clips_and_events_are_those_of_their_frames_one_at_a_time(clip, clips, pooling):
    encoder = encoder_of(clip, ProtocolOptions(pooling=pooling).resolve())
    of_clips, of_events = (embed_clips(encoder, clips, level=level) for level in ("clip", "event"))
    assert of_clips.ids == clips.reader.clip_ids and of_clips.features.shape == (6, 32) and not of_clips.columns
    assert of_events.ids == tuple(clip_id for clip_id in clips.reader.clip_ids for _ in range(5))
    assert of_events.columns["event_index"].tolist() == [0, 1, 2, 3, 4] * 6
    assert of_clips.about["unit_length"] == (pooling != "l2-mean")
    for row, clip_id in enumerate(clips.reader.clip_ids):
        frames = one_at_a_time(clip, clips.reader.read(clip_id).reshape(20, 32, 32, 3))
        expected = pool_frames(frames, pooling=pooling)
        assert np.allclose(of_clips.features[row], expected, atol=1e-5)
        expected = pool_frames(frames.reshape(5, 4, -1), pooling=pooling)
        assert np.allclose(of_events.features[5 * row : 5 * row + 5], expected, atol=1e-5)


@pytest.mark.parametrize("frames", ["jpeg", "raw", "ragged"])
def test_features_of_frames_are_those_of_one_picture_each(clip, prepared, raw_frames, ragged_frames, frames):
    reader = FramesReader({"jpeg": prepared / "frames.h5", "raw": raw_frames, "ragged": ragged_frames}[frames])
    found = embed_clips(encoder_of(clip), StoredClips(reader, STORED), level="frame")
    pixels = [reader.read(clip_id).reshape(-1, 32, 32, 3) for clip_id in reader.clip_ids]
    pairs = zip(reader.clip_ids, pixels, strict=True)
    assert found.ids == tuple(clip_id for clip_id, frames in pairs for _ in frames)
    assert found.columns["frame_index"].tolist() == [number for frames in pixels for number in range(len(frames))]
    times = [reader.pts_seconds(clip_id).ravel() for clip_id in reader.clip_ids]
    assert np.array_equal(found.columns["pts_seconds"], np.concatenate(times)) and len(found.ids) == sum(
        map(len, times)
    )
    expected = normalize(one_at_a_time(clip, np.concatenate(pixels)), dim=-1)
    assert np.allclose(found.features, expected, atol=1e-5)


def test_frames_are_those_that_the_protocol_takes(clip, ragged_frames, prepared):
    protocol = ProtocolOptions(protocol="clip4clip", num_frames=4).resolve()
    found = embed_clips(encoder_of(clip, protocol), StoredClips(FramesReader(ragged_frames), protocol), level="frame")
    assert found.columns["frame_index"].tolist() == [0, 3, 6, 9] * 2
    with pytest.raises(InputError, match="none for single events"):
        embed_clips(encoder_of(clip, protocol), StoredClips(FramesReader(ragged_frames), protocol), level="event")


def test_only_the_wanted_picture_is_decoded(clips, monkeypatch):
    from figclip_cli.evaluate.visuals import single_frames

    decoded, real = [], single_frames.decode_jpeg
    monkeypatch.setattr(single_frames, "decode_jpeg", lambda data: decoded.append(data) or real(data))
    frames = SingleFrames(clips)
    clip_id = clips.reader.clip_ids[1]
    assert np.array_equal(frames.read((clip_id, 7))[0], clips.reader.read(clip_id).reshape(20, 32, 32, 3)[7])
    assert decoded == [clips.reader.stored(clip_id)[7]]
    with pytest.raises(InputError, match="has 20 frames, frame 20"):
        frames.read((clip_id, 20))
    with pytest.raises(InputError, match="not in the frames file"):
        frames.identity(("absent", 0))


@pytest.mark.parametrize(
    ("level", "listed", "rows"),
    [
        ("clip", [""], 4),
        ("event", [f", event {event}" for event in range(5)], 20),  # a clip is read whole for its events
        ("frame", [", frame 7"], 99),
    ],
)
def test_what_is_damaged_or_not_ok_is_listed_and_the_rest_is_there(clip, damaged, level, listed, rows):
    ids = [row.clip_id for row in damaged.clips]
    found = embed_clips(encoder_of(clip), StoredClips(damaged, STORED), level=level)
    assert (found.about["n_asked"], found.about["n_written"], len(found.features)) == (6, 4, rows)
    assert list(found.missing) == [*(ids[1] + rest for rest in listed), ids[2]]
    assert found.missing[ids[2]] == "failed: not a video"
    assert all("damaged" in why for name, why in found.missing.items() if name != ids[2])


def test_nothing_to_write_is_an_error(clip, damaged, tmp_path, images):
    with h5py.File(damaged.paths[0], "r+") as file:
        restate(file, "status", dict.fromkeys(range(len(file["status"])), "failed"))
    with pytest.raises(InputError, match="no clip has features; the first is 'v_clip0000000_seg_0_10': failed"):
        embed_clips(encoder_of(clip), StoredClips(FramesReader(damaged.paths[0]), STORED))
    for name in image_names(images):
        (images / name).write_bytes(b"")
    with pytest.raises(InputError, match="no image has features"):
        embed_images(encoder_of(clip), images)


def test_features_of_images_are_by_name_below_the_folder(clip, images):
    found = embed_images(encoder_of(clip), images)
    assert found.ids == ("a.bmp", "b/1.png", "b/deep/2.webp", "z.JPG") == tuple(image_names(images))
    for row, name in enumerate(found.ids):
        pixels = to_square(np.asarray(Image.open(images / name).convert("RGB")), 32)
        assert np.allclose(found.features[row], normalize(one_at_a_time(clip, pixels[None]), dim=-1), atol=1e-5)
    squashed = embed_images(encoder_of(clip, ProtocolOptions(crop="squash").resolve()), images)
    assert squashed.about["source"]["crop"] == "squash" and not np.allclose(squashed.features, found.features)


def test_an_image_that_cannot_be_read_never_becomes_another_one(clip, images):
    (images / "b" / "a.bmp").symlink_to(images / "absent.bmp")  # its name without the folder is another image's
    (images / "b" / "1.png").write_bytes((images / "b" / "1.png").read_bytes()[:100])
    found = embed_images(encoder_of(clip), images)
    assert found.ids == ("a.bmp", "b/deep/2.webp", "z.JPG") and list(found.missing) == ["b/1.png", "b/a.bmp"]
    assert (found.about["n_asked"], found.about["n_written"]) == (5, 3)


def test_the_content_of_images_is_hashed_with_their_names(clip, images, tmp_path):
    before = embed_images(encoder_of(clip), images).about["source"]["content_sha256"]
    again = embed_images(encoder_of(clip), shutil.copytree(images, tmp_path / "copy")).about["source"]
    assert again["content_sha256"] == before
    (images / "a.bmp").rename(images / "c.bmp")
    assert embed_images(encoder_of(clip), images).about["source"]["content_sha256"] != before


def test_features_of_texts_are_in_the_order_of_the_file(clip, tmp_path):
    (tmp_path / "t.txt").write_text("a dog runs\n  a man walks \na dog runs\n")
    found = embed_texts(encoder_of(clip), read_texts(tmp_path / "t.txt"))
    assert found.ids == ("1", "2", "3") and np.array_equal(found.features[0], found.features[2])
    for row, text in enumerate(("a dog runs", "a man walks")):
        assert np.allclose(found.features[row], clip.text_similarity_features([text])[0], atol=1e-6)
    (tmp_path / "t.jsonl").write_text('{"text": "a man walks", "id": "man"}\n{"text": "' + "x " * 90 + '", "id": 7}\n')
    named = embed_texts(encoder_of(clip), read_texts(tmp_path / "t.jsonl"))
    assert named.ids == ("man", "7") and named.about["source"]["overlong_texts"] == 1
    assert np.array_equal(named.features[0], found.features[1])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.txt", b"", "is empty"),
        ("t.txt", b"a\n\nb\n", "line 2: empty"),
        ("t.txt", b"\xff\xfe", "not UTF-8"),
        ("t.txt", b"a <end_of_text> b\n", "line 1"),
        ("t.csv", b"a\n", "is no .txt or .jsonl"),
        ("t.jsonl", b"[1]\n", "line 1: not a JSON object"),
        ("t.jsonl", b'{"text": "a"}\n{"id": "b"}\n', "line 2: 'text' is missing"),
        ("t.jsonl", b'{"text": 5}\n', "'text' is 5"),
        ("t.jsonl", b'{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}\n', "names 'x' twice"),
        ("t.jsonl", b'{"text": "a", "id": "2"}\n{"text": "b"}\n', "names '2' twice"),
        ("t.jsonl", b'{"text": "a", "id": null}\n', "'id' is null"),
        ("t.jsonl", b'{"text": "a", "id": "x\\u0000"}\n', "'id' is"),
        ("t.jsonl", b'{"text": "a", "id": "\\ud800"}\n', "'id' is"),
        ("t.jsonl", b'{"text": "\\ud800"}\n', "surrogate"),
        ("t.jsonl", b'{"text": "a"\n', "line 1"),
    ],
)
def test_texts_that_cannot_be_meant_are_refused_with_their_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_texts(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        read_texts(tmp_path / "absent.txt")


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(InputError, match="no image found"):
        image_names(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        image_names(tmp_path / "absent")


def test_a_run_has_its_adapter_named_and_other_features(prepared, finished_run, clips):
    from figclip_cli.files import sha256_of_file
    from figclip_cli.models.adapted import attach_run, load_base

    found = embed_clips(encoder_of(load_base(finished_run), run=finished_run), clips)
    base = embed_clips(encoder_of(load_base(finished_run)), clips)
    assert not np.allclose(found.features, base.features, atol=1e-4)
    assert found.about["model"] == {
        "label": "adapted",
        "name": "quick",
        "base_name": "base-model",
        "base_sha256": base.about["model"]["base_sha256"],
        "adapter_sha256": sha256_of_file(RunFolder(finished_run.path).adapter_file),
    }
    assert base.about["model"]["label"] == "base" and base.about["model"]["adapter_sha256"] is None
    adapted = attach_run(load_base(finished_run), finished_run)
    frames = one_at_a_time(adapted, clips.reader.read(found.ids[0]).reshape(20, 32, 32, 3))
    assert np.allclose(found.features[0], pool_frames(frames), atol=1e-5)


@pytest.fixture
def few():
    generator = np.random.default_rng(0)
    features = generator.standard_normal((4, 8)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    about = {
        "figclip": "1",
        "level": "frame",
        "unit_length": True,
        "model": {"name": "tiny"},
        "protocol": STORED.as_dict(),
        "source": {"kind": "frames"},
        "n_asked": 3,
        "n_written": 2,
        "missing": {f"clip {number} “é”": "failed" for number in range(3000)},  # more than HDF5 takes as an attribute
    }
    columns = {"frame_index": np.array([0, 1, 0, 1]), "pts_seconds": np.array([0.1, 0.2, 0.3, np.nan])}
    return Embeddings(features, ("a", "a", "bé", "c d"), columns, about)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_reads_back_and_equal_features_give_equal_bytes(few, tmp_path, name):
    write_features(tmp_path / name, few)
    found = read_features(tmp_path / name)
    assert np.array_equal(found.features, few.features) and found.ids == few.ids and found.missing == few.missing
    assert found.columns.keys() == few.columns.keys()
    assert all(np.array_equal(found.columns[key], few.columns[key], equal_nan=True) for key in few.columns)
    assert few.about.items() <= found.about.items()
    assert (found.about["format"], found.about["format_version"]) == ("figclip-features", 1)
    first = (tmp_path / name).read_bytes()
    write_features(tmp_path / name, few)
    assert (tmp_path / name).read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_the_files_are_what_their_own_libraries_read(few, tmp_path):
    for name in NAMES:
        write_features(tmp_path / name, few)
    with safe_open(tmp_path / NAMES[0], framework="np") as file:
        assert np.array_equal(file.get_tensor("features"), few.features)
        assert json.loads(file.metadata()["figclip"])["ids"] == list(few.ids)
    with h5py.File(tmp_path / NAMES[1]) as file:
        assert file["ids"].asstr()[:].tolist() == list(few.ids) and file.attrs["format"] == "figclip-features"
        assert json.loads(file["metadata"][()])["level"] == "frame"
    with np.load(tmp_path / NAMES[3], allow_pickle=False) as file:
        assert file["ids"].tolist() == list(few.ids) and file["features"].dtype == np.float32
        assert json.loads(str(file["metadata"]))["n_asked"] == 3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_or_failed_write_leaves_the_old_file(few, tmp_path, name, error, monkeypatch):
    from figclip_cli.errors import MachineError
    from figclip_cli.evaluate import embedding_files
    from figclip_cli.models import tensors

    (tmp_path / name).write_text("old")

    def stop(*_, **__):
        raise error

    monkeypatch.setattr(tensors, "save_file", stop)
    monkeypatch.setattr(embedding_files.np, "savez", stop)
    monkeypatch.setattr(h5py.File, "create_dataset", stop)
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else MachineError):
        write_features(tmp_path / name, few)
    assert [file.name for file in tmp_path.iterdir()] == [name] and (tmp_path / name).read_text() == "old"


def test_an_unknown_ending_is_refused_with_the_known_ones(few, tmp_path):
    for name in ("features.pt", "features"):
        with pytest.raises(UsageError, match="no known format") as caught:
            write_features(tmp_path / name, few)
        assert caught.value.hint == "choose one of .safetensors, .h5, .hdf5, .npz"
    (tmp_path / "features.pt").write_bytes(b"x")
    with pytest.raises(InputError, match="no known format"):
        read_features(tmp_path / "features.pt")


def test_more_ids_than_safetensors_takes_are_refused(few, tmp_path, monkeypatch):
    from figclip_cli.evaluate import embedding_files

    monkeypatch.setattr(embedding_files, "_MOST_HEADER_BYTES", 1000)
    with pytest.raises(UsageError, match="safetensors takes no 4 ids"):
        write_features(tmp_path / "features.safetensors", few)


def replaced(embeddings, **changes):
    import dataclasses

    return dataclasses.replace(embeddings, **changes)


@pytest.mark.parametrize("name", NAMES)
def test_content_that_is_not_what_it_says_is_refused(few, tmp_path, name):
    def refused(said, **changes):
        write_features(tmp_path / name, replaced(few, **changes))
        with pytest.raises(InputError, match=said) as caught:
            read_features(tmp_path / name)
        assert "\n" not in caught.value.message

    nan = few.features.copy()
    nan[2, 3] = np.nan
    refused("1 features are not finite", features=nan)
    refused("4 features are not of unit length", features=few.features * 2)
    refused("features have shape", features=few.features.astype(np.float64))
    refused("features have shape", features=few.features[:, :0])
    refused("ids", ids=few.ids[:3])
    refused("ids", ids=("a", "b", "c", ""))
    refused("level 'clip' does not go with", about={**few.about, "level": "clip"})
    refused("level 'x' does not go with", about={**few.about, "level": "x"})
    refused("metadata is damaged", about={**few.about, "missing": [1]})
    refused("metadata is damaged", about={key: value for key, value in few.about.items() if key != "protocol"})
    refused("frame_index is negative", columns={**few.columns, "frame_index": np.array([0, 1, -1, 0])})
    refused("frame_index has shape", columns={**few.columns, "frame_index": np.array([0.0, 1, 1, 0])})
    refused("pts_seconds has shape", columns={**few.columns, "pts_seconds": np.zeros(3)})
    write_features(tmp_path / name, replaced(few, features=few.features * 2, about={**few.about, "unit_length": False}))
    assert len(read_features(tmp_path / name).ids) == 4


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_of_features_is_one_line(few, tmp_path, name):
    path = tmp_path / name
    with pytest.raises(InputError, match="does not exist"):
        read_features(path)
    path.mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_features(path)
    path.rmdir()
    write_features(path, few)
    whole = path.read_bytes()
    generator = np.random.default_rng(1)
    broken = [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"\xff" * 100, *(whole[:n] for n in (8, 100, len(whole) // 2))]
    for _ in range(60):
        changed = bytearray(whole)
        for place in generator.integers(0, len(whole), 4):
            changed[place] = generator.integers(0, 256)
        broken.append(bytes(changed))
    refused = 0
    for content in broken:
        path.write_bytes(content)
        try:
            read_features(path)
        except InputError as error:
            refused += 1
            assert "\n" not in error.message and str(path) in error.message
    assert refused >= 7


class Harm:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_a_pickled_npz_is_refused_and_never_executed(few, tmp_path):
    path = tmp_path / "features.npz"
    path.write_bytes(pickle.dumps(Harm()))
    with pytest.raises(InputError, match="cannot be read"):
        read_features(path)
    write_features(path, few)
    with np.load(path) as file:
        arrays = dict(file)
    for name in ("features", "ids", "metadata", "other"):
        np.savez(path, **{**arrays, name: np.array([Harm()], dtype=object)}, allow_pickle=True)
        with pytest.raises(InputError, match="allow_pickle=False"):
            read_features(path)


def test_small_files_that_claim_to_be_large_are_refused(few, tmp_path):
    path = tmp_path / "features.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("features.npy", b"\0" * 10_000_000)
    with pytest.raises(InputError, match="compressed"):
        read_features(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 1 << 10)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("features.npy", header.getvalue())
    with pytest.raises(InputError, match="cannot be read"):
        read_features(path)
    path = tmp_path / "features.h5"
    write_features(path, few)
    with h5py.File(path, "r+") as file:
        del file["features"]
        file.create_dataset("features", shape=(1 << 30, 512), chunks=(1024, 512), dtype=np.float32)
    with pytest.raises(InputError, match="compressed or not filled"):
        read_features(path)


def test_texts_on_the_heap_of_hdf5_are_refused(few, tmp_path):
    """A few changed bytes there make the library read without end."""
    write_features(tmp_path / "features.h5", few)
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        ids = file["ids"].asstr()[:].tolist()
        del file["ids"]
        file.create_dataset("ids", data=ids, dtype=h5py.string_dtype())
    with pytest.raises(InputError, match="texts of one length"):
        read_features(tmp_path / "features.h5")


def test_features_in_another_file_are_not_followed(few, tmp_path):
    write_features(tmp_path / "other.h5", few)
    write_features(tmp_path / "features.h5", few)
    with h5py.File(tmp_path / "features.h5", "r+") as file:
        del file["features"]
        file["features"] = h5py.ExternalLink("other.h5", "features")
    with pytest.raises(InputError, match="no dataset of this file"):
        read_features(tmp_path / "features.h5")


def test_safetensors_of_others_are_refused(tmp_path):
    path = tmp_path / "features.safetensors"
    save_file({"features": np.ones((1, 4), np.float32)}, path)
    with pytest.raises(InputError, match="no metadata of figclip"):
        read_features(path)
    for text in ("[]", "{}", '{"ids": []}', "[" * 100_000, '{"ids": ["\\ud800"], "format": "figclip-features"}'):
        save_file({"features": np.ones((1, 4), np.float32)}, path, metadata={"figclip": text})
        with pytest.raises(InputError):
            read_features(path)
