"""Which results, curves and predictions are of which run; of the others, why they are not."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli.errors import InputError
from figclip_cli.evaluate.curve import Curve
from figclip_cli.evaluate.curve_reading import read_curve
from figclip_cli.evaluate.curve_scales import scale_text
from figclip_cli.evaluate.results import CURVE_FORMAT, Metric, Results, read_results
from figclip_cli.files import sha256_of_file
from figclip_cli.report.material import ReportMaterial, evaluation_files, frames_files
from figclip_cli.report.pictures import FrameFiles
from figclip_cli.report.predictions import RunPredictions, read_prediction_folders
from figclip_cli.report.runs import ReportRun
from figclip_cli.reporting import Reporter

_MOST = 1e12  # no rank and no percentage is as large, and nothing larger can be drawn


@dataclass(frozen=True)
class RunResults:
    """Results of one run at full scale.

    Attributes:
        file: Where they are.
        run: Whose they are.
        results: What they say.
        environment: Versions and command that they were computed with.
    """

    file: Path
    run: ReportRun
    results: Results
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class RunCurve:
    """A run over scales.

    Attributes:
        file, sha256: Where it is, and its hash.
        run: Whose it is.
        curve: What it says.
        kept_sha256: Hash of the curve that it was set against, where it was.
        environment: Versions and command that it was computed with.
    """

    file: Path
    sha256: str
    run: ReportRun
    curve: Curve
    kept_sha256: str | None
    environment: Mapping[str, Any]


@dataclass
class Found:
    """Everything that a report shows.

    Attributes:
        not_used: By path, why something was left out.
        in_curves: Results of single scales, which their curve shows.
    """

    runs: Sequence[ReportRun]
    frames: FrameFiles
    results: list[RunResults] = field(default_factory=list)
    curves: list[RunCurve] = field(default_factory=list)
    predictions: list[RunPredictions] = field(default_factory=list)
    not_used: dict[str, str] = field(default_factory=dict)
    in_curves: list[Path] = field(default_factory=list)

    def used(self) -> list[Path]:
        """Return the files of results and curves, and the folders of predictions, that are shown."""
        files = [one.file for one in self.results] + [one.file for one in self.curves]
        return files + [one.folder for one in self.predictions]


def find(runs: Sequence[ReportRun], material: ReportMaterial, reporter: Reporter) -> Found:
    """Read what was named or is there, and tell which run it is of; what is not used is said.

    Raises:
        InputError: A file is damaged, or one that was named is not there.
    """
    folders = [run.folder for run in runs]
    found = Found(runs, FrameFiles(frames_files(material, folders)))
    found.predictions += read_prediction_folders(runs, material.predictions, found.not_used)
    files = evaluation_files(material, folders)
    for path, kind in files:
        if kind == CURVE_FORMAT:
            _add_curve(found, path)
    of_curves = {one.file.with_name(name).resolve() for one in found.curves for name in _files_of(one.curve)}
    for path, kind in files:
        if kind != CURVE_FORMAT:
            _add_results(found, path, path.resolve() in of_curves)
    _drop_copies(found, of_curves)
    for used in found.used():
        reporter.info(f"used: {used}")
    for left_out, why in found.not_used.items():
        reporter.warn(f"not used: {left_out}: {why}")
    return found


def _files_of(curve: Curve) -> Iterator[str]:
    for point in curve.points:
        name = (point.results or {}).get("file")
        if isinstance(name, str) and Path(name).name == name:
            yield name


def _add_curve(found: Found, path: Path) -> None:
    curve, document = read_curve(path), _document(path)
    for point in curve.points:
        _refuse_impossible("curve file", path, point.metrics)
    run = _run_of(found.runs, curve.models["adapted"].get("adapter_sha256"))
    problem = _why_not(run, curve.models)
    if run is None or problem:
        found.not_used[str(path)] = problem
        return
    kept = (document.get("trade_off") or {}).get("kept") if isinstance(document.get("trade_off"), dict) else None
    kept_sha256 = kept.get("sha256") if isinstance(kept, dict) else None
    found.curves.append(RunCurve(path, sha256_of_file(path), run, curve, kept_sha256, _environment(document)))


def _add_results(found: Found, path: Path, of_a_curve: bool) -> None:
    results = read_results(path)
    _refuse_impossible("results file", path, results.metrics)
    adapted = results.models.get("adapted")
    if not results.metrics:
        found.not_used[str(path)] = "it has no numbers"
        return
    if adapted is None:
        found.not_used[str(path)] = "it has the base model's numbers alone"
        return
    if "adapter_sha256" not in adapted and _hashes_in(adapted):
        run, problem = _of_predictions(found.predictions, results.models)
    else:
        run = _run_of(found.runs, adapted.get("adapter_sha256"))
        problem = _why_not(run, results.models)
    scale = adapted.get("scale", 1.0)
    if not problem and scale != 1.0:
        if of_a_curve:
            found.in_curves.append(path)
            return
        shown = scale_text(scale) if isinstance(scale, (int, float)) else "another scale"
        problem = f"it is of the run at scale {shown}, not of the run as it is"
    if run is None or problem:
        found.not_used[str(path)] = problem
        return
    found.results.append(RunResults(path, run, results, _environment(_document(path))))


def _refuse_impossible(what: str, path: Path, metrics: Sequence[Metric]) -> None:
    for metric in metrics:
        problem = _problem_of(metric)
        if problem:
            raise InputError(f"{what} {path}: '{metric.name:.60}' {problem}", "evaluate again")


def _problem_of(metric: Metric) -> str:
    """Return why nobody can have computed a number, or nothing."""
    values = (metric.value, metric.base_value, metric.delta)
    errors = (metric.standard_error, metric.base_standard_error, metric.delta_standard_error)
    if any(abs(number) > _MOST for number in (*values, *errors, metric.n) if number is not None):
        return "is out of all bounds"
    if any(error < 0 for error in errors if error is not None):
        return "has a standard error below 0"
    if metric.n is not None and metric.n < 0:
        return f"is of {metric.n} items"
    if metric.p_value is not None and not 0 <= metric.p_value <= 1:
        return f"has the p-value {metric.p_value:g}"
    if metric.base_value is None or metric.delta is None:
        return ""
    is_change = math.isclose(metric.value - metric.base_value, metric.delta, abs_tol=1e-6)
    return "" if is_change else "has a change that is not its value less the base's"


def _of_predictions(
    predictions: Sequence[RunPredictions], models: Mapping[str, Mapping[str, Any]]
) -> tuple[ReportRun | None, str]:
    """Return the run whose head made the predictions that were scored, and why they are not to be shown, or nothing.

    They are shown where what they are set against was predicted by a head of the very model that the run started from.
    """
    adapted, base = _hashes_in(models["adapted"]), _hashes_in(models["base"])
    run = next((one.run for one in predictions if one.run is not None and adapted <= one.hashes), None)
    if run is None:
        return None, "its predictions are not of a folder that --predictions names"
    of_base = (one for one in predictions if one.run is None and one.base_sha256 == run.base_sha256)
    if not base or not any(base <= one.hashes for one in of_base):
        why = (
            f"what {run.label} is set against is not of a folder that --predictions names, of the base it started from"
        )
        return None, why
    return run, ""


def _run_of(runs: Sequence[ReportRun], adapter_sha256: object) -> ReportRun | None:
    return next((run for run in runs if run.adapter_sha256 == adapter_sha256), None)


def _why_not(run: ReportRun | None, models: Mapping[str, Mapping[str, Any]]) -> str:
    if run is None:
        return f"it is of other weights, those of '{models['adapted']['name']}' when it was evaluated"
    if models["base"].get("sha256") != run.base_sha256:
        return f"its base model is not the one that {run.label} started from"
    contextualizer = models["adapted"].get("contextualizer_sha256")
    if contextualizer is not None and contextualizer != _hash_of(run.folder.contextualizer_file):
        return f"its clips were read through another contextualizer than that of {run.label}"
    return ""


def _hash_of(file: Path) -> str | None:
    return sha256_of_file(file) if file.is_file() else None


def _hashes_in(model: Mapping[str, Any]) -> set[str]:
    """Return the hashes of the files that a model's numbers were computed from, where they were files."""
    files = model.get("files")
    if isinstance(files, list):
        return {str(one.get("sha256")) for one in files if isinstance(one, dict)}
    return {model["sha256"]} if isinstance(model.get("sha256"), str) else set()


def _drop_copies(found: Found, of_curves: set[Path]) -> None:
    """Leave out results of the same run that say what another file says already; those named for themselves stay."""
    kept: list[RunResults] = []
    for one in sorted(found.results, key=lambda each: each.file.resolve() in of_curves):
        same = next((other for other in kept if _says_the_same(one, other)), None)
        if same is None:
            kept.append(one)
        else:
            found.not_used[str(one.file)] = f"it has the same numbers as {same.file}"
    found.results = sorted(kept, key=lambda one: (one.results.task, one.results.dataset_id, str(one.file)))


def _says_the_same(one: RunResults, other: RunResults) -> bool:
    first, second = one.results, other.results
    same = one.run is other.run and first.dataset_sha256 == second.dataset_sha256 and first.task == second.task
    return same and first.metrics == second.metrics and first.evaluated == second.evaluated


def _document(path: Path) -> dict[str, Any]:
    read: dict[str, Any] = msgspec.json.decode(path.read_bytes())  # read and checked before
    return read


def _environment(document: Mapping[str, Any]) -> Mapping[str, Any]:
    environment = document.get("environment")
    return environment if isinstance(environment, dict) else {}
