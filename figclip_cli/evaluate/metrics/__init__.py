"""Metrics, free of models and files."""

from __future__ import annotations
