"""The trade-off: a run between its base and itself, and what it gains on one task against what it keeps on another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from figclip_cli.evaluate.curve import Curve, unit_of
from figclip_cli.evaluate.curve_kept import Kept, TradeOff, trade_off
from figclip_cli.evaluate.curve_scales import FEWEST_SCALES, scale_text
from figclip_cli.evaluate.situation_page.cells import isolated
from figclip_cli.report.charts import Chart, Series, draw
from figclip_cli.report.comparisons import RETRIEVAL, key_of, same_base
from figclip_cli.report.found import RunCurve
from figclip_cli.report.markup import Row, Section, chart, heading, mark, nothing, side_by_side, table
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.texts import brief, count_text, reading, with_error

ANCHOR, TITLE = "trade-off", "Trade-off"
_SCALE = "scale, from the base (0) to the run (1)"
_One = TypeVar("_One")


def trade_offs(runs: Sequence[ReportRun], curves: Sequence[RunCurve]) -> Section:
    """Return each curve over the scale, and each pair of curves against each other."""
    if not curves:
        command = f"figclip evaluate retrieval --run {runs[0].folder.path} --scales 0,0.25,0.5,0.75,1"
        why = "These runs were not evaluated between base and adapted weights, so there is no curve."
        return Section(ANCHOR, TITLE, nothing(why, command), False)
    pairs = pairs_of(curves)
    against = "".join(
        _against(number, pair, title)
        for number, (pair, title) in enumerate(zip(pairs, _titles(pairs, _what_against), strict=True), start=1)
    )
    html = side_by_side(against)
    if not against:
        html = nothing(
            "What was gained is not set against what was kept: that needs curves of two tasks.",
            f"figclip evaluate action --run {runs[0].folder.path} --scales 0,0.25,0.5,0.75,1",
        )
    groups = alike(curves)
    by_scale = "".join(
        _by_scale(number, group, title)
        for number, (group, title) in enumerate(zip(groups, _titles(groups, _what_by_scale), strict=True), start=1)
    )
    return Section(ANCHOR, TITLE, html + side_by_side(by_scale))


def alike(curves: Sequence[RunCurve]) -> list[list[RunCurve]]:
    """Put the curves of several runs together that differ in nothing but the run, one of each run."""
    return _together(curves, lambda one: one.run, lambda one: (one.curve,))


def _together(
    every: Sequence[_One], run: Callable[[_One], ReportRun], curves: Callable[[_One], Sequence[Curve]]
) -> list[list[_One]]:
    """Put together what shares a chart: of several runs, alike in what is measured and in the base's numbers."""
    groups: list[list[_One]] = []
    for one in every:
        fits = (
            group
            for group in groups
            if all(run(other) is not run(one) for other in group)
            and all(map(_share_a_chart, curves(one), curves(group[0])))
        )
        group = next(fits, None)
        if group is None:
            groups.append([one])
        else:
            group.append(one)
    return groups


def _share_a_chart(first: Curve, second: Curve) -> bool:
    is_same = first.metric == second.metric and key_of(first) == key_of(second)
    return is_same and same_base(first.points[0].metrics, second.points[0].metrics)


def _titles(groups: Sequence[Sequence[_One]], what: Callable[[Sequence[_One]], tuple[str, Sequence[str]]]) -> list[str]:
    """Return the title of each chart, with its runs where another has the same."""
    named = [what(group) for group in groups]
    plain_titles = [title for title, _ in named]
    return [
        heading(title if plain_titles.count(title) == 1 else f"{title}: {', '.join(map(brief, runs))}")
        for title, runs in named
    ]


def _what_by_scale(group: Sequence[RunCurve]) -> tuple[str, Sequence[str]]:
    return f"{group[0].curve.what} by scale", [one.run.label for one in group]


def _what_against(pair: Sequence[tuple[RunCurve, TradeOff]]) -> tuple[str, Sequence[str]]:
    made = pair[0][1]
    title = f"{made.curve.what}, gained, against {made.kept.curve.what}, kept"
    return title, [one.run.label for one, _ in pair]


def _by_scale(number: int, group: Sequence[RunCurve], title: str) -> str:
    curve = group[0].curve
    series = [
        Series(
            one.run.label,
            one.run.style,
            [point.scale for point in one.curve.points],
            [metric.value for metric in one.curve.headline],
            y_errors=[metric.standard_error for metric in one.curve.headline],
        )
        for one in group
    ]
    rows = [
        Row(
            (isolated(one.run.label), scale_text(point.scale)),
            (
                with_error(metric.value, metric.standard_error),
                with_error(metric.delta, metric.delta_standard_error, signed=True),
                count_text(metric.n),
                mark(reading(metric)),
            ),
            span=len(one.curve.points) if place == 0 else 0,
        )
        for one in group
        for place, (point, metric) in enumerate(zip(one.curve.points, one.curve.headline, strict=True))
    ]
    columns = ("run", "scale", "value ± standard error", "difference from the base", "n", "reading")
    said = "; ".join(
        f"{one.run.label} "
        + ", ".join(
            f"{m.value:.1f} at {scale_text(p.scale)}" for p, m in zip(one.curve.points, one.curve.headline, strict=True)
        )
        for one in group
    )
    y_label = f"{curve.metric} ({unit_of(curve.metric)})"
    drawn = draw(
        Chart(
            f"scale-{number}", title, f"{title}: {said}.", _SCALE, y_label, series, base_y=curve.headline[0].base_value
        )
    )
    caption = (
        f"{title} ({curve.task}, {curve.describe_counts()}). Bars are one standard error; the dashed line is the base."
    )
    return chart(drawn, caption, table(title, columns, rows))


def pairs_of(curves: Sequence[RunCurve]) -> list[list[tuple[RunCurve, TradeOff]]]:
    """Return what is set against what, each for the runs that have both, one trade-off a run.

    A pair is one that was recorded when a curve was made with ``--kept``; of runs without such, the first curve of
    retrieval, or else of anything, is set against every other.
    """
    made: list[tuple[RunCurve, TradeOff]] = []
    for run in dict.fromkeys(one.run.style for one in curves):
        own = [one for one in curves if one.run.style == run]
        recorded = [(one, other) for one in own for other in own if one.kept_sha256 == other.sha256]
        first = next((one for one in own if one.curve.task == RETRIEVAL), own[0])
        others = [one for one in own if one.curve.subject != first.curve.subject]
        for gained, kept in recorded or [(first, other) for other in others]:
            both = trade_off(gained.curve, Kept(kept.file, kept.sha256, kept.curve))
            if len(both.points) >= FEWEST_SCALES:
                made.append((gained, both))
    return _together(made, lambda pair: pair[0].run, lambda pair: (pair[1].curve, pair[1].kept.curve))


def _against(number: int, pair: Sequence[tuple[RunCurve, TradeOff]], title: str) -> str:
    made = pair[0][1]
    gained, kept = made.curve, made.kept.curve
    series = [
        Series(
            one.run.label,
            one.run.style,
            [point.kept.delta or 0.0 for point in trade.points],
            [point.gained.delta or 0.0 for point in trade.points],
            [point.kept.delta_standard_error or 0.0 for point in trade.points],
            [point.gained.delta_standard_error or 0.0 for point in trade.points],
            [scale_text(point.scale) for point in trade.points],
        )
        for one, trade in pair
    ]
    rows = [
        Row(
            (isolated(one.run.label), scale_text(point.scale)),
            (
                with_error(point.gained.delta, point.gained.delta_standard_error, signed=True),
                count_text(point.gained.n),
                with_error(point.kept.delta, point.kept.delta_standard_error, signed=True),
                count_text(point.kept.n),
            ),
            span=len(trade.points) if place == 0 else 0,
        )
        for one, trade in pair
        for place, point in enumerate(trade.points)
    ]
    up, across = _change(gained), _change(kept)
    columns = ("run", "scale", isolated(up), "n", isolated(across), "n")
    said = "; ".join(
        f"{brief(one.run.label)} at scale {scale_text(p.scale)}: "
        f"{p.kept.delta or 0:+.1f} kept, {p.gained.delta or 0:+.1f} gained"
        for one, trade in pair
        for p in trade.points
    )
    drawn = draw(Chart(f"trade-{number}", title, f"{title}: {said}.", across, up, series, base_x=0.0, base_y=0.0))
    caption = (
        f"{title}. Labels are scales; bars are one standard error of the difference; the dashed lines are the base. "
        + " ".join(_best(one, trade) for one, trade in pair)
    )
    return chart(drawn, caption, table(title, columns, rows))


def _best(one: RunCurve, trade: TradeOff) -> str:
    best = trade.largest_within_one_error
    if best is None:
        return f"{brief(one.run.label)} loses more than one standard error at every scale."
    kept = trade.kept.curve.metric
    others = "the largest of these" if best is trade.points[-1] else "and at no larger one of these"
    return (
        f"{brief(one.run.label)} keeps {brief(kept)} within one standard error at scale {scale_text(best.scale)}, "
        f"{others}."
    )


def _change(curve: Curve) -> str:
    unit = "points" if unit_of(curve.metric) == "%" else "ranks"
    direction = "" if curve.headline[0].higher_is_better else ", lower is better"
    return f"change of {curve.metric} ({unit}){direction}"
