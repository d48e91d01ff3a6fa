"""Folders of ``figclip predict``: which run's head predicted, or the base model's, by the hashes that they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.files import read_json, sha256_of_file
from figclip_cli.heads.situation.options import TASK
from figclip_cli.report.runs import ReportRun

_HINT = "name a folder of figclip predict situation"
BASE_LABEL = "base"


@dataclass(frozen=True)
class RunPredictions:
    """What a head predicts.

    Attributes:
        folder: Where; of a submission of dense captions, the document beside it.
        task: What for, ``situation`` or ``dense-captioning``.
        run: The run whose features the head reads; None for the base model.
        head: Name of the head.
        hashes: Of the files.
        frames_sha256: Hash of the frames that were looked at.
        base_sha256: Hash of the base model's weights, which the head reads or its run started from.
    """

    folder: Path
    task: str
    run: ReportRun | None
    head: str
    hashes: frozenset[str]
    frames_sha256: object
    base_sha256: object

    @property
    def label(self) -> str:
        """Whose they are, for headings."""
        return BASE_LABEL if self.run is None else self.run.label


def read_prediction_folders(
    runs: Sequence[ReportRun], folders: Sequence[Path], not_used: dict[str, str]
) -> list[RunPredictions]:
    """Read what the folders say of themselves; those of no run of the report go to ``not_used``.

    Raises:
        InputError: A folder is not one of figclip's, or a file of it is not the one that was written.
    """
    found: list[RunPredictions] = []
    for folder in folders:
        document = _document(folder)
        model = document["model"]
        run = next((one for one in runs if one.adapter_sha256 == model.get("adapter_sha256")), None)
        is_base = model.get("adapter_sha256") is None and any(one.base_sha256 == model.get("sha256") for one in runs)
        made = RunPredictions(
            folder,
            str(document.get("task")),
            run,
            str(document["head"].get("name")),
            _hashes(folder, document),
            document.get("frames_sha256"),
            model.get("sha256"),
        )
        if run is None and not is_base:
            not_used[str(folder)] = f"its head reads other weights, those of '{model.get('name')}'"
        elif any((one.label, one.task) == (made.label, made.task) for one in found):
            not_used[str(folder)] = f"there are predictions of {made.label} for {made.task} already"
        else:
            found.append(made)
    return sorted(found, key=lambda one: 0 if one.run is None else one.run.style)


def of_situations(found: Sequence[RunPredictions]) -> list[RunPredictions]:
    """Return those for situation recognition."""
    return [one for one in found if one.task == TASK]


def _document(folder: Path) -> dict[str, Any]:
    from figclip_cli.heads.situation.prediction_files import ABOUT, FORMAT, FORMAT_VERSION

    path = folder / ABOUT if folder.is_dir() else folder
    if not path.is_file():
        raise InputError(f"{folder} has no {ABOUT}, so nothing says which run predicted", _HINT)
    document = read_json(path, "document about predictions")
    is_ours = isinstance(document, dict) and document.get("format") == FORMAT
    if not is_ours or document.get("format_version") != FORMAT_VERSION:
        raise InputError(f"{path} is not of figclip's predictions, format version {FORMAT_VERSION}", _HINT)
    if not all(isinstance(document.get(name), dict) for name in ("model", "head", "files")):
        raise InputError(f"{path} does not name model, head and files", _HINT)
    return document


def _hashes(folder: Path, document: dict[str, Any]) -> frozenset[str]:
    for name, expected in document["files"].items():
        path = (folder if folder.is_dir() else folder.parent) / name
        if Path(name).name != name or not path.is_file() or sha256_of_file(path) != expected:
            raise InputError(f"{path} is not the file that was written with the predictions", "predict again")
    return frozenset(map(str, document["files"].values()))
