"""What the finished cells say, by question: quality over seeds, cost, and what is missing."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from figclip_cli.ablate.averages import BOOTSTRAP, Estimate, best_of, cheapest_near_best, over_seeds
from figclip_cli.ablate.folder import AblationFolder
from figclip_cli.ablate.plan import Cell, Plan, Row
from figclip_cli.ablate.record import counts_text, metric_named, missing_features, not_evaluated, read_record
from figclip_cli.ablate.spec import Question
from figclip_cli.errors import InputError, nearest
from figclip_cli.markdown import one_line

_MIDDLE = ("step_seconds", "images_per_second", "seconds", "train_seconds")
_LARGEST = ("peak_memory_bytes", "process_peak_bytes")
_SAME = ("trainable_parameters", "tower_parameters", "contextualizer_parameters", "base_parameters", "clips", "steps")
_BASE_TOLERANCE = 1e-6
_OVERWRITE = "were they made on different machines or by different versions? make one of them anew with --overwrite"
_PLACE = ("device", "threads", "cells_at_once")


@dataclass(frozen=True)
class CollectedRow:
    """One setting.

    Attributes:
        row: What was asked.
        done: Its cells that are finished, with their records.
        quality: By full name of a metric; only those that are there.
        deltas: Of the same metrics, the paired difference from the base: the mean of the cells' own.
        cost: By name; the middle over seeds of times, the largest of memory.
    """

    row: Row
    done: tuple[tuple[Cell, Mapping[str, Any]], ...]
    quality: Mapping[str, Estimate]
    deltas: Mapping[str, Estimate]
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
        titles: What each metric is called by what was found: a task with one number has no macro mean.
        best: Place of the best row by the question's metric, of those with as many finished seeds as any.
        taken: Place of the row that the rule of thumb takes.
        places: Each distinct device, threads and cells at once that the times are from.
        counts: By task, what was asked and what was evaluated, the same for all cells.
        problem: Why there is no table, in one line; None where there is one.
    """

    question: Question
    rows: tuple[CollectedRow, ...]
    base: Mapping[str, Estimate]
    higher_is_better: Mapping[str, bool]
    titles: Mapping[str, str]
    best: int | None
    taken: int | None
    places: tuple[tuple[Any, ...], ...]
    counts: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]] = field(default_factory=dict)
    problem: str | None = None

    @property
    def metric(self) -> str:
        """The metric that decides."""
        return self.question.metric

    @property
    def left_out(self) -> tuple[CollectedRow, ...]:
        """Rows with some finished seeds and fewer than others, which no rule compares."""
        most = max((len(row.done) for row in self.rows), default=0)
        return tuple(row for row in self.rows if 0 < len(row.done) < most)


@dataclass(frozen=True)
class Collected:
    """Everything that is there.

    Attributes:
        answers: One for each question.
        records: Of each cell that is scored in one way at least, by its hash.
        missing: Cells that are not finished.
        failed: Of those, the ones whose last attempt failed or whose record is damaged, with one line each.
        cells: All that there are to be.
    """

    answers: tuple[Answer, ...]
    records: Mapping[str, Mapping[str, Any]]
    missing: tuple[Cell, ...]
    failed: Mapping[str, str]
    cells: tuple[Cell, ...] = ()

    def incomplete(self, cells: Collection[int]) -> dict[str, str]:
        """Return what was not evaluated of what was asked, one line for each task, of the cells of these numbers."""
        made: dict[str, str] = {}
        for cell in self.cells:
            if cell.number in cells and cell.sha256 in self.records:
                for line in not_evaluated(self.records[cell.sha256]):
                    made.setdefault(line.partition(":")[0], line)
        return made


def collect(plan: Plan, folder: AblationFolder) -> Collected:
    """Read every cell that is scored; what is wrong with one question is said in its answer."""
    evaluation = plan.inputs.evaluation_sha256
    records: dict[str, Mapping[str, Any]] = {}
    failed: dict[str, str] = {}
    missing = []
    for cell in plan.cells:
        place = folder.cell(cell)
        record, damage = read_record(place.record_file, cell, evaluation)
        if record is not None and record["quality"]:
            records[cell.sha256] = record
        if missing_features(record, cell):
            missing.append(cell)
            error = place.read(place.error_file)
            if error is not None or damage is not None:
                failed[cell.sha256] = one_line(str(damage if error is None else error.get("message")))
    answers = tuple(_answer(question, plan.rows[question.name], records) for question in plan.inputs.spec.questions)
    return Collected(answers, records, tuple(missing), failed, plan.cells)


def _answer(question: Question, rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]]) -> Answer:
    try:
        return _table(question, rows, records)
    except InputError as error:
        problem = f"{error.message}; {error.hint}" if error.hint else error.message
        made = tuple(CollectedRow(row, (), {}, {}, _cost([])) for row in rows)
        return Answer(question, made, {}, {}, {}, None, None, (), problem=problem)


def _table(question: Question, rows: Sequence[Row], records: Mapping[str, Mapping[str, Any]]) -> Answer:
    made, found = [], _Found(question)
    for row in rows:
        done = tuple(
            (cell, records[cell.sha256])
            for cell in row.cells
            if cell.sha256 in records and row.features in records[cell.sha256]["quality"]
        )
        quality, deltas = {}, {}
        for metric in question.show:
            numbers = [found.metric(record, row.features, metric) for _, record in done]
            if numbers:
                quality[metric] = over_seeds([(one["value"], one["standard_error"]) for one in numbers])
                deltas[metric] = over_seeds([(one["delta"], one["delta_standard_error"]) for one in numbers])
        made.append(CollectedRow(row, done, quality, deltas, _cost([record["cost"] for _, record in done])))
    higher = found.higher_is_better.get(question.metric, True)
    most = max((len(row.done) for row in made), default=0)
    estimates = [row.quality.get(question.metric) if len(row.done) == most else None for row in made]
    costs = [row.cost.get(question.cost) for row in made]
    places = {tuple(record["cost"].get(name) for name in _PLACE) for row in made for _, record in row.done}
    return Answer(
        question=question,
        rows=tuple(made),
        base=found.base,
        higher_is_better=found.higher_is_better,
        titles=found.titles,
        best=best_of(estimates, higher_is_better=higher),
        taken=cheapest_near_best(estimates, costs, higher_is_better=higher),
        places=tuple(sorted(places, key=str)),
        counts=found.counts,
    )


class _Found:
    """What the cells of one question have in common: a table of cells that differ there would compare nothing."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self.base: dict[str, Estimate] = {}
        self.higher_is_better: dict[str, bool] = {}
        self.titles: dict[str, str] = {}
        self.counts: dict[str, tuple[Mapping[str, int], Mapping[str, int]]] = {}

    def metric(self, record: Mapping[str, Any], features: str, metric: str) -> Mapping[str, Any]:
        """Return a metric of a cell.

        Raises:
            InputError: There is none, or the cell was asked of other items or of another base than the cells before.
        """
        task_name, _, name = metric.partition(" ")
        task: Mapping[str, Any] | None = record["quality"][features]["tasks"].get(task_name)
        metrics = [] if task is None else task["metrics"]
        found = metric_named(metrics, name)
        if task is None or found is None:
            known = [f"{task_name} {one['name']}" for one in metrics]
            raise self._error(f"there is no metric '{metric}'", nearest(metric, known))
        counts = task["asked"], task["evaluated"]
        if self.counts.setdefault(task_name, counts) != counts:
            said = f"{counts_text(*self.counts[task_name])}, and {counts_text(*counts)}"
            raise self._error(f"its cells were scored by different items of {task_name}: {said}", _OVERWRITE)
        base = Estimate(found["base_value"], found["base_standard_error"], BOOTSTRAP, 1)
        first = self.base.setdefault(metric, base)
        title = f"{task_name} {found['name']}"
        if (
            abs(first.value - base.value) > _BASE_TOLERANCE
            or self.titles.setdefault(metric, title) != title
            or self.higher_is_better.setdefault(metric, found["higher_is_better"]) != found["higher_is_better"]
        ):
            said = f"the base model has {first.value:g} on {metric} in one of its cells and {base.value:g} in another"
            raise self._error(said, _OVERWRITE)
        return found

    def _error(self, message: str, hint: str) -> InputError:
        return InputError(f"question '{self._question.name}': {message}", hint)


def _cost(costs: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    made: dict[str, float | None] = {}
    for names, combine in ((_SAME, max), (_MIDDLE, statistics.median), (_LARGEST, max)):
        for name in names:
            values = [float(cost[name]) for cost in costs if cost.get(name) is not None]
            made[name] = combine(values) if values else None
    return made
