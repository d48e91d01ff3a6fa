"""The benchmarks' own annotation files, read as their authors published them; no pixels, no models."""

from __future__ import annotations
