"""Retrieval with the clips shown: queries that improved, queries that still fail, and queries that were lost."""

from __future__ import annotations

from collections.abc import Sequence

from figclip_cli.evaluate.situation_page.cells import escaped
from figclip_cli.report.comparisons import RETRIEVAL, Comparison
from figclip_cli.report.markup import Section, nothing
from figclip_cli.report.pictures import FrameFiles
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.sections.items import Shown, items_html
from figclip_cli.report.sections.numbers import comparison_table

ANCHOR, TITLE = "retrieval", "Retrieval"
_LISTS = Shown(
    better=("Queries that improved with {run}", "improved"),
    failing=("Queries that still fail with {run}", "still failing"),
    worse=("Queries that {run} lost", "lost"),
    part="t2v",
)


def retrieval(runs: Sequence[ReportRun], found: Sequence[Comparison], frames: FrameFiles, count: int) -> Section:
    """Return the numbers of each retrieval, and some of its queries with the clips that each model put first."""
    own = [one for one in found if one.task == RETRIEVAL]
    if not own:
        command = f"figclip evaluate retrieval --run {runs[0].folder.path}"
        return Section(ANCHOR, TITLE, nothing("No retrieval was scored for these runs.", command), False)
    return Section(ANCHOR, TITLE, "".join(_one(one, frames, count) for one in own))


def _one(comparison: Comparison, frames: FrameFiles, count: int) -> str:
    html = f"<h3>{escaped(comparison.title)}</h3>\n"
    html += comparison_table(comparison, f"Numbers: {comparison.title}")
    return html + "".join(items_html(one, frames, count, _LISTS) for one in comparison.entries)
