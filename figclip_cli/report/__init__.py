"""A report: what runs learned and what it is worth, as one HTML file that opens anywhere and loads nothing."""

from __future__ import annotations

from figclip_cli.report.material import ReportMaterial, SituationFiles
from figclip_cli.report.write import ReportSummary, write_report

__all__ = ["ReportMaterial", "ReportSummary", "SituationFiles", "write_report"]
