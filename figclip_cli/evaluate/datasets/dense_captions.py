"""Videos with timed sentences: ActivityNet Captions, files of its shape for YouCook2, and YouCook2's own.

- ActivityNet Captions (``val_1.json``): ``{video: {"duration", "timestamps": [[start, end], ...], "sentences"}}``.
- YouCook2 (``youcookii_annotations_trainval.json``): ``{"database": {video: {"duration", "subset", "annotations":
  [{"segment": [start, end], "id", "sentence"}]}}}``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.evaluate.datasets.common import quoted, read_json_document, shown_value
from figclip_cli.evaluate.datasets.dense_events import (
    aligned_ids,
    count_reversed,
    member,
    seconds_of,
    segment_of,
    sentence_of,
    video_id_of,
)
from figclip_cli.files import sha256_of_file

WHAT = "annotation file"
DEFAULT_SPLIT, ALL_SPLITS = "validation", "all"
_HINT = "ActivityNet Captions' val_1.json, or YouCook2's youcookii_annotations_trainval.json"
_CORRECT = "correct the file"


@dataclass(frozen=True, eq=False)
class DenseVideo:
    """One video and what happens in it.

    Attributes:
        duration_seconds: Length of the video.
        segments_seconds: (n, 2) float64, start and end of each event, in file order, n >= 1.
        sentences: One for each event, as written but for white space at its ends; one may be empty.
    """

    duration_seconds: float
    segments_seconds: npt.NDArray[np.float64]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class DenseCaptions:
    """A file of timed sentences.

    Attributes:
        dataset_id: The file's name, for tables.
        sha256: Hash of the file.
        format: ``activitynet`` or ``youcook2``.
        videos: By video id, in file order.
        split: What was read, where the format has splits.
        choices: What was found while reading, as plain JSON values: ``file``, ``sha256``, ``format``, ``split``,
            ``videos``, ``events``, ``reversed_segments`` (whose start is after their end; kept), ``empty_sentences``
            (kept) and ``renamed_ids``.
    """

    dataset_id: str
    sha256: str
    format: str
    videos: dict[str, DenseVideo]
    split: str | None = None
    choices: dict[str, Any] = field(default_factory=dict)


def read_dense_captions(path: Path, *, split: str | None = None) -> DenseCaptions:
    """Read a file of timed sentences.

    Args:
        split: With YouCook2's own file, ``training``, ``validation`` (the default) or ``all``.

    Raises:
        InputError: The file is missing, of no known format, or has a broken video; the message names it.
        UsageError: The file has no such split, or no splits.
    """
    document = read_json_document(path, WHAT, _HINT)
    where = f"{WHAT} {path}"
    if not isinstance(document, dict) or not document:
        found = "has no videos" if document in ({}, []) else f"is {shown_value(document)}"
        raise InputError(f"{where} {found}, expected an object of videos", _HINT)
    is_youcook2 = isinstance(document.get("database"), dict)
    if is_youcook2:
        split, records = _of_split(document["database"], split, where)
        videos = {name: _youcook2_video(record, place) for name, record, place in records}
    else:
        if split is not None:
            raise UsageError(f"{path} has no splits, so --split {split} chooses nothing", "leave out --split")
        videos = {name: _activitynet_video(record, _place(where, name)) for name, record in document.items()}
    for video in videos:
        video_id_of(video, where)
    name, sha256 = "youcook2" if is_youcook2 else "activitynet", sha256_of_file(path)
    choices = {
        "file": path.name,
        "sha256": sha256,
        "format": name,
        "split": split,
        "videos": len(videos),
        "events": sum(len(video.sentences) for video in videos.values()),
        "reversed_segments": sum(count_reversed(map(tuple, video.segments_seconds)) for video in videos.values()),
        "empty_sentences": sum(not sentence for video in videos.values() for sentence in video.sentences),
        "renamed_ids": 0,
    }
    return DenseCaptions(path.name, sha256, name, videos, split, choices)


def read_reference_sets(paths: Sequence[Path], *, split: str | None = None) -> tuple[DenseCaptions, ...]:
    """Read several files that annotate the same videos, such as ActivityNet's ``val_1.json`` and ``val_2.json``.

    A video that is in several files has the id of the first of them, with ``v_`` or without.

    Raises:
        InputError: As :func:`read_dense_captions`; also where a file is given twice.
        UsageError: As :func:`read_dense_captions`.
    """
    sets = [read_dense_captions(path, split=split) for path in paths]
    known: dict[str, None] = {}
    for number, captions in enumerate(sets):
        first = next(
            (path for path, one in zip(paths, sets[:number], strict=False) if one.sha256 == captions.sha256), None
        )
        if first is not None:
            raise InputError(f"{first} and {paths[number]} have the same content", "give each set of references once")
        called = aligned_ids(captions.videos, known, f"{WHAT} {paths[number]}")
        renamed = sum(name != new for name, new in called.items())
        videos = {called[name]: video for name, video in captions.videos.items()}
        sets[number] = replace(captions, videos=videos, choices={**captions.choices, "renamed_ids": renamed})
        known |= dict.fromkeys(videos)
    return tuple(sets)


def _place(where: str, name: str) -> str:
    return f"{where}, video {quoted(name)}"


def _activitynet_video(record: Any, place: str) -> DenseVideo:
    times = member(record, "timestamps", list, place)
    sentences = member(record, "sentences", list, place)
    if len(times) != len(sentences):
        raise InputError(f"{place} has {len(times)} timestamps and {len(sentences)} sentences", _CORRECT)
    return _video(record, times, sentences, place)


def _youcook2_video(record: Any, place: str) -> DenseVideo:
    annotations = member(record, "annotations", list, place)
    places = [f"{place}, annotation {number}" for number in range(1, len(annotations) + 1)]
    times = [member(one, "segment", list, at) for one, at in zip(annotations, places, strict=True)]
    sentences = [member(one, "sentence", str, at) for one, at in zip(annotations, places, strict=True)]
    return _video(record, times, sentences, place)


def _video(record: dict[str, Any], times: list[Any], sentences: list[Any], place: str) -> DenseVideo:
    if not times:
        raise InputError(f"{place} has no events", "leave the video out of the file")
    if "duration" not in record:
        raise InputError(f"{place}: 'duration' is missing", "is the file complete and of this format?")
    duration = seconds_of(record["duration"], f"{place}: 'duration'")
    if duration <= 0:
        raise InputError(f"{place}: 'duration' is {duration:g}, expected more than 0 seconds", _CORRECT)
    segments = [segment_of(one, f"{place}, timestamp {number}") for number, one in enumerate(times, start=1)]
    texts = [sentence_of(one, f"{place}, sentence {number}").strip() for number, one in enumerate(sentences, start=1)]
    return DenseVideo(duration, np.array(segments, dtype=np.float64), tuple(texts))


def _of_split(
    database: dict[str, Any], split: str | None, where: str
) -> tuple[str, Iterator[tuple[str, dict[str, Any], str]]]:
    """Return the split's name, and the name, record and place of each of its videos."""
    subsets = {name: member(record, "subset", str, _place(where, name)) for name, record in database.items()}
    # Videos of the test split are listed without their annotations.
    annotated = {subset for name, subset in subsets.items() if "annotations" in database[name]}
    if not annotated:
        raise InputError(f"{where} has no annotated video", _HINT)
    wanted = split or (DEFAULT_SPLIT if DEFAULT_SPLIT in annotated else ALL_SPLITS)
    if wanted != ALL_SPLITS and wanted not in annotated:
        raise UsageError(f"{where} has no annotated split '{wanted}'", nearest(wanted, {*annotated, ALL_SPLITS}))
    chosen = annotated if wanted == ALL_SPLITS else {wanted}
    records = ((name, database[name], _place(where, name)) for name, subset in subsets.items() if subset in chosen)
    return wanted, records
