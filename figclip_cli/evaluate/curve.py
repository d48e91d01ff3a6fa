"""A curve: one run evaluated at several scales between its base and itself, and what is written of it.

Interpolating between the weights before and after fine-tuning often keeps more of what the model could do before than
it costs of what was learned (WiSE-FT, arXiv 2109.01903, section 4).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from figclip_cli.errors import UsageError, nearest
from figclip_cli.evaluate.curve_scales import scale_text
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.results import ALL_ITEMS, CURVE_FORMAT, Metric, Results, describe_counts
from figclip_cli.files import replacing, sha256_of_file, write_json
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import environment

CURVE_FORMAT_VERSION = 1
# What the tables of papers lead with, the first that there is.
HEADLINES = ("t2v R@1", "top-1", "macro", "group score", ALL_ITEMS)
_IN_RANKS = ("MdR", "MnR")


@dataclass(frozen=True)
class CurvePoint:
    """The run at one scale.

    Attributes:
        scale: From 0, the base, to 1, the run as it is.
        metrics: All numbers, each with the base's and the change.
        protocol: What differs between the scales, such as counts of ties.
        results: ``file`` and ``sha256`` of the results file of this scale, which lies beside the curve.
    """

    scale: float
    metrics: tuple[Metric, ...]
    protocol: Mapping[str, Any] = field(default_factory=dict)
    results: Mapping[str, Any] | None = None

    def named(self, name: str) -> Metric:
        """Return the number of this name."""
        return next(metric for metric in self.metrics if metric.name == name)


@dataclass(frozen=True)
class Curve:
    """A run at several scales on one task.

    Attributes:
        task, dataset_id, dataset_sha256, asked, evaluated, missing, seeds: As in :class:`Results`.
        protocol: Every choice that changes the numbers, as far as it is the same at all scales.
        models: Name and hashes of ``base`` and of the run, ``adapted``.
        metric: Name of the number that the curve is drawn of.
        points: In ascending order of the scale; all have the same numbers.
    """

    task: str
    dataset_id: str
    dataset_sha256: str
    asked: Mapping[str, int]
    evaluated: Mapping[str, int]
    missing: Mapping[str, str]
    protocol: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Any]]
    metric: str
    points: tuple[CurvePoint, ...]
    seeds: Mapping[str, int] = field(default_factory=dict)

    @property
    def headline(self) -> list[Metric]:
        """The number that the curve is drawn of, at each scale."""
        return [point.named(self.metric) for point in self.points]

    @property
    def what(self) -> str:
        """The number and what it is of, for labels."""
        return f"{self.metric} of {self.dataset_id}"

    @property
    def run_name(self) -> str:
        """Name of the run."""
        return str(self.models["adapted"]["name"])

    @property
    def base_name(self) -> str:
        """Name of the base."""
        return str(self.models["base"]["name"])

    @property
    def subject(self) -> tuple[str, str, Any]:
        """What the numbers are of: two curves that agree here are of the same thing."""
        return self.task, self.dataset_sha256, self.protocol.get("level")

    def describe_counts(self) -> str:
        """Return what was evaluated of what was asked, for a title."""
        return describe_counts(self.asked, self.evaluated)

    def as_document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "format": CURVE_FORMAT,
            "format_version": CURVE_FORMAT_VERSION,
            "task": self.task,
            "dataset": {"id": self.dataset_id, "sha256": self.dataset_sha256},
            "n_asked": dict(self.asked),
            "n_evaluated": dict(self.evaluated),
            "missing": dict(self.missing),
            "protocol": dict(self.protocol),
            "models": {key: dict(value) for key, value in self.models.items()},
            "metric": self.metric,
            "scales": [
                {
                    "scale": point.scale,
                    "metrics": [asdict(metric) for metric in point.metrics],
                    "protocol": dict(point.protocol),
                    "results": None if point.results is None else dict(point.results),
                }
                for point in self.points
            ],
            "seeds": dict(self.seeds),
            "environment": environment(),
        }


def unit_of(metric: str) -> str:
    """Return the unit of a number by its name: ranks, or percent as all others are."""
    return "rank" if metric.split(" ")[-1] in _IN_RANKS else "%"


def require_metric(asked: str | None, names: Collection[str]) -> None:
    """Refuse a number that a task does not have, before anything is computed.

    Raises:
        UsageError: Names the nearest.
    """
    if asked is not None and asked not in names:
        raise UsageError(f"--curve-metric: there is no number '{asked}' here", nearest(asked, names))


def curve_name_problem(output: Path) -> str | None:
    """Return why a path cannot be that of a curve, or None."""
    return None if output.name.endswith(".json") and output.stem.strip(".") else "does not end with .json"


def drawing_path(output: Path) -> Path:
    """Return where the drawing of the curve ``output`` is written: beside it, ``x.svg`` for ``x.json``."""
    return output.with_name(output.name.removesuffix(".json") + ".svg")


def results_path(output: Path, scale: float) -> Path:
    """Return where the results of one scale are written: beside the curve, ``x-0.25.json`` for ``x.json``."""
    return output.with_name(f"{output.name.removesuffix('.json')}-{scale_text(scale)}.json")


def make_curve(
    evaluations: Sequence[Evaluation],
    scales: Sequence[float],
    output: Path,
    *,
    run_name: str,
    samples: bool = True,
    metric: str | None = None,
    reporter: Reporter = SILENT,
) -> Curve:
    """Write the results of each scale beside ``output``, with their samples, and return the curve, yet to be written.

    Args:
        evaluations: One for each scale.
        run_name: Name of the run, without a scale.
        metric: Name of the number that the curve is drawn of; None takes what tables lead with.
        reporter: Is told where no item of ``metric`` was there.
    """
    results = [
        one.write(results_path(output, at), samples=samples) for one, at in zip(evaluations, scales, strict=True)
    ]
    common, differing = _split(results)
    first, names = results[0], [one.name for one in results[0].metrics]
    if metric is not None and metric not in names:
        reporter.warn(f"there is no item of '{metric}': the curve is drawn of {headline_of(names)}")
    adapted = {key: value for key, value in first.models["adapted"].items() if key != "scale"}
    return Curve(
        task=first.task,
        dataset_id=first.dataset_id,
        dataset_sha256=first.dataset_sha256,
        asked=first.asked,
        evaluated=first.evaluated,
        missing=first.missing,
        protocol=common,
        models={**first.models, "adapted": {**adapted, "name": run_name}},
        metric=metric if metric is not None and metric in names else headline_of(names),
        points=tuple(
            CurvePoint(scale, one.metrics, protocol, _reference(results_path(output, scale)))
            for scale, one, protocol in zip(scales, results, differing, strict=True)
        ),
        seeds=first.seeds,
    )


def write_curve(output: Path, document: Mapping[str, Any], drawing: str) -> None:
    """Write the drawing and then the document, each whole or not at all."""
    with replacing(drawing_path(output)) as temporary:
        temporary.write_bytes(drawing.encode())
    write_json(output, dict(document))


def headline_of(names: Sequence[str]) -> str:
    """Return the number that tables lead with, of those that there are."""
    return next((name for name in HEADLINES if name in names), names[0])


def _reference(path: Path) -> dict[str, str]:
    return {"file": path.name, "sha256": sha256_of_file(path)}


def _split(results: Sequence[Results]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return what the protocols have in common, and what is each one's own."""
    first = results[0].protocol
    same = {key for key in first if all(one.protocol.get(key) == first[key] for one in results)}
    own = [{key: value for key, value in one.protocol.items() if key not in same} for one in results]
    return {key: value for key, value in first.items() if key in same}, own
