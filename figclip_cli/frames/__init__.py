"""Stage 1: video in, ``frames.h5`` out."""

from __future__ import annotations

from figclip_cli.frames.extract import ExtractionPlan, ExtractionSummary, extract, plan
from figclip_cli.frames.reader import ClipRow, FramesReader
from figclip_cli.frames.sampling import SamplingRecipe

__all__ = ["ClipRow", "ExtractionPlan", "ExtractionSummary", "FramesReader", "SamplingRecipe", "extract", "plan"]
