"""``metrics.jsonl`` of a run, checked, and its many steps as few means with their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

import msgspec

from figclip_cli.errors import InputError
from figclip_cli.files import require_file

_HINT = "is the run folder as figclip adapt left it?"
# What a step's line has beside the loss and its terms.
_NOT_LOSSES = frozenset({"step", "epoch", "clips", "gradient_norm", "learning_rate", "logit_scale", "validation"})
LOSS = "loss"
MOST_MEANS = 40
_LARGEST = 1e30  # no loss is as large; a chart of it would overflow


@dataclass(frozen=True)
class Step:
    """One step of training: its number, its epoch, and the loss, its terms and the other numbers by name."""

    step: int
    epoch: int
    numbers: dict[str, float]


@dataclass(frozen=True)
class Validation:
    """What was measured of held-out clips after an epoch, each from 0 to 1."""

    step: int
    epoch: int
    numbers: dict[str, float]


@dataclass(frozen=True)
class MeanOfSteps:
    """Mean of one number over steps that follow each other.

    Attributes:
        step: The last of them.
        mean: Of their values.
        standard_error: Of the mean, taking steps for independent; None of one step.
        n: Steps.
    """

    step: int
    mean: float
    standard_error: float | None
    n: int


@dataclass(frozen=True)
class TrainingLog:
    """All lines of a run."""

    steps: tuple[Step, ...] = ()
    validations: tuple[Validation, ...] = ()

    @property
    def losses(self) -> list[str]:
        """Names of the loss and of its terms, the loss first."""
        names = {name for one in self.steps for name in one.numbers} - _NOT_LOSSES
        return sorted(names, key=lambda name: (name != LOSS, name))

    @property
    def measures(self) -> list[str]:
        """Names of what validation measured, sorted."""
        return sorted({name for one in self.validations for name in one.numbers})

    def means(self, name: str) -> list[MeanOfSteps]:
        """Return a number over the steps, as at most :data:`MOST_MEANS` means of equally many steps."""
        values = [(one.step, one.numbers[name]) for one in self.steps if name in one.numbers]
        each = max(1, math.ceil(len(values) / MOST_MEANS))
        return [_mean(values[start : start + each]) for start in range(0, len(values), each)]


def _mean(values: Sequence[tuple[int, float]]) -> MeanOfSteps:
    numbers = [value for _, value in values]
    error = stdev(numbers) / math.sqrt(len(numbers)) if len(numbers) > 1 else None
    return MeanOfSteps(values[-1][0], fmean(numbers), error, len(numbers))


def read_training_log(path: Path) -> TrainingLog:
    """Read and check the metrics of a finished run.

    Raises:
        InputError: The file is missing, or a line is not one of figclip's.
    """
    require_file(path, "metrics file", _HINT)
    steps: list[Step] = []
    validations: list[Validation] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                found = _line(line, f"metrics file {path}, line {number}")
                (validations if isinstance(found, Validation) else steps).append(found)  # type: ignore[arg-type]
    return TrainingLog(tuple(steps), tuple(validations))


class _Line(msgspec.Struct):
    step: int
    epoch: int
    validation: dict[str, float] | None = None


def _line(line: bytes, where: str) -> Step | Validation:
    try:
        read = msgspec.json.decode(line, type=_Line)
        if read.validation is not None:
            return Validation(read.step, read.epoch, dict(_checked(read.validation.items(), where)))
        every = msgspec.json.decode(line, type=dict[str, float | None | str | bool | list[None] | dict[str, None]])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{where}: {error}", _HINT) from error
    numbers = [
        (name, float(value))
        for name, value in every.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    return Step(read.step, read.epoch, dict(_checked(numbers, where)))


def _checked(numbers: Iterable[tuple[str, float]], where: str) -> Iterable[tuple[str, float]]:
    for name, value in numbers:
        if not abs(value) < _LARGEST:
            raise InputError(f"{where}: {name[:40]} is {value}", _HINT)
        yield name, value
