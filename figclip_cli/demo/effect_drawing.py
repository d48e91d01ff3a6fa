"""The table of what adapting changed, as a picture that stands alone: light and dark, with words for screen readers."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.demo.effect import EffectRow
from figclip_cli.report.charts import BASE, Chart, Series, draw
from figclip_cli.report.style import COLOURS


def effect_svg(rows: Sequence[EffectRow]) -> str:
    """Return an SVG document: one row of dots with standard errors for each number, base and adapted."""
    places = list(range(len(rows)))
    said = "; ".join(f"{row.what}: {row.base:.1f}, then {row.adapted:.1f} ({row.delta:+.1f})" for row in rows)
    chart = Chart(
        name="effect",
        title="What adapting changed",
        description=f"Percent of base and adapted model on unseen clips. {said}.",
        x_label="percent on unseen clips, with standard errors",
        y_label="",
        series=(
            Series("base", BASE, [row.base for row in rows], places, [row.base_error for row in rows]),
            Series("adapted", 1, [row.adapted for row in rows], places, [row.adapted_error for row in rows]),
        ),
        rows=[row.what for row in rows],
    )
    head, _, rest = draw(chart).partition(">")
    style = f"<style>{COLOURS.strip()}svg{{background:var(--paper);font-family:system-ui,sans-serif}}</style>"
    return f"{head}>{style}{rest}\n"
