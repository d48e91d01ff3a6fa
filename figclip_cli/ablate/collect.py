"""What the finished cells say, by question: quality over seeds, cost, and what is missing."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from figclip_cli.ablate.averages import Estimate, best_of, cheapest_near_best, over_seeds
from figclip_cli.ablate.cell import missing_uses
from figclip_cli.ablate.folder import AblationFolder
from figclip_cli.ablate.plan import Cell, Plan, Row
from figclip_cli.ablate.spec import Question
from figclip_cli.errors import InputError, nearest

_MIDDLE = ("step_seconds", "images_per_second", "seconds", "train_seconds")
_LARGEST = ("peak_memory_bytes", "process_peak_bytes")
_SAME = ("trainable_parameters", "tower_parameters", "contextualizer_parameters", "base_parameters", "clips", "steps")
_PLACE = ("device", "threads", "cells_at_once")


@dataclass(frozen=True)
class CollectedRow:
    """One setting.

    Attributes:
        row: What was asked.
        done: Its cells that are finished, with their records.
        quality: By full name of a metric; only those that are there.
        cost: By name; the middle over seeds of times, the largest of memory.
    """

    row: Row
    done: tuple[tuple[Cell, Mapping[str, Any]], ...]
    quality: Mapping[str, Estimate]
    cost: Mapping[str, float | None]

    @property
    def name(self) -> str:
        """As the table calls it."""
        return self.row.setting.name


@dataclass(frozen=True)
class Answer:
    """One question with what is known.

    Attributes:
        question: What was asked.
        rows: In its order.
        base: Metrics of the base model, with bootstrap errors.
        higher_is_better: Direction of each metric.
        best: Place of the best row by the question's metric.
        taken: Place of the row that the rule of thumb takes.
        places: Each distinct device, threads and cells at once that the times are from.
    """

    question: Question
    rows: tuple[CollectedRow, ...]
    base: Mapping[str, Estimate]
    higher_is_better: Mapping[str, bool]
    best: int | None
    taken: int | None
    places: tuple[tuple[Any, ...], ...]

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return self.question.metric


@dataclass(frozen=True)
class Collected:
    """Everything that is there.

    Attributes:
        answers: One for each question.
        records: Of each finished cell, by its hash.
        missing: Cells that are not finished.
        failed: Of those, the ones whose last attempt failed, with one line each.
    """

    answers: tuple[Answer, ...]
    records: Mapping[str, Mapping[str, Any]]
    missing: tuple[Cell, ...]
    failed: Mapping[str, str]


def collect(plan: Plan, folder: AblationFolder) -> Collected:
    """Read every cell that is finished.

    Raises:
        InputError: A question asks for a metric that no task has.
    """
    evaluation = plan.inputs.evaluation_sha256
    records: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, str] = {}
    for cell in plan.cells:
        place = folder.cell(cell)
        record = place.read(place.record_file)
        if record is not None and not missing_uses(record, cell, evaluation):
            records[cell.sha256] = record
        elif (error := place.read(place.error_file)) is not None:
            failed[cell.sha256] = str(error.get("message"))
    try:
        answers = tuple(_answer(question, plan.rows[question.name], records) for question in plan.inputs.spec.questions)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise InputError(
            f"a cell.json in {folder.cells} is not as figclip wrote it ({type(error).__name__}: {error})",
            "run it again with --overwrite",
        ) from error
    missing = tuple(cell for cell in plan.cells if cell.sha256 not in records)
    return Collected(answers, records, missing, failed)


def _answer(question: Question, rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]]) -> Answer:
    base: dict[str, Estimate] = {}
    directions: dict[str, bool] = {}
    made = []
    for row in rows:
        done = tuple((cell, records[cell.sha256]) for cell in row.cells if cell.sha256 in records)
        quality = {}
        for metric in question.show:
            found = [_metric(record, row.features, metric, question) for _, record in done]
            if found:
                quality[metric] = over_seeds([(one["value"], one["standard_error"]) for one in found])
                first = found[0]
                base.setdefault(metric, over_seeds([(first["base_value"], first["base_standard_error"])]))
                directions[metric] = first["higher_is_better"]
        made.append(CollectedRow(row, done, quality, _cost([record["cost"] for _, record in done])))
    higher = directions.get(question.metric, True)
    estimates = [row.quality.get(question.metric) for row in made]
    costs = [row.cost.get(question.cost) for row in made]
    places = {tuple(record["cost"].get(name) for name in _PLACE) for row in made for _, record in row.done}
    return Answer(
        question=question,
        rows=tuple(made),
        base=base,
        higher_is_better=directions,
        best=best_of(estimates, higher_is_better=higher),
        taken=cheapest_near_best(estimates, costs, higher_is_better=higher),
        places=tuple(sorted(places, key=str)),
    )


def _metric(record: Mapping[str, Any], features: str, metric: str, question: Question) -> Mapping[str, Any]:
    """Return a metric of a cell; the macro mean of a task with one part is that part."""
    task, _, name = metric.partition(" ")
    metrics: Sequence[Mapping[str, Any]] = record["quality"][features]["tasks"][task]
    found = next((one for one in metrics if one["name"] == name), None)
    if found is None and name == "macro":
        found = metrics[0]
    if found is None:
        known = [f"{task} {one['name']}" for one in metrics]
        raise InputError(f"question '{question.name}': there is no metric '{metric}'", nearest(metric, known))
    return found


def _cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    made: dict[str, float | None] = {}
    for names, combine in ((_SAME, max), (_MIDDLE, statistics.median), (_LARGEST, max)):
        for name in names:
            values = [float(cost[name]) for cost in costs if cost.get(name) is not None]
            made[name] = combine(values) if values else None
    return made
