"""From rows to labelled clips: every name is found among the classes, every index agrees with what the path says."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.action_rows import LIST_WHAT, Listed, Row
from figclip_cli.evaluate.datasets.action_sets import ActionClip, ActionSplit
from figclip_cli.evaluate.datasets.action_tables import HMDB_CLIP, UCF_CLIP
from figclip_cli.evaluate.datasets.class_names import near_name, normalised, positions
from figclip_cli.evaluate.datasets.common import check_text, quoted

_KINETICS_SIZES = (400, 600, 700)


def found_classes(listed: Sequence[Listed]) -> tuple[str, ...]:
    """Return the names of classes that the lists hold, sorted or as they come, as their format has it.

    Raises:
        InputError: A name is written in two ways.
    """
    rows = chain.from_iterable((*chain.from_iterable(item.groups.values()), *item.unused) for item in listed)
    names = dict.fromkeys(chain(chain.from_iterable(item.classes for item in listed), (str(row.label) for row in rows)))
    found = sorted(names) if any(item.sort_classes for item in listed) else list(names)
    where = f"{LIST_WHAT} {listed[0].path}"
    positions(found, where)
    for name in found:
        check_text(name, where)
    return tuple(found)


def label_rows(
    name: str, rows: Sequence[Row], classes: tuple[str, ...], *, numbered: bool, repeated: bool = False
) -> ActionSplit:
    """Return a split of labelled clips.

    Args:
        numbered: Whether the order of ``classes`` is a class file's, so that a row's number must agree with it.
        repeated: Whether a clip may come more than once, as it does in all clips of several splits.

    Raises:
        InputError: A label is no class, a number or a path names another one, or a clip comes twice.
    """
    known = positions(classes, "the class file")
    keys = tuple(known)
    clips, first_of = [], dict[str, Row]()
    for row in rows:
        label = (
            _by_index(row, classes, keys) if isinstance(row.label, int) else _by_name(row, row.label, known, classes)
        )
        if numbered and row.number not in (None, label + 1):
            said = f"class {quoted(str(row.label))} has the number {row.number}"
            raise InputError(
                f"{row.where}: {said}, the class file has it at {label + 1}",
                "pass the class file that belongs to this list (classInd.txt)",
            )
        first = first_of.setdefault(row.clip_id, row)
        if first is not row and not repeated:
            again = (
                "again"
                if first.label == row.label
                else f"again, as {quoted(str(row.label))} after {quoted(str(first.label))}"
            )
            raise InputError(f"{row.where}: clip {row.clip_id} comes {again}", "leave one of the two out")
        clips.append(ActionClip(row.clip_id, label))
    return ActionSplit(name, classes, tuple(clips))


def _by_name(row: Row, name: str, known: dict[str, int], classes: tuple[str, ...]) -> int:
    label = known.get(normalised(name))
    if label is None:
        raise InputError(
            f"{row.where}: class {quoted(name)} is not one of the {len(classes)} classes", near_name(name, classes)
        )
    return label


def _by_index(row: Row, classes: tuple[str, ...], keys: tuple[str, ...]) -> int:
    """Return the row's index, after comparing it with the folder and the file name where these are classes."""
    index = int(row.label)
    if index >= len(classes):
        raise InputError(
            f"{row.where}: index {index}, but the class file has {len(classes)} classes, 0 to {len(classes) - 1}",
            "pass the class file that belongs to this list",
        )
    for name in row.names:
        said = _class_in(name, keys)
        if said is not None and said != index:
            own, other = quoted(classes[index]), quoted(classes[said])
            raise InputError(
                f"{row.where}: index {index} is {own} in the class file, the path says {other}",
                "the class file has another order than the list, or the list counts from 1; pass the one made for it",
            )
    return index


def _class_in(name: str, keys: tuple[str, ...]) -> int | None:
    """Return the index of the class that a part of a path names, or None.

    After a star the class is the end of the name, the longest that fits: ``..._draw_sword`` is not ``sword``.
    """
    key = normalised(name)
    if not name.startswith("*"):
        return keys.index(key) if key in keys else None
    ends = [index for index, known in enumerate(keys) if key.endswith(known)]
    return max(ends, key=lambda index: len(keys[index]), default=None)


def dataset_of(form: str, listed: Sequence[Listed], splits: Sequence[ActionSplit]) -> str:
    """Return the data set's name where format, number of classes or names of clips tell it, else the lists' names."""
    if form == "ssv2":
        return form
    if form.startswith("hmdb51"):
        return "hmdb51"
    if form == "kinetics-csv":
        size = len(splits[0].classes)
        return f"kinetics{size}" if size in _KINETICS_SIZES else "kinetics"
    for name, pattern in (("ucf101", UCF_CLIP), ("hmdb51", HMDB_CLIP)):
        if all(pattern.fullmatch(clip.clip_id) for split in splits for clip in split.clips):
            return name
    return "+".join(item.path.name for item in listed)
