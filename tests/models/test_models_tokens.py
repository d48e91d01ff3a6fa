"""Counting tokens: the same numbers as open_clip's tokenizer, quickly."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figclip_cli.models.tokens import TokenCounter


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return TokenCounter()


@pytest.fixture(scope="module")
def tokenizer():
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


WORDS = st.lists(st.text(st.characters(codec="ascii"), max_size=12), max_size=8).map(" ".join)


@given(text=st.one_of(st.text(max_size=60), WORDS))
def test_the_count_is_open_clips_with_start_and_end(counter, tokenizer, text):
    assert counter.count(text) == len(tokenizer.encode(text)) + 2


@pytest.mark.parametrize(
    "text",
    ["", "man's", "don't", "12 men", "caf\u00e9 &amp; bar", "&lt;b&gt;", "\u201cso\u201d", "a\x1b[0mb", "a\u00a0b"],
)
def test_texts_that_the_clean_up_touches_are_counted_as_the_tokenizer_sees_them(counter, tokenizer, text):
    assert counter.count(text) == len(tokenizer.encode(text)) + 2


def test_a_text_fits_up_to_the_context_and_no_further(counter):
    assert counter.context_length == 77
    assert counter.count(" ".join(["man"] * 75)) == 77
    assert counter.fits(" ".join(["man"] * 75))
    assert not counter.fits(" ".join(["man"] * 76))


def test_what_is_visible_of_a_long_text_is_what_the_tokenizer_keeps(counter, tokenizer):
    text = " ".join(f"man {n}" for n in range(60))
    kept = tokenizer([text])[0].tolist()
    assert tokenizer.encode(counter.visible(text)) == kept[1:-1]
    assert counter.visible("A short Text.") == "A short Text."


def test_another_context_length_is_honoured():
    assert not TokenCounter(4).fits("a man walks")
    assert TokenCounter(5).fits("a man walks")
