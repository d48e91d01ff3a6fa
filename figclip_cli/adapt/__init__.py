"""Stage 3: frames and prompts in, a run folder with an adapter out.

Names are loaded when they are asked for: options and recipes are wanted for ``--help``, which must not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from figclip_cli.adapt.options import AdaptOptions, Execution
    from figclip_cli.adapt.recipe import options_of_recipe
    from figclip_cli.adapt.run import AdaptSummary, adapt
    from figclip_cli.adapt.sources import ClipLists, SourceFiles

_PLACES = {
    "AdaptOptions": "options",
    "Execution": "options",
    "options_of_recipe": "recipe",
    "AdaptSummary": "run",
    "adapt": "run",
    "ClipLists": "sources",
    "SourceFiles": "sources",
}

__all__ = ["AdaptOptions", "AdaptSummary", "ClipLists", "Execution", "SourceFiles", "adapt", "options_of_recipe"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
