"""CIDEr as the COCO caption scorer computes it: CIDEr-D with n-grams of up to 4 tokens, times 10.

Source: Vedantam et al., CVPR 2015 (arXiv 1411.5726), section 4, and its public scorer, whose length penalty compares
numbers of 2-grams. A text is cut at white space; whoever wants other tokens joins them with spaces first.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from figclip_cli.evaluate.metrics.ngrams import (
    MAX_ORDER,
    Floats,
    Ints,
    NGrams,
    distinct,
    flat_references,
    looked_up,
    places,
)

SIGMA = 6.0
_SCALE = 10.0
_PAIRS_AT_ONCE = 100_000  # a pair of short texts has some 30 n-grams: 100 MB


def cider(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """Return the CIDEr of each item, (n,) from 0 to 10; the idf is that of these references.

    Args:
        hypotheses: (n,) texts.
        references: For each item one text or more.

    Raises:
        ValueError: An item has no reference, or the two are not of the same length.
    """
    return CiderTexts(hypotheses, references).scores()


def cider_in_groups(hypotheses: Sequence[str], references: Sequence[Sequence[str]], groups: npt.ArrayLike) -> Floats:
    """Return the CIDEr of each item, (n,), with the idf of the references of its group alone.

    A group of one item scores 0: every n-gram is in all of its items, so none has weight.

    Args:
        hypotheses: (n,) texts.
        references: For each item one text or more.
        groups: (n,) int, not negative.

    Raises:
        ValueError: An item has no reference, or the three are not of the same length.
    """
    return CiderTexts(hypotheses, references).scores(groups)


class CiderTexts:
    """Hypotheses and references whose n-grams are counted once, to be scored under several groupings.

    Args:
        hypotheses: (n,) texts.
        references: For each item one text or more.

    Raises:
        ValueError: An item has no reference, or the two are not of the same length.
    """

    def __init__(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        texts, self._item = flat_references(hypotheses, references)
        self._grams = NGrams([*hypotheses, *texts])
        self._items = len(hypotheses)
        self._hypothesis, self._reference = np.split(self._grams.row_of, [self._items])

    def scores(self, groups: npt.ArrayLike | None = None) -> Floats:
        """Return the CIDEr of each item, (n,), with the idf of its group's references, or of all."""
        given = np.zeros(self._items, dtype=np.int64) if groups is None else np.asarray(groups, dtype=np.int64)
        if len(given) != self._items:
            raise ValueError(f"{self._items} hypotheses, but groups of {len(given)} items")
        labels = distinct(given)
        group = np.searchsorted(labels, given)
        weigh = _Weights(self._grams, self._reference, self._item, group, len(labels))
        similarity = np.zeros(len(self._item))
        for begin in range(0, len(self._item), _PAIRS_AT_ONCE):
            part = slice(begin, begin + _PAIRS_AT_ONCE)
            item = self._item[part]
            pairs = self._hypothesis[item], self._reference[part]
            similarity[part] = _similarities(self._grams, *pairs, group[item], weigh)
        totals = np.bincount(self._item, similarity, minlength=self._items)
        return np.asarray(_SCALE * totals / np.bincount(self._item, minlength=self._items), dtype=np.float64)


class _Weights:
    """Inverse document frequencies; a document is an item with all its references."""

    def __init__(self, grams: NGrams, rows: Ints, item: Ints, group: Ints, groups: int) -> None:
        self._grams = max(1, grams.grams)
        place, gram, _ = grams.of(rows)
        of_items = distinct(item[place] * self._grams + gram)
        owned = np.sort(group[of_items // self._grams] * self._grams + of_items % self._grams)
        self._known = distinct(owned)
        items = np.diff(np.searchsorted(owned, self._known), append=len(owned))
        # Of all that can be looked up, one logarithm each.
        self._log_items = np.append(np.log(items.astype(np.float64)), 0.0)
        self._log_size = np.log(np.bincount(group, minlength=groups).astype(np.float64))

    def __call__(self, group: Ints, gram: Ints) -> Floats:
        """Return the weight of n-grams in groups: log(items / items that have it), none counted as one."""
        at = places(group * self._grams + gram, self._known)
        return np.asarray(self._log_size[group] - self._log_items[at], dtype=np.float64)


def _similarities(grams: NGrams, hypothesis: Ints, reference: Ints, group: Ints, weigh: _Weights) -> Floats:
    """Return the similarity of pairs of rows, (pairs,), the mean over the four orders."""
    width = max(1, grams.grams)
    place_h, gram_h, count_h = grams.of(hypothesis)
    place_r, gram_r, count_r = grams.of(reference)
    weight_r = weigh(group[place_r], gram_r) * count_r
    # Both texts of a pair are in one group, so the smaller weight is that of the smaller count.
    in_both = np.minimum(looked_up(place_r * width + gram_r, place_h * width + gram_h, count_h), count_r)
    cell_r, cell_h = place_r * MAX_ORDER + grams.order[gram_r], place_h * MAX_ORDER + grams.order[gram_h]
    weight_h = weigh(group[place_h], gram_h) * count_h

    def summed(cells: Ints, values: Floats) -> Floats:
        flat = np.bincount(cells, values, minlength=len(reference) * MAX_ORDER)
        return flat.astype(np.float64).reshape(-1, MAX_ORDER)

    dot = summed(cell_r, weight_r * weight_r * in_both / count_r)
    norms = np.sqrt(summed(cell_h, weight_h**2)) * np.sqrt(summed(cell_r, weight_r**2))
    cosine = np.divide(dot, norms, out=np.zeros_like(dot), where=norms > 0)
    # The public scorer takes the number of 2-grams for the length.
    two_grams = np.maximum(grams.lengths - 1, 0)
    apart = (two_grams[hypothesis] - two_grams[reference]).astype(np.float64)
    return np.asarray(cosine.mean(axis=1) * np.exp(-(apart**2) / (2 * SIGMA**2)), dtype=np.float64)
