"""Read a curve file again, and check that its numbers belong together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli.errors import FigclipError, InputError
from figclip_cli.evaluate.curve import CURVE_FORMAT_VERSION, Curve, CurvePoint
from figclip_cli.evaluate.results import CURVE_FORMAT, MODELS, RESULTS_FORMAT, Metric
from figclip_cli.files import require_file

_HINT = "make one with figclip evaluate TASK --scales 0,0.25,0.5,0.75,1"
_AGAIN = "evaluate again with this figclip"
_MOST = 1e12  # no rank and no percentage is as large


class _Dataset(msgspec.Struct):
    id: str
    sha256: str


class _Point(msgspec.Struct):
    scale: float
    metrics: tuple[Metric, ...]
    protocol: dict[str, Any]
    results: dict[str, Any] | None


class _Document(msgspec.Struct):
    task: str
    dataset: _Dataset
    n_asked: dict[str, int]
    n_evaluated: dict[str, int]
    missing: dict[str, str]
    protocol: dict[str, Any]
    models: dict[str, dict[str, Any]]
    metric: str
    scales: tuple[_Point, ...]
    seeds: dict[str, int]


def read_curve(path: Path) -> Curve:
    """Read and check a curve file.

    Raises:
        InputError: The file is missing, of another format or version, does not keep to the format, or its numbers do
            not belong together.
    """
    document = _read_document(require_file(path, "curve file", _HINT))
    try:
        read = msgspec.convert(document, type=_Document)
    except (msgspec.ValidationError, FigclipError) as error:
        raise InputError(f"curve file {path}: {error}", _AGAIN) from error
    problem = next(_problems(read), None)
    if problem is not None:
        raise InputError(f"curve file {path}: {problem}", _AGAIN)
    return Curve(
        task=read.task,
        dataset_id=read.dataset.id,
        dataset_sha256=read.dataset.sha256,
        asked=read.n_asked,
        evaluated=read.n_evaluated,
        missing=read.missing,
        protocol=read.protocol,
        models=read.models,
        metric=read.metric,
        points=tuple(CurvePoint(one.scale, one.metrics, one.protocol, one.results) for one in read.scales),
        seeds=read.seeds,
    )


def _problems(read: _Document) -> Iterator[str]:
    if set(read.models) != set(MODELS) or not all(isinstance(one.get("name"), str) for one in read.models.values()):
        yield "the models are not named base and adapted"
    elif not isinstance(read.models["base"].get("sha256"), str):
        yield "the base model has no hash"
    elif not isinstance(read.models["adapted"].get("adapter_sha256"), str):
        yield "the run has no hash"
    elif set(read.n_asked) != set(read.n_evaluated):
        yield "n_asked and n_evaluated count different things"
    scales = [point.scale for point in read.scales]
    if not scales or not all(0.0 <= scale <= 1.0 for scale in scales) or any(b <= a for a, b in pairwise(scales)):
        yield "the scales are not ascending numbers from 0 to 1"
        return
    names = [metric.name for metric in read.scales[0].metrics]
    if len(set(names)) < len(names) or any([one.name for one in point.metrics] != names for point in read.scales):
        yield "the scales do not have the same numbers"
    elif read.metric not in names:
        yield f"the number that it is drawn of, '{read.metric}', is not there"
    for point in read.scales:
        for metric in point.metrics:
            yield from _of_metric(metric)
    first = {metric.name: metric for metric in read.scales[0].metrics}
    for point in read.scales:
        for metric in point.metrics:
            if metric.base_value != first[metric.name].base_value:
                yield f"the base's {metric.name} is not the same at all scales"


def _of_metric(metric: Metric) -> Iterator[str]:
    values = (metric.value, metric.base_value, metric.delta)
    errors = (metric.standard_error, metric.base_standard_error, metric.delta_standard_error)
    if any(number is None for number in (*values, *errors)):
        yield f"{metric.name} has no difference from the base"
    elif any(abs(number) > _MOST for number in (*values, *errors) if number is not None):
        yield f"{metric.name} is out of all bounds"
    elif not math.isclose(metric.value - (metric.base_value or 0.0), metric.delta or 0.0, abs_tol=1e-6):
        yield f"the change of {metric.name} is not its value less the base's"
    elif any(number < 0 for number in errors if number is not None):
        yield f"a standard error of {metric.name} is negative"


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"curve file {path} is not JSON ({error})", "is it a curve of figclip evaluate?") from error
    found = document.get("format") if isinstance(document, dict) else None
    if found == RESULTS_FORMAT:
        raise InputError(f"{path} has results at one scale, it is no curve", _HINT)
    if found != CURVE_FORMAT:
        raise InputError(f"curve file {path}: the format is not '{CURVE_FORMAT}'", _HINT)
    version = document.get("format_version")
    if version != CURVE_FORMAT_VERSION or isinstance(version, bool):
        which = f"format version {version!r}, this figclip reads {CURVE_FORMAT_VERSION}"
        raise InputError(f"curve file {path} has {which}", _AGAIN)
    checked: dict[str, Any] = document
    return checked
