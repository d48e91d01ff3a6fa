"""Features of what is looked at, clips and images: read lazily, encoded once, kept by content."""

from __future__ import annotations

from figclip_cli.evaluate.visuals.clips import StoredClips
from figclip_cli.evaluate.visuals.features import VisualFeatures, visual_features
from figclip_cli.evaluate.visuals.images import ImageFiles

__all__ = ["ImageFiles", "StoredClips", "VisualFeatures", "visual_features"]
