"""What ``cost.json`` and ``cell.json`` hold, and whether a file is one: what does not fit counts as damaged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from figclip_cli.ablate.plan import CELL_VERSION, Cell
from figclip_cli.errors import FigclipError
from figclip_cli.files import read_json
from figclip_cli.markdown import one_line

RECORD_FORMAT = "figclip-ablation-cell"

_Value = Annotated[float, msgspec.Meta(gt=-1e12, lt=1e12)]
_Error = Annotated[float, msgspec.Meta(ge=0, lt=1e12)]
_Number = Annotated[float, msgspec.Meta(ge=0, lt=1e18)]
_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=2000)]


class _Metric(msgspec.Struct):
    name: _Name
    higher_is_better: bool
    value: _Value
    standard_error: _Error
    base_value: _Value
    base_standard_error: _Error
    delta: _Value
    delta_standard_error: _Error


class _Task(msgspec.Struct):
    asked: dict[str, _Count]
    evaluated: dict[str, _Count]
    missing: _Count
    metrics: Annotated[list[_Metric], msgspec.Meta(min_length=1)]


class _Reading(msgspec.Struct):
    evaluation_sha256: str
    tasks: dict[str, _Task]


class _Cost(msgspec.Struct):
    trainable_parameters: _Count
    tower_parameters: _Count
    contextualizer_parameters: _Count
    base_parameters: _Count
    clips: _Count
    steps: _Count
    seconds: _Number
    train_seconds: _Number
    step_seconds: _Number | None
    images_per_second: _Number | None
    peak_memory_bytes: _Count | None
    process_peak_bytes: _Count | None
    device: _Name
    threads: _Count
    cells_at_once: _Count


class _Data(msgspec.Struct):
    prompts: _Count
    used: _Count
    not_ok: _Count
    without_frames: _Count
    records_left_out: _Count
    events_left_out: _Count


class Trained(msgspec.Struct):
    """``cost.json``: what a training cost, and how much of the annotation it saw."""

    cost: _Cost
    data: _Data
    environment: dict[str, Any]


class _Record(Trained):
    format: str
    version: int
    sha256: str
    quality: dict[str, _Reading]


def read_trained(path: Path) -> dict[str, Any] | None:
    """Return what a ``cost.json`` holds; None where there is none, or where it is damaged."""
    return _read(path, Trained)[0]


def read_record(path: Path, cell: Cell, evaluation_sha256: str) -> tuple[dict[str, Any] | None, str | None]:
    """Return a cell's record with the ways of reading that are scored by the files of now, and what is wrong with it.

    Args:
        path: ``cell.json``.
        evaluation_sha256: Hash of all that scoring reads.

    Returns:
        The record, None where there is none, where it is damaged or of another cell; and one line where it is damaged.
    """
    document, damage = _read(path, _Record)
    if document is None:
        return None, damage
    if (document["format"], document["version"], document["sha256"]) != (RECORD_FORMAT, CELL_VERSION, cell.sha256):
        return None, f"{path} is damaged: it is of another cell or version"
    quality = document["quality"]
    current = {name: one for name, one in quality.items() if one["evaluation_sha256"] == evaluation_sha256}
    return {**document, "quality": current}, None


def missing_features(record: Mapping[str, Any] | None, cell: Cell) -> list[str]:
    """Return the ways of reading clips in which a cell is still to be scored."""
    scored = {} if record is None else record["quality"]
    return [features for features in cell.features if features not in scored]


def not_evaluated(record: Mapping[str, Any]) -> list[str]:
    """Return one text for each task of a record that was not asked of everything it was to be asked of."""
    said = []
    for reading in record["quality"].values():
        for name, task in reading["tasks"].items():
            short = counts_text(task["asked"], task["evaluated"])
            if task["asked"] != task["evaluated"] and (line := f"{name}: {short}") not in said:
                said.append(line)
    return said


def counts_text(asked: Mapping[str, int], evaluated: Mapping[str, int]) -> str:
    """Return ``9 of 10 texts, 5 of 5 clips``."""
    return ", ".join(f"{evaluated.get(kind, 0)} of {number} {kind}" for kind, number in asked.items())


def _read(path: Path, schema: type[Any]) -> tuple[dict[str, Any] | None, str | None]:
    if not path.exists():
        return None, None
    try:
        document = read_json(path, "record")
        msgspec.convert(document, schema)
    except FigclipError as error:
        return None, f"{path} is damaged: {one_line(error.message)[:300]}"
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return None, f"{path} is damaged: {one_line(str(error))[:300]}"
    return document, None


def metric_named(metrics: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """Return a task's metric; the macro mean of a task with one number is that number."""
    found = next((one for one in metrics if one["name"] == name), None)
    return metrics[0] if found is None and name == "macro" and len(metrics) == 1 else found
