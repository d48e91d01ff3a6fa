"""ROUGE-L as the COCO caption scorer computes it.

Source: Lin, ACL workshop 2004, and the public scorer: beta is 1.2, and the best precision and the best recall are
taken over the references separately.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from figclip_cli.evaluate.metrics.ngrams import Floats, flat_references

BETA = 1.2


def rouge_l(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Floats:
    """Return the ROUGE-L of each item, (n,) from 0 to 1.

    As in the public scorer a text is cut at every single space: two in a row have an empty token between them, and
    an empty text is one empty token, which an empty reference has too.

    Args:
        hypotheses: (n,) texts.
        references: For each item one text or more.

    Raises:
        ValueError: An item has no reference, or the two are not of the same length.
    """
    flat_references(hypotheses, references)
    scores = np.zeros(len(hypotheses))
    for number, (hypothesis, of_item) in enumerate(zip(hypotheses, references, strict=True)):
        tokens = hypothesis.split(" ")
        masks = _masks(tokens)
        precision = recall = 0.0
        for text in of_item:
            reference = text.split(" ")
            common = _longest_common_subsequence(masks, len(tokens), reference)
            precision, recall = max(precision, common / len(tokens)), max(recall, common / len(reference))
        if common_at_all := precision * recall:
            scores[number] = (1 + BETA**2) * common_at_all / (recall + BETA**2 * precision)
    return scores


def _masks(tokens: Sequence[str]) -> dict[str, int]:
    """Return, for each token, a number with the bits set where it stands."""
    masks: dict[str, int] = {}
    for place, token in enumerate(tokens):
        masks[token] = masks.get(token, 0) | 1 << place
    return masks


def _longest_common_subsequence(masks: Mapping[str, int], length: int, other: Sequence[str]) -> int:
    """Return its length, by the bit-parallel algorithm of Hyyro (2004): one addition for each token of ``other``."""
    everything = (1 << length) - 1
    row = everything
    for token in other:
        matched = row & masks.get(token, 0)
        row = ((row + matched) | (row - matched)) & everything
    return length - bin(row).count("1")
