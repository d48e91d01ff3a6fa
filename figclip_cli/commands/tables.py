"""Rich tables of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from figclip_cli import markdown

if TYPE_CHECKING:
    from figclip_cli.adapt import AdaptSummary
    from figclip_cli.evaluate.results import Metric, Results


def table(title: str, *columns: str, numbers_from: int = 1) -> Table:
    """Return an empty table whose columns from ``numbers_from`` on are right-aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        made.add_column(column, justify="right" if position >= numbers_from else "left")
    return made


def one_line(text: str, *, longest: int | None = None) -> str:
    """Return text on one line without control characters, cut where it is longer than ``longest``."""
    line = markdown.one_line(text)
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def adapted_modules_table(summary: AdaptSummary) -> Table:
    """Return the adapted modules with their trainable parameters, and the totals."""
    made = table("Trained parameters", "module", "kind", "adapted", "parameters", numbers_from=3)
    for module in summary.modules:
        made.add_row(module.name, module.kind, ", ".join(module.targets), f"{module.parameters:,}")
    made.add_section()
    made.add_row("LoRA in all", "", "", f"{summary.lora_parameters:,}")
    made.add_row("video contextualizer", "", "", f"{summary.contextualizer_parameters:,}")
    made.add_row("base model", "", "frozen", f"{summary.base_parameters:,}")
    return made


def results_table(results: Results) -> Table:
    """Return metrics of base and adapted side by side, with the difference, standard errors and p-values.

    What no metric has gets no column: the p-value, and the deviation over splits (dev).
    """
    title = f"{results.task}, {results.dataset_id}: {results.describe_counts()}"
    return _metrics_table(title, ("metric", ""), results, results.metrics, lambda metric: (metric.name, metric.arrow))


def groups_table(results: Results) -> Table:
    """Return the breakdowns of the metrics by relation, kind or class, with the number of items of each."""
    title = f"{results.task}, {results.dataset_id}: by group"

    def lead(metric: Metric) -> tuple[str, ...]:
        return metric.name, metric.group, "" if metric.n is None else f"{metric.n:,}", metric.arrow

    made = _metrics_table(title, ("metric", "group", "n", ""), results, results.groups, lead)
    made.columns[2].justify = "right"
    return made


def p_text(p_value: float | None) -> str:
    """Return a p-value as ``0.012`` or ``<0.001``; nothing where there is none."""
    if p_value is None:
        return ""
    return f"{p_value:.3f}" if p_value >= 0.001 else "<0.001"


def _metrics_table(
    title: str,
    lead_columns: tuple[str, ...],
    results: Results,
    metrics: Sequence[Metric],
    lead: Callable[[Metric], tuple[str, ...]],
) -> Table:
    columns = list(_columns(results, metrics))
    made = table(title, *lead_columns, *(name for name, _ in columns), numbers_from=len(lead_columns))
    for metric in metrics:
        made.add_row(*lead(metric), *(show(metric) for _, show in columns))
    return made


def _columns(results: Results, metrics: Sequence[Metric]) -> Iterator[tuple[str, Callable[[Metric], str]]]:
    """Yield the title of each column of numbers, and how it shows a metric."""
    compared = results.adapted_name is not None
    if compared:
        yield results.base_name, lambda metric: _number(metric.base_value)
        yield "+/-", lambda metric: _number(metric.base_standard_error)
        if any(metric.base_deviation is not None for metric in metrics):
            yield "dev", lambda metric: _number(metric.base_deviation)
    yield results.adapted_name or results.base_name, lambda metric: _number(metric.value)
    yield "+/-", lambda metric: _number(metric.standard_error)
    if any(metric.deviation is not None for metric in metrics):
        yield "dev", lambda metric: _number(metric.deviation)
    if compared:
        yield "delta", lambda metric: _number(metric.delta, "+.2f")
        yield "+/-", lambda metric: _number(metric.delta_standard_error)
        if any(metric.p_value is not None for metric in metrics):
            yield "p", lambda metric: p_text(metric.p_value)


def _number(value: float | None, form: str = ".2f") -> str:
    return "" if value is None else format(value, form)
