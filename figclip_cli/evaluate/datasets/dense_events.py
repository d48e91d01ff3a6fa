"""Checks that files of timed sentences share: a time in seconds, a pair of them, a sentence, names of videos."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import quoted, shown_value

PREFIX = "v_"  # of a video's id, which some files write and others leave out
_CORRECT = "correct the file"
_MOST_SECONDS = 1e9  # thirty years; what is beyond is no time in a video, and its square no float
_COMPLETE = "is the file complete and of this format?"
_KINDS: dict[type[Any], str] = {list: "a list", dict: "an object", str: "a text"}


def seconds_of(value: Any, where: str) -> float:
    """Return a time.

    Raises:
        InputError: It is no number of seconds; the message begins with ``where``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InputError(f"{where} is {shown_value(value)}, expected a time in seconds", _CORRECT)
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not abs(seconds) <= _MOST_SECONDS:
        raise InputError(f"{where} is {shown_value(value)}, expected a time in seconds", _CORRECT)
    return seconds


def video_id_of(name: str, where: str) -> str:
    """Return the id of a video as it is written.

    Raises:
        InputError: It is empty, or no file can hold it.
    """
    if not name.strip():
        raise InputError(f"{where}: a video has an empty id", _CORRECT)
    return sentence_of(name, f"{where}, video {quoted(name)}: its id")


def segment_of(value: Any, where: str) -> tuple[float, float]:
    """Return start and end, in the order in which they are written.

    A start after its end is left as it is: no segment overlaps such a one, by the definition of tIoU.

    Raises:
        InputError: It is no pair of finite numbers.
    """
    if not isinstance(value, list) or len(value) != 2:
        found = f"a list of {len(value)}" if isinstance(value, list) else shown_value(value)
        raise InputError(f"{where} is {found}, expected [start, end] in seconds", _CORRECT)
    return seconds_of(value[0], f"{where}, start"), seconds_of(value[1], f"{where}, end")


def sentence_of(value: Any, where: str) -> str:
    """Return a sentence as it is written; it may be empty.

    Raises:
        InputError: It is no text, or one that no file can hold.
    """
    if not isinstance(value, str):
        raise InputError(f"{where} is {shown_value(value)}, expected a text", _CORRECT)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InputError(f"{where} has half of a surrogate pair, which is no text", _CORRECT) from None
    return value


def member(record: Any, key: str, kind: type[Any], where: str) -> Any:
    """Return ``record[key]``, which must be a list, an object or a text.

    Raises:
        InputError: The record is no object, or the key is missing or of another type.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where} is {shown_value(record)}, expected an object", _COMPLETE)
    if key not in record:
        raise InputError(f"{where}: '{key}' is missing", _COMPLETE)
    if not isinstance(record[key], kind):
        expected = _KINDS[kind]
        raise InputError(f"{where}: '{key}' is {shown_value(record[key])}, expected {expected}", _COMPLETE)
    return record[key]


def count_reversed(segments: Iterable[tuple[float, float]]) -> int:
    """Return how many segments start after their end."""
    return sum(bool(start > end) for start, end in segments)


def aligned_ids(names: Iterable[str], known: Collection[str], where: str) -> dict[str, str]:
    """Return what each video is called in ``known``, which may write ``v_`` before an id or leave it out.

    A name that is in ``known`` is that video; else the name with ``v_`` added or taken away, if that is in ``known``;
    else itself.

    Raises:
        InputError: Two names are one video.
    """
    made: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        called = name
        if name not in known:
            other = name[len(PREFIX) :] if name.startswith(PREFIX) else PREFIX + name
            # An id of YouTube may begin with v_ itself.
            called = next((one for one in (other, PREFIX + name) if one in known), name)
        if called in taken:
            raise InputError(f"{where}: {quoted(taken[called])} and {quoted(name)} are one video", "leave one out")
        made[name], taken[called] = called, name
    return made
