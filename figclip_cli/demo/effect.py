"""What adapting changed, in a dozen numbers: what it is for, and what must not be lost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figclip_cli.evaluate.results import Metric, Results
from figclip_cli.files import write_json

EFFECT_FORMAT = "figclip-demo-effect"
EFFECT_FORMAT_VERSION = 1
# What is asked, of which results, and which of their numbers says it.
_GAINS = (
    ("role-noun: nouns exchanged between roles", "compositional", "role-noun-swap"),
    ("role-noun: a noun replaced", "compositional", "role-noun-replace"),
    ("verb-role: another verb with its roles", "compositional", "verb-role"),
    ("manner replaced", "compositional", "manner-replace"),
    ("direction replaced", "compositional", "direction-replace"),
    ("dense texts find their events, R@1", "retrieval-dense", "t2v R@1"),
    ("events find their dense texts, R@1", "retrieval-dense", "v2t R@1"),
)
_KEPT = (
    ("coarse captions find their clips, R@1", "retrieval-coarse", "t2v R@1"),
    ("clips find their coarse captions, R@1", "retrieval-coarse", "v2t R@1"),
    ("naming: objects, colours, shapes, scenes", "naming", "macro"),
)


@dataclass(frozen=True)
class EffectRow:
    """One number, in percent, of base and adapted.

    Attributes:
        what: What is asked.
        kept: Whether the base is good at it already, so that it should stay.
        base, adapted, delta: Means over the seeds.
        base_error, adapted_error, delta_error: Standard errors: over the seeds, where there are several, else the
            bootstrap's over the items, for the difference paired.
        seeds: How many worlds and runs are behind the numbers.
    """

    what: str
    kept: bool
    base: float
    base_error: float
    adapted: float
    adapted_error: float
    delta: float
    delta_error: float
    seeds: int


def effect(of_seeds: Sequence[Mapping[str, Results]]) -> list[EffectRow]:
    """Return the rows of one seed's results, or the means over several seeds; results by name."""
    rows = [(what, False, name, metric) for what, name, metric in _GAINS]
    rows += [(what, True, name, metric) for what, name, metric in _KEPT]
    return [
        _row(what, kept, [_named(results[name], metric) for results in of_seeds]) for what, kept, name, metric in rows
    ]


def _named(results: Results, name: str) -> Metric:
    return next(metric for metric in results.metrics if metric.name == name)


def _row(what: str, kept: bool, metrics: Sequence[Metric]) -> EffectRow:
    columns = (
        _mean([_given(metric.base_value) for metric in metrics], metrics[0].base_standard_error),
        _mean([metric.value for metric in metrics], metrics[0].standard_error),
        _mean([_given(metric.delta) for metric in metrics], metrics[0].delta_standard_error),
    )
    (base, base_error), (adapted, adapted_error), (delta, delta_error) = columns
    return EffectRow(what, kept, base, base_error, adapted, adapted_error, delta, delta_error, len(metrics))


def _given(value: float | None) -> float:
    assert value is not None, "the demo always compares"
    return value


def _mean(values: Sequence[float], error_of_one: float | None) -> tuple[float, float]:
    """Return the mean and its standard error."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, _given(error_of_one)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return mean, math.sqrt(variance / len(values))


def effect_document(rows: Sequence[EffectRow], about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON document of the rows, beside what they are of."""
    head = {"format": EFFECT_FORMAT, "format_version": EFFECT_FORMAT_VERSION}
    return {**head, **about, "rows": [asdict(row) for row in rows]}


def write_effect(path: Path, rows: Sequence[EffectRow], about: Mapping[str, Any]) -> None:
    """Write the JSON document."""
    write_json(path, effect_document(rows, about))
