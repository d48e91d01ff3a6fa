"""Compositional accuracy by kind, and single items: what each model took for right, with the clip."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.evaluate.situation_page.cells import escaped
from figclip_cli.report.comparisons import COMPOSITIONAL, Comparison
from figclip_cli.report.markup import Section, heading, nothing
from figclip_cli.report.pictures import FrameFiles
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.sections.items import Shown, items_html
from figclip_cli.report.sections.numbers import comparison_table, dots

ANCHOR, TITLE = "compositional", "Compositional accuracy by kind"
_LISTS = Shown(
    better=("Items that {run} has right and the base had wrong", "improved"),
    failing=("Items that {run} still has wrong", "still wrong"),
    worse=("Items that {run} has wrong and the base had right", "lost"),
    part=None,
)


def compositional(runs: Sequence[ReportRun], found: Sequence[Comparison], frames: FrameFiles, count: int) -> Section:
    """Return each benchmark's accuracy by kind, and some of its items."""
    own = [one for one in found if one.task == COMPOSITIONAL]
    if not own:
        command = f"figclip evaluate compositional --benchmark prompts --run {runs[0].folder.path}"
        return Section(ANCHOR, TITLE, nothing("No compositional benchmark was scored for these runs.", command), False)
    return Section(ANCHOR, TITLE, "".join(_one(number, one, frames, count) for number, one in enumerate(own, start=1)))


def _one(number: int, comparison: Comparison, frames: FrameFiles, count: int) -> str:
    html = f"<h3>{escaped(comparison.title)}</h3>\n"
    rows = [(name, list(comparison.numbers(name))) for name in comparison.names]
    html += comparison_table(comparison, f"Accuracy by kind: {comparison.title}")
    title = heading(f"Accuracy by kind of {comparison.entries[0].results.dataset_id}")
    if all(found[0][1].base_value is not None for _, found in rows):
        html += dots(f"compositional-{number}", title, "accuracy (%)", rows)
    return html + "".join(items_html(one, frames, count, _LISTS) for one in comparison.entries)
