"""Annotation files in: their format found out, every record checked, clips put together.

A record that breaks its format is left out and reported, with its file, its place and the key; ``strict`` makes the
first one an error.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.files import read_json, require_file, sha256_of_file
from figclip_cli.prompts.events import AnnotatedEvent, Annotation, AnnotationFiles, Found, Problem, Unlabelled
from figclip_cli.prompts.formats import FORMATS, Format, imsitu, simple, srl, vidsitu
from figclip_cli.prompts.formats.simple import plain_rows
from figclip_cli.reporting import SILENT, Reporter

AUTO = "auto"
_LOOKED_AT = 100
_HINT = "records are counted from 0; correct the annotation file, or leave out --strict to skip such records"
_WHOLE_HINT = "--format says which it is, if it should be one"


@dataclass
class _Record:
    """One record of a file: ``place`` for messages, ``key`` where the file is an object of records."""

    place: str
    value: Any
    key: str | None = None


@dataclass
class _Clips:
    """Annotations as they come together, by clip id and annotation index."""

    events: dict[str, dict[int, dict[int, AnnotatedEvent]]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, found: Found) -> None:
        annotations = self.events[found.clip_id]
        number = len(annotations) if found.annotation is None else found.annotation
        events = annotations.setdefault(number, {})
        for event in found.events:
            index = len(events) if event.index == srl.NEXT else event.index
            if index in events:
                raise Problem(f"clip {found.clip_id}: event {index} of annotation {number} is there already")
            event.index = index
            events[index] = event

    def sorted(self) -> tuple[Annotation, ...]:
        return tuple(
            Annotation(clip_id, number, tuple(events[index] for index in sorted(events)))
            for clip_id in sorted(self.events)
            for number, (_, events) in enumerate(sorted(self.events[clip_id].items()))
        )


def read_annotations(
    paths: Sequence[Path],
    *,
    format_name: str = AUTO,
    nouns: Path | None = None,
    strict: bool = False,
    reporter: Reporter = SILENT,
) -> AnnotationFiles:
    """Read annotation files, in sorted order.

    Args:
        format_name: ``vidsitu``, ``imsitu``, ``srl``, ``simple``, or ``auto``: each file's records tell.
        nouns: ``imsitu_space.json``, for imSitu files whose nouns are WordNet ids.
        strict: Make the first record that breaks its format an error.

    Raises:
        UsageError: Two of the files are the same, or there is no such format.
        InputError: A file is missing, not JSON, of no known format, or has no usable record; or, with ``strict``, a
            record breaks its format.
    """
    chosen = _format_named(format_name)
    words = imsitu.read_nouns(nouns) if nouns else None
    clips = _Clips()
    sources: list[dict[str, str]] = []
    problems: list[tuple[str, str]] = []
    total = unlabelled = 0
    for path in sorted(paths, key=lambda path: (path.name, str(path))):
        records = _records(path)
        form = chosen or _recognised(path, records)
        reporter.info(f"annotations: {path} is {form.title} ({form.name})")
        sources.append(_source(path, form, sources))
        total += len(records)
        for record in records:
            try:
                record.value = _decoded(record.value)
                if isinstance(record.value, Problem):
                    raise record.value
                for found in form.parse(record.value, record.key, words):
                    clips.add(found)
            except Problem as problem:
                line = f"{path}, {record.place}{_clip_of(record.value)}: {problem}"
                if strict:
                    raise InputError(line, problem.hint or _HINT) from problem
                problems.append((line, problem.hint))
            except Unlabelled:
                unlabelled += 1
            record.value = None
    if not clips.events:
        _nothing_usable(paths, problems, total, unlabelled)
    return AnnotationFiles(tuple(sources), clips.sorted(), tuple(line for line, _ in problems), total, unlabelled)


def _nothing_usable(paths: Sequence[Path], problems: list[tuple[str, str]], total: int, unlabelled: int) -> None:
    if unlabelled:
        raise InputError(
            f"none of the {total} records of {', '.join(map(str, paths))} has labels (neither Verb nor Args)",
            "VidSitu's test labels are not public: use the train or the valid annotations",
        )
    line, hint = problems[0]
    raise InputError(f"{line} (none of {total} records is usable)", hint or "is it the right file?")


def read_split(path: Path) -> frozenset[str]:
    """Read a split file (VidSitu's ``vseg_split_*_lb.json``, also the ``_new`` lists): a list of clip ids.

    Raises:
        InputError: The file is missing, not JSON, empty, or not a list of strings.
    """
    clip_ids = read_json(path, "split file")
    if not isinstance(clip_ids, list) or not all(isinstance(clip_id, str) for clip_id in clip_ids):
        raise InputError(f"split file {path} is not a list of clip ids", "pass a vseg_split_*_lb.json file")
    if not clip_ids:
        raise InputError(f"split file {path} names no clip", "is it the right file?")
    return frozenset(clip_ids)


def read_verbs(path: Path) -> dict[tuple[str, int], frozenset[str]]:
    """Read the verbs that annotators gave each event, by clip id and event index (VidSitu's ``vinfo_valid_lb.json``).

    Raises:
        InputError: The file is missing, not JSON, or has a record without clip or with verbs that are no lists.
    """
    records = read_json(path, "vinfo file")
    if not isinstance(records, list):
        raise InputError(f"vinfo file {path} is not a list of records", "pass a vinfo_*_lb.json file")
    verbs: dict[tuple[str, int], set[str]] = defaultdict(set)
    for number, record in enumerate(records):
        try:
            clip_id = record["vid_seg_int"]
            for name in ("vb_lst", "vbid_lst"):
                for event, words in record.get(name, {}).items():
                    verbs[clip_id, vidsitu.EVENT_KEYS.index(event)].update(str(word) for word in [*words])
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            place = f"vinfo file {path}, record {number}"
            raise InputError(f"{place}: {type(error).__name__}: {error}", "pass a vinfo_*_lb.json file") from error
    if not verbs:
        raise InputError(f"vinfo file {path} lists no verbs", "only the one of the valid split has vb_lst and vbid_lst")
    return {key: frozenset(found) for key, found in verbs.items()}


def _format_named(name: str) -> Format | None:
    if name == AUTO:
        return None
    for form in FORMATS:
        if form.name == name:
            return form
    raise UsageError(f"no annotation format '{name}'", nearest(name, [AUTO, *(form.name for form in FORMATS)]))


def _recognised(path: Path, records: Sequence[_Record]) -> Format:
    """Return the format of the first record that is of any: a malformed one must not hide what the others are."""
    for record in records[:_LOOKED_AT]:
        value = _decoded(record.value)
        for form in FORMATS:
            if form.recognises(value, record.key):
                return form
    if path.suffix.lower() == ".csv":
        return next(form for form in FORMATS if form.name == "simple")
    first = _decoded(records[0].value)
    if isinstance(first, dict) and "vb_lst" in first:
        raise InputError(f"annotation file {path} is a vinfo file, which has no roles", "pass it with --vinfo")
    if isinstance(first, str):
        raise InputError(f"annotation file {path} is a list of texts", "a vseg_split_*_lb.json goes with --split")
    titles = ", ".join(form.title for form in FORMATS)
    raise InputError(f"annotation file {path} is of no format that figclip knows ({titles})", _WHOLE_HINT)


def _records(path: Path) -> list[_Record]:
    """Return the records of a file, not yet decoded where it is a list: a big file is never whole in memory twice."""
    require_file(path, "annotation file", "check the path")
    if path.suffix.lower() == ".csv":
        records = [_Record(f"line {line}", record) for line, record in simple.rows_of_csv(path)]
    else:
        records = list(_json_records(path))
    if not records:
        raise InputError(f"annotation file {path} has no records", "is it the right file?")
    return records


def _json_records(path: Path) -> Iterator[_Record]:
    content = path.read_bytes()
    listed: Any
    try:
        listed = msgspec.json.decode(content, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError):
        lines = _lines(content)
        if lines is not None:
            yield from lines
            return
        # Refused with line and column where it is no JSON; else it has what only a lenient reader takes.
        listed = read_json(path, "annotation file")
    if not isinstance(listed, (list, dict)):
        raise InputError(f"annotation file {path} is not a list or an object of records", _WHOLE_HINT)
    if isinstance(listed, list):
        yield from (_Record(f"record {number}", raw) for number, raw in enumerate(listed))
    elif "events" in listed:
        yield from _document(listed, path)
    elif {"clip", "verb"} <= listed.keys() or {"words", "verbs"} <= listed.keys():
        yield _Record("record 0", msgspec.Raw(content))  # one line of JSON lines
    else:
        yield from (_Record(f"record '{key}'", raw, key) for key, raw in listed.items())


def _document(document: dict[str, Any], path: Path) -> Iterator[_Record]:
    """Yield the events of figclip's own form as one object."""
    head = {key: _decoded(value) for key, value in document.items()}
    events = head.pop("events")
    if head.get("format", simple.FORMAT) != simple.FORMAT or not isinstance(events, list):
        raise InputError(f"annotation file {path} is not in the format '{simple.FORMAT}'", _WHOLE_HINT)
    if head.get("format_version", simple.FORMAT_VERSION) != simple.FORMAT_VERSION:
        which = f"format version {head['format_version']}, this figclip reads {simple.FORMAT_VERSION}"
        raise InputError(f"annotation file {path} has {which}", "use the figclip that wrote it, or a newer one")
    if unknown := sorted(head.keys() - {"format", "format_version"}):
        raise InputError(f"annotation file {path}: unknown key '{unknown[0]}'", "figclip schema annotations prints all")
    yield from (_Record(f"event {number}", event) for number, event in enumerate(events))


def _lines(content: bytes) -> list[_Record] | None:
    """Return the records of JSON lines; None where the first line is no JSON object."""
    records: list[_Record] = []
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            value = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            value = Problem(f"no JSON ({error})")
        if not records and not isinstance(value, dict):
            return None
        records.append(_Record(f"line {number}", value))
    return records if len(records) > 1 else None


def read_records(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the value of each record of a JSON list, JSON lines, or a CSV file with a header.

    Raises:
        InputError: The file is missing, or is none of these.
    """
    require_file(path, "caption file", "check the path")
    if path.suffix.lower() == ".csv":
        yield from ((f"line {line}", row) for line, row in plain_rows(path, "caption file"))
        return
    for record in _json_records(path):
        yield record.place, _decoded(record.value)


def _decoded(raw: Any) -> Any:
    """Return a value, decoded if it is still to be."""
    if not isinstance(raw, msgspec.Raw):
        return raw
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Problem(f"no JSON ({error})")


def _source(path: Path, form: Format, earlier: Iterable[dict[str, str]]) -> dict[str, str]:
    digest = sha256_of_file(path)
    twin = next((source["name"] for source in earlier if source["sha256"] == digest), None)
    if twin is not None:
        raise UsageError(f"annotation files {twin} and {path} are the same", "name each file once")
    return {"name": path.name, "sha256": digest, "format": form.name}


def _clip_of(record: Any) -> str:
    """Return `` (clip ID)`` where the record tells."""
    clip_id = vidsitu.clip_of(record)
    if not clip_id and isinstance(record, dict):
        clip_id = next((record[key] for key in ("clip", "clip_id") if isinstance(record.get(key), str)), "")
    return f" (clip {clip_id})" if clip_id else ""
