"""What is printed of a curve: every number at every scale, the headline with errors, and one line of what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from figclip_cli.commands.tables import one_line, p_text, table

if TYPE_CHECKING:
    from rich.table import Table

    from figclip_cli.evaluate.curve import Curve
    from figclip_cli.evaluate.curve_kept import TradeOff
    from figclip_cli.evaluate.results import Metric, Results

_LONGEST_NAME = 40
_BEST = "*"


def scales_table(title: str, scales: Sequence[float], metrics: Sequence[Sequence[Metric]]) -> Table:
    """Return one row for each number and one column for each scale; the best of a row are marked.

    Args:
        metrics: The numbers at each scale, the same ones in the same order.
    """
    from figclip_cli.evaluate.curve_scales import scale_text

    grouped = any(metric.group for metric in metrics[0])
    lead = ("metric", "group", "") if grouped else ("metric", "")
    columns = ["0 (base)" if scale == 0.0 else scale_text(scale) for scale in scales]
    if scales[0] > 0.0:
        columns.insert(0, "base")
    made = table(title, *lead, *columns, numbers_from=len(lead))
    for of_scales in zip(*metrics, strict=True):
        first = of_scales[0]
        values = [metric.value for metric in of_scales]
        if scales[0] > 0.0:
            values.insert(0, first.value if first.base_value is None else first.base_value)
        names = (first.name, first.group, first.arrow) if grouped else (first.name, first.arrow)
        made.add_row(*names, *_marked(values, higher_is_better=first.higher_is_better))
    made.caption = f"{_BEST} best of the row"
    made.caption_justify = "left"
    return made


def _marked(values: Sequence[float], *, higher_is_better: bool) -> list[str]:
    """Return numbers with a mark at the best ones, unless all are the same."""
    best = max(values) if higher_is_better else min(values)
    none = all(value == best for value in values)
    return [f"{value:.2f}{_BEST if value == best and not none else ' '}" for value in values]


def curve_tables(curve: Curve, trade: TradeOff | None) -> list[Table]:
    """Return the table of all numbers, and that of the one that is drawn, with errors and with what is kept."""
    scales = [point.scale for point in curve.points]
    title = one_line(f"{curve.task}, {curve.dataset_id}: {curve.describe_counts()}; {curve.run_name} by scale")
    return [scales_table(title, scales, [point.metrics for point in curve.points]), _headline_table(curve, trade)]


def groups_of_scales(curve: Curve, results: Sequence[Results]) -> Table:
    """Return the breakdowns at each scale."""
    title = one_line(f"{curve.task}, {curve.dataset_id}: by group; {curve.run_name} by scale")
    return scales_table(title, [point.scale for point in curve.points], [one.groups for one in results])


def _headline_table(curve: Curve, trade: TradeOff | None) -> Table:
    from figclip_cli.evaluate.curve_scales import scale_text

    names = ["scale", f"{curve.metric} {curve.headline[0].arrow}", "+/-", "delta", "+/-", "p"]
    kept: dict[float, Metric] = {}
    if trade is not None:
        other = trade.kept.curve
        kept = {one.scale: one.kept for one in trade.points}
        arrow = trade.points[0].kept.arrow
        names += [f"kept: {_short(other.metric)} {arrow}, {_short(other.dataset_id)}", "delta", "+/-"]
    made = table(f"{curve.metric} by scale", *names, numbers_from=0)
    for point, metric in zip(curve.points, curve.headline, strict=True):
        row = [scale_text(point.scale), *_numbers(metric.value, metric.standard_error)]
        row += [f"{metric.delta:+.2f}", *_numbers(metric.delta_standard_error), p_text(metric.p_value)]
        if point.scale in kept:
            other_metric = kept[point.scale]
            row += [*_numbers(other_metric.value), f"{other_metric.delta:+.2f}"]
            row += _numbers(other_metric.delta_standard_error)
        made.add_row(*row)
    return made


def curve_line(curve: Curve, trade: TradeOff | None) -> str:
    """Return what the curve says in one line: the best scale, or how far one can go and keep the other number."""
    if trade is None:
        return _best_line(curve)
    from figclip_cli.evaluate.curve_scales import scale_text

    found = trade.largest_within_one_error
    kept = f"{_short(trade.kept.curve.metric)} of {_short(trade.kept.curve.dataset_id)}"
    rule = f"is at most one standard error of the difference worse than the base's in {kept}"
    if found is None:
        return f"no scale of those in both curves {rule}"
    return (
        f"largest scale that {rule}: {scale_text(found.scale)} "
        f"({kept} {_delta(found.kept)}; {curve.metric} here {_delta(found.gained)})"
    )


def _short(name: str) -> str:
    """Return a name out of a file, which may hold anything."""
    return one_line(name, longest=_LONGEST_NAME)


def _best_line(curve: Curve) -> str:
    from figclip_cli.evaluate.curve_scales import scale_text

    sign = 1.0 if curve.headline[0].higher_is_better else -1.0
    values = [sign * metric.value for metric in curve.headline]
    place = values.index(max(values))
    metric, scale = curve.headline[place], curve.points[place].scale
    tied = values.count(values[place])
    which = "smallest of the scales with it" if tied > 1 else "the scale with it"
    shown = f"{metric.value:.2f} +/- {metric.standard_error:.2f}"
    return f"best {curve.metric}: {shown}, {which}: {scale_text(scale)} ({_delta(metric)})"


def _delta(metric: Metric) -> str:
    return f"delta {metric.delta:+.2f} +/- {metric.delta_standard_error:.2f}"


def _numbers(*values: float | None) -> list[str]:
    return ["" if value is None else f"{value:.2f}" for value in values]
