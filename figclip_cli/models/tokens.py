"""How many tokens CLIP's own tokenizer makes of a text, fast enough to ask for a million texts, and without torch.

open_clip's ``SimpleTokenizer`` lives in a module that imports torch, half a gigabyte of memory. The same byte-pair
encoding, from the same vocabulary file, is built here with Hugging Face's tokenizers; a test compares the two.
"""

from __future__ import annotations

import gzip
import html
import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONTEXT_LENGTH = 77
_START_AND_END = 2
_NOT_PLAIN = -1_000_000  # so low that no sum with it is a number of tokens
_MERGES = 49152 - 256 - 2
_VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_WORD_END = "</w>"


START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def clip_vocabulary() -> tuple[Mapping[str, int], Sequence[tuple[str, str]]]:
    """Return the number of each token, start and end among them by transformers' names, and the merges, best first."""
    from tokenizers.pre_tokenizers import ByteLevel

    found = importlib.util.find_spec("open_clip")  # finds the package without importing it
    assert found is not None and found.submodule_search_locations, "open_clip is a dependency"
    content = gzip.decompress((Path(found.submodule_search_locations[0]) / _VOCABULARY).read_bytes()).decode()
    merges: list[tuple[str, str]] = [
        (pair[0], pair[1]) for pair in map(str.split, content.split("\n")[1 : _MERGES + 1])
    ]
    letters = sorted(ByteLevel.alphabet())  # one printable letter for each byte
    words = [*letters, *(letter + _WORD_END for letter in letters), *("".join(merge) for merge in merges), START, END]
    return {word: number for number, word in enumerate(words)}, merges


@cache
def _tokenizer() -> Tokenizer:
    from tokenizers import Regex, Tokenizer
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel, Split
    from tokenizers.pre_tokenizers import Sequence as Steps

    vocabulary, merges = clip_vocabulary()
    tokenizer = Tokenizer(BPE(dict(vocabulary), list(merges), end_of_word_suffix=_WORD_END))
    split = Split(Regex(_WORDS), "removed", invert=True)
    tokenizer.pre_tokenizer = Steps([split, ByteLevel(add_prefix_space=False, use_regex=False)])
    return tokenizer


def cleaned(text: str) -> str:
    """Return what is tokenized: broken Unicode mended, HTML entities resolved, spaces collapsed, lower case."""
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split()).lower()


class TokenCounter:
    """Counts tokens as open_clip's ``SimpleTokenizer`` makes them.

    No token of that tokenizer reaches across white space, so a plain ASCII text has as many tokens as its words
    together, and every distinct word is tokenized once. Any other text goes through the tokenizer whole, because
    the clean-up that runs before tokenizing may look at more than one word.

    Attributes:
        context_length: Tokens the model takes, start and end included.
    """

    def __init__(self, context_length: int = CONTEXT_LENGTH) -> None:
        self.context_length = context_length
        self._tokenizer = _tokenizer()
        self._count_word = cache(lambda word: len(self._tokenizer.encode(word.lower()).ids))
        self._count_piece = lru_cache(maxsize=1 << 19)(self._tokens_of_piece)

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, start and end included, nothing cut."""
        tokens = self._tokens_of_piece(text)
        whole = len(self._tokenizer.encode(cleaned(text)).ids) if tokens == _NOT_PLAIN else tokens
        return whole + _START_AND_END

    def count_pieces(self, pieces: Sequence[str]) -> int:
        """Return the number of tokens of the text that the pieces make, joined by spaces.

        The same as ``count(" ".join(pieces))``, and quicker where pieces have been seen before.
        """
        tokens = sum(map(self._count_piece, pieces))
        return tokens + _START_AND_END if tokens >= 0 else self.count(" ".join(pieces))

    def fits(self, text: str) -> bool:
        """Return whether the model sees the whole text."""
        return self.count(text) <= self.context_length

    def visible(self, text: str) -> str:
        """Return what the model sees: the text, or what is left of it (lower case) when its end is cut off."""
        if self.fits(text):
            return text
        clean = cleaned(text)
        _, end = self._tokenizer.encode(clean).offsets[self.context_length - _START_AND_END - 1]
        return clean[:end]

    def _tokens_of_piece(self, text: str) -> int:
        """Return the tokens of a plain text without start and end, or a mark for one that is not plain."""
        if not (text.isascii() and text.isprintable()) or "&" in text:
            return _NOT_PLAIN
        return sum(map(self._count_word, text.split()))
