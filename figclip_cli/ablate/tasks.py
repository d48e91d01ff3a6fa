"""What every run of an ablation is scored by; no torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.ablate.toml_fields import Fields
from figclip_cli.errors import InputError, nearest
from figclip_cli.evaluate.datasets.compositional import BENCHMARKS

RETRIEVAL, COMPOSITIONAL = "retrieval", "compositional"
_RETRIEVAL_KEYS = ("name", "frames", "captions", "captions_format", "split", "ids", "caption_choice", "level")
_COMPOSITIONAL_KEYS = ("name", "frames", "benchmark", "annotations")
_HEADLINE = {RETRIEVAL: "t2v R@1", COMPOSITIONAL: "macro"}


@dataclass(frozen=True)
class Task:
    """One evaluation; paths are below the root.

    Attributes:
        name: As metrics call it, one word.
        kind: ``retrieval`` or ``compositional``.
        frames: Frames files.
        files: Captions, or the benchmark's annotation.
        choices: What else its reader is told: level, benchmark, format.
    """

    name: str
    kind: str
    frames: tuple[str, ...]
    files: tuple[str, ...]
    choices: tuple[tuple[str, str], ...] = ()

    @property
    def default_metric(self) -> str:
        """The metric that stands for the task where none is named."""
        return f"{self.name} {_HEADLINE[self.kind]}"


def tasks_of(fields: Fields) -> tuple[Task, ...]:
    """Return the tasks that the table ``[evaluate]`` names.

    ``prompts`` stands for choices between prompts and negatives and for retrieval of events, ``captions`` for retrieval
    of clips, ``naming`` for choices of one's own; ``[[evaluate.retrieval]]`` and ``[[evaluate.compositional]]``
    name others, each with frames of its own where wanted.

    Raises:
        InputError: There is none, two have one name, or a key is wrong.
    """
    frames = fields.texts("frames")
    made: list[Task] = []
    for key, name, kind, choices in (
        ("prompts", "compositional", COMPOSITIONAL, (("benchmark", "prompts"),)),
        ("prompts", "dense", RETRIEVAL, (("level", "event"),)),
        ("captions", "coarse", RETRIEVAL, ()),
        ("naming", "naming", COMPOSITIONAL, (("benchmark", "choices"),)),
    ):
        if key in fields:
            files = fields.texts(key)
            if len(files) > 1:
                raise InputError(f"{fields.where}: {key} is more than one file", "name others as tables")
            made.append(Task(name, kind, frames, files, choices))
    made += [_task(table, fields.where, RETRIEVAL, frames) for table in fields.tables("retrieval")]
    made += [_task(table, fields.where, COMPOSITIONAL, frames) for table in fields.tables("compositional")]
    _check(made, fields.where)
    return tuple(made)


def _task(table: Any, where: str, kind: str, frames: tuple[str, ...]) -> Task:
    keys = _RETRIEVAL_KEYS if kind == RETRIEVAL else _COMPOSITIONAL_KEYS
    fields = Fields(table, f"{where}, [[evaluate.{kind}]]", keys)
    files = fields.texts("captions" if kind == RETRIEVAL else "annotations")
    if not files:
        raise InputError(f"{fields.where} names no file", "captions, or the annotations of the benchmark")
    told = tuple(
        (key, fields.text(key))
        for key in keys
        if key in fields and key not in ("name", "frames", "captions", "annotations")
    )
    allowed = {"level": ("video", "event"), "caption_choice": ("all", "first"), "benchmark": tuple(BENCHMARKS)}
    for key, value in told:
        if key in allowed and value not in allowed[key]:
            raise InputError(f"{fields.where}: {key} cannot be '{value[:80]}'", nearest(value[:80], allowed[key]))
    if kind == COMPOSITIONAL and "benchmark" not in fields:
        raise InputError(f"{fields.where}: benchmark is missing", nearest("", BENCHMARKS))
    return Task(fields.text("name"), kind, fields.texts("frames") or frames, files, told)


def _check(tasks: Sequence[Task], where: str) -> None:
    if not tasks:
        raise InputError(f"{where} names nothing to score", "prompts, captions or naming")
    names = [task.name for task in tasks]
    for task in tasks:
        if not task.frames:
            raise InputError(f"{where}: frames is missing", 'for example frames = "valid-frames.h5"')
        if names.count(task.name) > 1 or " " in task.name or "/" in task.name or task.name.startswith("."):
            raise InputError(
                f"{where}: the task '{task.name[:80]}' is there twice or no word", "give each its own name"
            )


def read_task(task: Task, root: Path) -> Any:
    """Return what a task asks: captions or choices.

    Raises:
        InputError: A file is missing or broken.
    """
    from figclip_cli.evaluate.datasets.captions import read_captions
    from figclip_cli.evaluate.datasets.compositional import read_compositional

    files, told = [root / one for one in task.files], dict(task.choices)
    if task.kind == COMPOSITIONAL:
        return read_compositional(told["benchmark"], files)
    more: dict[str, Any] = {("format" if key == "captions_format" else key): value for key, value in told.items()}
    if "ids" in more:
        more["ids"] = root / more["ids"]
    return read_captions(files[0], **more)
