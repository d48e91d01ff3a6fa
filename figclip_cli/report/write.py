"""Write a report: runs and what is known of them in, one HTML file out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli import __version__
from figclip_cli.errors import UsageError
from figclip_cli.evaluate.situation_page.cells import escaped, isolated
from figclip_cli.files import write_text
from figclip_cli.report.comparisons import comparisons
from figclip_cli.report.found import Found, find
from figclip_cli.report.markup import Section
from figclip_cli.report.material import ReportMaterial
from figclip_cli.report.page import render
from figclip_cli.report.runs import open_runs
from figclip_cli.report.sections.commands import commands
from figclip_cli.report.sections.compositional import compositional
from figclip_cli.report.sections.data import data
from figclip_cli.report.sections.lora import lora
from figclip_cli.report.sections.retrieval import retrieval
from figclip_cli.report.sections.situations import situations
from figclip_cli.report.sections.summary import summary
from figclip_cli.report.sections.trade_off import trade_offs
from figclip_cli.report.sections.training import training
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

DEFAULT_OUTPUT = Path("report.html")
DEFAULT_COUNT, MOST_SHOWN = 4, 50
_ENDINGS = (".html", ".htm")


@dataclass(frozen=True)
class ReportSummary:
    """What was written.

    Attributes:
        path: The page.
        size_bytes: Its size.
        runs: Names of the runs.
        used: Files of results and curves, and folders of predictions, that are shown.
        not_used: By path, why something that was found or named is not shown.
        sections: By title, whether there was material for it.
        pictures: Frames that are shown.
    """

    path: Path
    size_bytes: int
    runs: tuple[str, ...]
    used: tuple[Path, ...]
    not_used: dict[str, str]
    sections: dict[str, bool]
    pictures: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**vars(self), "path": str(self.path), "used": [str(path) for path in self.used]}


def write_report(
    runs: Sequence[RunFolder],
    output: Path = DEFAULT_OUTPUT,
    material: ReportMaterial | None = None,
    *,
    count: int = DEFAULT_COUNT,
    reporter: Reporter = SILENT,
) -> ReportSummary:
    """Write the report of one run, or of several side by side; an existing file is replaced.

    Args:
        runs: Finished runs, at most seven.
        output: An ``.html`` file.
        material: Results, curves, frames and predictions. None looks for them; see :class:`ReportMaterial`.
        count: Queries, items and clips of each list.
        reporter: Is told what was used, what was not, and why.

    Raises:
        UsageError: A name or number that cannot be meant, or two runs that are the same.
        InputError: A run is not finished, or a file is damaged or missing.
        MachineError: The page cannot be written.
    """
    check_report(output, count)
    found = find(open_runs(runs), material or ReportMaterial(), reporter)
    sections = _sections(found, material or ReportMaterial(), count)
    names = tuple(run.label for run in found.runs)
    write_text(output, render(f"Report: {', '.join(names)}", _lead(found), sections))
    return ReportSummary(
        output,
        output.stat().st_size,
        names,
        tuple(found.used()),
        found.not_used,
        {section.title: section.has_material for section in sections},
        sum(section.html.count("<img ") for section in sections),  # text of files is escaped
    )


def check_report(output: Path, count: int) -> None:
    """Refuse a report that cannot be meant.

    Raises:
        UsageError: The page is no ``.html``, or too little or too much is to be shown.
    """
    if output.suffix.lower() not in _ENDINGS:
        raise UsageError(f"the report {output} is no .html", "the name's ending says what it is")
    if not 1 <= count <= MOST_SHOWN:
        raise UsageError(f"--count must be from 1 to {MOST_SHOWN}, got {count}", "4 is the default")


def _sections(found: Found, material: ReportMaterial, count: int) -> list[Section]:
    compared, runs = comparisons(found.results), found.runs
    return [
        summary(runs, compared),
        training(runs),
        trade_offs(runs, found.curves),
        compositional(runs, compared, found.frames, count),
        retrieval(runs, compared, found.frames, count),
        situations(runs, found.predictions, material.situation, found.frames, count),
        lora(runs),
        data(found),
        commands(found),
    ]


def _lead(found: Found) -> str:
    bases = dict.fromkeys(run.config["model"]["name"] for run in found.runs)
    return (
        f"<p>CLIP adapted with figclip {escaped(__version__)}: {', '.join(isolated(run.label) for run in found.runs)}, "
        f"beside the base model {', '.join(map(isolated, bases))}.</p>\n"
    )
