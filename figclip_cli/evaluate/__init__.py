"""Stage 4: one module per task, metrics beside them, one result schema."""

from __future__ import annotations
