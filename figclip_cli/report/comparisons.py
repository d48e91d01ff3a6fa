"""Results that can stand in one table: of one task, data, base model and protocol; a column for the base, one a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from figclip_cli.evaluate.curve import Curve, headline_of
from figclip_cli.evaluate.results import Metric, Results
from figclip_cli.files import sha256_of_json
from figclip_cli.report.found import RunResults

# As the tasks call themselves; their own modules import torch, which a report does without.
RETRIEVAL, ACTION, COMPOSITIONAL = "zero-shot retrieval", "zero-shot action recognition", "compositional"
IN_PERCENT = (RETRIEVAL, ACTION, COMPOSITIONAL)  # tasks whose headline number is a percentage
# What a protocol says of the models' own scores, not of how they were asked.
_COUNTS = {
    "tied_queries", "tied_items", "tied_clips", "overlong_texts", "bootstrap_draws", "verbs_with_recall",
    "undecided_relations", "notes",
}  # fmt: skip
_SAME = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Results of several runs that differ in nothing but the run.

    Attributes:
        entries: One for each run.
        note: What tells this comparison from another of the same title, or nothing.
    """

    entries: tuple[RunResults, ...]
    note: str = ""

    @property
    def task(self) -> str:
        """The task."""
        return self.entries[0].results.task

    @property
    def title(self) -> str:
        """Task, data set and, where it matters, the level of a query and how clips are read."""
        results = self.entries[0].results
        level = results.protocol.get("level")
        queries = f", queries of {level}s" if isinstance(level, str) else ""
        queries += ", through the contextualizer" if results.protocol.get("contextualizer") else ""
        return f"{results.task}: {results.dataset_id}{queries}" + (f" ({self.note})" if self.note else "")

    @property
    def headline(self) -> str:
        """Name of the number that tables lead with."""
        return headline_of([metric.name for metric in self.entries[0].results.metrics])

    @property
    def names(self) -> list[str]:
        """Names of all numbers, in their order."""
        return list(dict.fromkeys(metric.name for one in self.entries for metric in one.results.metrics))

    def numbers(self, name: str) -> Iterator[tuple[RunResults, Metric]]:
        """Yield each run's number of this name, where it has it."""
        for one in self.entries:
            for metric in one.results.metrics:
                if metric.name == name:
                    yield one, metric
                    break


def comparisons(results: Sequence[RunResults]) -> list[Comparison]:
    """Put results together that can be compared; a second file of one run, which differs, stands apart."""
    groups: dict[str, list[list[RunResults]]] = {}
    for one in results:
        alike = groups.setdefault(key_of(one.results), [])
        fits = next((group for group in alike if _fits(one, group)), None)
        if fits is None:
            alike.append([one])
        else:
            fits.append(one)
    found = [tuple(group) for alike in groups.values() for group in alike]
    titles = [Comparison(group).title for group in found]
    return [
        Comparison(group, f"from {group[0].file}" if titles.count(title) > 1 else "")
        for group, title in zip(found, titles, strict=True)
    ]


def key_of(said: Results | Curve) -> str:
    """Return what must be the same of numbers that stand beside each other: task, data, clips, protocol and base."""
    protocol = {name: value for name, value in said.protocol.items() if name not in _COUNTS}
    base = said.models["base"].get("sha256")
    return sha256_of_json([said.task, said.dataset_sha256, base, dict(said.evaluated), protocol])


def _fits(one: RunResults, group: Sequence[RunResults]) -> bool:
    """Return whether a run is not there yet and the base's numbers agree, as they must where nothing else differs."""
    if any(one.run is other.run for other in group):
        return False
    return same_base(one.results.metrics, group[0].results.metrics)


def same_base(first: Sequence[Metric], second: Sequence[Metric]) -> bool:
    """Return whether two models were given the same numbers, and their base the same values of these."""
    mine = {metric.name: metric.base_value for metric in first}
    theirs = {metric.name: metric.base_value for metric in second}
    return mine.keys() == theirs.keys() and all(_agree(mine[name], theirs[name]) for name in mine)


def _agree(first: float | None, second: float | None) -> bool:
    return first == second if first is None or second is None else abs(first - second) <= _SAME
