"""Rows of the captions files that are one JSON value keyed by clip, or a list: MSVD, DiDeMo, ActivityNet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.captions_rows import Row
from figclip_cli.evaluate.datasets.common import quoted, shown_value

_SHAPES = {
    "msvd": "an object of lists of captions by clip id",
    "didemo": "a list of objects with video and description",
    "activitynet": "an object of objects with sentences by clip id",
    "msrvtt-json": "an object with videos and sentences, or with annotations",
}


def wrong_shape(where: str, name: str, value: Any) -> InputError:
    """Return the error for a file that is not of the format it was said to be."""
    return InputError(f"{where} is not {name}: it is {shown_value(value)}", f"{name} is {_SHAPES[name]}")


def msvd_captions(value: Any, where: str) -> Iterator[Row]:
    """Yield the captions of an object of lists by clip id.

    A caption is a text (``captions_msvd.json`` of layer6ai-labs/xpool) or a list of its words (``raw-captions.pkl``
    of ArrowLuo/CLIP4Clip), which are joined with spaces.
    """
    if not isinstance(value, dict):
        raise wrong_shape(where, "msvd", value)
    for clip, captions in value.items():
        place = f"clip {quoted(str(clip))}"
        if not isinstance(captions, list) or not captions:
            found = "an empty list" if captions == [] else shown_value(captions)
            raise InputError(f"{where}, {place}: {found}, expected a list of captions", "correct the file")
        for number, caption in enumerate(captions, start=1):
            yield f"{place}, caption {number}", clip, _from_words(caption)


def _from_words(caption: Any) -> Any:
    """Return the words joined; what is no list of words is returned as it is, and checked with the other captions."""
    if isinstance(caption, list) and all(isinstance(word, str) for word in caption):
        return " ".join(caption)
    return caption


def didemo_captions(value: Any, where: str) -> Iterator[Row]:
    """Yield the descriptions of LisaAnne/LocalizingMoments' ``*_data.json``, each of a moment of a video."""
    if not isinstance(value, list):
        raise wrong_shape(where, "didemo", value)
    for number, record in enumerate(value, start=1):
        yield (f"record {number}", *fields(record, ("video", "description"), f"{where}, record {number}"))


def activitynet_captions(value: Any, where: str) -> Iterator[Row]:
    """Yield the sentences of ActivityNet Captions' ``val_1.json``; times are checked for their number alone."""
    if not isinstance(value, dict):
        raise wrong_shape(where, "activitynet", value)
    for clip, record in value.items():
        place = f"clip {quoted(str(clip))}"
        (sentences,) = fields(record, ("sentences",), f"{where}, {place}")
        if not isinstance(sentences, list) or not sentences:
            found = "an empty list" if sentences == [] else shown_value(sentences)
            raise InputError(f"{where}, {place}: 'sentences' is {found}, expected a list of texts", "correct the file")
        times = record.get("timestamps", sentences)
        if not isinstance(times, list) or len(times) != len(sentences):
            found = f"{len(times)} of them" if isinstance(times, list) else shown_value(times)
            raise InputError(
                f"{where}, {place}: 'timestamps' is not a pair for each of the {len(sentences)} sentences, but {found}",
                "correct the file",
            )
        for number, sentence in enumerate(sentences, start=1):
            yield f"{place}, sentence {number}", clip, sentence


def fields(record: Any, keys: tuple[str, ...], at: str) -> tuple[Any, ...]:
    """Return the values of a record under keys that it must have.

    Raises:
        InputError: It is no object, or a key is missing.
    """
    if not isinstance(record, dict):
        raise InputError(f"{at}: {shown_value(record)}, expected an object", "is the file complete and of this format?")
    for key in keys:
        if key not in record:
            raise InputError(f"{at}: '{key}' is missing", "is the file complete and of this format?")
    return tuple(record[key] for key in keys)
