"""Prediction files of VidSitu's leaderboard: lists of records, one a clip, in JSON or in a pickle of plain data.

::

    verbs      {"ann_idx": 0, "pred_vbs_ev": [[5 senses] x 5]}
    roles      {"ann_idx": 0, "vb_output": {"Ev1": {"Arg0": "man in a suit", "AScn": "in a home"}, ..., "Ev5": {}}}
    relations  {"ann_idx": 0, "pred_evrels_ev": [[3 labels] x 4]}    # Ev1, Ev2, Ev4, Ev5 with Ev3

``ann_idx`` counts the clips of the split file. The layout is that of TheShadow29/VidSitu's example files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.common import quoted, read_json_document, shown_value
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS, RELATED_EVENTS, RELATIONS, ROLES, require_unicode
from figclip_cli.files import require_file, sha256_of_file
from figclip_cli.plain_pickle import read_plain_pickle
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.formats.checks import member, type_of

KINDS = {"verbs": "pred_vbs_ev", "roles": "vb_output", "relations": "pred_evrels_ev"}
FOLDER_FILES = tuple(f"{kind}.json" for kind in KINDS)
_WHOLE_FILE = "predictions.json"
_CLIP_KEYS = ("vid_seg_int", "clip_id")
_PICKLES = (".pkl", ".pickle", ".p")
_WHAT = "prediction file"
_HINT = "a list of records with ann_idx and pred_vbs_ev, vb_output or pred_evrels_ev"
_OTHER_KEYS = frozenset({"vb_id", *ROLES})

Verbs = tuple[tuple[str, ...], ...]
Roles = Mapping[str, Mapping[str, str]]
Relations = tuple[tuple[str, ...], ...]


@dataclass
class SituationPredictions:
    """What one model says of a split's clips.

    Attributes:
        verbs: For each clip of the split, senses of each of its five events, the best first; None where the clip is
            missing. Empty where no file has verbs.
        roles: For each clip, by event and role, the text.
        relations: For each clip, the labels of Ev1, Ev2, Ev4 and Ev5, one for each annotation.
        files: Name, sha256 and kinds of each file.
        repeated: By kind, records that were left out because their clip had one before.
        unknown_roles: Role names that no annotation has, which are left out.
    """

    verbs: list[Verbs | None] = field(default_factory=list)
    roles: list[Roles | None] = field(default_factory=list)
    relations: list[Relations | None] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    repeated: dict[str, int] = field(default_factory=dict)
    unknown_roles: set[str] = field(default_factory=set)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return what is predicted: verbs, roles, relations."""
        return tuple(kind for kind in KINDS if getattr(self, kind))

    def missing(self) -> dict[int, list[str]]:
        """Return the numbers of clips that lack a record, and of which kinds."""
        lacks: dict[int, list[str]] = {}
        for kind in self.kinds:
            for number, record in enumerate(getattr(self, kind)):
                if record is None:
                    lacks.setdefault(number, []).append(kind)
        return dict(sorted(lacks.items()))


def prediction_files(paths: Sequence[Path]) -> list[Path]:
    """Return files as they are, and of each folder the files that ``figclip predict situation`` writes.

    Raises:
        InputError: A folder has none of them.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = [path / name for name in FOLDER_FILES if (path / name).is_file()]
        if not found and (path / _WHOLE_FILE).is_file():
            found = [path / _WHOLE_FILE]
        if not found:
            raise InputError(f"folder {path} has no {', '.join(FOLDER_FILES)}", "name the prediction files themselves")
        files += found
    return files


def read_predictions(
    paths: Sequence[Path], clip_ids: Sequence[str], *, allow_missing: bool = False
) -> SituationPredictions:
    """Read prediction files, whose kinds are recognised by their keys.

    The first record of a clip counts, as in the official scorer.

    Args:
        paths: Files, and folders of them.
        clip_ids: The split's clips.
        allow_missing: Let clips be without a record.

    Raises:
        InputError: A file is missing, a record breaks the format, names a clip that the split does not have, or a
            clip of the split has no record.
        UsageError: Two files are of one kind.
    """
    made, source = SituationPredictions(), dict[str, Path]()
    number_of = {clip_id: number for number, clip_id in enumerate(clip_ids)}
    for path in prediction_files(paths):
        records = _load(path)
        kinds = _kinds(records, path)
        for kind in kinds:
            if kind in source:
                raise UsageError(f"{source[kind]} and {path} both predict {kind}", "name one of the two")
            source[kind] = path
            setattr(made, kind, _of_kind(made, kind, records, path, number_of, allow_missing))
        made.files.append({"name": path.name, "sha256": sha256_of_file(path), "predicts": list(kinds)})
    return made


def _load(path: Path) -> list[Any]:
    require_file(path, _WHAT, _HINT)
    with path.open("rb") as file:
        is_pickle = path.suffix.lower() in _PICKLES or file.read(1) == b"\x80"
    records = read_plain_pickle(path, _WHAT) if is_pickle else read_json_document(path, _WHAT, _HINT)
    if not isinstance(records, list):
        raise InputError(f"{_WHAT} {path}: {shown_value(records)}, not a list of records", _HINT)
    if not records:
        raise InputError(f"{_WHAT} {path} is an empty list", _HINT)
    return records


def _kinds(records: list[Any], path: Path) -> tuple[str, ...]:
    """Return what the first record has; the others must have it too."""
    first = records[0]
    kinds = tuple(kind for kind, key in KINDS.items() if isinstance(first, dict) and key in first)
    if not kinds:
        raise InputError(f"{_WHAT} {path}, record 0 has none of {', '.join(KINDS.values())}", _HINT)
    return kinds


def _of_kind(
    made: SituationPredictions,
    kind: str,
    records: list[Any],
    path: Path,
    number_of: Mapping[str, int],
    allow_missing: bool,
) -> list[Any]:
    found: list[Any] = [None] * len(number_of)
    for place, record in enumerate(records):
        try:
            number = _number(record, number_of)
            value = _PARSERS[kind](member(record, KINDS[kind], dict if kind == "roles" else list), made)
        except Problem as problem:
            raise InputError(f"{_WHAT} {path}, record {place}: {problem}", problem.hint or _HINT) from None
        if found[number] is None:
            found[number] = value
        else:
            made.repeated[kind] = made.repeated.get(kind, 0) + 1
    absent = [clip_id for clip_id, number in number_of.items() if found[number] is None]
    if absent and not allow_missing:
        message = f"{_WHAT} {path} has no {kind} of {len(absent)} of {len(found)} clips, the first is "
        first = f"{quoted(absent[0])} (ann_idx {number_of[absent[0]]})"
        raise InputError(message + first, "is it of this split? --allow-missing counts them as wrong")
    return found


def _number(record: Any, number_of: Mapping[str, int]) -> int:
    """Return which clip of the split a record is of: by ``ann_idx``, by the clip's id, or both where they agree."""
    if not isinstance(record, dict):
        raise Problem(f"it is {type_of(record)}, not an object")
    stated = {key: record[key] for key in _CLIP_KEYS if record.get(key) is not None}
    for key, clip_id in stated.items():
        if not isinstance(clip_id, str):
            raise Problem(f"{key} is {shown_value(clip_id)}, not a clip id")
    named = set(stated.values())
    index = record.get("ann_idx")
    if index is None and not named:
        raise Problem("it has neither ann_idx nor vid_seg_int")
    for clip_id in named:
        if clip_id not in number_of:
            raise Problem(f"{quoted(clip_id)} is not a clip of the split", "is it of this split?")
    numbers = {number_of[clip_id] for clip_id in named}
    if index is not None:
        if not isinstance(index, int) or isinstance(index, bool):
            raise Problem(f"ann_idx is {shown_value(index)}, not a whole number")
        if not 0 <= index < len(number_of):
            raise Problem(f"ann_idx {shown_value(index)} is not of the split's {len(number_of)} clips", "see its file")
        numbers.add(index)
    if len(numbers) > 1:
        raise Problem(f"ann_idx {index} is not the clip {quoted(min(named))}", "is it of this split?")
    return numbers.pop()


def _verbs(value: list[Any], made: SituationPredictions) -> Verbs:
    del made
    return _rows(value, KINDS["verbs"], len(EVENTS), "a sense")


def _relations(value: list[Any], made: SituationPredictions) -> Relations:
    del made
    rows = _rows(value, KINDS["relations"], len(RELATED_EVENTS), "a label")
    odd = next((label for row in rows for label in row if label and label not in RELATIONS), None)
    if odd is not None:
        raise Problem(f"{KINDS['relations']}: {quoted(odd)} is not a relation", f"of {', '.join(RELATIONS)}")
    return rows


def _rows(value: list[Any], key: str, rows: int, what: str) -> tuple[tuple[str, ...], ...]:
    if len(value) != rows:
        raise Problem(f"{key} has {len(value)} rows, not {rows}")
    for number, row in enumerate(value):
        if not isinstance(row, list):
            raise Problem(f"{key}, row {number} is {type_of(row)}, not a list")
        for one in row:
            if not isinstance(one, str):
                raise Problem(f"{key}, row {number}: {shown_value(one)} is not {what}")
    return tuple(tuple(require_unicode(one, f"{key}, row {number}") for one in row) for number, row in enumerate(value))


def _roles(value: dict[str, Any], made: SituationPredictions) -> Roles:
    if value and not any(event in value for event in EVENTS):
        raise Problem(f"vb_output has none of Ev1 to Ev5, but {quoted(str(next(iter(value))))}")
    found: dict[str, dict[str, str]] = {}
    for event in EVENTS:
        if event in value:
            found[event] = _filled(member(value, event, dict, "vb_output"), f"vb_output, {event}", made)
    return found


def _filled(event: dict[str, Any], where: str, made: SituationPredictions) -> dict[str, str]:
    if "Args" in event:
        raise Problem(f"{where} has Args: this is annotation", "predictions have the roles themselves: Arg0, ALoc")
    filled = {}
    for role in ROLES:
        if role in event:
            if not isinstance(event[role], str):
                raise Problem(f"{where}, {role} is {type_of(event[role])}, not a string")
            filled[role] = require_unicode(event[role], f"{where}, {role}")
    made.unknown_roles |= {str(name) for name in event.keys() - _OTHER_KEYS}
    return filled


_PARSERS: dict[str, Any] = {"verbs": _verbs, "roles": _roles, "relations": _relations}
