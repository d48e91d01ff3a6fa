"""Encoding texts: a feature depends on the text alone, and the quick tokenizer is the slow one."""

from __future__ import annotations

import random

import pytest
import torch

from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.models.text_encoding import encode_in_pieces, quick_tokenizer
from figclip_cli.models.text_features import encode_distinct
from figclip_cli.reporting import SILENT

WORDS = (
    "man woman short hair walk, slowly apartment. forward-looking it's can't red car behind 1990s 3rd <end_of_text> ?!"
)


def made_up(count, seed=0):
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS.split(), k=draw.randint(0, 90))) for _ in range(count)]


@pytest.mark.parametrize("threads", [1, 2])
def test_bits_do_not_depend_on_the_other_texts(tiny_model, threads):
    clip = load_clip(ModelSource(str(tiny_model)))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        texts = sorted(set(made_up(100)))
        together = encode_distinct(clip, texts).features
        for begin, end in ((0, 1), (3, 10), (5, 38), (40, len(texts))):
            assert torch.equal(encode_distinct(clip, texts[begin:end]).features, together[begin:end])
        backwards = torch.cat(list(encode_in_pieces(clip, texts[::-1], SILENT)))
        assert torch.equal(backwards.flip(0), together)
    finally:
        torch.set_num_threads(before)


ODD = [
    "",
    " ",
    "Fish &amp; chips",
    "caf\u00e9  au\tlait",
    "\u2018quoted\u2019",
    "don\u00e2\u20ac\u2122t",
    "\u72ac",
    "A  B",
]


def test_the_quick_tokenizer_gives_the_same_tokens():
    from open_clip.tokenizer import SimpleTokenizer

    for context in (77, 16):
        tokenizer = SimpleTokenizer(context_length=context)
        texts = made_up(300, seed=context) + ODD
        assert torch.equal(quick_tokenizer(tokenizer)(texts), tokenizer(texts))


def test_another_tokenizer_is_left_alone():
    from open_clip.tokenizer import SimpleTokenizer

    def other(texts):
        return torch.zeros(len(texts), 77)

    assert quick_tokenizer(other) is other
    masked = SimpleTokenizer(context_length=77, reduction_mask="simple")
    assert quick_tokenizer(masked) is masked
