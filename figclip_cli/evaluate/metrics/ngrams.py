"""Counts of the n-grams of many texts at once; what CIDEr and BLEU are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
MAX_ORDER = 4


class NGrams:
    """The n-grams of 1 to 4 tokens of texts; tokens are what stands between white space.

    Equal texts are counted once. A text's n-grams are sorted by their numbers.

    Args:
        texts: (texts,) any strings; an empty one has no n-gram.

    Attributes:
        row_of: (texts,) which row, a distinct text, each text is.
        lengths: (rows,) number of tokens.
        grams: Number of different n-grams of all orders.
        order: (grams,) 0 for single tokens to 3.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        rows: dict[str, int] = {}
        self.row_of: Ints = np.array([rows.setdefault(text, len(rows)) for text in texts], dtype=np.int64)
        vocabulary: dict[str, int] = {}
        tokens: list[int] = []
        lengths: list[int] = []
        for text in rows:
            words = text.split()
            lengths.append(len(words))
            tokens.extend([vocabulary.setdefault(word, len(vocabulary)) for word in words])
        self.lengths: Ints = np.array(lengths, dtype=np.int64)
        self._count(np.array(tokens, dtype=np.int64), len(vocabulary))

    def _count(self, tokens: Ints, words: int) -> None:
        """Number the n-grams of every order, and count those of every row."""
        row = np.repeat(np.arange(len(self.lengths)), self.lengths)
        grams, rows, orders = [tokens], [row], [np.zeros(words, dtype=np.int64)]
        start, self.grams, number = np.arange(len(tokens)), words, tokens
        for order in range(1, MAX_ORDER):
            # An n-gram is the one of its first n - 1 tokens, and its last token.
            fits = (start + order < len(tokens)) & (row[np.minimum(start + order, len(tokens) - 1)] == row[start])
            start, number = start[fits], number[fits]
            distinct, number = np.unique(number * max(1, words) + tokens[start + order], return_inverse=True)
            grams.append(number + self.grams)
            rows.append(row[start])
            orders.append(np.full(len(distinct), order, dtype=np.int64))
            self.grams += len(distinct)
        self.order: Ints = np.concatenate(orders)
        keys, counts = np.unique(np.concatenate(rows) * max(1, self.grams) + np.concatenate(grams), return_counts=True)
        self._gram, self._counts = keys % max(1, self.grams), counts.astype(np.int64)
        self._ends = np.searchsorted(keys // max(1, self.grams), np.arange(len(self.lengths) + 1))

    def of(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Return, for every n-gram of every row asked for, the place of the row in ``rows``, n-gram and count."""
        begin, size = self._ends[rows], self._ends[rows + 1] - self._ends[rows]
        place = np.repeat(np.arange(len(rows)), size)
        at = np.arange(len(place)) + np.repeat(begin - (np.cumsum(size) - size), size)
        return place, self._gram[at], self._counts[at]


def distinct(values: Ints) -> Ints:
    """Return the sorted different values; numpy's own ``unique`` is ten times as slow on millions of whole numbers."""
    values = np.sort(values)
    return values[np.append(True, values[1:] != values[:-1])] if len(values) else values


def places(keys: Ints, known: Ints) -> Ints:
    """Return where each key stands in the sorted ``known``; -1 where it does not."""
    if not len(known):
        return np.full(len(keys), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, at, -1)


def looked_up(keys: Ints, known: Ints, values: Ints) -> Ints:
    """Return the value of each key of the sorted ``known``, and 0 for a key that it has not."""
    return np.append(values, 0)[places(keys, known)]


def flat_references(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[list[str], Ints]:
    """Return all references one after another, and the item of each.

    Raises:
        ValueError: There are not as many items of references as hypotheses, or an item has none.
    """
    if len(hypotheses) != len(references):
        raise ValueError(f"{len(hypotheses)} hypotheses, but references of {len(references)} items")
    sizes = np.array([len(of_item) for of_item in references], dtype=np.int64)
    if len(sizes) and sizes.min() == 0:
        raise ValueError(f"item {int(sizes.argmin())} has no reference")
    return [text for of_item in references for text in of_item], np.repeat(np.arange(len(sizes)), sizes)


def first_of_items(item: Ints) -> Ints:
    """Return where the references of each item begin, from the item of each reference."""
    return np.flatnonzero(np.diff(item, prepend=-1))
