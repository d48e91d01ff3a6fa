"""The shared folder of features: what is written is found, what is damaged is not believed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file

from figclip_cli.errors import MachineError
from figclip_cli.files import canonical_json
from figclip_cli.models import feature_shards, feature_store
from figclip_cli.models.feature_shards import content_hashes
from figclip_cli.models.feature_store import FeatureStore, locate
from figclip_cli.reporting import SilentReporter

WIDTH = 8
ABOUT = {"format": "figclip features", "format_version": 1, "model": "key"}


class Listener(SilentReporter):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


def made_up(count, seed=0):
    return F.normalize(torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=1)


def opened(tmp_path):
    listener = Listener()
    return FeatureStore(tmp_path, "key", WIDTH, listener), listener.warnings


def everything(shards):
    return torch.cat([shard.read(np.arange(len(shard))) for shard in shards])


def file_of(tmp_path):
    (file,) = tmp_path.glob("*.safetensors")
    return file


@pytest.mark.parametrize("small_rows", [0, 2048])
def test_what_is_added_is_found(tmp_path, monkeypatch, small_rows):
    monkeypatch.setattr(feature_shards, "SMALL_ROWS", small_rows)
    store, warnings = opened(tmp_path)
    wanted = content_hashes(["a", "ü", "\ud800", ""])
    store.add(wanted[:3], made_up(3))
    shards = store.shards()
    assert locate(shards, wanted).tolist() == [0, 1, 2, -1] and torch.equal(everything(shards), made_up(3))
    assert not warnings and locate([], wanted).tolist() == [-1] * 4


def test_a_shard_that_another_process_merges_away_while_it_is_opened_is_passed_over(tmp_path, monkeypatch):
    store, warnings = opened(tmp_path)
    store.add(content_hashes(["a", "b"]), made_up(2))
    real = torch.UntypedStorage.from_file

    def gone(name, *arguments, **settings):  # the library has read the header, and torch opens the file by its name
        file_of(tmp_path).unlink()
        return real(name, *arguments, **settings)

    monkeypatch.setattr(torch.UntypedStorage, "from_file", gone)
    assert store.shards() == [] and not warnings and not list(tmp_path.glob("*.safetensors"))


def test_a_hash_is_compared_whole():
    hashes = content_hashes(["a", "b"])
    alike = hashes.copy()
    alike[:, 1] += 1  # the first 8 bytes agree
    assert locate([feature_shards.Shard(hashes, made_up(2))], alike).tolist() == [-1, -1]


def saved(file, features, hashes, about):
    save_file({"features": features, "hashes": hashes}, file, {"figclip": canonical_json(about)})


def lie(file, kind):
    features, hashes = made_up(3), torch.zeros(3, 16, dtype=torch.uint8)
    changed = {
        "not finite": (features.index_fill(0, torch.tensor(1), torch.nan), hashes, ABOUT),
        "not of unit length": (features * 1.01, hashes, ABOUT),
        "huge": (features * 1e30, hashes, ABOUT),
        "another width": (features[:, :4], hashes, ABOUT),
        "fewer hashes": (features, hashes[:2], ABOUT),
        "shorter hashes": (features, hashes[:, :8], ABOUT),
        "half precision": (features.half(), hashes, ABOUT),
        "wide hashes": (features, hashes.int(), ABOUT),
        "no rows": (features[:0], hashes[:0], ABOUT),
        "another model": (features, hashes, {**ABOUT, "model": "another"}),
        "another version": (features, hashes, {**ABOUT, "format_version": 9}),
    }[kind]
    saved(file, changed[0].contiguous(), changed[1].contiguous(), changed[2])


LIES = "not finite|not of unit length|huge|another width|fewer hashes|shorter hashes|half precision|wide hashes".split(
    "|"
)
LIES += ["no rows", "another model", "another version"]


@pytest.mark.parametrize("small_rows", [0, 2048])
@pytest.mark.parametrize("kind", LIES)
def test_a_lying_shard_is_not_believed(tmp_path, monkeypatch, kind, small_rows):
    monkeypatch.setattr(feature_shards, "SMALL_ROWS", small_rows)
    lie(tmp_path / "lie.safetensors", kind)
    store, warnings = opened(tmp_path)
    assert store.shards() == [] and len(warnings) == 1 and "lie.safetensors" in warnings[0]
    assert "\n" not in warnings[0]


@pytest.mark.parametrize("damage", ["empty", "junk", "cut", "long", "no metadata", "other tensors", "folder"])
def test_a_damaged_shard_is_not_believed_and_is_written_again(tmp_path, damage):
    store, warnings = opened(tmp_path)
    store.add(content_hashes(["a", "b"]), made_up(2))
    file = file_of(tmp_path)
    content = file.read_bytes()
    changed = {"empty": b"", "junk": b"junk" * 99, "cut": content[:-3], "long": content + b"\0"}
    if damage in changed:
        file.write_bytes(changed[damage])
    elif damage == "folder":
        file.unlink()
        file.mkdir()
    else:
        about = {"figclip": canonical_json(ABOUT)} if damage == "other tensors" else None
        save_file({"x" if about else "features": made_up(2)}, file, about)
    assert store.shards() == [] and len(warnings) == 1 and file.name in warnings[0]
    if damage != "folder":
        store.add(content_hashes(["a", "b"]), made_up(2))
        assert file.read_bytes() == content


def test_a_sound_shard_is_not_written_again(tmp_path):
    store, _ = opened(tmp_path)
    store.add(content_hashes(["a"]), made_up(1))
    before = file_of(tmp_path).stat()
    store.add(content_hashes(["a"]), made_up(1))
    assert file_of(tmp_path).stat().st_ino == before.st_ino


@pytest.mark.parametrize("error", [MachineError("the disk is full"), OSError("stale"), SafetensorError("denied")])
def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(feature_store, "write_shard", fail)
    store, warnings = opened(tmp_path)
    for seed in (1, 2):
        assert torch.equal(everything([store.add(content_hashes([str(seed)]), made_up(1, seed))]), made_up(1, seed))
    assert len(warnings) == 1 and str(error) in warnings[0]


def test_many_small_shards_become_one(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "MOST_SMALL_SHARDS", 4)
    store, warnings = opened(tmp_path)
    texts = "abcde"
    for number, text in enumerate(texts):
        assert len(list(tmp_path.iterdir())) == number
        store.add(content_hashes([text]), made_up(1, number))
    file_of(tmp_path)
    shards = store.shards()
    at = locate(shards, content_hashes(texts))
    assert torch.equal(everything(shards)[torch.from_numpy(at)], torch.cat([made_up(1, n) for n in range(5)]))
    assert not warnings


def test_merging_leaves_large_and_damaged_shards_and_repeated_texts(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "MOST_SMALL_SHARDS", 2)
    store, warnings = opened(tmp_path)
    big = [str(number) for number in range(feature_shards.SMALL_ROWS + 200)]
    store.add(content_hashes(big), made_up(len(big)))
    large = file_of(tmp_path)
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    everything_in_one = content_hashes(sorted("abc", key=lambda text: content_hashes([text])[0].tolist()))
    store.add(everything_in_one, made_up(3))  # what merging writes has the content, so the name, of this one
    store.add(everything_in_one[:1], made_up(3)[:1])
    assert large.exists() and len(list(tmp_path.glob("*.safetensors"))) == 3 and len(warnings) == 1
    shards = store.shards()
    assert sum(map(len, shards)) == len(big) + 3 and (locate(shards, everything_in_one) >= 0).all()


def test_one_merge_holds_a_bounded_number_of_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(feature_store, "MOST_SMALL_SHARDS", 2)
    monkeypatch.setattr(feature_store, "PIECE_ROWS", 5)
    store, _ = opened(tmp_path)
    for begin in range(0, 12, 3):
        store.add(content_hashes([str(number) for number in range(begin, begin + 3)]), made_up(3, begin))
    assert sum(map(len, store.shards())) == 12 and len(list(tmp_path.iterdir())) == 4


def test_a_file_that_another_process_merged_away_is_no_damage(tmp_path, monkeypatch):
    store, warnings = opened(tmp_path)
    store.add(content_hashes(["a"]), made_up(1))
    file = file_of(tmp_path)
    monkeypatch.setattr(type(tmp_path), "glob", lambda self, _: iter([file]))
    file.unlink()
    assert store.shards() == [] and warnings == []


def test_a_merge_or_a_listing_that_fails_costs_no_features(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("stale")

    monkeypatch.setattr(feature_store, "MOST_SMALL_SHARDS", 1)
    store, warnings = opened(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(FeatureStore, "_merge", fail)
        for number in range(3):
            store.add(content_hashes([str(number)]), made_up(1, number))
    assert sum(map(len, store.shards())) == 3 and warnings == []
    monkeypatch.setattr(type(tmp_path), "glob", fail)
    assert store.shards() == [] and len(warnings) == 1 and "stale" in warnings[0]
