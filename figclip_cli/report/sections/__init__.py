"""Sections of a report, one module each: what was found in, HTML out."""
