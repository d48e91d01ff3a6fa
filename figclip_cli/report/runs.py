"""Runs of a report: what each folder says of itself, and the name that tells it from the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import read_json, require_file, sha256_of_file
from figclip_cli.report.training_log import TrainingLog, read_training_log
from figclip_cli.run_folder import RunFolder

MOST_RUNS = 7  # as many as there are colours and markers beside the base model's
_DAMAGED = "is the run folder as figclip adapt left it?"
_MOST = 1e12  # nothing that is counted is as many, and no alpha is as large


@dataclass(frozen=True)
class ReportRun:
    """One run.

    Attributes:
        folder: Where it is.
        label: Its name, with its folder where two runs have the same name.
        style: Its colour, dash and marker in charts; 0 is the base model's.
        config: Its configuration.
        environment: Versions and command, as far as they were recorded.
        adapter_sha256: Hash of its adapter's file, by which results are known as its own.
        base_sha256: Hash of the base model's weights.
        log: Its metrics.
    """

    folder: RunFolder
    label: str
    style: int
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    adapter_sha256: str
    base_sha256: str
    log: TrainingLog


def open_runs(folders: Sequence[RunFolder]) -> list[ReportRun]:
    """Read the runs.

    Raises:
        UsageError: There is none or there are too many, or two are the same.
        InputError: One is no finished run, or a file of it is missing or damaged.
    """
    if not 1 <= len(folders) <= MOST_RUNS:
        raise UsageError(f"a report is of 1 to {MOST_RUNS} runs, not {len(folders)}", "name fewer")
    names = [folder.name for folder in folders]
    runs: list[ReportRun] = []
    for style, folder in enumerate(folders, start=1):
        label = folder.name if names.count(folder.name) == 1 else str(folder.path)
        run = _open(folder, label, style)
        twin = next((other for other in runs if other.adapter_sha256 == run.adapter_sha256), None)
        if twin is not None:
            raise UsageError(f"{twin.folder.path} and {folder.path} have the same weights", "name one of them")
        runs.append(run)
    return runs


def _open(folder: RunFolder, label: str, style: int) -> ReportRun:
    config = folder.load_config()
    _refuse_unbounded(folder, config)
    require_file(folder.adapter_file, "adapter", _DAMAGED)
    return ReportRun(
        folder,
        label,
        style,
        config,
        _environment(folder),
        sha256_of_file(folder.adapter_file),
        config["model"]["sha256"],
        read_training_log(folder.metrics_file),
    )


def _refuse_unbounded(folder: RunFolder, config: Mapping[str, Any]) -> None:
    lora, clips = config["lora"], config["clips"]
    numbers = [("lora.rank", lora["rank"]), ("lora.alpha", lora["alpha"]), ("lora.dropout", lora["dropout"])]
    numbers += [(f"clips.{name}", count) for name, count in clips.items() if isinstance(count, (int, float))]
    for name, number in numbers:
        if not abs(number) <= _MOST:
            raise InputError(f"{folder.config_file}: {name} is out of all bounds", _DAMAGED)


def _environment(folder: RunFolder) -> Mapping[str, Any]:
    if not folder.environment_file.is_file():
        return {}
    read = read_json(folder.environment_file, "environment of the run")
    if not isinstance(read, dict):
        raise InputError(f"{folder.environment_file} does not say versions and command", _DAMAGED)
    return read


def words_of(environment: Mapping[str, Any]) -> list[str]:
    """Return the recorded command as words; none where nothing fit for one was recorded."""
    command = environment.get("command")
    is_command = isinstance(command, list) and command and all(isinstance(word, str) for word in command)
    return list(command) if is_command else []  # type: ignore[arg-type]


def versions_of(environment: Mapping[str, Any]) -> dict[str, str]:
    """Return recorded versions by name, figclip's and Python's first."""
    packages = environment.get("packages")
    known = {name: environment.get(name) for name in ("figclip", "python", "platform")}
    known |= packages if isinstance(packages, dict) else {}
    return {str(name): value for name, value in known.items() if isinstance(value, str)}
