"""How many tokens CLIP's own tokenizer makes of a text, fast enough to ask for a million texts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from open_clip.tokenizer import SimpleTokenizer

CONTEXT_LENGTH = 77
_START_AND_END = 2


@cache
def _simple_tokenizer() -> SimpleTokenizer:
    from open_clip.tokenizer import SimpleTokenizer  # imports torch

    return SimpleTokenizer()


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
        self._tokenizer = _simple_tokenizer()
        self._count_word = cache(lambda word: len(self._tokenizer.encode(word)))

    def count(self, text: str) -> int:
        """Return the number of tokens of the whole text, start and end included, nothing cut."""
        if not (text.isascii() and text.isprintable()) or "&" in text:
            return len(self._tokenizer.encode(text)) + _START_AND_END
        return sum(map(self._count_word, text.split())) + _START_AND_END

    def fits(self, text: str) -> bool:
        """Return whether the model sees the whole text."""
        return self.count(text) <= self.context_length

    def visible(self, text: str) -> str:
        """Return what the model sees: the text, or what is left of it (lower case) when its end is cut off."""
        if self.fits(text):
            return text
        seen = self._tokenizer.encode(text)[: self.context_length - _START_AND_END]
        return str(self._tokenizer.decode(seen)).strip()
