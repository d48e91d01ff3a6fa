"""LEA and LEA-soft: whether the same thing is called the same in every role and event of a clip.

A mention is a role of an event; mentions with exactly equal texts are a cluster. LEA (Moosavi and Strube, ACL 2016)
weighs each cluster by its size and asks which share of its pairs of mentions the other side keeps together; a cluster
of one counts where the other side has it alone too. LEA-soft (VidSitu, arXiv 2104.00990, section 5) also weighs the
predicted clusters by the mean CIDEr of their mentions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse  # type: ignore[import-untyped]

from figclip_cli.evaluate.metrics.statistics import Bools, Floats, Statistic, Sums, Values

Mentions = Sequence[tuple[str, str]]  # a mention's name and its text
Clusters = list[list[str]]


class LeaSums(NamedTuple):
    """What LEA adds up over clips: numerators and denominators of precision and recall."""

    precision_top: float = 0.0
    precision_bottom: float = 0.0
    recall_top: float = 0.0
    recall_bottom: float = 0.0
    soft_top: float = 0.0
    soft_bottom: float = 0.0


def clusters_of(mentions: Mentions) -> Clusters:
    """Return the mentions that have exactly equal texts, in order of appearance; no text is trimmed or lower-cased."""
    clusters: dict[str, list[str]] = {}
    for name, text in mentions:
        clusters.setdefault(text, []).append(name)
    return list(clusters.values())


def lea_sums(keys: Clusters, responses: Clusters, cider: Mapping[str, float]) -> LeaSums:
    """Return the sums of one clip.

    Args:
        keys: Clusters of the annotation.
        responses: Clusters of the prediction.
        cider: CIDEr of every predicted mention, by name, for LEA-soft; 0 to 10, not clipped.
    """
    precise, recalled = _kept(responses, keys), _kept(keys, responses)
    sizes = [len(cluster) for cluster in responses]
    scores = [sum(cider[name] for name in cluster) for cluster in responses]
    return LeaSums(
        precision_top=sum(size * kept for size, kept in zip(sizes, precise, strict=True)),
        precision_bottom=float(sum(sizes)),
        recall_top=sum(len(cluster) * kept for cluster, kept in zip(keys, recalled, strict=True)),
        recall_bottom=float(sum(len(cluster) for cluster in keys)),
        soft_top=sum(score * size * kept for score, size, kept in zip(scores, sizes, precise, strict=True)),
        soft_bottom=float(sum(size * size for size in sizes)),
    )


def _kept(clusters: Clusters, others: Clusters) -> list[float]:
    """Return, for each cluster, the share of its pairs that one cluster of the others holds."""
    owner = {name: number for number, cluster in enumerate(others) for name in cluster}
    return [_share(cluster, others, owner) for cluster in clusters]


def _share(cluster: list[str], others: Clusters, owner: Mapping[str, int]) -> float:
    if len(cluster) == 1:
        number = owner.get(cluster[0])
        return float(number is not None and len(others[number]) == 1)
    found = [owner[name] for name in cluster if name in owner]
    together = sum(found.count(number) * (found.count(number) - 1) / 2 for number in set(found))
    return together / (len(cluster) * (len(cluster) - 1) / 2)


@dataclass(frozen=True, eq=False)
class Lea(Statistic):
    """The mean over references of LEA's F1, where precision and recall are of the sums over all clips.

    The values are the arrays of :func:`lea_values`, one number a clip.

    Attributes:
        references: How many references there are.
        soft: LEA-soft.
        scale: 100 for percent.
    """

    references: int
    soft: bool = False
    scale: float = 1.0
    _KIND = "mean of F1 of sums"

    def used(self, items: int) -> Bools:
        """Return that every clip counts."""
        return np.ones(items, dtype=np.bool_)

    def sums(self, models: Sequence[Values]) -> Sums:
        """Return sums (4 references + 1, clips): of the two tops and the two bottoms, and of clips."""
        names = ["soft_top", "soft_bottom"] if self.soft else ["precision_top", "precision_bottom"]
        keys = [f"{name} {of}" for of in range(self.references) for name in (*names, "recall_top", "recall_bottom")]
        rows = []
        for values in models:
            if not isinstance(values, Mapping):
                raise TypeError("LEA is made of several arrays, by name")
            arrays = [np.asarray(values[key], dtype=np.float64) for key in keys]
            rows.append(sparse.csr_matrix(np.stack([*arrays, np.ones(len(arrays[0]))])))
        return Sums(tuple(rows), self._finish)

    def _finish(self, sums: Floats) -> Floats:
        parts = sums[:-1].reshape(self.references, 4, -1)
        precision, recall = _ratio(parts[:, 0], parts[:, 1]), _ratio(parts[:, 2], parts[:, 3])
        f1 = _ratio(2 * precision * recall, precision + recall)
        return np.where(sums[-1] > 0, self.scale * f1.mean(axis=0), np.nan)


def lea_values(of_clips: Sequence[Sequence[LeaSums]], references: int) -> dict[str, npt.NDArray[np.float64]]:
    """Return the arrays (clips,) that :class:`Lea` adds up.

    Args:
        of_clips: For each clip the sums with each of its references; those that it lacks count nothing.
        references: How many references there are.
    """
    none = LeaSums()
    return {
        f"{name} {of}": np.array([getattr(sums[of] if of < len(sums) else none, name) for sums in of_clips])
        for of in range(references)
        for name in LeaSums._fields
    }


def _ratio(top: Floats, bottom: Floats) -> Floats:
    """Return the quotient, and 0 where the denominator is 0."""
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)
