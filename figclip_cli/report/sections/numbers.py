"""Tables and charts of numbers that several sections share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from figclip_cli.evaluate.results import Metric
from figclip_cli.evaluate.situation_page.cells import escaped, isolated
from figclip_cli.report.charts import BASE, Chart, Series, draw
from figclip_cli.report.comparisons import Comparison
from figclip_cli.report.found import RunResults
from figclip_cli.report.markup import Row, chart, mark, table
from figclip_cli.report.texts import brief, count_text, p_text, reading, with_error

COLUMNS = ("model", "value ± standard error", "difference from the base", "n", "p (paired test)")
READING = (
    "Values are in percent and ranks count from 1, unless a number says otherwise. ± is one bootstrap standard error. "
    "A difference is called better or worse where its paired test has p below 0.05, or, without a test, where it is "
    "over 1.96 standard errors; many numbers are tested, so one of twenty may seem clear by chance."
)


def numbers_table(caption: str, first: str, named: Iterable[tuple[str, list[tuple[RunResults, Metric]]]]) -> str:
    """Return a table with a row for the base and one for each run, by number.

    Args:
        caption, first: As text; ``first`` heads the column of names.
        named: Names, as HTML, each with the runs' numbers; those without a number are left out.
    """
    rows = [row for name, numbers in named if numbers for row in _rows(name, numbers)]
    return table(caption, (escaped(first), *COLUMNS), rows)


def _rows(name: str, numbers: Sequence[tuple[RunResults, Metric]]) -> Iterator[Row]:
    (entry, metric), *_ = numbers
    base = (with_error(metric.base_value, metric.base_standard_error), "", count_text(metric.n), "")
    yield Row(
        (f"{name} {_direction(metric)}", _model("base model", entry.results.base_name)), base, span=1 + len(numbers)
    )
    for one, of_run in numbers:
        cells = (
            with_error(of_run.value, of_run.standard_error),
            _difference(of_run),
            count_text(of_run.n),
            escaped(p_text(of_run)),
        )
        yield Row(("", _model("run", one.run.label)), cells, span=0)


def _difference(metric: Metric) -> str:
    return f"{with_error(metric.delta, metric.delta_standard_error, signed=True)} {mark(reading(metric))}"


def _model(kind: str, name: str) -> str:
    return f'{isolated(name)} <small class="soft">{kind}</small>'


def _direction(metric: Metric) -> str:
    said = "higher is better" if metric.higher_is_better else "lower is better"
    return f'<small class="soft">{metric.arrow}<span class="hidden"> {said}</span></small>'


def comparison_table(comparison: Comparison, caption: str) -> str:
    """Return all numbers of a comparison."""
    named = ((isolated(name), list(comparison.numbers(name))) for name in comparison.names)
    return numbers_table(caption, "number", named)


def dots(name: str, title: str, x_label: str, rows: Sequence[tuple[str, list[tuple[RunResults, Metric]]]]) -> str:
    """Return a chart of base and runs by row, with its numbers beneath.

    Args:
        rows: Names as text, each with the runs' numbers, at least one.
    """
    numbers = numbers_table(title, "row", ((isolated(row), found) for row, found in rows))
    runs = {one.run.label: one.run.style for _, found in rows for one, _ in found}
    base = [(number, found[0][1]) for number, (_, found) in enumerate(rows)]
    series = [
        Series(
            "base",
            BASE,
            [metric.base_value or 0.0 for _, metric in base],
            [number for number, _ in base],
            x_errors=[metric.base_standard_error or 0.0 for _, metric in base],
        )
    ]
    for label, style in runs.items():
        own = [(n, metric) for n, (_, found) in enumerate(rows) for one, metric in found if one.run.label == label]
        values, places = [metric.value for _, metric in own], [number for number, _ in own]
        series.append(Series(label, style, values, places, x_errors=[metric.standard_error for _, metric in own]))
    said = "; ".join(
        f"{brief(row)}: base {found[0][1].base_value or 0:.1f}, "
        + ", ".join(f"{brief(one.run.label)} {metric.value:.1f}" for one, metric in found)
        for row, found in rows
    )
    drawn = draw(Chart(name, title, f"{x_label}. {said}", x_label, "", series, rows=[row for row, _ in rows]))
    return chart(drawn, f"{title}. Bars are one standard error; the base is the open square.", numbers)
