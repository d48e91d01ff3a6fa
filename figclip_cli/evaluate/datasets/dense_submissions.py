"""Submissions of dense captioning, as the ActivityNet Captions challenge defines them.

``{"version": ..., "results": {video: [{"sentence": ..., "timestamp": [start, end]}, ...]}, "external_data": {...}}``
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import quoted, read_json_document, shown_value
from figclip_cli.evaluate.datasets.dense_events import (
    aligned_ids,
    count_reversed,
    member,
    segment_of,
    sentence_of,
    video_id_of,
)
from figclip_cli.files import sha256_of_file

WHAT = "predictions file"
MAX_PROPOSALS = 1000
_HINT = 'expected {"version", "results": {video: [{"sentence", "timestamp": [start, end]}]}, "external_data"}'


@dataclass(frozen=True, eq=False)
class Proposals:
    """What was predicted for one video.

    Attributes:
        segments_seconds: (n, 2) float64, start and end, in file order; n may be 0.
        sentences: One for each.
    """

    segments_seconds: npt.NDArray[np.float64]
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """A file of predictions.

    Attributes:
        name: The file's name without ending.
        path: The file.
        sha256: Hash of the file.
        version: As the file says.
        external_data: As the file says; None where it says nothing.
        videos: By video id, in file order.
        dropped: Proposals beyond the most that a video may have.
        reversed_segments: Proposals kept whose start is after their end; they overlap nothing.
        renamed_ids: Videos that the references call by an id with ``v_`` added or taken away.
    """

    name: str
    path: Path
    sha256: str
    version: str
    external_data: Any
    videos: dict[str, Proposals]
    dropped: int = 0
    reversed_segments: int = 0
    renamed_ids: int = 0

    def renamed(self, known: Collection[str]) -> Submission:
        """Return the submission with the ids that the references have; see :func:`.dense_events.aligned_ids`.

        Raises:
            InputError: Two videos are one, or not one is known.
        """
        where = f"{WHAT} {self.path}"
        called = aligned_ids(self.videos, known, where)
        if not any(new in known for new in called.values()):
            mine, theirs = quoted(next(iter(self.videos))), quoted(next(iter(known)))
            raise InputError(
                f"{where}: not one of its {len(self.videos)} videos is in the references, such as {mine}",
                f"the references have ids such as {theirs}; is it the right --split?",
            )
        renamed = sum(name != new for name, new in called.items())
        videos = {called[name]: proposals for name, proposals in self.videos.items()}
        return replace(self, videos=videos, renamed_ids=renamed)


def read_submission(path: Path, *, max_proposals: int = MAX_PROPOSALS) -> Submission:
    """Read a file of predictions.

    Args:
        max_proposals: Of a video's proposals so many are kept, the first in the file, as densevid_eval does.

    Raises:
        InputError: The file is missing, is no submission, or has a broken proposal; the message names it.
    """
    document, where = read_json_document(path, WHAT, _HINT), f"{WHAT} {path}"
    if not isinstance(document, dict):
        raise InputError(f"{where} is {shown_value(document)}, expected an object", _HINT)
    results = member(document, "results", dict, where)
    if not results:
        raise InputError(f"{where}: 'results' is empty", "predict captions for a video first")
    videos, dropped = {}, 0
    for name, proposals in results.items():
        place = f"{where}, video {quoted(name)}"
        if not isinstance(proposals, list):
            raise InputError(f"{place} is {shown_value(proposals)}, expected a list of proposals", _HINT)
        videos[video_id_of(name, where)] = _proposals(proposals, place, max_proposals)
        dropped += len(proposals) - len(videos[name].sentences)
    if not any(video.sentences for video in videos.values()):
        raise InputError(f"{where}: not one of its {len(videos)} videos has a proposal", "predict captions first")
    return Submission(
        path.name.removesuffix(".json"),
        path,
        sha256_of_file(path),
        _version(document.get("version"), where),
        _external(document.get("external_data"), where),
        videos,
        dropped,
        sum(count_reversed(map(tuple, video.segments_seconds)) for video in videos.values()),
    )


def _proposals(proposals: list[Any], place: str, most: int) -> Proposals:
    """Check all proposals of a video, those beyond ``most`` too, and keep the first ``most``."""
    segments, sentences = [], []
    for number, one in enumerate(proposals, start=1):
        at = f"{place}, proposal {number}"
        segments.append(segment_of(member(one, "timestamp", list, at), f"{at}, timestamp"))
        sentences.append(sentence_of(member(one, "sentence", str, at), f"{at}, sentence"))
    kept = np.array(segments[:most], dtype=np.float64).reshape(-1, 2)
    return Proposals(kept, tuple(sentences[:most]))


def _version(value: Any, where: str) -> str:
    if value is None or isinstance(value, str):
        return sentence_of(value or "", f"{where}: 'version'")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return shown_value(value)
    raise InputError(f"{where}: 'version' is {shown_value(value)}, expected a text", _HINT)


def _external(value: Any, where: str) -> dict[str, Any] | None:
    """Return what the file says of external data, as far as it can be written again."""
    if value is None:
        return None
    if not isinstance(value, dict):
        raise InputError(f"{where}: 'external_data' is {shown_value(value)}, expected an object", _HINT)
    return {
        key: value[key] if isinstance(value[key], bool) else sentence_of(str(value[key]), f"{where}: '{key}'")
        for key in ("used", "details")
        if key in value
    }
