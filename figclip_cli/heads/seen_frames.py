"""Which frames a head was trained on, and whether others will do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figclip_cli.evaluate.visuals import StoredClips

# What must be the same; how pictures are decoded and stored may differ.
_LASTING = ("events", "frames_per_event", "size", "policy", "fps", "crop", "interpolation")


def frames_facts(clips: StoredClips) -> dict[str, Any]:
    """Return what frames a head is trained on, for ``config.json``."""
    recipe = clips.reader.recipe
    return {"recipe": recipe.as_dict(), "recipe_sha256": recipe.sha256}


def frames_that_differ(clips: StoredClips, trained_on: Mapping[str, Any]) -> str:
    """Return in what frames were chosen or cut otherwise than those of :func:`frames_facts`; empty where in nothing."""
    here, there = clips.reader.recipe.as_dict(), trained_on["recipe"]
    differing = [key for key in _LASTING if here.get(key) != there.get(key)]
    return ", ".join(f"{key} {there.get(key)}, here {here.get(key)}" for key in differing)
