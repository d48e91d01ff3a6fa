"""Where random choices come from: numbers that depend on what is being chosen alone."""

from __future__ import annotations

import hashlib


def stable_integer(*parts: object) -> int:
    """Return 63 bits that depend on ``parts`` alone, not on the process or the platform."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
