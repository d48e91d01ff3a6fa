"""Choices of one's own: a clip or an event, a right text and wrong ones, a JSON object to a line.

::

    {"clip_id": "v_1", "event_index": 0, "part": "object", "texts": ["a red circle", "a blue star"], "group": "circle"}

``event_index`` may be left out for all of a clip; ``part`` and ``group`` are what accuracies are shown by.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import assembled, known_files, macro, optional_text, records, texts_in
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import clip_id_of, require_str, shown_value

_RULE = PartRule("micro", "strict")
_WHAT = "choices file"
_KEYS = ("clip_id", "event_index", "part", "texts", "group")


def read_own_choices(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read a JSONL file or a JSON list; ``macro`` is the mean of the parts.

    Raises:
        InputError: A file is of no such format, or a record is broken.
    """
    found = known_files(paths, ("choices.jsonl", "choices.json"), _WHAT)
    choices = [
        _choice(record, where, f"{number}/{row}")
        for number, path in enumerate(found.paths)
        for row, (where, record) in enumerate(records(path, _WHAT))
    ]
    parts = list(dict.fromkeys(choice.part for choice in choices))
    return assembled(
        benchmark,
        paths,
        found.paths,
        choices,
        dict.fromkeys(parts, _RULE),
        averages=macro("macro", parts),
        remarks={},
        ignored=found.ignored,
        uses="clips",
    )


def _choice(record: dict[str, Any], where: str, name: str) -> Choice:
    unknown = sorted(record.keys() - set(_KEYS))
    if unknown:
        raise InputError(f"{where}: unknown key '{unknown[0]:.60}'", f"a record has {', '.join(_KEYS)}")
    texts = texts_in(record.get("texts"), where, "'texts'")
    if len(texts) < 2:
        raise InputError(f"{where}: 'texts' has one text, expected the right one and at least one wrong one", "add one")
    look = Look(clip_id=clip_id_of(require_str(record, "clip_id", where)), event_index=_event(record, where))
    part = optional_text(record, "part", where) or "choices"
    return Choice(name, (look,), texts, part, optional_text(record, "group", where))


def _event(record: dict[str, Any], where: str) -> int | None:
    value = record.get("event_index")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(
            f"{where}: 'event_index' is {shown_value(value)}, expected 0, 1, ...", "leave it out for a clip"
        )
    return value
