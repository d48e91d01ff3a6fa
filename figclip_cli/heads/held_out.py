"""Clips that a head is measured on and not trained on, where the user names none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def held_out_clips(clip_ids: Sequence[str], share: float, seed: int) -> set[str]:
    """Return a share of clips, chosen by their ids and the seed: a larger share has those of a smaller one.

    Of two clips or more at least one is held out, unless the share is 0, and at least one is left.
    """
    if share == 0 or len(clip_ids) < 2:
        return set()
    count = min(max(1, round(share * len(clip_ids))), len(clip_ids) - 1)
    return set(sorted(clip_ids, key=lambda clip_id: _drawn(seed, clip_id))[:count])


def _drawn(seed: int, clip_id: str) -> bytes:
    return hashlib.sha256(f"{seed}\0held out\0{clip_id}".encode("utf-8", "surrogatepass")).digest()
