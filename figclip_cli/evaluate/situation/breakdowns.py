"""Where a model gains and where it fails: CIDEr and verb accuracy by role, by verb, and by how often a verb is seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from figclip_cli.evaluate.datasets.vidsitu import SituationTruth
from figclip_cli.evaluate.datasets.vidsitu_annotations import read_annotations
from figclip_cli.evaluate.metrics.statistics import Floats
from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.situation.roles import RoleNumbers
from figclip_cli.evaluate.situation.verbs import VerbNumbers

# Times that a sense is annotated for training: at least the first, below the second.
BINS = {"0": (0, 1), "1-9": (1, 10), "10-99": (10, 100), "100-999": (100, 1000), "1000+": (1000, None)}


def senses_in(annotations: Path) -> Counter[str]:
    """Return in how many annotated events of a file each sense is.

    Raises:
        InputError: The file is missing or breaks its format.
    """
    found = read_annotations(annotations)
    return Counter(event.sense for of_clip in found.values() for annotation in of_clip for event in annotation)


def first_senses(truth: SituationTruth) -> list[str]:
    """Return the sense of every event, clip by clip, as the first reference has it."""
    return [event.sense for references in truth.references() for event in references[0]]


def by_role(roles: RoleNumbers) -> list[Metric]:
    """Return the CIDEr of each role."""
    return in_order(roles.by_role())


def by_verb(truth: SituationTruth, verbs: VerbNumbers | None, roles: RoleNumbers | None) -> list[Metric]:
    """Return CIDEr and verb accuracy by the sense that the first reference has."""
    made = list(roles.by_sense()) if roles else []
    if verbs:
        made += _each(verbs.within, first_senses(truth))
    return in_order(made)


def by_frequency(
    truth: SituationTruth, verbs: VerbNumbers | None, roles: RoleNumbers | None, seen: Mapping[str, int]
) -> list[Metric]:
    """Return CIDEr, with the idf of all items, and verb accuracy by how often a sense is annotated for training."""
    made: list[Metric] = []
    if roles:
        made += _each(roles.within, [_bin(seen.get(item.sense, 0)) for item in roles.items])
    if verbs:
        made += _each(verbs.within, [_bin(seen.get(sense, 0)) for sense in first_senses(truth)])
    return in_order(made)


def in_order(metrics: Iterator[Metric] | Sequence[Metric]) -> list[Metric]:
    """Return metrics by name and falling delta, or falling value where there is one model."""

    def rank(metric: Metric) -> tuple[str, float]:
        return metric.name, -(metric.value if metric.delta is None else metric.delta)

    return sorted(metrics, key=rank)


def _bin(times: int) -> str:
    return next(name for name, (least, below) in BINS.items() if least <= times and (below is None or times < below))


def _each(measured: Callable[[str, Floats], Metric], labels: Sequence[str]) -> list[Metric]:
    """Measure the items of each label."""
    rows: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    made = []
    for label, own in rows.items():
        weights = np.zeros(len(labels))
        weights[own] = 1.0
        made.append(measured(label, weights))
    return made
