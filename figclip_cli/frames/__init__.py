"""Stage 1: video in, ``frames.h5`` out."""

from __future__ import annotations

from figclip_cli.frames.extract import ExtractionSummary, extract
from figclip_cli.frames.reader import ClipRow, FramesReader
from figclip_cli.frames.sampling import SamplingRecipe

__all__ = ["ClipRow", "ExtractionSummary", "FramesReader", "SamplingRecipe", "extract"]
