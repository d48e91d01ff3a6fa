"""The result schema that every task writes: what was asked, what was evaluated, how, with which weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from figclip_cli.files import write_json
from figclip_cli.run_folder import environment

RESULTS_FORMAT = "figclip-results"
RESULTS_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Metric:
    """One number of base and adapted.

    Attributes:
        name: For example ``t2v R@1``.
        value: The adapted model's, or the base model's where no run was given.
        standard_error: Bootstrap standard error of ``value``.
        higher_is_better: Direction.
        base_value: The base model's, with its standard error, where a run was given.
        delta: ``value - base_value``, with the paired bootstrap's standard error.
    """

    name: str
    value: float
    standard_error: float
    higher_is_better: bool
    base_value: float | None = None
    base_standard_error: float | None = None
    delta: float | None = None
    delta_standard_error: float | None = None

    @property
    def arrow(self) -> str:
        """Direction as an arrow."""
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True)
class Results:
    """Everything one evaluation says.

    Attributes:
        task: For example ``retrieval``.
        dataset_id: Name of the data set.
        dataset_sha256: Hash of its file.
        asked: Counts of items asked for, by kind.
        evaluated: Counts of items evaluated, same keys.
        missing: Clip ids asked for but not evaluated, with the reason.
        protocol: Every choice that changes the numbers.
        models: Name and hashes of ``base`` and, where given, ``adapted``.
        metrics: The numbers.
        seeds: Seeds that the numbers depend on.
    """

    task: str
    dataset_id: str
    dataset_sha256: str
    asked: Mapping[str, int]
    evaluated: Mapping[str, int]
    missing: Mapping[str, str]
    protocol: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    metrics: tuple[Metric, ...]
    seeds: Mapping[str, int] = field(default_factory=dict)

    @property
    def base_name(self) -> str:
        """Column title of the base model."""
        return str(self.models["base"]["name"])

    @property
    def adapted_name(self) -> str | None:
        """Column title of the adapted model, or None where no run was given."""
        return str(self.models["adapted"]["name"]) if "adapted" in self.models else None

    def describe_counts(self) -> str:
        """Return what was evaluated of what was asked, for a title."""
        return ", ".join(
            f"{self.evaluated[kind]} {kind}" if self.evaluated[kind] == n else f"{self.evaluated[kind]} of {n} {kind}"
            for kind, n in self.asked.items()
        )

    def as_document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "format": RESULTS_FORMAT,
            "format_version": RESULTS_FORMAT_VERSION,
            "task": self.task,
            "dataset": {"id": self.dataset_id, "sha256": self.dataset_sha256},
            "n_asked": dict(self.asked),
            "n_evaluated": dict(self.evaluated),
            "missing": dict(self.missing),
            "protocol": dict(self.protocol),
            "models": {key: dict(value) for key, value in self.models.items()},
            "metrics": [asdict(metric) for metric in self.metrics],
            "seeds": dict(self.seeds),
            "environment": environment(),
        }

    def write(self, path: Path) -> None:
        """Write the JSON document, whole or not at all."""
        write_json(path, self.as_document())
