"""One chart for each question: quality with error bars, and cost beside it. Equal answers, equal bytes."""

from __future__ import annotations

import html
import io
import re
from typing import Any

from figclip_cli.ablate.collect import Answer, CollectedRow
from figclip_cli.ablate.views import COST_TITLES, cost_text, rule_of_thumb
from figclip_cli.files import write_text
from figclip_cli.markdown import one_line

_SCALES = {"step_seconds": (1000.0, "ms"), "peak_memory_bytes": (1 / (1 << 20), "MiB"), "seconds": (1.0, "s")}
_BLUE, _GREY, _ORANGE = "#1f5fbf", "#5a5a66", "#b45309"
_ID = re.compile(r'<[^>]* id="([^"]+)"')
_REFERENCE = re.compile(r'( id="|href="#|url\(#)([^")]+)("|\))')
_LONGEST_NAME = 42
_COSTS = ("trainable_parameters", "step_seconds", "peak_memory_bytes", "seconds")
_WIDE_INCHES, _ROW_INCHES, _FRAME_INCHES = 12.5, 0.34, 1.7
_MANY_TIMES = 30  # a cost that grows as much is drawn on a logarithmic axis


def write_chart(answer: Answer, path: Any) -> None:
    """Draw a question's chart as SVG: settings from top to bottom, quality on the left, what they cost on the right.

    Nothing is drawn where nothing is finished.
    """
    rows = [row for row in answer.rows if answer.metric in row.quality]
    if rows:
        write_text(path, _drawn(answer, rows))


def _drawn(answer: Answer, rows: list[CollectedRow]) -> str:
    import matplotlib

    settings: Any = {
        "svg.hashsalt": answer.question.name,
        "svg.fonttype": "none",
        "text.parse_math": False,  # a dollar sign in a name is no formula
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context():
        from matplotlib.figure import Figure

        matplotlib.rcdefaults()  # a matplotlibrc of the user's own draws no other chart
        matplotlib.rcParams.update(settings)
        costs = list(dict.fromkeys((answer.question.cost, *_COSTS)))
        figure = Figure(figsize=(_WIDE_INCHES, _FRAME_INCHES + _ROW_INCHES * len(rows)), layout="constrained")
        axes = figure.subplots(1, 1 + len(costs), sharey=True, width_ratios=[2.2] + [1.0] * len(costs))
        figure.suptitle(_plain(answer.question.title), x=0.01, ha="left", fontweight="bold")
        _draw_quality(axes[0], answer, rows)
        for axis, name in zip(axes[1:], costs, strict=True):
            _draw_cost(axis, name, rows)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _with_words(drawn.getvalue(), answer, rows)


def _draw_quality(axis: Any, answer: Answer, rows: list[CollectedRow]) -> None:
    places = range(len(rows))
    found = [row.quality[answer.metric] for row in rows]
    taken = None if answer.taken is None else answer.rows[answer.taken]
    colours = [_ORANGE if row is taken else _BLUE for row in rows]
    for place, one, colour in zip(places, found, colours, strict=True):
        axis.errorbar(one.value, place, xerr=one.error, fmt="o", color=colour, capsize=3, markersize=5)
    base = answer.base[answer.metric]
    axis.axvline(base.value, color=_GREY, linestyle="--", linewidth=1)
    axis.axvspan(base.value - base.error, base.value + base.error, color=_GREY, alpha=0.12, linewidth=0)
    axis.set_yticks(list(places), [_plain(row.name, _LONGEST_NAME) for row in rows])
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.grid(axis="x", color="#dcdce2", linewidth=0.6)
    arrow = "higher" if answer.higher_is_better[answer.metric] else "lower"
    axis.set_xlabel(f"{_plain(answer.titles[answer.metric])} ({arrow} is better)\ndashed: base; orange: rule of thumb")


def _draw_cost(axis: Any, name: str, rows: list[CollectedRow]) -> None:
    factor, unit = _SCALES.get(name, (1.0, ""))
    values = [(row.cost.get(name) or 0.0) * factor for row in rows]
    axis.barh(range(len(rows)), values, color="#a9c4ec", height=0.6)
    above = [value for value in values if value > 0]
    if above and max(above) / min(above) > _MANY_TIMES:
        axis.set_xscale("log")
        axis.set_xlim(left=min(above) / 3)
    elif not above:
        axis.set_xlim(0, 1)
    for place, row in enumerate(rows):
        axis.annotate(
            cost_text(name, row.cost.get(name)),
            (0.03, place),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=8,
        )
    axis.tick_params(left=False)
    axis.set_xlabel(f"{COST_TITLES[name]}{f' ({unit})' if unit else ''}")


def _description(answer: Answer, rows: list[CollectedRow]) -> str:
    """Return the chart in words."""
    parts = []
    for row in rows:
        one = row.quality[answer.metric]
        costs = ", ".join(f"{COST_TITLES[name]} {cost_text(name, row.cost.get(name))}" for name in COST_TITLES)
        parts.append(f"{row.name}: {one.value:.2f} +/- {one.error:.2f}, {costs}")
    base = answer.base[answer.metric]
    return one_line(
        f"{answer.titles[answer.metric]} by setting. Base model: {base.value:.2f} +/- {base.error:.2f}. "
        f"{'. '.join(parts)}. {rule_of_thumb(answer)}"
    )


def _with_words(svg: str, answer: Answer, rows: list[CollectedRow]) -> str:
    """Return the drawing from its root element on, with a title and a description, so that it can stand in a page."""
    start = svg.index("<svg")
    end = svg.index(">", start)
    salt = f"ablate-{answer.question.name}"
    words = (
        f'<title id="{salt}-title">{html.escape(_plain(answer.question.title))}</title>\n'
        f'<desc id="{salt}-desc">{html.escape(_description(answer, rows))}</desc>'
    )
    said = f' role="img" aria-labelledby="{salt}-title {salt}-desc"'
    return f"{svg[start:end]}{said}>\n{words}{_salted(svg[end + 1 :], salt)}"


def _salted(svg: str, salt: str) -> str:
    """Return a drawing whose ids are no other chart's: matplotlib calls the first part of each ``patch_1``."""
    ids = set(_ID.findall(svg))

    def renamed(found: re.Match[str]) -> str:
        before, name, after = found.groups()
        return f"{before}{salt}-{name}{after}" if name in ids else found[0]

    return _REFERENCE.sub(renamed, svg)


def _plain(text: str, longest: int = 120) -> str:
    """Return text on one line, cut where it is too long."""
    line = one_line(text)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
