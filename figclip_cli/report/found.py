"""Which results, curves and predictions are of which run; of the others, why they are not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli.errors import InputError
from figclip_cli.evaluate.curve import Curve
from figclip_cli.evaluate.curve_reading import read_curve
from figclip_cli.evaluate.curve_scales import scale_text
from figclip_cli.evaluate.results import CURVE_FORMAT, Results, read_results
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
    """

    runs: Sequence[ReportRun]
    frames: FrameFiles
    results: list[RunResults] = field(default_factory=list)
    curves: list[RunCurve] = field(default_factory=list)
    predictions: list[RunPredictions] = field(default_factory=list)
    not_used: dict[str, str] = field(default_factory=dict)

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
    _refuse_unbounded(path, results)
    adapted = results.models.get("adapted")
    if not results.metrics:
        found.not_used[str(path)] = "it has no numbers"
        return
    if adapted is None:
        found.not_used[str(path)] = "it has the base model's numbers alone"
        return
    files = _hashes_in(adapted)
    if "adapter_sha256" not in adapted and files:
        own = next((one for one in found.predictions if one.run is not None and files <= one.hashes), None)
        run, problem = (own.run, "") if own else (None, "its predictions are not of a folder that --predictions names")
    else:
        run = _run_of(found.runs, adapted.get("adapter_sha256"))
        problem = _why_not(run, results.models)
    scale = adapted.get("scale", 1.0)
    if not problem and scale != 1.0:
        if of_a_curve:
            return
        shown = scale_text(scale) if isinstance(scale, (int, float)) else "another scale"
        problem = f"it is of the run at scale {shown}, not of the run as it is"
    if run is None or problem:
        found.not_used[str(path)] = problem
        return
    found.results.append(RunResults(path, run, results, _environment(_document(path))))


def _refuse_unbounded(path: Path, results: Results) -> None:
    for metric in results.metrics:
        numbers = (metric.value, metric.standard_error, metric.base_value, metric.base_standard_error)
        if any(abs(number) > _MOST for number in numbers if number is not None):
            raise InputError(f"results file {path}: '{metric.name}' is out of all bounds", "evaluate again")


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
