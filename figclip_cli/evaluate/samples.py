"""Samples, the file beside results: what each model made of each item. A header line, then one line per item."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.files import require_file
from figclip_cli.prompts.store import write_lines

SAMPLES_FORMAT = "figclip-samples"
SAMPLES_FORMAT_VERSION = 1
_ENCODER = msgspec.json.Encoder(order="sorted")
_AGAIN = "evaluate again with this figclip"
_HINT = "is it a samples file of figclip evaluate?"


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """What one model made of one item.

    Attributes:
        right: Whether the item counts as right.
        margin: Score of the right answer minus that of the best wrong one; negative where the item is wrong.
        rank: Rank of the right answer, from 0, fractional where ties are averaged; None where nothing is ranked.
        chosen: What the model put first.
    """

    right: bool
    margin: float
    rank: float | None = None
    chosen: str = ""


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False, kw_only=True):
    """One item and its outcomes.

    Attributes:
        id: Name of the item; no two of a part have the same.
        part: Part of the benchmark, or direction of retrieval.
        group: Relation, kind or class; may be empty.
        look: The clip or image.
        text: The right text.
        outcomes: By model: ``base`` and, where given, ``adapted``.
    """

    id: str
    part: str = ""
    group: str = ""
    look: str = ""
    text: str = ""
    outcomes: dict[str, Outcome]

    @property
    def key(self) -> tuple[str, str]:
        """What identifies the item."""
        return self.part, self.id


@dataclass(frozen=True)
class SamplesHeader:
    """What samples are of.

    Attributes:
        task: As in the results.
        dataset_id: Name of the data set.
        dataset_sha256: Hash of its file.
        models: Name and hashes of ``base`` and, where given, ``adapted``.
        count: Number of samples; 0 where they are yet to be written.
    """

    task: str
    dataset_id: str
    dataset_sha256: str
    models: Mapping[str, Mapping[str, Any]]
    count: int = 0


def write_samples(path: Path, samples: Iterable[Sample], header: SamplesHeader) -> int:
    """Write samples, whole or not at all, and return how many; only their names are kept in memory.

    Raises:
        VerificationError: A sample is named twice, lacks a model, or has a number that is not finite.
        InputError: A text is not Unicode.
    """
    seen: set[tuple[str, str]] = set()
    counts: dict[str, int] = {}

    def lines() -> Iterator[bytes]:
        for sample in samples:
            problem = _problem(sample, header.models, seen)
            if problem:
                raise VerificationError(f"samples of {header.task}: {problem}", "report it: this is a defect")
            counts[sample.part] = counts.get(sample.part, 0) + 1
            yield _encode(sample)

    def document() -> dict[str, Any]:
        return {
            "format": SAMPLES_FORMAT,
            "format_version": SAMPLES_FORMAT_VERSION,
            "task": header.task,
            "dataset": {"id": header.dataset_id, "sha256": header.dataset_sha256},
            "models": {model: dict(facts) for model, facts in header.models.items()},
            "counts": {"samples": len(seen), "parts": counts},
        }

    write_lines(path, lines(), document)
    return len(seen)


def read_samples(path: Path) -> tuple[SamplesHeader, Iterator[Sample]]:
    """Return the header, and an iterator that reads and checks one sample after another.

    Raises:
        InputError: The file is missing, empty, of another format or version, has a broken or repeated line, or has
            fewer or more samples than its header counts; also raised while iterating.
    """
    require_file(path, "samples file", _AGAIN)
    with path.open("rb") as file:
        header = _read_header(file.readline(), path)
    return header, _read_lines(path, header)


def _encode(sample: Sample) -> bytes:
    try:
        return _ENCODER.encode(sample) + b"\n"
    except UnicodeEncodeError as error:
        raise InputError(f"sample {sample.id!r}: its text is not Unicode ({error.reason})", "mend the text") from error


def _read_lines(path: Path, header: SamplesHeader) -> Iterator[Sample]:
    decoder, seen = msgspec.json.Decoder(Sample), set[tuple[str, str]]()
    with path.open("rb") as file:
        file.readline()
        for number, line in enumerate(file, start=2):
            where = f"samples file {path}, line {number}"
            try:
                sample = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                # ValidationError is a DecodeError: a wrong type or a missing key reads like a line that is no JSON.
                raise InputError(f"{where}: {error}", _AGAIN) from error
            problem = _problem(sample, header.models, seen)
            if problem:
                raise InputError(f"{where}: {problem}", _AGAIN)
            yield sample
    if len(seen) != header.count:
        why = "the file is cut off" if len(seen) < header.count else "lines were added"
        raise InputError(f"samples file {path} has {len(seen)} samples, its header says {header.count}: {why}", _AGAIN)


def _problem(sample: Sample, models: Mapping[str, Any], seen: set[tuple[str, str]]) -> str:
    """Return what is wrong with a sample, or nothing; note its name."""
    name = f"sample '{sample.id}'" + (f" of {sample.part}" if sample.part else "")
    if sample.outcomes.keys() != models.keys():
        return f"{name} has outcomes of {', '.join(sorted(sample.outcomes)) or 'no model'}"
    for model, outcome in sample.outcomes.items():
        rank = 0.0 if outcome.rank is None else outcome.rank
        if not (math.isfinite(outcome.margin) and math.isfinite(rank) and rank >= 0):
            return f"{name} has margin {outcome.margin} and rank {outcome.rank} for {model}"
    if sample.key in seen:
        return f"{name} is there already"
    seen.add(sample.key)
    return ""


class _Dataset(msgspec.Struct):
    id: str
    sha256: str


class _Counts(msgspec.Struct):
    samples: int


class _Header(msgspec.Struct):
    task: str
    dataset: _Dataset
    models: dict[str, dict[str, Any]]
    counts: _Counts


def _read_header(line: bytes, path: Path) -> SamplesHeader:
    if not line.strip():
        raise InputError(f"samples file {path} is empty", _AGAIN)
    try:
        document = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"samples file {path}, line 1: no header ({error})", _HINT) from error
    if document.get("format") != SAMPLES_FORMAT:
        raise InputError(f"samples file {path}, line 1: the format is not '{SAMPLES_FORMAT}'", _HINT)
    version = document.get("format_version")
    if version != SAMPLES_FORMAT_VERSION:
        which = f"format version {version!r}, this figclip reads {SAMPLES_FORMAT_VERSION}"
        raise InputError(f"samples file {path} has {which}", _AGAIN)
    try:
        read = msgspec.convert(document, type=_Header)
    except msgspec.ValidationError as error:
        raise InputError(f"samples file {path}, line 1: {error}", _AGAIN) from error
    return SamplesHeader(read.task, read.dataset.id, read.dataset.sha256, read.models, read.counts.samples)
