"""BLEU-1 to BLEU-4 of a set of texts, as the COCO caption scorer computes it.

Source: Papineni et al., ACL 2002, and the public scorer: the reference length of an item is the closest one (the
shorter of two), and 1e-15 and 1e-9 are added to the counts where a division could be by zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]

from figclip_cli.evaluate.metrics.ngrams import (
    MAX_ORDER,
    Floats,
    Ints,
    NGrams,
    first_of_items,
    flat_references,
    looked_up,
)
from figclip_cli.evaluate.metrics.statistics import Bools, Statistic, Sums, Values

_TINY, _SMALL = 1e-15, 1e-9


class BleuCounts(NamedTuple):
    """What BLEU adds up, for each item.

    Attributes:
        matches: (n, 4) int64, n-grams of the hypothesis that a reference has, each at most as often as one has it.
        totals: (n, 4) int64, n-grams of the hypothesis.
        hypothesis_lengths: (n,) int64 tokens.
        reference_lengths: (n,) int64 tokens of the reference whose length is closest.
    """

    matches: Ints
    totals: Ints
    hypothesis_lengths: Ints
    reference_lengths: Ints


def bleu_counts(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> BleuCounts:
    """Count what BLEU is made of; tokens are what stands between white space.

    Args:
        hypotheses: (n,) texts.
        references: For each item one text or more.

    Raises:
        ValueError: An item has no reference, or the two are not of the same length.
    """
    texts, item = flat_references(hypotheses, references)
    grams = NGrams([*hypotheses, *texts])
    hypothesis, reference = grams.row_of[: len(hypotheses)], grams.row_of[len(hypotheses) :]
    lengths = grams.lengths[hypothesis]
    totals = np.maximum(lengths[:, None] - np.arange(MAX_ORDER), 0)
    matches = np.zeros_like(totals)
    if not len(texts):
        return BleuCounts(matches, totals, lengths, lengths)
    place, gram, count = grams.of(hypothesis)
    at_most = _most_in_one_reference(grams, reference, item)
    width = max(1, grams.grams)
    both = np.minimum(looked_up(place * width + gram, *at_most), count)
    np.add.at(matches, (place, grams.order[gram]), both)
    of_reference = grams.lengths[reference]
    span = int(grams.lengths.max()) + 1
    nearest = np.minimum.reduceat(
        np.abs(of_reference - lengths[item]) * span + of_reference,
        first_of_items(item),
    )
    return BleuCounts(matches, totals, lengths, nearest % span)


def _most_in_one_reference(grams: NGrams, rows: Ints, item: Ints) -> tuple[Ints, Ints]:
    """Return the sorted keys ``item * n-grams + n-gram``, and how often one reference has it at most."""
    place, gram, count = grams.of(rows)
    keys = item[place] * max(1, grams.grams) + gram
    order = np.lexsort((count, keys))
    keys, count = keys[order], count[order]
    last = np.flatnonzero(np.append(keys[1:] != keys[:-1], True)) if len(keys) else np.zeros(0, dtype=np.int64)
    return keys[last], count[last]


def corpus_bleu(counts: BleuCounts, groups: npt.ArrayLike | None = None) -> Floats:
    """Return BLEU-1 to BLEU-4 from 0 to 1, (4,), or (groups, 4) of the items of each group.

    Args:
        groups: (n,) int from 0; negative leaves an item out.
    """
    columns = np.column_stack([counts.matches, counts.totals, counts.hypothesis_lengths, counts.reference_lengths])
    if groups is None:
        return bleu_of_sums(columns.sum(axis=0, dtype=np.float64)[:, None])[:, 0]
    labels = np.asarray(groups, dtype=np.int64)
    sums = np.zeros((int(labels.max(initial=-1)) + 1, columns.shape[1]))
    np.add.at(sums, labels[labels >= 0], columns[labels >= 0])
    return bleu_of_sums(sums.T).T


def bleu_of_sums(sums: Floats, orders: int = MAX_ORDER) -> Floats:
    """Return BLEU-1 and so on from sums of matches, totals and the two lengths.

    Args:
        sums: (2 orders + 2, ...) float64.
        orders: 1 to 4.

    Returns:
        (orders, ...) from 0 to 1.
    """
    precisions = (sums[:orders] + _TINY) / (sums[orders : 2 * orders] + _SMALL)
    roots = 1 / np.arange(1, orders + 1).reshape(-1, *[1] * (sums.ndim - 1))
    ratio = (sums[-2] + _TINY) / (sums[-1] + _SMALL)
    # Without one token the ratio is nearly 0, and exp(-1e6) is 0.
    return np.asarray(np.cumprod(precisions, axis=0) ** roots * np.exp(np.minimum(0.0, 1 - 1 / ratio)))


@dataclass(frozen=True, eq=False)
class Bleu(Statistic):
    """BLEU of the items' sums, or its unweighted mean over groups of items.

    The values are the arrays of :func:`bleu_values`. Under resampling a group without items drops out of a draw.

    Attributes:
        order: 1 to 4.
        scale: 100 for percent.
        groups: (items,) int from 0; negative leaves an item out. Default: one group.
    """

    order: int
    scale: float = 1.0
    groups: npt.ArrayLike | None = None

    @property
    def kind(self) -> str:
        """How the number is formed, for results."""
        return "BLEU of sums" if self.groups is None else "mean of BLEU of sums"

    def used(self, items: int) -> Bools:
        """Return which of the items have a group."""
        return np.ones(items, dtype=np.bool_) if self.groups is None else np.asarray(self.groups) >= 0

    def sums(self, models: Sequence[Values]) -> Sums:
        """Return sums (kinds x groups, items): of what BLEU counts and, last, of items."""
        keys = [*(f"match {n + 1}" for n in range(self.order)), *(f"total {n + 1}" for n in range(self.order))]
        rows, groups = [], 0
        for values in models:
            if not isinstance(values, Mapping):
                raise TypeError("BLEU is made of several arrays, by name")
            arrays = [np.asarray(values[key], dtype=np.float64) for key in (*keys, "length", "closest length")]
            items = len(arrays[0])
            used = np.flatnonzero(self.used(items))
            labels = np.zeros(items, dtype=np.int64) if self.groups is None else np.asarray(self.groups)
            labels, group = np.unique(labels[used], return_inverse=True)
            groups = len(labels)
            kinds = [
                sparse.csr_matrix((array[used], (group, used)), (groups, items)) for array in (*arrays, np.ones(items))
            ]
            rows.append(sparse.vstack(kinds, format="csr"))

        def finish(sums: Floats) -> Floats:
            parts = sums.reshape(2 * self.order + 3, groups, -1)
            known = parts[-1] > 0
            total = np.where(known, bleu_of_sums(parts[:-1], self.order)[-1], 0.0).sum(axis=0)
            count = known.sum(axis=0)
            return self.scale * np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)

        return Sums(tuple(rows), finish)


def bleu_values(counts: BleuCounts) -> dict[str, Floats]:
    """Return the arrays (n,) that :class:`Bleu` adds up."""
    columns = {f"match {n + 1}": counts.matches[:, n] for n in range(MAX_ORDER)}
    columns |= {f"total {n + 1}": counts.totals[:, n] for n in range(MAX_ORDER)}
    columns |= {"length": counts.hypothesis_lengths, "closest length": counts.reference_lengths}
    return {name: column.astype(np.float64) for name, column in columns.items()}
