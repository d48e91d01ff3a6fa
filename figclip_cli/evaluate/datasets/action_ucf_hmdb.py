"""Official lists of UCF101 and HMDB51, whose files say the class by name."""

from __future__ import annotations

import re
from pathlib import Path

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
from figclip_cli.evaluate.datasets.common import quoted, read_lines

HMDB_CSV_COLUMNS = ("video_id", "label", "split1", "split2", "split3")
_HMDB_FILE = re.compile(r"([^.].*)_test_split([123])\.txt")
_UCF_NAME = re.compile(r"(train|test)list0*([1-9]\d*)$")
# The meaning of HMDB51's tags; 1,530 test and 3,570 train clips in each split.
_UNUSED, _TRAIN, _TEST = 0, 1, 2
_HMDB_REMARKS = {"tags": "2 test, 1 train, 0 unused; splits are of test clips, full is of all"}


def read_ucf101(path: Path) -> Listed:
    """Read ``testlistNN.txt`` (``Class/v_x.avi``) or ``trainlistNN.txt`` (the same and the class's number from 1).

    The class is the folder's: the folder ``HandstandPushups`` holds files named ``v_HandStandPushups_*``.

    Raises:
        InputError: A line has no folder or no number where others have one, or a folder has two numbers.
    """
    rows, number_of_folder = [], dict[str, "int | None"]()
    for line_number, line in read_lines(path, LIST_WHAT, LIST_HINT):
        where = f"{LIST_WHAT} {path}, line {line_number}"
        name, number = split_label(line)
        parts = name.replace("\\", "/").split("/")
        if len(parts) < 2 or not parts[-2].strip():
            raise InputError(f"{where}: no folder in {quoted(line)}", "lines of UCF101 lists are 'Class/v_x.avi'")
        folder = parts[-2].strip()
        known = number_of_folder.setdefault(folder, number)
        if known != number:
            raise InputError(
                f"{where}: folder {quoted(folder)} has the number {number}, before it had {known}",
                "each class has one number, from 1, as in classInd.txt; test lists have none",
            )
        rows.append(Row(clip_of(name, where), folder, where, number=number))
    return Listed(path, {_ucf_split(path): rows}, files=(path,), several=True)


def _ucf_split(path: Path) -> str:
    match = _UCF_NAME.search(path.stem)
    if match is None:
        return path.stem
    return f"split {match[2]}" if match[1] == "test" else f"train split {match[2]}"


def split_label(line: str) -> tuple[str, int | None]:
    """Return the path of a line, and the number after it or None."""
    path, _, last = line.rpartition(" ") if "\t" not in line else line.rpartition("\t")
    number = small_number(last)
    return (path.strip(), number) if path.strip() and number is not None else (line.strip(), None)


def hmdb51_files(folder: Path) -> list[tuple[Path, str, str]]:
    """Return the files ``<class>_test_split{1,2,3}.txt`` of a folder with class and split, in their order."""
    found = ((path, _HMDB_FILE.fullmatch(path.name)) for path in folder.iterdir() if path.is_file())
    files = [(path, match[1], match[2]) for path, match in found if match]
    return sorted(files, key=lambda file: file[1:])


def read_hmdb51_folder(folder: Path) -> Listed:
    """Read HMDB51's official folder of ``<class>_test_split{1,2,3}.txt``, lines ``name.avi tag``.

    Raises:
        InputError: A class has no file for one of the splits, or a line has no tag 0, 1 or 2.
    """
    files = hmdb51_files(folder)
    classes = sorted({name for _, name, _ in files})
    groups: dict[str, list[Row]] = {f"split {number}": [] for number in sorted({number for _, _, number in files})}
    unused: list[Row] = []
    present = {(name, f"split {number}") for _, name, number in files}
    for name in classes:
        absent = next((split for split in groups if (name, split) not in present), None)
        if absent:
            raise InputError(
                f"{LIST_WHAT} {folder} has no file of class '{name}' for {absent}", "is the folder complete?"
            )
    for path, name, number in files:
        for line_number, line in read_lines(path, LIST_WHAT, LIST_HINT):
            where = f"{LIST_WHAT} {path}, line {line_number}"
            clip, tag = split_label(line)
            target = groups[f"split {number}"] if _is_test(tag, where, "the tag") else unused
            target.append(Row(clip_of(clip, where), name, where))
    paths = tuple(path for path, _, _ in files)
    return Listed(folder, groups, unused, paths, several=True, classes=tuple(classes), remarks=dict(_HMDB_REMARKS))


def read_hmdb51_csv(path: Path) -> Listed:
    """Read a csv of all clips, ``video_id,label,split1,split2,split3`` (MIL-NCE's), labels with ``_test`` after them.

    Raises:
        InputError: A cell is empty, or a split column holds anything but 0, 1 or 2.
    """
    groups: dict[str, list[Row]] = {f"split {number}": [] for number in (1, 2, 3)}
    unused: list[Row] = []
    for where, cells in read_table(path, [(column,) for column in HMDB_CSV_COLUMNS]):
        label = filled(cells, "label", where).removesuffix("_test")
        row = Row(clip_of(filled(cells, "video_id", where), where), label, where)
        columns = {split: split.replace(" ", "") for split in groups}
        tests = [split for split, column in columns.items() if _is_test(small_number(cells[column]), where, column)]
        for rows in [groups[split] for split in tests] or [unused]:
            rows.append(row)
    return Listed(path, groups, unused, (path,), several=True, sort_classes=True, remarks=dict(_HMDB_REMARKS))


def _is_test(tag: int | None, where: str, what: str) -> bool:
    if tag not in (_UNUSED, _TRAIN, _TEST):
        raise InputError(f"{where}: {what} is no tag 0, 1 or 2", "2 is test, 1 is train, 0 is unused")
    return tag == _TEST
