"""What is drawn of a curve: the number over the scale, or what was gained against what was kept."""

from __future__ import annotations

from figclip_cli.evaluate.curve import Curve, unit_of
from figclip_cli.evaluate.curve_kept import TradeOff
from figclip_cli.evaluate.curve_scales import scale_text
from figclip_cli.evaluate.curve_svg import Chart, ChartPoint
from figclip_cli.evaluate.results import Metric


def curve_chart(curve: Curve) -> Chart:
    """Return the chart of a curve's number over the scale."""
    first = curve.headline[0]
    points = [
        ChartPoint(point.scale, metric.value, scale_text(point.scale), y_error=metric.standard_error)
        for point, metric in zip(curve.points, curve.headline, strict=True)
    ]
    return Chart(
        title=f"{curve.what} by scale",
        lines=(_models(curve), _counts(curve)),
        x_label="scale, from the base (0) to the run (1)",
        y_label=f"{curve.metric} ({unit_of(curve.metric)}){_direction(first)}",
        points=tuple(points),
        base_y=first.base_value,
        note="bars: one standard error; dashed: the base",
    )


def trade_off_chart(trade: TradeOff) -> Chart:
    """Return the chart of the change of a curve's number over that of what was to be kept."""
    curve, other = trade.curve, trade.kept.curve
    points = [
        ChartPoint(
            one.kept.delta or 0.0,
            one.gained.delta or 0.0,
            scale_text(one.scale),
            one.kept.delta_standard_error or 0.0,
            one.gained.delta_standard_error or 0.0,
        )
        for one in trade.points
    ]
    return Chart(
        title=f"{curve.what} against {other.what}",
        lines=(_models(curve), f"up: {_counts(curve)}", f"across: {_counts(other)}"),
        x_label=_change(other.metric, other.dataset_id, trade.points[0].kept),
        y_label=_change(curve.metric, curve.dataset_id, trade.points[0].gained),
        points=tuple(points),
        base_x=0.0,
        base_y=0.0,
        note="labels: scale, the base is 0; bars: one standard error of the difference; dashed: the base",
    )


def _models(curve: Curve) -> str:
    return f"run {curve.run_name}, base {curve.base_name}"


def _counts(curve: Curve) -> str:
    return f"{curve.task}, {curve.describe_counts()}"


def _change(metric: str, dataset_id: str, number: Metric) -> str:
    unit = "points" if unit_of(metric) == "%" else "ranks"
    return f"change of {metric}, {dataset_id} ({unit}){_direction(number)}"


def _direction(metric: Metric) -> str:
    return "" if metric.higher_is_better else ", lower is better"
