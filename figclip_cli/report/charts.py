"""Charts of a report, drawn by matplotlib as SVG: equal numbers, equal bytes. Lines differ by dash and marker too."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from figclip_cli.report.svg import INK, LINE, PAPER, SERIES, SOFT, page_svg
from figclip_cli.report.texts import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASE = 0  # the style of the base model
_WIDE, _HIGH = 5.2, 3.3  # inches of 72 units; on a phone about nine tenths of that
_ROW_HIGH, _FRAME_HIGH = 0.52, 1.15
_MARKERS = ("s", "o", "^", "D", "v", "P", "X", "<")
_DASHES: tuple[Any, ...] = ("--", "-", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)))
_LONGEST_LABEL, _LONGEST_ROW, _ROW_LETTERS = 34, 40, 20
_FEW_POINTS = 40  # more have no markers
_PARAMETERS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": LINE,
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "legend.frameon": False,
    "axes.formatter.useoffset": False,
    "path.simplify": False,
}


@dataclass(frozen=True)
class Series:
    """Points of one model or measure.

    Attributes:
        label: As text, from anywhere.
        style: Which colour, dash and marker; :data:`BASE` is the base model's.
        x, y: The points; of a chart of dots, x are the values and y the numbers of rows.
        x_errors, y_errors: Standard errors, or empty.
        marks: Texts at the points, or empty.
    """

    label: str
    style: int
    x: Sequence[float]
    y: Sequence[float]
    x_errors: Sequence[float] = ()
    y_errors: Sequence[float] = ()
    marks: Sequence[str] = ()


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        name: Unique in the page.
        title, description: What a screen reader says.
        x_label, y_label: Of the axes.
        series: In the order of the legend.
        rows: Names of rows, for a chart of dots; empty for one of lines.
        base_x, base_y: Where a dashed line marks the base.
    """

    name: str
    title: str
    description: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    rows: Sequence[str] = field(default=())
    base_x: float | None = None
    base_y: float | None = None


def draw(chart: Chart) -> str:
    """Return the SVG element of a chart."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A folder of fonts of one's own, and what a person set for other pictures, change nothing.
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_PARAMETERS | {"svg.hashsalt": chart.name})
        height = _FRAME_HIGH + _ROW_HIGH * len(chart.rows) if chart.rows else _HIGH
        figure = Figure(figsize=(_WIDE, height), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        _plot(figure, chart)
        written = io.BytesIO()
        canvas.print_svg(written, metadata={"Date": None})  # savefig would draw twice
    return page_svg(
        written.getvalue().decode("utf-8"), chart.name, plain(chart.title, 200), plain(chart.description, 2000)
    )


def _plot(figure: Figure, chart: Chart) -> None:
    from matplotlib.ticker import MaxNLocator

    axes = figure.add_subplot()
    axes.set_xlabel(plain(chart.x_label, 60))
    axes.set_ylabel(plain(chart.y_label, 44))
    across = len(chart.series)
    drawn = [_points(axes, one, _offset(number, across) if chart.rows else 0.0, lines=not chart.rows)
             for number, one in enumerate(chart.series)]  # fmt: skip
    if not chart.rows and all(float(x).is_integer() for one in chart.series for x in one.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # of steps and epochs
    if chart.base_x is not None:
        axes.axvline(chart.base_x, color=SOFT, linestyle="--", linewidth=1)
    if chart.base_y is not None:
        axes.axhline(chart.base_y, color=SOFT, linestyle="--", linewidth=1)
    if chart.rows:
        axes.set_yticks(range(len(chart.rows)), [_wrapped(row) for row in chart.rows])
        axes.set_ylim(len(chart.rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
    if across > 1 or chart.rows:
        _legend(figure, drawn, chart.series)
    _no_formulas(figure)


def _offset(number: int, count: int) -> float:
    """Return how far below the middle of its row a series lies, so that none hides another."""
    return (number - (count - 1) / 2) * min(0.24, 0.8 / max(1, count))


def _points(axes: Axes, one: Series, below: float, *, lines: bool) -> Any:
    colour, few = SERIES[one.style % len(SERIES)], len(one.x) <= _FEW_POINTS
    drawn = axes.errorbar(
        one.x,
        [value + below for value in one.y],
        xerr=list(one.x_errors) or None,
        yerr=list(one.y_errors) or None,
        color=colour,
        marker=_MARKERS[one.style % len(_MARKERS)] if few else "",
        markersize=6,
        markerfacecolor=PAPER if one.style == BASE else colour,
        linestyle=_DASHES[one.style % len(_DASHES)] if lines else "none",
        linewidth=1.8,
        elinewidth=1.2,
        capsize=3,
    )
    for x, y, text in zip(one.x, one.y, one.marks, strict=False):
        axes.annotate(plain(text, 12), (x, y), xytext=(6, 6), textcoords="offset points", fontsize=10)
    return drawn


def _legend(figure: Figure, drawn: Sequence[Any], series: Sequence[Series]) -> None:
    columns = 2 if all(len(one.label) <= _LONGEST_LABEL // 2 for one in series) else 1
    # A label that begins with an underscore would be left out, so the texts are put in afterwards.
    names = [f"label {number}" for number in range(len(series))]
    legend = figure.legend(drawn, names, loc="outside upper left", ncols=columns, handlelength=3)
    for text, one in zip(legend.get_texts(), series, strict=True):
        text.set_text(plain(one.label, _LONGEST_LABEL))


def _wrapped(name: str) -> str:
    return "\n".join(textwrap.wrap(plain(name, _LONGEST_ROW), _ROW_LETTERS)) or "(no name)"


def _no_formulas(figure: Figure) -> None:
    """Take dollar signs for what they are, not for the beginning of a formula."""
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
