"""The result schema that every task writes: what was asked, what was evaluated, how, with which weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli.errors import FigclipError, InputError, VerificationError
from figclip_cli.evaluate.samples import Sample, SamplesHeader, write_samples
from figclip_cli.files import require_file, sha256_of_file, write_json
from figclip_cli.run_folder import environment

RESULTS_FORMAT = "figclip-results"
RESULTS_FORMAT_VERSION = 2
CURVE_FORMAT = "figclip-curve"
MODELS = ("base", "adapted")
ALL_ITEMS = "all items"  # name of a mean over all items of a benchmark of several parts
_AGAIN = "evaluate again with this figclip"


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
        n: Items behind the number.
        p_value: Of the paired test of ``delta``, two-sided; None where there is none.
        test: Name of that test.
        group: Relation, kind or class, where the number is one of a breakdown.
        deviation: Standard deviation of ``value`` over the splits of a benchmark, where it is their mean.
        base_deviation: That of ``base_value``.
        statistic: How the number is formed: mean, macro mean, median, geometric mean, mean of parts.

    Raises:
        VerificationError: A number is not finite.
    """

    name: str
    value: float
    standard_error: float
    higher_is_better: bool
    base_value: float | None = None
    base_standard_error: float | None = None
    delta: float | None = None
    delta_standard_error: float | None = None
    n: int | None = None
    p_value: float | None = None
    test: str | None = None
    group: str = ""
    deviation: float | None = None
    base_deviation: float | None = None
    statistic: str = ""

    def __post_init__(self) -> None:
        for name, number in asdict(self).items():
            missing = number is None and name in ("value", "standard_error")
            if missing or (isinstance(number, float) and not math.isfinite(number)):
                whose = f"metric '{self.name}'" + (f" of {self.group}" if self.group else "")
                raise VerificationError(f"{name} of {whose} is {number}", "there may be no item to compute it from")

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
        groups: Breakdowns of the numbers, which the table of results leaves out.
        samples: ``file``, ``sha256`` and ``count`` of the file beside the results that has every item's outcome.
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
    groups: tuple[Metric, ...] = ()
    samples: Mapping[str, Any] | None = None

    @property
    def base_name(self) -> str:
        """Column title of the base model."""
        return str(self.models["base"]["name"])

    @property
    def adapted_name(self) -> str | None:
        """Column title of the adapted model, or None where no run was given."""
        return str(self.models["adapted"]["name"]) if "adapted" in self.models else None

    @property
    def headline_model(self) -> str:
        """``adapted`` where a run was given, else ``base``: whose numbers ``value`` has."""
        return "adapted" if "adapted" in self.models else "base"

    def describe_counts(self) -> str:
        """Return what was evaluated of what was asked, for a title."""
        return describe_counts(self.asked, self.evaluated)

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
            "groups": [asdict(metric) for metric in self.groups],
            "samples": None if self.samples is None else dict(self.samples),
            "seeds": dict(self.seeds),
            "environment": environment(),
        }

    def write(self, path: Path, samples: Iterable[Sample] | None = None) -> Results:
        """Write the JSON document, whole or not at all, after the file of its samples.

        Args:
            samples: Every item's outcome, for the file :func:`samples_path` beside ``path``.

        Returns:
            These results, naming the file of samples where one was written.

        Raises:
            VerificationError: A sample is named twice, lacks a model, or has a number that is not finite.
        """
        results = self
        if samples is not None:
            beside = samples_path(path)
            header = SamplesHeader(self.task, self.dataset_id, self.dataset_sha256, self.models)
            count = write_samples(beside, samples, header)
            reference = {"file": beside.name, "sha256": sha256_of_file(beside), "count": count}
            results = replace(self, samples=reference)
        write_json(path, results.as_document())
        return results


def describe_counts(asked: Mapping[str, int], evaluated: Mapping[str, int]) -> str:
    """Return what was evaluated of what was asked: ``5 clips, 9 of 10 texts``."""
    return ", ".join(
        f"{evaluated[kind]} {kind}" if evaluated[kind] == n else f"{evaluated[kind]} of {n} {kind}"
        for kind, n in asked.items()
    )


def samples_path(path: Path) -> Path:
    """Return where the samples of the results ``path`` are written, beside it; no two results have the same.

    ``x.samples.jsonl`` is that of ``x.json``. A name without that ending is kept whole, whatever dots are in it, and
    has another ending: the samples of ``v1.0`` are ``v1.0-samples.jsonl``, not those of ``v1.0.json``.
    """
    stem, dot, ending = path.name.rpartition(".")
    return path.with_name(f"{stem}.samples.jsonl" if dot and ending == "json" else f"{path.name}-samples.jsonl")


class _Dataset(msgspec.Struct):
    id: str
    sha256: str


class _Reference(msgspec.Struct):
    file: str
    sha256: str
    count: int


class _Document(msgspec.Struct):
    task: str
    dataset: _Dataset
    n_asked: dict[str, int]
    n_evaluated: dict[str, int]
    missing: dict[str, str]
    protocol: dict[str, Any]
    models: dict[str, dict[str, Any]]
    metrics: tuple[Metric, ...]
    groups: tuple[Metric, ...]
    samples: _Reference | None
    seeds: dict[str, int]


def read_results(path: Path) -> Results:
    """Read and check a results file.

    Raises:
        InputError: The file is missing, of another format or version, or does not keep to the format.
    """
    document = _read_document(require_file(path, "results file", "make one with figclip evaluate"))
    try:
        read = msgspec.convert(document, type=_Document)
    except (msgspec.ValidationError, FigclipError) as error:
        raise InputError(f"results file {path}: {error}", _AGAIN) from error
    unnamed = [model for model, facts in read.models.items() if not isinstance(facts.get("name"), str)]
    if "base" not in read.models or set(read.models) - set(MODELS) or unnamed:
        raise InputError(f"results file {path}: the models are not named base and adapted", _AGAIN)
    if set(read.n_asked) != set(read.n_evaluated):
        raise InputError(f"results file {path}: n_asked and n_evaluated count different things", _AGAIN)
    if read.samples is not None and Path(read.samples.file).name != read.samples.file:
        raise InputError(f"results file {path}: its samples are not beside it", _AGAIN)
    return Results(
        task=read.task,
        dataset_id=read.dataset.id,
        dataset_sha256=read.dataset.sha256,
        asked=read.n_asked,
        evaluated=read.n_evaluated,
        missing=read.missing,
        protocol=read.protocol,
        models=read.models,
        metrics=read.metrics,
        seeds=read.seeds,
        groups=read.groups,
        samples=None if read.samples is None else msgspec.structs.asdict(read.samples),
    )


def samples_beside(path: Path, results: Results) -> Path:
    """Return the file of samples that the results ``path`` name.

    Raises:
        InputError: They name none, it is gone, or it is not the one that was written with them.
    """
    if results.samples is None:
        raise InputError(f"results file {path} has no outcomes of single items", "evaluate again, with samples written")
    beside = path.with_name(str(results.samples["file"]))
    require_file(beside, "samples file", f"it was written with {path.name}: keep the two together, or {_AGAIN}")
    if sha256_of_file(beside) != results.samples["sha256"]:
        raise InputError(f"samples file {beside} is not the one that was written with {path.name}", _AGAIN)
    return beside


def _read_document(path: Path) -> dict[str, Any]:
    hint = "is it a results file of figclip evaluate?"
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"results file {path} is not JSON ({error})", hint) from error
    if isinstance(document, dict) and document.get("format") == CURVE_FORMAT:
        each = path.name.removesuffix(".json") + "-SCALE.json"
        raise InputError(f"{path} is a curve over scales, not the results of one", f"name those of one, {each}")
    if not isinstance(document, dict) or document.get("format") != RESULTS_FORMAT:
        raise InputError(f"results file {path}: the format is not '{RESULTS_FORMAT}'", hint)
    version = document.get("format_version")
    if version != RESULTS_FORMAT_VERSION:
        which = f"format version {version!r}, this figclip reads {RESULTS_FORMAT_VERSION}"
        raise InputError(f"results file {path} has {which}", _AGAIN)
    return document
