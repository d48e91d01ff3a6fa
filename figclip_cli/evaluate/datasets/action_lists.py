"""Lists of clips and classes for action recognition, read in the forms in which the data sets are published.

The form is recognised by content. Classes are matched by name, never by position, because public lists of the same
data set order them differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.evaluate.datasets.action_classes import read_class_names
from figclip_cli.evaluate.datasets.action_labels import dataset_of, found_classes, label_rows
from figclip_cli.evaluate.datasets.action_rows import LIST_HINT, LIST_WHAT, Listed
from figclip_cli.evaluate.datasets.action_sets import ActionClip, ActionSet, ActionSplit
from figclip_cli.evaluate.datasets.action_tables import (
    KINETICS_COLUMNS,
    LABEL_COLUMNS,
    read_indexed,
    read_kinetics,
    read_plain_csv,
    read_ssv2,
)
from figclip_cli.evaluate.datasets.action_ucf_hmdb import (
    HMDB_CSV_COLUMNS,
    hmdb51_files,
    read_hmdb51_csv,
    read_hmdb51_folder,
    read_ucf101,
    split_label,
)
from figclip_cli.evaluate.datasets.common import ID_COLUMNS, quoted, read_lines
from figclip_cli.files import sha256_of_file, sha256_of_json

FULL = "full"
_READERS: dict[str, Callable[[Path], Listed]] = {
    "ucf101": read_ucf101,
    "hmdb51-folder": read_hmdb51_folder,
    "hmdb51-csv": read_hmdb51_csv,
    "kinetics-csv": read_kinetics,
    "ssv2": read_ssv2,
    "indexed": read_indexed,
    "csv": read_plain_csv,
}
ACTION_FORMATS: tuple[str, ...] = tuple(_READERS)
_COLUMNS_OF = {"hmdb51-csv": HMDB_CSV_COLUMNS, "kinetics-csv": KINETICS_COLUMNS}


def read_action_set(
    lists: Sequence[Path], *, class_names: Sequence[Path] = (), split: str | None = None, format: str | None = None
) -> ActionSet:
    """Read lists of clips with their classes.

    Args:
        lists: One or more lists of one format; HMDB51's official splits are a folder.
        class_names: Class files: none, one for all lists, or one for each list. Lists that hold only indexes need
            one. Without one the classes are those that the lists name.
        split: Name or number of a split; ``full`` takes all clips of all lists once, as one split (Open-VCLIP). By
            default every list of UCF101 and of the indexed form, and every split of HMDB51, is one.
        format: One of ``ACTION_FORMATS`` where the content must not decide.

    Raises:
        InputError: A file is missing, of no known format or breaks it; a clip comes twice in a split; a class is not
            in the class file; a path names another class than the index; a file mixes splits and none is chosen.
        UsageError: The number of class files fits neither one nor the lists; there is no such format or split.
    """
    if not lists:
        raise UsageError("no action list is given", f"pass one or more: {LIST_HINT}")
    if len(class_names) not in (0, 1, len(lists)):
        raise UsageError(f"{len(class_names)} class files for {len(lists)} lists", "pass one, or one for each list")
    form = _format_of(lists, format)
    listed = [_READERS[form](path) for path in lists]
    classes = _classes_of_lists(listed, class_names, form)
    if split == FULL:
        splits = [_full(listed, classes, numbered=bool(class_names))]
    else:
        splits = _chosen(listed, classes, split, numbered=bool(class_names))
    files = [*chain.from_iterable(item.files for item in listed), *class_names]
    return ActionSet(
        dataset_of(form, listed, splits),
        sha256_of_json([[path.name, sha256_of_file(path)] for path in files]),
        form,
        tuple(splits),
        _choices(listed, class_names, form, format, split),
    )


def _choices(
    listed: Sequence[Listed], class_names: Sequence[Path], form: str, asked: str | None, split: str | None
) -> dict[str, Any]:
    found = "sorted names of the lists" if any(item.sort_classes for item in listed) else "names of the lists, in order"
    return {
        "lists": [item.path.name for item in listed],
        "class_files": [path.name for path in class_names],
        "classes_from": "class file" if class_names else found,
        "format_from": "asked for" if asked else "content",
        "split": split or "all of the lists",
        **{key: value for item in listed for key, value in item.remarks.items()},
    }


def _format_of(lists: Sequence[Path], asked: str | None) -> str:
    if asked is not None and asked not in _READERS:
        raise UsageError(f"there is no format '{asked}' of action lists", nearest(asked, _READERS))
    found = []
    for path in lists:
        name = _recognised(path, asked)
        if asked is not None and name != asked:
            raise InputError(f"{LIST_WHAT} {path} is not of the format {asked}", f"known: {LIST_HINT}")
        found.append(name)
    other = next((index for index, name in enumerate(found) if name != found[0]), None)
    if other is not None:
        raise InputError(
            f"{lists[0]} is of the format {found[0]}, {lists[other]} of {found[other]}", "pass lists of one format"
        )
    return found[0]


def _recognised(path: Path, asked: str | None) -> str:
    """Return the format of a list; an asked one is given back where the content could be of it."""
    if path.is_dir():
        if hmdb51_files(path):
            return "hmdb51-folder"
        raise InputError(f"{LIST_WHAT} {path} is a folder without files <class>_test_split1.txt", LIST_HINT)
    if path.suffix.lower() == ".json":
        return "ssv2"
    lines = [line for _, line in read_lines(path, LIST_WHAT, "pass a list of clips with their classes")]
    if not lines:
        raise InputError(f"{LIST_WHAT} {path} is empty", LIST_HINT)
    columns = [cell.strip().strip('"') for cell in lines[0].split(",")]
    if len(columns) > 1 and (table := _table_format(columns)):
        return asked if asked == "csv" and _table_format(columns, plain=True) else table
    return _path_format(path, [split_label(line) for line in lines], asked)


def _table_format(columns: Sequence[str], *, plain: bool = False) -> str | None:
    for name, wanted in _COLUMNS_OF.items():
        if not plain and set(wanted) <= set(columns):
            return name
    has_clip, has_label = (any(name in columns for name in names) for names in (ID_COLUMNS, LABEL_COLUMNS))
    return "csv" if has_clip and has_label else None


def _path_format(path: Path, entries: Sequence[tuple[str, int | None]], asked: str | None) -> str:
    """Tell UCF101's own lists (no number, or numbers from 1 in a train list) from those with an index from 0."""
    folders = all("/" in name or "\\" in name for name, _ in entries)
    numbers = [number for _, number in entries]
    if folders and all(number is None for number in numbers):
        return "ucf101"
    if all(number is not None for number in numbers):
        from_one = folders and 0 not in numbers and asked != "indexed"
        return "ucf101" if from_one and (asked == "ucf101" or "trainlist" in path.stem) else "indexed"
    raise InputError(f"{LIST_WHAT} {path} is of no known format", f"known: {LIST_HINT}")


def _classes_of_lists(listed: Sequence[Listed], files: Sequence[Path], form: str) -> list[tuple[str, ...]]:
    if form == "indexed" and not files:
        raise InputError(
            f"{LIST_WHAT} {listed[0].path} has indexes, not names of classes",
            "pass the class file that belongs to it; the order of classes differs between public lists",
        )
    if files:
        names = [read_class_names(path) for path in files]
        return names if len(names) == len(listed) else names * len(listed)
    return [found_classes(listed)] * len(listed)


def _chosen(
    listed: Sequence[Listed], classes: Sequence[tuple[str, ...]], split: str | None, *, numbered: bool
) -> list[ActionSplit]:
    offered = [
        (name, rows, names) for item, names in zip(listed, classes, strict=True) for name, rows in item.groups.items()
    ]
    if split is None:
        mixed = next((item for item in listed if len(item.groups) > 1 and not item.several), None)
        if mixed is not None:
            shown = ", ".join(quoted(name) for name in list(mixed.groups)[:4])
            raise InputError(f"{LIST_WHAT} {mixed.path} mixes the splits {shown}", "choose one of them, or full")
        chosen = offered
    else:
        chosen = [entry for entry in offered if entry[0] in (split, f"split {split}")]
        if offered and not chosen:
            raise UsageError(
                f"the lists have no split {quoted(split)}", nearest(split, [name for name, _, _ in offered])
            )
    if not chosen:
        raise InputError(f"{LIST_WHAT} {listed[0].path} has no clips", "is it the right file?")
    taken: set[str] = set()
    for name, rows, _ in chosen:
        if not rows:
            raise InputError(f"split {quoted(name)} has no clips", "is the list complete?")
        if name in taken:
            raise InputError(f"two lists have a split {quoted(name)}", "pass one of the two, or take the split full")
        taken.add(name)
    return [label_rows(name, rows, names, numbered=numbered) for name, rows, names in chosen]


def _full(listed: Sequence[Listed], classes: Sequence[tuple[str, ...]], *, numbered: bool) -> ActionSplit:
    """Return all clips of all lists, each once."""
    if any(names != classes[0] for names in classes):
        raise InputError("the lists have class files that differ", "one split has one set of classes")
    label_of: dict[str, int] = {}
    for item in listed:
        for rows in item.groups.values():  # a clip may be in several splits, but not twice in one
            label_rows(FULL, rows, classes[0], numbered=numbered)
        rows = [*chain.from_iterable(item.groups.values()), *item.unused]
        clips = label_rows(FULL, rows, classes[0], numbered=numbered, repeated=True).clips
        for row, clip in zip(rows, clips, strict=True):
            if label_of.setdefault(clip.clip_id, clip.label) != clip.label:
                first, second = classes[0][label_of[clip.clip_id]], classes[0][clip.label]
                raise InputError(
                    f"{row.where}: clip {clip.clip_id} is {quoted(second)}, elsewhere {quoted(first)}",
                    "leave one of the two out",
                )
    if not label_of:
        raise InputError(f"{LIST_WHAT} {listed[0].path} has no clips", "is it the right file?")
    return ActionSplit(FULL, classes[0], tuple(ActionClip(clip_id, label) for clip_id, label in label_of.items()))
