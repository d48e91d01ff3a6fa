"""Rows of MSR-VTT's own captions: MSRVTT_data.json, and MSR_VTT.json of the Frozen-in-Time authors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from figclip_cli.errors import InputError, nearest
from figclip_cli.evaluate.datasets.captions_json import fields, wrong_shape
from figclip_cli.evaluate.datasets.captions_rows import Row
from figclip_cli.evaluate.datasets.common import quoted, shown_value

ALL = "all"
DEFAULT_SPLIT = "test"
_NO_SPLIT_HINT = "name the clips in a list (--ids FILE), or take every clip of the file with --split all"


def msrvtt_captions(value: Any, where: str, split: str | None, *, has_ids: bool) -> tuple[str | None, Iterator[Row]]:
    """Return the split that is read, and the rows of its clips.

    The full test split has 2,990 clips with 20 captions each. Where the file says each video's split, ``test`` is
    read unless another one, or a list of ids, is asked for. Where it does not, nothing is guessed.

    Args:
        split: ``train``, ``validate``, ``test``, ``all``, or None.
        has_ids: A list names the clips, so that no split is needed.

    Raises:
        InputError: The file breaks its format, has no such split, or does not say which clips are meant.
    """
    if isinstance(value, dict) and isinstance(value.get("annotations"), list):
        return _without_splits(where, split, has_ids), _rows(value["annotations"], where, "annotation", "image_id")
    if not isinstance(value, dict) or not isinstance(value.get("sentences"), list):
        raise wrong_shape(where, "msrvtt-json", value)
    rows = _rows(value["sentences"], where, "sentence", "video_id")
    if "videos" not in value:
        return _without_splits(where, split, has_ids), rows
    split_of = _split_of_each_video(value["videos"], where)
    splits = Counter(name for name in split_of.values() if name is not None)
    split = _chosen(split, splits, where, has_ids) if splits else _without_splits(where, split, has_ids)
    return split, _of_split(rows, where, split_of, None if split == ALL else split, has_ids)


def _without_splits(where: str, split: str | None, has_ids: bool) -> str | None:
    """Return the split to report for a file that has none."""
    if split not in (None, ALL):
        raise InputError(f"{where} does not say which clips are of split {quoted(str(split))}", _NO_SPLIT_HINT)
    if split is None and not has_ids:
        raise InputError(f"{where} does not say which clips are its test split", _NO_SPLIT_HINT)
    return split


def _chosen(split: str | None, splits: Counter[str], where: str, has_ids: bool) -> str | None:
    if split is None and not has_ids:
        split = DEFAULT_SPLIT
    if split not in (None, ALL) and split not in splits:
        there = ", ".join(f"{quoted(name)} ({count:,} videos)" for name, count in sorted(splits.items())[:8])
        hint = nearest(str(split), [*splits, ALL])
        raise InputError(f"{where} has no split {quoted(str(split))}, only {there}", hint)
    return split


def _rows(records: list[Any], where: str, unit: str, clip_key: str) -> Iterator[Row]:
    for number, record in enumerate(records, start=1):
        place = f"{unit} {number}"
        yield (place, *fields(record, (clip_key, "caption"), f"{where}, {place}"))


def _split_of_each_video(videos: Any, where: str) -> dict[str, str | None]:
    """Return the split of each video; None for all of them where the file has no splits."""
    if not isinstance(videos, list):
        raise InputError(f"{where}: 'videos' is {shown_value(videos)}, expected a list", "is the file complete?")
    split_of: dict[str, str | None] = {}
    for number, video in enumerate(videos, start=1):
        at = f"{where}, video {number}"
        (name,) = fields(video, ("video_id",), at)
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{at}: 'video_id' is {shown_value(name)}, expected a text", "correct the file")
        if name in split_of:
            raise InputError(f"{at}: {quoted(name)} is there already", "leave one of the two out")
        split = video.get("split")
        if split is not None and not isinstance(split, str):
            raise InputError(f"{at}: 'split' is {shown_value(split)}, expected a text", "correct the file")
        split_of[name] = split
    named = sum(split is not None for split in split_of.values())
    if 0 < named < len(split_of):
        first = next(name for name, split in split_of.items() if split is None)
        raise InputError(f"{where}: video {quoted(first)} has no split, others have one", "fill it in")
    return split_of


def _of_split(
    rows: Iterator[Row], where: str, split_of: dict[str, str | None], split: str | None, has_ids: bool
) -> Iterator[Row]:
    left = {name for name, one in split_of.items() if split is None or one == split}
    chosen = frozenset(left)
    for place, name, caption in rows:
        if not isinstance(name, str) or name not in split_of:
            shown = quoted(name) if isinstance(name, str) else shown_value(name)
            raise InputError(f"{where}, {place}: {shown} is not among the videos", "is the file complete?")
        if name in chosen:
            left.discard(name)
            yield place, name, caption
    if left and not has_ids:
        first = next(name for name in split_of if name in left)
        raise InputError(
            f"{where}: {len(left)} of {len(chosen)} videos have no sentence, the first is {quoted(first)}",
            "name the clips that you mean in a list (--ids FILE)",
        )
