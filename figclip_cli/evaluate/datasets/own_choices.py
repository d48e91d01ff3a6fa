"""Choices of one's own: a clip or an event, a right text and wrong ones, a JSON object to a line.

::

    {"clip_id": "v_1", "event_index": 0, "part": "object", "texts": ["a red circle", "a blue star"], "group": "circle"}

``event_index`` may be left out for all of a clip; ``part`` and ``group`` are what accuracies are shown by. Samples are
named ``CLIP/FILE/EVENT/RECORD``, with ``clip`` for the event where all of a clip is looked at.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import assembled, known_files, macro, optional_text, records, texts_in
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import clip_id_of, require_str, shown_value
from figclip_cli.evaluate.results import ALL_ITEMS

_RULE = PartRule("micro", "strict")
_WHAT = "choices file"
_MACRO = "macro"
_LONGEST_NAME = 80  # characters; names head the rows of tables and stand in charts
_MOST_EVENTS = 10_000
_KEYS = ("clip_id", "event_index", "part", "texts", "group")


def read_own_choices(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read a JSONL file or a JSON list; ``macro`` is the mean of the parts.

    Raises:
        InputError: A file is of no such format, a record is broken, or is there twice.
    """
    found = known_files(paths, ("choices.jsonl", "choices.json"), _WHAT)
    choices: list[Choice] = []
    seen: dict[tuple[object, ...], str] = {}
    for number, path in enumerate(found.paths):
        for row, (where, record) in enumerate(records(path, _WHAT)):
            choice = _choice(record, where, number, row)
            earlier = seen.setdefault((choice.looks, choice.part, choice.texts), where)
            if earlier != where:
                raise InputError(f"{where}: the same choice as {earlier}", "an item counts once: leave one out")
            choices.append(choice)
    parts = list(dict.fromkeys(choice.part for choice in choices))
    return assembled(
        benchmark,
        paths,
        found.paths,
        choices,
        dict.fromkeys(parts, _RULE),
        averages=macro(_MACRO, parts),
        remarks={},
        ignored=found.ignored,
        uses="clips",
    )


def _choice(record: dict[str, Any], where: str, file: int, row: int) -> Choice:
    unknown = sorted(record.keys() - set(_KEYS))
    if unknown:
        raise InputError(f"{where}: unknown key '{unknown[0]:.60}'", f"a record has {', '.join(_KEYS)}")
    texts = texts_in(record.get("texts"), where, "'texts'")
    if len(texts) < 2:
        raise InputError(f"{where}: 'texts' has one text, expected the right one and at least one wrong one", "add one")
    if len(set(texts)) < len(texts):
        repeated = next(text for place, text in enumerate(texts) if text in texts[:place])
        raise InputError(f"{where}: 'texts' has {shown_value(repeated)} twice", "nothing could tell them apart")
    clip_id, event = clip_id_of(require_str(record, "clip_id", where)), _event(record, where)
    part = _name(record, "part", where) or "choices"
    if part in (_MACRO, ALL_ITEMS):
        raise InputError(f"{where}: 'part' is '{part}', which names the mean of the parts", "choose another name")
    name = f"{clip_id}/{file}/{'clip' if event is None else event}/{row}"
    return Choice(name, (Look(clip_id=clip_id, event_index=event),), texts, part, _name(record, "group", where))


def _name(record: dict[str, Any], key: str, where: str) -> str:
    name = optional_text(record, key, where)
    if len(name) > _LONGEST_NAME:
        raise InputError(f"{where}: '{key}' has {len(name)} characters, at most {_LONGEST_NAME} fit", "shorten it")
    if any(unicodedata.category(one) in ("Cc", "Zl", "Zp") for one in name):
        raise InputError(f"{where}: '{key}' is {shown_value(name)}, expected a name on one line", "take the break out")
    return name


def _event(record: dict[str, Any], where: str) -> int | None:
    value = record.get("event_index")
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MOST_EVENTS:
        raise InputError(
            f"{where}: 'event_index' is {shown_value(value)}, expected 0, 1, ...", "leave it out for a clip"
        )
    return value
