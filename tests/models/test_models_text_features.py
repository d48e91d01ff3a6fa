"""Text features: encoded once ever, found by content, read row by row."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.models import feature_shards, feature_store, text_encoding
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.models.text_features import CACHE_FOLDER, encode_distinct, model_key
from figclip_cli.reporting import SilentReporter


class Listener(SilentReporter):
    def __init__(self):
        self.warnings = []

    def warn(self, message):
        self.warnings.append(message)


@pytest.fixture
def clip(tiny_model):
    return load_clip(ModelSource(str(tiny_model)))


@pytest.fixture
def beside(tmp_path):
    return tmp_path / "prompts.jsonl"


@pytest.fixture
def encoded(monkeypatch):
    """Every text that goes through a text tower, filling left out."""
    texts: list[str] = []

    from figclip_cli.models.clip import Clip

    real = Clip.encode_texts
    monkeypatch.setattr(
        Clip, "encode_texts", lambda self, batch: texts.extend(dict.fromkeys(batch)) or real(self, batch)
    )
    return texts


@contextmanager
def all_shards_on_disk(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(feature_store, "SMALL_ROWS", 0)
        patch.setattr(feature_shards, "SMALL_ROWS", 0)
        yield


def shard_files(tmp_path):
    return sorted((tmp_path / CACHE_FOLDER).glob("*/*.safetensors"))


def test_each_distinct_text_is_encoded_once(clip, encoded):
    found = encode_distinct(clip, ["b", "a", "b", "a", "a"])
    assert encoded == ["a", "b"] and found.features.shape == (2, 32) and (len(found), found.width) == (2, 32)
    assert torch.allclose(found.features.norm(dim=1), torch.ones(2))
    assert found.rows(["b", "b", "a"]).tolist() == [1, 1, 0] and found.row_of == {"a": 0, "b": 1}


def test_no_texts_give_no_features(clip, encoded, beside):
    found = encode_distinct(clip, [], cache_beside=beside)
    assert len(found) == 0 and found.features.shape == (0, 32) and encoded == []


def test_only_new_texts_are_encoded(clip, encoded, beside):
    first = encode_distinct(clip, ["a", "b"], cache_beside=beside)
    again = encode_distinct(clip, ["b", "a", "a"], cache_beside=beside)
    assert encoded == ["a", "b"] and torch.equal(first.features, again.features)
    more = encode_distinct(clip, ["a", "b", "aa"], cache_beside=beside)
    assert encoded == ["a", "b", "aa"]
    assert torch.equal(more.gather(more.rows(["a", "b"])), first.features)
    fewer = encode_distinct(clip, ["b"], cache_beside=beside)
    assert encoded == ["a", "b", "aa"] and torch.equal(fewer.features, first.features[1:])


def test_found_features_have_the_bits_of_fresh_ones(clip, beside):
    texts = [f"the action is {word}" for word in ("walk", "run", "jump", "sit", "stand")]
    for end in range(1, len(texts) + 1):
        found = encode_distinct(clip, texts[:end], cache_beside=beside)
    assert torch.equal(found.features, encode_distinct(clip, texts).features)


def test_two_models_side_by_side_do_not_mix(clip, encoded, beside):
    first = encode_distinct(clip, ["a", "b"], cache_beside=beside)
    keys = {model_key(clip)}
    clip.model_config = {**clip.model_config, "quick_gelu": False}
    keys.add(model_key(clip))
    clip.model_config["text_cfg"] = {**clip.model_config["text_cfg"], "heads": 1}
    keys.add(model_key(clip))
    clip.sha256 = "0" * 64
    with torch.no_grad():
        clip.model.token_embedding.weight.neg_()
    other = encode_distinct(clip, ["a", "b"], cache_beside=beside)
    assert encoded == ["a", "b", "a", "b"] and not torch.allclose(first.features, other.features)
    assert len(keys | {model_key(clip)}) == 4 and len(shard_files(beside.parent)) == 2


def test_rows_come_from_several_files_and_may_repeat(clip, beside, monkeypatch):
    with all_shards_on_disk(monkeypatch):
        encode_distinct(clip, ["d", "b"], cache_beside=beside)
        encode_distinct(clip, ["a", "c"], cache_beside=beside)
        found = encode_distinct(clip, "abcde", cache_beside=beside)
        assert len(shard_files(beside.parent)) == 3
        expected = encode_distinct(clip, "abcde").features
        reads = []
        real = feature_shards.FileRows.read
        monkeypatch.setattr(feature_shards.FileRows, "read", lambda self, rows: reads.extend(rows) or real(self, rows))
        rows = torch.tensor([[4, 0, 4], [3, 1, 4]])
        assert torch.equal(found.gather(rows), expected[rows]) and len(reads) == 4
        assert torch.equal(found.features, expected)
        assert found.gather(torch.empty(0, dtype=torch.int64)).shape == (0, 32)


@pytest.mark.parametrize("row", [-1, 2])
def test_a_row_that_is_not_there_is_refused(clip, row):
    with pytest.raises(IndexError, match="of 2 text features"):
        encode_distinct(clip, ["a", "b"]).gather(torch.tensor([0, row]))


def test_a_row_damaged_after_opening_names_the_file(clip, beside, monkeypatch):
    with all_shards_on_disk(monkeypatch):
        found = encode_distinct(clip, ["a", "b"], cache_beside=beside)
        (file,) = shard_files(beside.parent)
        content = bytearray(file.read_bytes())
        start = len(content) - 2 * (16 + 4 * 32)
        content[start : start + 4] = b"\0\0\xc0\x7f"  # NaN
        file.write_bytes(content)
        assert found.gather(torch.tensor([1])).isfinite().all()
        with pytest.raises(InputError, match=file.name):
            found.gather(torch.tensor([0]))
        file.write_bytes(content[:start])
        with pytest.raises(InputError, match="cut short"):
            found.gather(torch.tensor([1]))


def test_a_store_that_cannot_be_written_costs_one_warning_only(clip, beside, monkeypatch):
    (beside.parent / ".figclip").touch()  # a file where the folder would be
    monkeypatch.setattr(text_encoding, "PIECE_ROWS", 32)
    listener = Listener()
    texts = [str(number) for number in range(70)]
    found = encode_distinct(clip, texts, cache_beside=beside, reporter=listener)
    assert found.features.shape == (70, 32) and len(listener.warnings) == 1 and "not kept" in listener.warnings[0]


def test_an_interrupted_run_keeps_its_finished_pieces(clip, beside, encoded, monkeypatch):
    monkeypatch.setattr(text_encoding, "PIECE_ROWS", 64)
    texts = [f"{number:03}" for number in range(200)]
    interrupted = type(clip).encode_texts

    def encode(self, batch):
        if "150" in batch:
            raise KeyboardInterrupt
        return interrupted(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(clip), "encode_texts", encode)
        encode_distinct(clip, texts, cache_beside=beside)
    encoded.clear()
    found = encode_distinct(clip, texts, cache_beside=beside)
    assert encoded == texts[128:] and torch.equal(found.features, encode_distinct(clip, texts).features)


def test_a_model_that_gives_no_direction_is_refused(clip, beside):
    with torch.no_grad():
        clip.model.text_projection.fill_(float("nan"))
    with pytest.raises(VerificationError, match="not finite"):
        encode_distinct(clip, ["a"], cache_beside=beside)
    assert shard_files(beside.parent) == []


def test_overlong_texts_are_named(clip):
    long = " ".join(["dog"] * 76)
    fits = " ".join(["dog"] * 75)
    listener = Listener()
    assert encode_distinct(clip, [long, fits], reporter=listener).overlong == (long,)
    assert listener.warnings == ["1 of 2 texts are over the context: their end is unseen"]


WRITER = """
import sys
from pathlib import Path
from figclip_cli.models import feature_store
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.models.text_features import encode_distinct
from figclip_cli.reporting import SilentReporter

class Strict(SilentReporter):
    def warn(self, message): sys.exit(message)

feature_store.MOST_SMALL_SHARDS = 4
clip = load_clip(ModelSource(sys.argv[1]))
texts = [f"text {n}" for n in range(int(sys.argv[3]), int(sys.argv[4]))]
for end in range(1, len(texts) + 1):
    found = encode_distinct(clip, texts[:end], cache_beside=Path(sys.argv[2]), reporter=Strict())
    found.features
"""


def test_two_processes_write_one_store_at_once(clip, encoded, tiny_model, beside):
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, tiny_model, beside, begin, end], stderr=subprocess.PIPE)
        for begin, end in (("0", "40"), ("20", "60"))
    ]
    errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    texts = [f"text {n}" for n in range(60)]
    listener = Listener()
    found = encode_distinct(clip, texts, cache_beside=beside, reporter=listener)
    assert encoded == [] and listener.warnings == [] and len(shard_files(beside.parent)) <= 8
    assert torch.equal(found.features, encode_distinct(clip, texts).features)


MEMORY = """
import sys
from pathlib import Path
import torch
from figclip_cli.models.clip import Clip, Preprocess
from figclip_cli.models.source import ModelSource
from figclip_cli.models.text_features import CACHE_FOLDER, encode_distinct, model_key
from figclip_cli.models.feature_shards import content_hashes
from figclip_cli.models.feature_store import FeatureStore
from figclip_cli.reporting import SILENT

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

beside = Path(sys.argv[1])
cfg = {"embed_dim": 512, "text_cfg": {}}
clip = Clip(torch.nn.Linear(1, 1), "none", ModelSource("none"), cfg, None, None, "0" * 64)
texts = [f"text {n:06}" for n in range(100_000)]
key = model_key(clip)
if sys.argv[2] == "write":
    store = FeatureStore(beside.parent / CACHE_FOLDER / key, key, 512, SILENT)
    for begin in range(0, 100_000, 50_000):
        torch.manual_seed(begin)
        features = torch.nn.functional.normalize(torch.randn(50_000, 512), dim=1)
        store.add(content_hashes(texts[begin : begin + 50_000]), features)
else:
    encode_distinct(clip, [])
    before = resident()
    found = encode_distinct(clip, texts, cache_beside=beside)
    rows = torch.randint(0, 100_000, (100,), generator=torch.Generator().manual_seed(1))
    found.gather(rows)
    print(resident() - before)
    torch.manual_seed(50_000)
    expected = torch.nn.functional.normalize(torch.randn(50_000, 512), dim=1)
    assert torch.equal(found.gather(torch.arange(50_000, 100_000)), expected)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_files(beside):
    for step in ("write", "read"):
        done = subprocess.run([sys.executable, "-c", MEMORY, beside, step], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    files = sum(file.stat().st_size for file in shard_files(beside.parent))
    assert files > 200_000_000 and int(done.stdout) < files / 4
