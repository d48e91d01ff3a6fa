"""Tokens of captions: a byte-level BPE trained on the annotation, or CLIP's own, cut to what the annotation needs.

With the trained one a text comes back letter by letter. CLIP's own writes in lower case and parts punctuation from
words: "a man's hat" comes back as "a man 's hat", which counts where texts are compared to the letter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.files import read_json, write_json

_SPECIAL = 3  # tokens for padding, start and end come before those of texts, and no text can contain them
_FORMAT = "figclip-vocabulary"
_DAMAGED = "train the head again"
BPE, CLIP = "bpe", "clip"


class Vocabulary(ABC):
    """Takes texts apart and puts them together. Spaces at the ends and double spaces are not kept."""

    kind: ClassVar[str]
    pad_id, start_id, end_id = range(_SPECIAL)

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of tokens, the special ones included."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, without special ones."""

    @abstractmethod
    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values, for :func:`vocabulary_from_dict`."""

    @abstractmethod
    def _text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens, counted without the special ones."""

    def decode(self, tokens: Iterable[int]) -> str:
        """Return the text up to the end token."""
        kept = []
        for token in tokens:
            if token == self.end_id:
                break
            if token >= _SPECIAL:
                kept.append(token - _SPECIAL)
        return " ".join(self._text(kept).split())


class _Bpe(Vocabulary):
    kind = BPE

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @property
    def size(self) -> int:
        return _SPECIAL + int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        return [_SPECIAL + token for token in self._tokenizer.encode(" ".join(text.split())).ids]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": BPE, "tokenizer": self._tokenizer.to_str()}

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))


class _Clip(Vocabulary):
    """Some of CLIP's tokens."""

    kind = CLIP

    def __init__(self, clip_ids: Sequence[int]) -> None:
        self._clip_ids = tuple(clip_ids)
        self._own = {clip_id: number for number, clip_id in enumerate(self._clip_ids, start=_SPECIAL)}

    @property
    def size(self) -> int:
        return _SPECIAL + len(self._clip_ids)

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text; those that no training text has are left out."""
        return [self._own[token] for token in _clip_tokenizer().encode(text) if token in self._own]

    def as_dict(self) -> dict[str, Any]:
        return {"kind": CLIP, "clip_ids": list(self._clip_ids)}

    def _text(self, tokens: Sequence[int]) -> str:
        return str(_clip_tokenizer().decode([self._clip_ids[token] for token in tokens]))


@cache
def _clip_tokenizer() -> Any:
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer()


def train_bpe(texts: Iterable[str], *, size: int = 5000) -> Vocabulary:
    """Train a byte-level BPE: every text can be written with it, case and punctuation included.

    Args:
        size: Most tokens; bytes and special tokens take 259 of them.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=size - _SPECIAL, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(text.split()) for text in texts], trainer)
    return _Bpe(tokenizer)


def clip_vocabulary(texts: Iterable[str]) -> Vocabulary:
    """Return CLIP's own BPE, cut to the tokens that occur in the texts; it writes in lower case."""
    tokenizer = _clip_tokenizer()
    return _Clip(sorted({token for text in texts for token in tokenizer.encode(text)}))


def make_vocabulary(kind: str, texts: Iterable[str], *, size: int) -> Vocabulary:
    """Return :func:`train_bpe` or :func:`clip_vocabulary` of the texts."""
    return clip_vocabulary(texts) if kind == CLIP else train_bpe(texts, size=size)


def padded(vocabulary: Vocabulary, texts: Sequence[str], max_tokens: int) -> Tensor:
    """Return (n, L + 2) int64: the start token, the text's first ``max_tokens`` tokens, the end token, padding.

    A text that is cut has no end token: the decoder does not learn to stop there.
    """
    rows = []
    for text in texts:
        tokens = vocabulary.encode(text)
        end = [vocabulary.end_id] if len(tokens) <= max_tokens else []
        rows.append([vocabulary.start_id, *tokens[:max_tokens], *end])
    longest = max(map(len, rows), default=1)
    filled = [row + [vocabulary.pad_id] * (longest - len(row)) for row in rows]
    return torch.tensor(filled, dtype=torch.int64).reshape(len(rows), longest)


def vocabulary_from_dict(values: dict[str, Any]) -> Vocabulary:
    """Return the vocabulary that :meth:`Vocabulary.as_dict` wrote.

    Raises:
        ValueError: It is none.
    """
    try:
        if values["kind"] == BPE:
            return _Bpe(Tokenizer.from_str(values["tokenizer"]))
        if values["kind"] == CLIP and _are_clip_ids(values["clip_ids"]):
            return _Clip(values["clip_ids"])
    except Exception as error:  # `tokenizers` raises nothing more exact
        raise ValueError(f"it is no vocabulary: {error}") from error
    raise ValueError("it is of no known kind")


def _are_clip_ids(ids: list[Any]) -> bool:
    known = len(_clip_tokenizer().encoder)
    sound = all(type(token) is int and 0 <= token < known for token in ids)
    return sound and all(a < b for a, b in zip(ids, ids[1:], strict=False))


def save_vocabulary(path: Path, vocabulary: Vocabulary) -> None:
    """Write a vocabulary, whole or not at all."""
    write_json(path, {"format": _FORMAT, **vocabulary.as_dict()})


def load_vocabulary(path: Path) -> Vocabulary:
    """Read what :func:`save_vocabulary` wrote.

    Raises:
        InputError: The file is missing or damaged.
    """
    values = read_json(path, "vocabulary")
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise InputError(f"{path} is not a vocabulary of figclip", _DAMAGED)
    try:
        return vocabulary_from_dict(values)
    except ValueError as error:
        raise InputError(f"vocabulary {path} is damaged: {error}", _DAMAGED) from error
