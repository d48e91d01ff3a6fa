"""Under which licence a base model stands, as far as its files or its makers say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---\s*\n", re.DOTALL)
_LICENCE = re.compile(r"^license(?:_name)?:[ \t]*['\"]?([\w.\-+ ]{1,60}?)['\"]?[ \t]*$", re.MULTILINE)
_LONGEST_CARD_BYTES = 1 << 20
_UNKNOWN = "not stated in the base model's files: see where they are from before you pass these on"
# By the beginning of a pretrained tag.
_TAGS = {
    "openai": "OpenAI's repository (github.com/openai/CLIP) is under MIT and does not say whether the weights are; "
    "its model card puts deployed use out of scope",
    "laion": "MIT (mlfoundations/open_clip, issue 177)",
}


def licence_of_base(source: Mapping[str, Any], given: str | None) -> str:
    """Return what is known of the licence of a base model.

    Args:
        source: ``model``, ``pretrained`` and ``activation``, as in a run's configuration: where the base is now.
        given: What the user says.
    """
    if given:
        return given
    from open_clip import list_pretrained_tags_by_model

    tag = source.get("pretrained") or ""
    if tag in list_pretrained_tags_by_model(source["model"]):
        return next((text for start, text in _TAGS.items() if tag.startswith(start)), _UNKNOWN)
    return _stated_in(Path(source["model"]) / "README.md") or _UNKNOWN


def _stated_in(card: Path) -> str | None:
    """Return the licence in the front matter of a model card, as the hubs read it."""
    if not card.is_file():
        return None
    try:
        with card.open(encoding="utf-8") as file:
            front = _FRONT_MATTER.match(file.read(_LONGEST_CARD_BYTES))
    except (OSError, UnicodeDecodeError, ValueError):
        return None
    found = _LICENCE.search(front[1]) if front else None
    return f"{found[1].strip()}, as the base model's card says" if found else None
