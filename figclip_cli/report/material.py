"""What a report is made of, beside its runs, and where it is looked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from figclip_cli.errors import FigclipError, InputError
from figclip_cli.evaluate.compare import DEFAULT_RESULTS
from figclip_cli.evaluate.results import CURVE_FORMAT, RESULTS_FORMAT
from figclip_cli.files import require_file
from figclip_cli.frames import FramesReader
from figclip_cli.run_folder import RunFolder

_HINT = "name results or curves of figclip evaluate, or a folder of them"


@dataclass(frozen=True)
class SituationFiles:
    """VidSitu's annotation, to show predictions beside."""

    split: Path
    annotations: Path | None = None
    vinfo: Path | None = None


@dataclass(frozen=True)
class ReportMaterial:
    """What is shown of the runs. What belongs to none of them is named in the report, and not used.

    Attributes:
        results: Results files, or folders with such and with curves. None: ``results/`` beside ``runs/``, and here.
        curves: Curves over scales; None takes those among the results.
        frames: Frames files for pictures, used where their content is what a result was computed from. None: frames
            files of the current folder and of that which has ``runs/``.
        predictions: Folders of ``figclip predict situation``, of the runs' heads and of the base model's.
        situation: Annotation that these are shown beside.
    """

    results: Sequence[Path] | None = None
    curves: Sequence[Path] | None = None
    frames: Sequence[Path] | None = None
    predictions: Sequence[Path] = ()
    situation: SituationFiles | None = None

    def named(self) -> list[Path]:
        """Return every path that was given, none of which a report may replace."""
        truth = self.situation
        given = [*(self.results or ()), *(self.curves or ()), *(self.frames or ()), *self.predictions]
        return given + [path for path in (truth and (truth.split, truth.annotations, truth.vinfo)) or () if path]


def evaluation_files(material: ReportMaterial, runs: Sequence[RunFolder]) -> list[tuple[Path, str]]:
    """Return results and curves that are there, each once, with the name of its format.

    Raises:
        InputError: A file or folder that was named is not there or holds none.
    """
    found: dict[Path, tuple[Path, str]] = {}
    for path, is_named in _given(material, runs):
        every = list(_in_folder(path)) if path.is_dir() else [(path, _format_of(path))]
        if is_named and not any(kind for _, kind in every):
            raise InputError(f"{path} has no results and no curve of figclip evaluate", _HINT)
        for file, kind in every:
            is_other = kind == CURVE_FORMAT and material.curves is not None and path not in material.curves
            if kind and not is_other:
                found.setdefault(file.resolve(), (file, kind))
    return list(found.values())


def _given(material: ReportMaterial, runs: Sequence[RunFolder]) -> Iterator[tuple[Path, bool]]:
    for path in material.results or ():
        yield path, True
    if material.results is None:
        for folder in _beside(runs):
            if (folder / DEFAULT_RESULTS).is_dir():
                yield folder / DEFAULT_RESULTS, False
    for path in material.curves or ():
        yield path, True


def _beside(runs: Sequence[RunFolder]) -> list[Path]:
    """Return the current folder, and of each run that which has ``runs/`` and that which has the run, each once."""
    folders = {Path().resolve(): Path()}
    for run in runs:
        above = run.path.resolve().parents  # whatever path it was named by
        for place in reversed(above[:2]):
            given = next((one for one in run.path.parents if one.resolve() == place), place)
            folders.setdefault(place, given)
    return list(folders.values())


def _in_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    for file in sorted((*folder.glob("*.json"), *folder.glob("*/*.json"))):
        try:
            yield file, _format_of(file)
        except FigclipError:  # a folder may hold anything
            continue


class _Format(msgspec.Struct):
    format: str = ""


def _format_of(path: Path) -> str:
    """Return the format that a file says it has, or nothing where that is none of ours."""
    require_file(path, "results file", _HINT)
    try:
        found = msgspec.json.decode(path.read_bytes(), type=_Format).format
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"results file {path} is not JSON ({error})", _HINT) from error
    return found if found in (RESULTS_FORMAT, CURVE_FORMAT) else ""


def frames_files(material: ReportMaterial, runs: Sequence[RunFolder]) -> list[Path]:
    """Return the frames files that were named, or those that lie in the current folder and beside ``runs/``."""
    if material.frames is not None:
        return list(material.frames)
    return [path for folder in _beside(runs) for path in sorted(folder.glob("*.h5")) if _is_frames_file(path)]


def _is_frames_file(path: Path) -> bool:
    try:
        FramesReader(path).close()
    except (FigclipError, OSError):  # features are in HDF5 too
        return False
    return True
