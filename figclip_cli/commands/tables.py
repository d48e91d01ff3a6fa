"""Rich tables of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from figclip_cli.adapt import AdaptSummary
    from figclip_cli.evaluate.results import Results


def table(title: str, *columns: str, numbers_from: int = 1) -> Table:
    """Return an empty table whose columns from ``numbers_from`` on are right-aligned."""
    made = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for position, column in enumerate(columns):
        made.add_column(column, justify="right" if position >= numbers_from else "left")
    return made


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
    """Return metrics of base and adapted side by side, with the difference and standard errors."""
    title = f"{results.task}, {results.dataset_id}: {results.describe_counts()}"
    if results.adapted_name is None:
        made = table(title, "metric", "", results.base_name, "+/-", numbers_from=2)
        for metric in results.metrics:
            made.add_row(metric.name, metric.arrow, f"{metric.value:.2f}", f"{metric.standard_error:.2f}")
        return made
    made = table(
        title,
        "metric",
        "",
        results.base_name,
        "+/-",
        results.adapted_name,
        "+/-",
        "delta",
        "+/-",
        numbers_from=2,
    )
    for metric in results.metrics:
        values: list[Any] = [
            metric.base_value,
            metric.base_standard_error,
            metric.value,
            metric.standard_error,
        ]
        delta = f"{metric.delta:+.2f}", f"{metric.delta_standard_error:.2f}"
        made.add_row(metric.name, metric.arrow, *(f"{value:.2f}" for value in values), *delta)
    return made
