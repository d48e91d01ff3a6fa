"""The embedded default: a small synthetic world of annotated clips and a tiny base model."""

from __future__ import annotations
