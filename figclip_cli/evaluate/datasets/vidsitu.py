"""VidSitu's annotation for its leaderboard: a split's clips, their annotations as written, and the votes for verbs.

::

    split_files/vseg_split_SPLIT_lb.json     ["v_hTzUYt__ogY_seg_5_15", ...]
    vseg_ann_files/vsann_SPLIT_lb.json       [{"Ev1": {...}, ..., "Ev5": {...}}, ...], several of one clip
    vinfo_files/vinfo_SPLIT_lb.json          [{"vid_seg_int": ..., "vbid_lst": {"Ev1": [10 senses], ...}}, ...]

Layout: TheShadow29/VidSitu. Texts are kept as they are: the scorer compares them letter by letter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import quoted, read_json_document, refuse_repeated, shown_value
from figclip_cli.evaluate.datasets.vidsitu_annotations import (
    EVENTS,
    SituationAnnotation,
    read_annotations,
    records_of,
    require_unicode,
    stated,
)
from figclip_cli.files import sha256_of_file
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.formats.checks import member, type_of

VERB_VOTES, FEWEST_VERB_VOTES = 10, 9
REFERENCES = 3
_ORDER_SEED, _HELD_OUT = 5, 3  # the annotation at the fourth place is the one that agreement of people is measured with

_SPLIT, _INFO = "split file", "verb votes file"
_SPLIT_HINT = "VidSitu's vseg_split_SPLIT_lb.json, a list of clip ids"
_INFO_HINT = "VidSitu's vinfo_SPLIT_lb.json of a split with vbid_lst, ten verbs of each event"
Votes = tuple[tuple[str, ...], ...]  # of each of the five events, one sense an annotator


@dataclass(frozen=True)
class SituationTruth:
    """What is known of a split's clips.

    Attributes:
        clip_ids: In the order of the split file, which predictions count in.
        annotations: Of each clip, in the order of the file; empty where no annotation file was read.
        verb_votes: Of each clip; empty where no file with votes was read.
        sources: Name and sha256 of each file, by ``split``, ``annotations`` and ``vinfo``.
    """

    clip_ids: tuple[str, ...]
    annotations: tuple[tuple[SituationAnnotation, ...], ...]
    verb_votes: tuple[Votes, ...]
    sources: Mapping[str, Mapping[str, str]]

    @property
    def sha256(self) -> str:
        """Hash of the files' hashes."""
        return hashlib.sha256("".join(source["sha256"] for source in self.sources.values()).encode()).hexdigest()

    def references(self) -> tuple[tuple[SituationAnnotation, ...], ...]:
        """Return each clip's references, at most three, as the official scorer chooses them.

        One stream of numpy's legacy generator, seed 5, permutes the annotations of every clip in the order of the
        split; what comes fourth is left out, and the first three of the others are kept.
        """
        stream = np.random.RandomState(_ORDER_SEED)
        return tuple(
            tuple(of_clip[at] for place, at in enumerate(stream.permutation(len(of_clip))) if place != _HELD_OUT)[
                :REFERENCES
            ]
            for of_clip in self.annotations
        )


class VidsituFiles(NamedTuple):
    """Where the three files of a split are."""

    split: Path
    annotations: Path
    vinfo: Path


def vidsitu_files(folder: Path, split_name: str) -> VidsituFiles:
    """Return the files of a split in VidSitu's own folders, or where all of them are in one.

    Raises:
        InputError: There is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f"VidSitu folder {folder} does not exist", "name the folder that has split_files/")
    names = (f"vseg_split_{split_name}_lb.json", f"vsann_{split_name}_lb.json", f"vinfo_{split_name}_lb.json")
    below = ("split_files", "vseg_ann_files", "vinfo_files")
    places = (folder / part / name for part, name in zip(below, names, strict=True))
    return VidsituFiles(
        *(place if place.is_file() or not (flat := folder / place.name).is_file() else flat for place in places)
    )


def read_split(path: Path) -> tuple[str, ...]:
    """Read the clip ids of a split.

    Raises:
        InputError: The file is missing, no list of texts, empty, or names a clip twice.
    """
    where = f"{_SPLIT} {path}"
    names = read_json_document(path, _SPLIT, _SPLIT_HINT)
    if not isinstance(names, list):
        raise InputError(f"{where}: {shown_value(names)}, not a list of clip ids", _SPLIT_HINT)
    if not names:
        raise InputError(f"{where} is an empty list", _SPLIT_HINT)
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name.strip():
            raise InputError(f"{where}, entry {number}: {shown_value(name)}, not a clip id", _SPLIT_HINT)
        try:
            require_unicode(name, f"entry {number}")
        except Problem as problem:
            raise InputError(f"{where}, {problem}", _SPLIT_HINT) from None
    refuse_repeated(names, where)
    return tuple(names)


def read_truth(split: Path, annotations: Path | None = None, vinfo: Path | None = None) -> SituationTruth:
    """Read a split, and what is known of its clips; records of other clips are checked and left out.

    Raises:
        InputError: A file is missing or breaks its format, or has no record of a clip of the split.
    """
    clip_ids = read_split(split)
    given = {"split": split, "annotations": annotations, "vinfo": vinfo}
    annotated = {} if annotations is None else read_annotations(annotations)
    votes = {} if vinfo is None else read_verb_votes(vinfo)
    sources = {
        name: {"name": path.name, "sha256": sha256_of_file(path)} for name, path in given.items() if path is not None
    }
    return SituationTruth(
        clip_ids,
        () if annotations is None else _of_split(clip_ids, annotated, f"annotation file {annotations}", split),
        () if vinfo is None else _of_split(clip_ids, votes, f"{_INFO} {vinfo}", split),
        sources,
    )


def _of_split(clip_ids: Sequence[str], found: Mapping[str, Any], where: str, split: Path) -> tuple[Any, ...]:
    absent = [clip_id for clip_id in clip_ids if clip_id not in found]
    if absent:
        count = f"{len(absent)} of the {len(clip_ids)} clips of {split.name}"
        raise InputError(
            f"{where} has no record of {count}, such as {quoted(absent[0])}", "are the files of one split?"
        )
    return tuple(found[clip_id] for clip_id in clip_ids)


def read_verb_votes(path: Path) -> dict[str, Votes]:
    """Read which senses the annotators named for each event, by clip id: the first ten, which are scored.

    Raises:
        InputError: The file is missing, has no votes (as that of the training clips), names a clip twice, or a record
            breaks the format.
    """
    found: dict[str, Votes] = {}
    for number, record in enumerate(records_of(path, _INFO, _INFO_HINT)):
        where = f"{_INFO} {path}, record {number}"
        try:
            clip_id, votes = _votes(record)
        except Problem as problem:
            raise InputError(f"{where}: {problem}", _INFO_HINT) from None
        if clip_id in found:
            raise InputError(f"{where}: {quoted(clip_id)} has a record already", "leave one of the two out")
        found[clip_id] = votes
    return found


def _votes(record: Any) -> tuple[str, Votes]:
    if not isinstance(record, dict):
        raise Problem(f"it is {type_of(record)}, not an object with vid_seg_int and vbid_lst")
    clip_id = stated(record, "vid_seg_int", "")
    lists = member(record, "vbid_lst", dict, quoted(clip_id))
    votes = []
    for event in EVENTS:
        where = f"{quoted(clip_id)}, vbid_lst"
        named = member(lists, event, list, where)
        if len(named) < FEWEST_VERB_VOTES:
            raise Problem(f"{where}, {event} has {len(named)} verbs, not {FEWEST_VERB_VOTES} or more")
        for one in named:
            if not isinstance(one, str) or not one.strip():
                raise Problem(f"{where}, {event}: {shown_value(one)} is not a sense like walk.01")
        votes.append(tuple(require_unicode(one, f"{where}, {event}") for one in named[:VERB_VOTES]))
    return clip_id, tuple(votes)
