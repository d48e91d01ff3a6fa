"""figclip: adapt CLIP on densely annotated videos (FiGCLIP, arXiv 2401.07669)."""

from __future__ import annotations

__version__ = "0.1.0"
