"""Text features: encoded once, kept by content, never stale."""

from __future__ import annotations

import pytest
import torch

from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.models.text_features import CACHE_FOLDER, encode_distinct


@pytest.fixture
def clip(tiny_model):
    return load_clip(ModelSource(str(tiny_model)))


def count_encodings(clip, monkeypatch):
    calls = []
    real = type(clip).encode_texts
    monkeypatch.setattr(type(clip), "encode_texts", lambda self, texts: calls.extend(texts) or real(self, texts))
    return calls


def test_each_distinct_text_is_encoded_once(clip, monkeypatch):
    calls = count_encodings(clip, monkeypatch)
    found = encode_distinct(clip, ["b", "a", "b", "a", "a"])
    assert sorted(calls) == ["a", "b"] and found.features.shape == (2, 32)
    assert torch.allclose(found.features.norm(dim=1), torch.ones(2))
    assert torch.equal(found.features[found.rows(["b", "b"])][0], found.features[found.row_of["b"]])


def test_features_are_found_again_and_by_content_alone(clip, monkeypatch, tmp_path):
    beside = tmp_path / "prompts.jsonl"
    calls = count_encodings(clip, monkeypatch)
    first = encode_distinct(clip, ["a", "b"], cache_beside=beside)
    again = encode_distinct(clip, ["b", "a", "a"], cache_beside=beside)
    assert len(calls) == 2 and torch.equal(first.features, again.features)
    encode_distinct(clip, ["a", "b", "c"], cache_beside=beside)
    assert len(calls) == 5
    clip.sha256 = "0" * 64  # other weights
    encode_distinct(clip, ["a", "b"], cache_beside=beside)
    assert len(calls) == 7


@pytest.mark.parametrize("damage", [b"", b"junk", None])
def test_a_damaged_cache_is_encoded_anew(clip, tmp_path, damage):
    beside = tmp_path / "prompts.jsonl"
    first = encode_distinct(clip, ["a", "b"], cache_beside=beside)
    (file,) = (tmp_path / CACHE_FOLDER).glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-3] if damage is None else damage)
    assert torch.equal(encode_distinct(clip, ["a", "b"], cache_beside=beside).features, first.features)


def test_a_cache_that_cannot_be_written_costs_a_warning_only(clip, tmp_path):
    (tmp_path / ".figclip").touch()  # a file where the folder would be
    assert encode_distinct(clip, ["a"], cache_beside=tmp_path / "prompts.jsonl").features.shape == (1, 32)


def test_overlong_texts_are_named(clip):
    long = " ".join(["dog"] * 76)
    fits = " ".join(["dog"] * 75)
    assert encode_distinct(clip, [long, fits]).overlong == (long,)
