"""From the rows of any captions file to checked pairs of clip id and caption."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import check_text, clip_id_of, quoted, shown_value

# Where in the file, the clip's name there, and its caption; the last two unchecked.
Row = tuple[str, Any, Any]
Pair = tuple[str, str]


def checked_pairs(rows: Iterator[Row], where: str, wanted: Collection[str] | None) -> list[Pair]:
    """Return (clip id, caption) of the wanted rows, in file order, both stripped.

    Clip names become ids with :func:`~figclip_cli.evaluate.datasets.common.clip_id_of`. All names are checked, but
    only the captions of wanted clips, so that a flaw in a training caption does not keep a test set from being read.

    Args:
        where: The file, for messages.
        wanted: Ids of the clips to keep; None keeps all.

    Raises:
        InputError: A name or a caption is empty or no text, or two names have one clip id.
    """
    name_of: dict[str, str] = {}
    id_of: dict[str, str] = {}
    pairs = []
    for place, name, caption in rows:
        at = f"{where}, {place}"
        _require_text(name, "clip id", at)
        clip_id = id_of.get(name)
        if clip_id is None:
            id_of[name] = clip_id = _clip_id_at(name, at)
            _refuse_collision(name_of.setdefault(clip_id, name), name, at)
        if wanted is None or clip_id in wanted:
            _require_text(caption, "caption", at)
            pairs.append((clip_id, caption.strip()))
    return pairs


def _require_text(value: Any, role: str, at: str) -> None:
    if not isinstance(value, str):
        raise InputError(f"{at}: the {role} is {shown_value(value)}, expected a text", "correct the file")
    if not value.strip():
        raise InputError(f"{at}: empty clip id or caption", "fill it in")
    if not value.isascii() or "<" in value:
        check_text(value, f"{at}: the {role}")


def _clip_id_at(name: str, at: str) -> str:
    clip_id = clip_id_of(name)
    if not clip_id:
        raise InputError(f"{at}: empty clip id or caption", "fill it in")
    return clip_id


def _refuse_collision(first: str, name: str, at: str) -> None:
    if first.strip() != name.strip():
        names = f"{quoted(name)} and {quoted(first)} have the same clip id"
        raise InputError(f"{at}: {names}", "a clip id is the file's name without folder and ending; rename one")


def repeated_rows(pairs: Sequence[Pair]) -> int:
    """Return how many rows say what an earlier row says: the same caption of the same clip."""
    return len(pairs) - len(set(pairs))


def joined(pairs: Sequence[Pair]) -> list[Pair]:
    """Return one pair for each clip: its captions in file order with one space between them."""
    return [(clip_id, " ".join(captions)) for clip_id, captions in _by_clip(pairs).items()]


def first_of_each(pairs: Sequence[Pair]) -> list[Pair]:
    """Return the first pair of each clip."""
    return [(clip_id, captions[0]) for clip_id, captions in _by_clip(pairs).items()]


def _by_clip(pairs: Sequence[Pair]) -> dict[str, list[str]]:
    by_clip: dict[str, list[str]] = {}
    for clip_id, caption in pairs:
        by_clip.setdefault(clip_id, []).append(caption)
    return by_clip
