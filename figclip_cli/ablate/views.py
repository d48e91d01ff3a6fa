"""Tables of answers as text: what Markdown, the terminal and the charts show."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from figclip_cli.ablate.averages import BOOTSTRAP, SEEDS, Estimate
from figclip_cli.ablate.collect import Answer, CollectedRow
from figclip_cli.ablate.record import counts_text
from figclip_cli.markdown import inline

COST_TITLES = {
    "trainable_parameters": "trainable parameters",
    "step_seconds": "step time",
    "peak_memory_bytes": "peak memory",
    "seconds": "time to result",
    "clips": "clips",
    "steps": "steps",
}
_COST_COLUMNS = ("trainable_parameters", "step_seconds", "peak_memory_bytes", "seconds")


@dataclass(frozen=True)
class View:
    """A table as text.

    Attributes:
        title: The question.
        columns: Titles; the first column holds names, the others numbers.
        rows: As many cells each.
        notes: Sentences below it: the rule of thumb, and how to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def view_of(answer: Answer) -> View:
    """Return a question's table: quality with its difference from the base, cost beside it."""
    question = answer.question
    shown = [metric for metric in question.show if metric in answer.higher_is_better]
    arrows = {metric: "↑" if answer.higher_is_better[metric] else "↓" for metric in shown}
    extra = ["steps"] if any(row.row.keeps_steps for row in answer.rows) else []
    costs = list(dict.fromkeys((*_COST_COLUMNS, question.cost, *extra)))
    titles = (f"{answer.titles[metric]} {arrows[metric]}" for metric in shown)
    columns = ("setting", *titles, *(COST_TITLES[name] for name in costs))
    rows = [("base model", *(_number(answer.base.get(metric)) for metric in shown), "0", *([""] * (len(costs) - 1)))]
    for row in answer.rows:
        quality = [_with_delta(row.quality.get(metric), row.deltas.get(metric)) for metric in shown]
        rows.append((_name(row), *quality, *(cost_text(name, row.cost.get(name)) for name in costs)))
    return View(question.title, columns, tuple(rows), tuple(_notes(answer)))


def rule_of_thumb(answer: Answer) -> str:
    """Return which setting the rule takes, in one sentence that says that it is this rule."""
    if answer.problem is not None:
        return f"There is no table: {answer.problem}."
    if answer.best is None or answer.taken is None:
        return "Nothing is finished yet."
    best, taken, metric = answer.rows[answer.best], answer.rows[answer.taken], answer.metric
    title = answer.titles[metric]
    said = (
        f"Rule of thumb, no more: the cheapest setting by {COST_TITLES[answer.question.cost]} within one standard "
        f"error of the best on {title} is {taken.name} ({_number(taken.quality[metric])})"
    )
    said += "." if taken is best else f"; the best is {best.name} ({_number(best.quality[metric])})."
    if answer.left_out:
        said += f" With fewer finished seeds, left out of this: {', '.join(row.name for row in answer.left_out)}."
    sign = 1 if answer.higher_is_better[metric] else -1
    if sign * best.deltas[metric].value <= 0:
        said += " No setting is better than the base model there."
    return said


def _notes(answer: Answer) -> Iterator[str]:
    yield rule_of_thumb(answer)
    kinds = {one.error_of for row in answer.rows for one in row.quality.values()}
    if SEEDS in kinds:
        yield (
            "± is the standard error over seeds (their deviation divided by the root of their number); that other "
            "clips would give other numbers is not in it. That of the base model is the bootstrap's over clips."
        )
    if BOOTSTRAP in kinds:
        whose = "of settings with one finished seed " if SEEDS in kinds else ""
        yield f"± {whose}is the bootstrap's standard error over clips, of one seed."
    if kinds:
        yield "In brackets: the difference from the base model over the same items, with its own standard error."
    yield from _coverage(answer)
    yield (
        "Times are the median over seeds, memory is the largest: of a GPU what was given out, of a CPU what came on "
        "top of the process's start. Time to result is from start to adapter, without scoring; texts were encoded "
        "before."
    )
    yield f"Measured on: {'; '.join(map(_place, answer.places))}." if answer.places else "Nothing was measured."
    if len(answer.places) > 1:
        yield "These times are from different machines or loads and cannot be compared with one another."
    short = [row.name for row in answer.rows if len(row.done) < len(row.row.cells)]
    if short:
        yield f"Not finished: {', '.join(short)}."


def _coverage(answer: Answer) -> Iterator[str]:
    """Yield what was evaluated of what was asked, and what of the annotation was trained on."""
    if not answer.counts:
        return
    counts = "; ".join(f"{task}: {counts_text(*counts)}" for task, counts in answer.counts.items())
    yield f"Evaluated: {counts}."
    if any(asked != evaluated for asked, evaluated in answer.counts.values()):
        yield "Not everything that was asked was evaluated: results/ in each cell's folder names what is missing."
    known = {
        "without frames": "without_frames",
        "with short or failed frames": "not_ok",
        "records of the annotation left out": "records_left_out",
        "events left out": "events_left_out",
    }
    data = [record["data"] for row in answer.rows for _, record in row.done]
    lost = {said: {one[name] for one in data} for said, name in known.items()}
    parts = [f"{_span(numbers)} {said}" for said, numbers in lost.items() if any(numbers)]
    if parts:
        yield f"Not trained on, of {_span({one['prompts'] for one in data})} clips with prompts: {', '.join(parts)}."


def _span(numbers: Collection[int]) -> str:
    least, most = min(numbers), max(numbers)
    return f"{most:,}" if least == most else f"{least:,} to {most:,}"


def _place(place: tuple[object, ...]) -> str:
    device, threads, at_once = place
    said = f"CPU, {threads} threads" if device == "cpu" else str(device)
    return f"{said}, {at_once} at a time"


def _name(row: CollectedRow) -> str:
    done, asked = len(row.done), len(row.row.cells)
    return row.name if done == asked else f"{row.name} ({done} of {asked} seeds)"


def _number(estimate: Estimate | None) -> str:
    return "" if estimate is None else f"{estimate.value:.2f} ± {estimate.error:.2f}"


def _with_delta(estimate: Estimate | None, delta: Estimate | None) -> str:
    if estimate is None or delta is None:
        return _number(estimate)
    return f"{_number(estimate)} ({delta.value:+.2f} ± {delta.error:.2f})"


def cost_text(name: str, value: float | None) -> str:
    """Return a cost with its unit."""
    if value is None:
        return ""
    if name == "step_seconds":
        return f"{1000 * value:.0f} ms" if value < 10 else f"{value:.1f} s"
    if name == "peak_memory_bytes":
        return f"{value / (1 << 20):,.0f} MiB"
    if name == "seconds":
        return (
            f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min" if value < 36_000 else f"{value / 3600:.1f} h"
        )
    return f"{value:,.0f}"


def markdown(view: View, chart: str | None = None) -> str:
    """Return a table as Markdown, with its chart and its notes.

    Args:
        chart: Name of the chart's file beside it.
    """
    lines = [f"## {inline(view.title)}", ""]
    lines.append("| " + " | ".join(map(inline, view.columns)) + " |")
    lines.append("| --- |" + " ---: |" * (len(view.columns) - 1))
    lines += ["| " + " | ".join(map(inline, row)) + " |" for row in view.rows]
    lines.append("")
    for note in view.notes:
        lines += [inline(note), ""]
    if chart is not None:
        lines += [f"![{inline(view.title)}]({chart})", ""]
    return "\n".join(lines)
