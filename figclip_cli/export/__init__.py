"""Stage 5: a finished run in, weights for other libraries out, each one re-loaded and compared."""

from __future__ import annotations

from figclip_cli.export.run import ExportSummary, export_open_clip

__all__ = ["ExportSummary", "export_open_clip"]
