"""Lists of other forms: csv files with names, Something-Something's JSON, and lines of a path and an index."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.action_rows import (
    LIST_HINT,
    LIST_WHAT,
    Listed,
    Row,
    clip_of,
    filled,
    read_table,
    small_number,
)
from figclip_cli.evaluate.datasets.action_ucf_hmdb import split_label
from figclip_cli.evaluate.datasets.common import (
    ID_COLUMNS,
    VIDEO_SUFFIXES,
    quoted,
    read_json_document,
    read_lines,
    require_str,
)

KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
LABEL_COLUMNS = ("label", "class", "action")
UCF_CLIP = re.compile(r"v_(?P<name>[A-Za-z]+)_g\d+_c\d+")
# HMDB51 ends a clip's name with its class, visible body part, camera motion, people, view, quality and a number.
HMDB_CLIP = re.compile(r"(?P<name>.+)_[fhlu]_[cn]m_np\d+_(?:ba|fr|le|ri)_(?:bad|med|goo)_\d+")


def read_kinetics(path: Path) -> Listed:
    """Read an official Kinetics csv, ``label,youtube_id,time_start,time_end,split``.

    Clip ids are ``{youtube_id}_{start:06d}_{end:06d}``, as the common download scripts name the files.

    Raises:
        InputError: A cell is empty, or a time is no whole number of seconds.
    """
    groups: dict[str, list[Row]] = {}
    for where, cells in read_table(path, [(column,) for column in KINETICS_COLUMNS]):
        times = [_seconds(cells[column], f"{where}: {column}") for column in ("time_start", "time_end")]
        name = filled(cells, "youtube_id", where)
        row = Row(f"{name}_{times[0]:06d}_{times[1]:06d}", filled(cells, "label", where), where)
        groups.setdefault(_split_of(cells, path, where), []).append(row)
    remarks = {"clip_ids": "{youtube_id}_{time_start:06d}_{time_end:06d}"}
    return Listed(path, groups, files=(path,), sort_classes=True, remarks=remarks)


def _seconds(cell: str, where: str) -> int:
    seconds = small_number(cell.removesuffix(".0"))
    if seconds is None:
        raise InputError(f"{where} is {quoted(cell)}, not whole seconds", "is the file complete and of this format?")
    return seconds


def _split_of(cells: dict[str, str], path: Path, where: str) -> str:
    return filled(cells, "split", where) if "split" in cells else path.stem


def read_plain_csv(path: Path) -> Listed:
    """Read a csv with a column of clips, a column of names of classes and, if it likes, a column ``split``.

    Raises:
        InputError: A cell of these columns is empty.
    """
    groups: dict[str, list[Row]] = {}
    for where, cells in read_table(path, [ID_COLUMNS, LABEL_COLUMNS]):
        clip_column = next(column for column in ID_COLUMNS if column in cells)
        label_column = next(column for column in LABEL_COLUMNS if column in cells)
        clip_id = clip_of(filled(cells, clip_column, where), where)
        row = Row(clip_id, filled(cells, label_column, where), where)
        groups.setdefault(_split_of(cells, path, where), []).append(row)
    return Listed(path, groups, files=(path,), sort_classes=True)


def read_ssv2(path: Path) -> Listed:
    """Read Something-Something's JSON, ``[{"id", "label", "template", "placeholders"}]``; the template is the class.

    Square brackets around the template's placeholders are dropped, as the labels file has none.

    Raises:
        InputError: It is no list of such objects.
    """
    records = read_json_document(path, LIST_WHAT, LIST_HINT)
    if not isinstance(records, list):
        raise InputError(f"{LIST_WHAT} {path} is not a JSON list", LIST_HINT)
    rows = [_ssv2_row(record, f"{LIST_WHAT} {path}, record {index}") for index, record in enumerate(records, start=1)]
    return Listed(path, {path.stem: rows}, files=(path,), sort_classes=True, remarks={"class": "template"})


def _ssv2_row(record: Any, where: str) -> Row:
    if not isinstance(record, dict):
        raise InputError(f"{where} is not a JSON object", LIST_HINT)
    number = record.get("id")
    name = str(number) if isinstance(number, int) and not isinstance(number, bool) else require_str(record, "id", where)
    template = require_str(record, "template", where)
    return Row(clip_of(name, where), " ".join(template.replace("[", "").replace("]", "").split()), where)


def read_indexed(path: Path) -> Listed:
    """Read lines ``path index``, the index from 0, as X-CLIP, ViFi-CLIP and mmaction write them.

    What the path says of the class goes along to be compared: its last folder, and the name in the file names of
    UCF101 and HMDB51.

    Raises:
        InputError: A line does not end in an index, or the list is of frame folders with a count of frames.
    """
    rows = []
    for number, line in read_lines(path, LIST_WHAT, LIST_HINT):
        where = f"{LIST_WHAT} {path}, line {number}"
        name, index = split_label(line)
        if index is None:
            raise InputError(f"{where}: no index of a class after the path in {quoted(line)}", "lines are 'path index'")
        if split_label(name)[1] is not None and Path(name).suffix.lower() not in VIDEO_SUFFIXES:
            raise InputError(
                f"{where}: two numbers after the path in {quoted(line)}",
                "pass the list of videos, not of frame folders",
            )
        clip_id = clip_of(name, where)
        rows.append(Row(clip_id, index, where, names=(*_folder(name), *_name_in(clip_id))))
    return Listed(path, {path.stem: rows}, files=(path,), several=True)


def _folder(name: str) -> tuple[str, ...]:
    parts = name.replace("\\", "/").split("/")
    return (parts[-2],) if len(parts) > 1 else ()


def _name_in(clip_id: str) -> tuple[str, ...]:
    """Return the part of a clip id that names the class: whole in UCF101, at its end in HMDB51 (marked by ``*``)."""
    if match := UCF_CLIP.fullmatch(clip_id):
        return (match["name"],)
    match = HMDB_CLIP.fullmatch(clip_id)
    return (f"*{match['name']}",) if match else ()
