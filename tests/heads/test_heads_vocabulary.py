"""Captions come back letter by letter; a damaged vocabulary is named."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figclip_cli.errors import InputError
from figclip_cli.heads.vocabulary import (
    clip_vocabulary,
    load_vocabulary,
    make_vocabulary,
    padded,
    save_vocabulary,
    train_bpe,
)

TEXTS = ["man with short hair", "Woman in Red, smiling", "the dog's bone", "naïve café", "in a home"]


@pytest.fixture(scope="module")
def bpe():
    return train_bpe(TEXTS * 5, size=300)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_comes_back_but_for_its_spaces(bpe, text):
    assert bpe.decode(bpe.encode(text)) == " ".join(text.split())


def test_case_and_punctuation_are_kept_by_the_trained_bpe_and_case_is_not_by_clips(bpe):
    clip = clip_vocabulary(TEXTS)
    for text in TEXTS:
        assert bpe.decode(bpe.encode(text)) == text
        assert clip.decode(clip.encode(text)).replace(" ", "") == text.lower().replace(" ", "")


def test_clips_vocabulary_has_what_the_texts_need_and_no_more():
    small, larger = clip_vocabulary(["a dog"]), clip_vocabulary(["a dog", "a cat runs"])
    assert small.size == 3 + 2 and larger.size == 3 + 4
    assert small.encode("a cat runs") == small.encode("a")


def test_merges_make_frequent_words_one_token(bpe):
    assert len(bpe.encode("man with short hair")) < len("man with short hair") / 2
    assert bpe.size <= 300


def test_decoding_stops_at_the_end_and_skips_special_tokens(bpe):
    tokens = bpe.encode("the dog")
    assert bpe.decode([bpe.start_id, *tokens, bpe.end_id, *tokens]) == "the dog"
    assert bpe.decode([bpe.pad_id, bpe.end_id]) == ""


def test_padded_rows_start_end_and_are_cut_without_an_end(bpe):
    rows = padded(bpe, ["the dog", "man with short hair", ""], 2)
    assert rows[0, 0] == rows[1, 0] == bpe.start_id
    words = bpe.encode("man with short hair")
    assert rows[1].tolist() == [bpe.start_id, *words[:2], bpe.pad_id][: rows.shape[1]]
    assert rows[2].tolist()[:3] == [bpe.start_id, bpe.end_id, bpe.pad_id]
    assert padded(bpe, [], 5).shape == (0, 1)


@pytest.mark.parametrize("kind", ["bpe", "clip"])
def test_a_saved_vocabulary_is_the_same(tmp_path, kind):
    made = make_vocabulary(kind, TEXTS, size=300)
    save_vocabulary(tmp_path / "v.json", made)
    read = load_vocabulary(tmp_path / "v.json")
    assert read.size == made.size and read.kind == kind
    for text in TEXTS:
        assert read.encode(text) == made.encode(text) and read.decode(read.encode(text)) == made.decode(
            made.encode(text)
        )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "not a vocabulary"),
        ("[]", "not a vocabulary"),
        ('{"format": "figclip-vocabulary"}', "damaged"),
        ('{"format": "figclip-vocabulary", "kind": "words"}', "no known kind"),
        ('{"format": "figclip-vocabulary", "kind": "bpe", "tokenizer": "{"}', "damaged"),
        ('{"format": "figclip-vocabulary", "kind": "clip", "clip_ids": [1.5]}', "no known kind"),
        ('{"format": "figclip-vocabulary", "kind": "clip", "clip_ids": 3}', "damaged"),
        ('{"format": "figclip-vocabulary", "kind": "clip", "clip_ids": [1000000000]}', "no known kind"),
        ('{"format": "figclip-vocabulary", "kind": "clip", "clip_ids": [5, 5]}', "no known kind"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path, content, said):
    (tmp_path / "v.json").write_text(content)
    with pytest.raises(InputError, match=said):
        load_vocabulary(tmp_path / "v.json")
