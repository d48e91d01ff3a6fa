"""Mention overlap, MUC, B-cubed and entity-based CEAF, which VidSitu's scorer gives beside LEA.

Sources: Vilain et al., MUC 1995; Bagga and Baldwin, LREC 1998; Luo, EMNLP 2005 (phi 4).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from figclip_cli.evaluate.metrics.lea import Clusters

COREFERENCE = ("mentions", "muc", "bcub", "ceafe")


class PrecisionRecall(NamedTuple):
    """Numerators and denominators of precision and recall."""

    precision_top: float = 0.0
    precision_bottom: float = 0.0
    recall_top: float = 0.0
    recall_bottom: float = 0.0


def coreference_sums(key: Clusters, response: Clusters) -> dict[str, PrecisionRecall]:
    """Return the sums of one document, by the names in :data:`COREFERENCE`."""
    one_way = {"mentions": _mentions, "muc": _muc, "bcub": _b_cubed}
    sums = {name: PrecisionRecall(*of(response, key), *of(key, response)) for name, of in one_way.items()}
    similarity = _best_alignment(key, response)
    sums["ceafe"] = PrecisionRecall(similarity, float(len(response)), similarity, float(len(key)))
    return sums


def f1_of(sums: Iterable[PrecisionRecall]) -> float:
    """Return F1 of the sums of all documents; 0 where nothing is right."""
    top, bottom, recalled, in_all = (sum(column) for column in zip(PrecisionRecall(), *sums, strict=True))
    precision = top / bottom if bottom else 0.0
    recall = recalled / in_all if in_all else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _owner(clusters: Clusters) -> dict[str, int]:
    return {name: number for number, cluster in enumerate(clusters) for name in cluster}


def _mentions(clusters: Clusters, others: Clusters) -> tuple[float, float]:
    names = {name for cluster in clusters for name in cluster}
    return float(len(names & _owner(others).keys())), float(len(names))


def _muc(clusters: Clusters, others: Clusters) -> tuple[float, float]:
    owner, top, bottom = _owner(others), 0, 0
    for cluster in clusters:
        found = [owner[name] for name in cluster if name in owner]
        top += len(found) - len(set(found))
        bottom += len(cluster) - 1
    return float(top), float(bottom)


def _b_cubed(clusters: Clusters, others: Clusters) -> tuple[float, float]:
    owner, top, bottom = _owner(others), 0.0, 0.0
    for cluster in clusters:
        counts = Counter(owner[name] for name in cluster if name in owner)
        top += sum(count * count for count in counts.values()) / len(cluster)
        bottom += len(cluster)
    return top, bottom


def _best_alignment(key: Clusters, response: Clusters) -> float:
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    similarity = np.array(
        [[2 * sum(name in other for name in one) / (len(one) + len(other)) for other in response] for one in key]
    ).reshape(len(key), len(response))
    return float(similarity[linear_sum_assignment(-similarity)].sum())
