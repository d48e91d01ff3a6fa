"""The trade-off: a run between its base and itself, and what it gains on one task against what it keeps on another."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.evaluate.curve import Curve, unit_of
from figclip_cli.evaluate.curve_kept import Kept, TradeOff, trade_off
from figclip_cli.evaluate.curve_scales import FEWEST_SCALES, scale_text
from figclip_cli.evaluate.situation_page.cells import isolated
from figclip_cli.files import sha256_of_json
from figclip_cli.report.charts import Chart, Series, draw
from figclip_cli.report.comparisons import RETRIEVAL
from figclip_cli.report.found import RunCurve
from figclip_cli.report.markup import Row, Section, chart, heading, mark, nothing, side_by_side, table
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.texts import brief, count_text, reading, with_error

ANCHOR, TITLE = "trade-off", "Trade-off"
_SCALE = "scale, from the base (0) to the run (1)"


def trade_offs(runs: Sequence[ReportRun], curves: Sequence[RunCurve]) -> Section:
    """Return each curve over the scale, and each pair of curves against each other."""
    if not curves:
        command = f"figclip evaluate retrieval --run {runs[0].folder.path} --scales 0,0.25,0.5,0.75,1"
        why = "These runs were not evaluated between base and adapted weights, so there is no curve."
        return Section(ANCHOR, TITLE, nothing(why, command), False)
    against = "".join(_against(number, pair) for number, pair in enumerate(pairs_of(curves), start=1))
    html = side_by_side(against)
    if not against:
        html = nothing(
            "What was gained is not set against what was kept: that needs curves of two tasks.",
            f"figclip evaluate action --run {runs[0].folder.path} --scales 0,0.25,0.5,0.75,1",
        )
    by_scale = "".join(_by_scale(number, group) for number, group in enumerate(_alike(curves), start=1))
    return Section(ANCHOR, TITLE, html + side_by_side(by_scale))


def _alike(curves: Sequence[RunCurve]) -> list[list[RunCurve]]:
    """Put the curves of several runs on one task together, one of each run."""
    groups: dict[str, list[RunCurve]] = {}
    for one in curves:
        curve = one.curve
        key = sha256_of_json([*map(str, curve.subject), curve.metric, curve.models["base"]["sha256"]])
        while any(other.run is one.run for other in groups.get(key, ())):
            key += "+"
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _by_scale(number: int, group: Sequence[RunCurve]) -> str:
    curve = group[0].curve
    title = heading(f"{curve.what} by scale")
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
    groups: dict[str, list[tuple[RunCurve, TradeOff]]] = {}
    for run in dict.fromkeys(one.run.style for one in curves):
        own = [one for one in curves if one.run.style == run]
        recorded = [(one, other) for one in own for other in own if one.kept_sha256 == other.sha256]
        first = next((one for one in own if one.curve.task == RETRIEVAL), own[0])
        others = [one for one in own if one.curve.subject != first.curve.subject]
        for gained, kept in recorded or [(first, other) for other in others]:
            made = trade_off(gained.curve, Kept(kept.file, kept.sha256, kept.curve))
            if len(made.points) >= FEWEST_SCALES:
                key = sha256_of_json([*map(str, gained.curve.subject), *map(str, kept.curve.subject)])
                groups.setdefault(key, []).append((gained, made))
    return list(groups.values())


def _against(number: int, pair: Sequence[tuple[RunCurve, TradeOff]]) -> str:
    made = pair[0][1]
    gained, kept = made.curve, made.kept.curve
    title = heading(f"{gained.what}, gained, against {kept.what}, kept")
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
    return f"{brief(one.run.label)} keeps {brief(kept)} within one standard error up to scale {scale_text(best.scale)}."


def _change(curve: Curve) -> str:
    unit = "points" if unit_of(curve.metric) == "%" else "ranks"
    direction = "" if curve.headline[0].higher_is_better else ", lower is better"
    return f"change of {curve.metric} ({unit}){direction}"
