"""A line through a few labelled points as SVG: axes, error bars, light and dark. Equal charts, equal bytes."""

from __future__ import annotations

import html
import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 500  # pixels
_LEFT, _RIGHT, _TOP, _BOTTOM = 82, 28, 108, 92
_WIDE_TICKS, _HIGH_TICKS = 7, 6
_STEPS = (1.0, 2.0, 5.0, 10.0)
_PAD = 0.06  # of the range, at either end
_CAP = 4  # pixels, half the width of an error bar's end
_LABEL_HEIGHT = 13
_LINE_PARTS = 40  # of a line between two points, which labels keep clear of
_REPLACED = "\ufffd"
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#1b1b1f}.title{font-size:16px;font-weight:600}.soft{fill:#5a5a66}"
    ".mark{font-weight:600}.paper{fill:#fff}.grid{stroke:#dcdce2}.axis{stroke:#5a5a66}"
    ".base{stroke:#5a5a66;stroke-dasharray:5 4}.line{fill:none;stroke:#1f5fbf;stroke-width:2}.bar{stroke:#1f5fbf}"
    ".point{fill:#1f5fbf}"
    "@media (prefers-color-scheme:dark){text{fill:#ececf1}.soft{fill:#a9a9b6}.paper{fill:#17171b}.grid{stroke:#35353d}"
    ".axis,.base{stroke:#a9a9b6}.line,.bar{stroke:#7db0ff}.point{fill:#7db0ff}}"
)


@dataclass(frozen=True)
class ChartPoint:
    """One point, with one standard error each way where it is known."""

    x: float
    y: float
    label: str
    x_error: float = 0.0
    y_error: float = 0.0


@dataclass(frozen=True)
class Chart:
    """What is drawn.

    Attributes:
        title: Heading; with ``lines`` below it.
        points: Joined in their order.
        base_x, base_y: Where a dashed line marks the base.
        note: Below the axes.
    """

    title: str
    lines: tuple[str, ...]
    x_label: str
    y_label: str
    points: tuple[ChartPoint, ...]
    base_x: float | None = None
    base_y: float | None = None
    note: str = ""


@dataclass(frozen=True)
class _Axis:
    """From numbers to pixels."""

    low: float
    high: float
    start: float
    end: float
    step: float

    def at(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        first, last = math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9)
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        return [(n * self.step, _signless(f"{n * self.step:.{decimals}f}")) for n in range(first, last + 1)]


def draw(chart: Chart) -> str:
    """Return the SVG document of a chart.

    Texts may hold anything: what XML cannot hold is shown as a replacement character, and what is too long is cut.
    """
    x_axis, y_axis = _axes(chart)
    return "\n".join(_parts(chart, x_axis, y_axis)) + "\n"


def _parts(chart: Chart, x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-labelledby="title desc">'
    )
    yield f'<title id="title">{_escaped(chart.title)}</title>'
    yield f'<desc id="desc">{_escaped(_description(chart))}</desc>'
    yield f"<style>{_STYLE}</style>"
    yield f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>'
    yield _text(_LEFT, 26, chart.title, WIDTH - _LEFT - _RIGHT, css="title", letter=9.0)
    for number, line in enumerate(chart.lines):
        yield _text(_LEFT, 48 + 18 * number, line, WIDTH - _LEFT - _RIGHT, css="soft")
    yield from _grid(x_axis, y_axis)
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    yield _text(middle, HEIGHT - _BOTTOM + 44, chart.x_label, WIDTH - 24, anchor="middle")
    upright = f"translate(20 {_number((_TOP + HEIGHT - _BOTTOM) / 2)}) rotate(-90)"
    yield _text(0, 0, chart.y_label, HEIGHT - _TOP - 24, anchor="middle", turned=upright)
    yield _text(middle, HEIGHT - 16, chart.note, WIDTH - 24, css="soft", anchor="middle")
    if chart.base_x is not None:
        yield _line("base", x_axis.at(chart.base_x), y_axis.start, x_axis.at(chart.base_x), y_axis.end)
    if chart.base_y is not None:
        yield _line("base", x_axis.start, y_axis.at(chart.base_y), x_axis.end, y_axis.at(chart.base_y))
    yield from _points(chart.points, x_axis, y_axis)
    yield "</svg>"


def _grid(x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    bottom, left = y_axis.start, x_axis.start
    for value, text in x_axis.ticks():
        yield _line("grid", x_axis.at(value), bottom, x_axis.at(value), y_axis.end)
        yield _text(x_axis.at(value), bottom + 18, text, 80, css="soft", anchor="middle")
    for value, text in y_axis.ticks():
        yield _line("grid", left, y_axis.at(value), x_axis.end, y_axis.at(value))
        yield _text(left - 8, y_axis.at(value) + 4, text, 60, css="soft", anchor="end")
    yield _line("axis", left, bottom, x_axis.end, bottom)
    yield _line("axis", left, bottom, left, y_axis.end)


def _points(points: Sequence[ChartPoint], x_axis: _Axis, y_axis: _Axis) -> Iterator[str]:
    for one in points:
        x, y = x_axis.at(one.x), y_axis.at(one.y)
        if one.x_error:
            yield _bar(x_axis.at(one.x - one.x_error), y, x_axis.at(one.x + one.x_error), y)
        if one.y_error:
            yield _bar(x, y_axis.at(one.y - one.y_error), x, y_axis.at(one.y + one.y_error))
    placed = [(x_axis.at(one.x), y_axis.at(one.y)) for one in points]
    yield f'<polyline class="line" points="{" ".join(f"{_number(x)},{_number(y)}" for x, y in placed)}"/>'
    for one, (x, y) in zip(points, placed, strict=True):
        said = _escaped(_said(one))
        yield f'<circle class="point" cx="{_number(x)}" cy="{_number(y)}" r="5"><title>{said}</title></circle>'
    for one, (x, y) in zip(points, _label_places(points, placed), strict=True):
        yield _text(x, y, one.label, 160, css="mark")


def _label_places(points: Sequence[ChartPoint], placed: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield where each label begins: beside its point where no other label or point is, else the least crowded."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in placed]
    taken += [(x - 1, y - 1, x + 1, y + 1) for x, y in _along(placed)]
    for one, (x, y) in zip(points, placed, strict=True):
        wide = _pixels(one.label, 7.5)
        corners = [
            (across, down)
            for down in (y - 9, y + 19, y - 23, y + 33)
            for across in (x + 8, x - 8 - wide)
            if across >= _LEFT and across + wide <= WIDTH - 4
        ]
        boxes = [(across, down - _LABEL_HEIGHT + 2, across + wide, down + 2) for across, down in corners]
        crowded = [sum(_overlaps(box, other) for other in taken) for box in boxes]
        best = crowded.index(min(crowded))
        taken.append(boxes[best])
        yield corners[best]


def _along(placed: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield places on the line between the points."""
    for (x1, y1), (x2, y2) in zip(placed, placed[1:], strict=False):
        for part in range(1, _LINE_PARTS):
            share = part / _LINE_PARTS
            yield x1 + share * (x2 - x1), y1 + share * (y2 - y1)


def _overlaps(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _axes(chart: Chart) -> tuple[_Axis, _Axis]:
    across = [one.x + sign * one.x_error for one in chart.points for sign in (-1, 1)]
    up = [one.y + sign * one.y_error for one in chart.points for sign in (-1, 1)]
    across += [] if chart.base_x is None else [chart.base_x]
    up += [] if chart.base_y is None else [chart.base_y]
    return (
        _axis(across, _LEFT, WIDTH - _RIGHT, _WIDE_TICKS),
        _axis(up, HEIGHT - _BOTTOM, _TOP, _HIGH_TICKS),
    )


def _axis(values: Sequence[float], start: float, end: float, most_ticks: int) -> _Axis:
    """Return an axis over values, a little wider, with round ticks; one value alone gets some room."""
    low, high = min(values), max(values)
    if high - low < 1e-9 * max(1.0, abs(low), abs(high)):
        room = max(1.0, abs(low) * 0.05)
        low, high = low - room, high + room
    pad = (high - low) * _PAD
    low, high = low - pad, high + pad
    rough = (high - low) / most_ticks
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in _STEPS if step * power >= rough * (1 - 1e-9))
    return _Axis(low, high, start, end, step)


def _line(css: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{css}" x1="{_number(x1)}" y1="{_number(y1)}" x2="{_number(x2)}" y2="{_number(y2)}"/>'


def _bar(x1: float, y1: float, x2: float, y2: float) -> str:
    """Return an error bar with a cap at either end."""
    across, up = (0, _CAP) if y1 == y2 else (_CAP, 0)
    strokes = [(x1, y1, x2, y2), *((x - across, y - up, x + across, y + up) for x, y in ((x1, y1), (x2, y2)))]
    path = "".join(f"M{_number(a)} {_number(b)}L{_number(c)} {_number(d)}" for a, b, c, d in strokes)
    return f'<path class="bar" d="{path}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    room: float,
    *,
    css: str = "",
    anchor: str = "",
    letter: float = 6.8,
    turned: str = "",
) -> str:
    """Return a text that is cut where it would be wider than ``room`` pixels."""
    marks = (f' class="{css}"' if css else "") + (f' text-anchor="{anchor}"' if anchor else "")
    place = f' transform="{turned}"' if turned else f' x="{_number(x)}" y="{_number(y)}"'
    return f"<text{marks}{place}>{_escaped(_cut(text, room, letter))}</text>"


def _cut(text: str, room: float, letter: float) -> str:
    if _pixels(text, letter) <= room:
        return text
    kept, used = "", letter
    for one in text:
        used += _pixels(one, letter)
        if used > room:
            break
        kept += one
    return kept + "…"


def _pixels(text: str, letter: float) -> float:
    """Return about how wide a text is; letters of Chinese and Japanese take two places."""
    return sum(letter * (2 if unicodedata.east_asian_width(one) in "WF" else 1) for one in text)


def _escaped(text: str) -> str:
    """Return a text as XML on one line, without what XML cannot hold and what turns the direction of others."""
    plain = "".join(one if one.isprintable() else (" " if one.isspace() else _REPLACED) for one in text)
    return html.escape(plain, quote=True)


def _description(chart: Chart) -> str:
    points = "; ".join(map(_said, chart.points))
    return f"{'. '.join(chart.lines)}. Across: {chart.x_label}. Up: {chart.y_label}. Points: {points}. {chart.note}"


def _said(one: ChartPoint) -> str:
    return f"{one.label}: {_with_error(one.x, one.x_error)}, {_with_error(one.y, one.y_error)}"


def _with_error(value: float, error: float) -> str:
    shown = _signless(f"{value:.2f}")
    return f"{shown} +/- {error:.2f}" if error else shown


def _number(value: float) -> str:
    return _signless(f"{value:.2f}".rstrip("0").rstrip("."))


def _signless(text: str) -> str:
    """Return a zero without its sign."""
    return text.lstrip("-") if float(text) == 0.0 else text
