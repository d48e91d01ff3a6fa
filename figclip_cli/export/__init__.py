"""Stage 5: a finished run in, weights for other libraries out, each one re-loaded and compared.

Names are loaded when they are asked for: options are wanted for ``--help``, which must not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from figclip_cli.export.options import ExportOptions
    from figclip_cli.export.run import check, export, planned_folders, possible_formats
    from figclip_cli.export.samples import own_frames, own_prompts
    from figclip_cli.export.session import ExportSummary

_PLACES = {
    "ExportOptions": "options",
    "ExportSummary": "session",
    "check": "run",
    "export": "run",
    "own_frames": "samples",
    "own_prompts": "samples",
    "planned_folders": "run",
    "possible_formats": "run",
}

__all__ = [
    "ExportOptions",
    "ExportSummary",
    "check",
    "export",
    "own_frames",
    "own_prompts",
    "planned_folders",
    "possible_formats",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
