"""Action recognition data: clips with one class each, and splits of fewer classes made out of a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.class_names import near_name, normalised, positions

MOST_DRAWS = 10_000


@dataclass(frozen=True)
class ActionClip:
    """One clip.

    Attributes:
        clip_id: The clip's file name without ending.
        label: Index into the classes of its split.
    """

    clip_id: str
    label: int


@dataclass(frozen=True)
class ActionSplit:
    """Clips that are scored together, and the classes that compete.

    Attributes:
        name: For example ``split 1``, ``val`` or ``full``.
        classes: Names as the file writes them, in the file's order; a class may have no clips.
        clips: In the order of the list; no clip twice.
    """

    name: str
    classes: tuple[str, ...]
    clips: tuple[ActionClip, ...]


@dataclass(frozen=True)
class ActionSet:
    """Annotation of one data set.

    Attributes:
        dataset_id: ``ucf101``, ``hmdb51``, ``ssv2``, ``kinetics400`` and so on where it can be told, else the names
            of the lists.
        sha256: Hash over names and contents of all files read.
        format: ``ucf101``, ``hmdb51-folder``, ``hmdb51-csv``, ``kinetics-csv``, ``ssv2``, ``indexed`` or ``csv``.
        splits: At least one, with at least one clip each.
        choices: What was chosen on the way, as plain JSON.
    """

    dataset_id: str
    sha256: str
    format: str
    splits: tuple[ActionSplit, ...]
    choices: dict[str, Any] = field(default_factory=dict)


def require_competition(actions: ActionSet) -> None:
    """Refuse a set with a split of one class, which every clip is of.

    Raises:
        InputError: Names the split.
    """
    lone = next((split for split in actions.splits if len(split.classes) < 2), None)
    if lone is not None:
        raise InputError(
            f"split '{lone.name}' of {actions.dataset_id} has one class only: '{lone.classes[0]}'",
            "give a list of two classes or more, or all names with --classes",
        )


def keep_classes(split: ActionSplit, names: Sequence[str]) -> ActionSplit:
    """Return the split with some of its classes only, in the split's order, and their clips.

    Args:
        names: Names of classes, in any spelling that normalises to the split's.

    Raises:
        InputError: A name is not a class of the split or comes twice, or no clip is left.
    """
    known = positions(split.classes, f"split '{split.name}'")
    for name in names:
        if normalised(name) not in known:
            raise InputError(f"'{name}' is not a class of split '{split.name}'", near_name(name, split.classes))
    kept = sorted(known[key] for key in positions(names, "the list of classes to keep"))
    return _restricted(split, kept, split.name)


def draw_classes(
    split: ActionSplit, *, count: int, draws: int, seed: int, exclude: Sequence[str] = ()
) -> tuple[ActionSplit, ...]:
    """Draw sets of classes at random, each a split with the clips of its classes.

    The zero-shot protocol of Kinetics-600 takes 3 draws of 160 of the 220 classes that Kinetics-400 has not. The draw
    is this project's own: classes are ordered by the SHA-256 of ``seed/draw/normalised name``, and the first
    ``count`` are taken. It depends neither on the order of the file nor on the version of a library. It does not
    reproduce published draws, which can be read as lists with their class files.

    Args:
        count: Classes in each draw.
        draws: Number of draws, numbered from 1; they are independent and may share classes.
        seed: Any number.
        exclude: Names that are never drawn, in any spelling; some may be no classes of the split.

    Returns:
        One split per draw, named ``{split} draw {number}``, classes in the split's order, clips relabelled.

    Raises:
        UsageError: Fewer than ``count`` classes are left to draw from, ``count`` is less than 2, or ``draws`` is less
            than 1 or more than 10,000.
        InputError: None of ``exclude`` is a class of the split, or the classes of a draw have no clips.
    """
    if draws > MOST_DRAWS or count < 2:
        raise UsageError(f"{draws} draws of {count} classes", f"at most {MOST_DRAWS} draws, of two classes or more")
    known, out = positions(split.classes, f"split '{split.name}'"), {normalised(name) for name in exclude}
    pool = [key for key in known if key not in out]
    if out and len(pool) == len(known):
        first = near_name(exclude[0], split.classes)
        raise InputError(f"none of the {len(out)} classes to exclude is in split '{split.name}'", first)
    if count < 1 or draws < 1:
        raise UsageError(f"{draws} draws of {count} classes", "ask for at least one draw of one class")
    if count > len(pool):
        excluded = len(known) - len(pool)
        raise UsageError(
            f"{count} classes cannot be drawn from split '{split.name}': {len(pool)} are left, {excluded} are excluded",
            "draw fewer classes, or pass the list that has all of them",
        )
    made = []
    for number in range(1, draws + 1):
        order = sorted(pool, key=lambda key: hashlib.sha256(f"{seed}/{number}/{key}".encode()).digest())
        made.append(_restricted(split, sorted(known[key] for key in order[:count]), f"{split.name} draw {number}"))
    return tuple(made)


def _restricted(split: ActionSplit, kept: Sequence[int], name: str) -> ActionSplit:
    label_of = {old: new for new, old in enumerate(kept)}
    clips = tuple(ActionClip(clip.clip_id, label_of[clip.label]) for clip in split.clips if clip.label in label_of)
    if not clips:
        raise InputError(f"split '{name}' has no clips of its {len(kept)} classes", "choose classes that have clips")
    return ActionSplit(name, tuple(split.classes[index] for index in kept), clips)
