"""Stage 3: frames and prompts in, a run folder with an adapter out."""

from __future__ import annotations

from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.run import AdaptSummary, adapt

__all__ = ["AdaptOptions", "AdaptSummary", "adapt"]
