"""What the readers of compositional benchmarks share: known files of a folder, checked records, the finished set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choices import Average, Choice, Compositional, PartRule, Uses
from figclip_cli.evaluate.datasets.common import (
    check_text,
    quoted,
    read_json_document,
    read_json_lines,
    refuse_repeated,
    shown_value,
)
from figclip_cli.files import require_file, sha256_of_file, sha256_of_json

_COMPLETE = "is the file complete and of this format?"


@dataclass(frozen=True)
class KnownFiles:
    """Files of a benchmark.

    Attributes:
        paths: Files given, and in each folder given those with a known name, in the order of the known names.
        ignored: Names of the other files in the folders.
    """

    paths: tuple[Path, ...]
    ignored: tuple[str, ...]


def known_files(paths: Sequence[Path], names: Sequence[str], what: str) -> KnownFiles:
    """Find a benchmark's files.

    Args:
        paths: Files, which are taken whatever their name, and folders, in which ``names`` are looked for.
        names: Known file names.
        what: What such a file is to the user, for example ``"SugarCrepe file"``.

    Raises:
        InputError: A path does not exist, a folder has no known file, or a file is given twice.
    """
    expected = f"expected: {', '.join(names)}"
    found: list[Path] = []
    ignored: list[str] = []
    for path in paths:
        if not path.is_dir():
            found.append(require_file(path, what, expected))
            continue
        known = [path / name for name in names if (path / name).is_file()]
        if not known:
            raise InputError(f"folder {path} has no {what}", expected)
        found += known
        ignored += sorted(entry.name for entry in path.iterdir() if entry.is_file() and entry not in known)
    if not found:
        raise InputError(f"no {what} was given", expected)
    refuse_repeated([str(path.resolve()) for path in found], f"the list of {what}s")
    return KnownFiles(tuple(found), tuple(ignored))


def records(path: Path, what: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSON list, or of the lines of a ``.jsonl``, each with where it is, for messages.

    Raises:
        InputError: The file is no such list, or an element is no object.
    """
    if path.suffix.lower() == ".jsonl":
        for number, record in read_json_lines(path, what, "one JSON object to a line"):
            yield f"{what} {path}, line {number}", record
        return
    for number, record in enumerate(read_list(path, what)):
        yield f"{what} {path}, record {number}", require_object(record, f"{what} {path}, record {number}")


def read_list(path: Path, what: str) -> list[Any]:
    """Return a JSON file's list.

    Raises:
        InputError: The file is missing, no JSON, or no list.
    """
    document = read_json_document(path, what, _COMPLETE)
    if not isinstance(document, list):
        raise InputError(f"{what} {path} is {shown_value(document)}, expected a JSON list", _COMPLETE)
    return document


def keyed_records(path: Path, what: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the objects of a JSON object, each with its key and where it is."""
    document = require_object(read_json_document(path, what, _COMPLETE), f"{what} {path}")
    for key, record in document.items():
        where = f"{what} {path}, record {quoted(key)}"
        check_text(key, where)
        yield key, where, require_object(record, where)


def require_object(value: Any, where: str) -> dict[str, Any]:
    """Return a JSON object, or raise an :class:`InputError` that says where there is none."""
    if not isinstance(value, dict):
        raise InputError(f"{where}: {shown_value(value)}, expected a JSON object", _COMPLETE)
    return value


def optional_text(record: dict[str, Any], key: str, where: str) -> str:
    """Return a record's text, or "" where it is missing, null or empty."""
    value = record.get(key)
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise InputError(f"{where}: '{key}' is {shown_value(value)}, expected a text", _COMPLETE)
    check_text(value, f"{where}: '{key}'")
    return value.strip()


def texts_in(value: Any, where: str, name: str) -> tuple[str, ...]:
    """Return the texts of a JSON list that has at least one and no empty one."""
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: {name} is {shown_value(value)}, expected a list of texts", _COMPLETE)
    for text in value:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{where}: {name} holds {shown_value(text)}, expected a text", _COMPLETE)
        check_text(text, f"{where}: {name}")
    return tuple(text.strip() for text in value)


def macro(name: str, parts: Iterable[str]) -> tuple[Average, ...]:
    """Return the average of some parts; none where there is only one or no part to average."""
    of = tuple(parts)
    return (Average(name, of),) if len(of) > 1 else ()


def assembled(
    benchmark: str,
    paths: Sequence[Path],
    files: Sequence[Path],
    choices: Sequence[Choice],
    rules: Mapping[str, PartRule],
    *,
    averages: Sequence[Average] = (),
    remarks: Mapping[str, Any],
    ignored: Sequence[str] = (),
    uses: Uses = "images",
) -> Compositional:
    """Return a finished set, with only the rules of the parts that have choices.

    Args:
        paths: What the user gave; it names the set.
        files: All files read, over which the hash is made.
        ignored: Files of the folders that were not read; added to the remarks, as are choices with equal texts.

    Raises:
        InputError: There is no choice, or two have the same id.
    """
    where = f"benchmark {benchmark}, {', '.join(map(str, paths)):.120}"
    if not choices:
        raise InputError(f"{where}: no items", _COMPLETE)
    refuse_repeated([choice.id for choice in choices], where)
    present = {choice.part for choice in choices}
    hashes = sorted([file.name, sha256_of_file(file)] for file in files)
    noted = dict(remarks)
    if ignored:
        noted["ignored_files"] = list(ignored)
    if equal := sum(choice.texts[0] in choice.texts[1:] for choice in choices):
        noted["items_with_equal_texts"] = equal
    return Compositional(
        benchmark=benchmark,
        dataset_id=(paths[0].resolve().name if len(paths) == 1 else "") or benchmark,
        sha256=hashes[0][1] if len(hashes) == 1 else sha256_of_json(hashes),
        choices=tuple(choices),
        rules={part: rule for part, rule in rules.items() if part in present},
        averages=tuple(averages),
        remarks=noted,
        uses=uses,
    )
