"""VALSE: a caption against a foil, in eleven pieces by linguistic phenomenon.

Format and rule: Heidelberg-NLP/VALSE (Parcalabescu et al., 2022). An item is valid when at least two of three
annotators chose the caption and not the foil; the accuracy is pairwise and strict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import (
    assembled,
    keyed_records,
    known_files,
    macro,
    require_object,
)
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import require_str, shown_value

PIECES = (
    "existence",
    "plurals",
    "counting-small-quant",
    "counting-hard",
    "counting-adversarial",
    "relations",
    "action-replacement",
    "actant-swap",
    "coreference-standard",
    "coreference-hard",
    "foil-it",
)
MIN_VOTES = 2
_RULE = PartRule("micro", "strict")
_WHAT = "VALSE file"


def read_valse(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read pieces; a file given by name is a piece of that name, and invalid items are left out and counted.

    Raises:
        InputError: A file is no JSON object of records, a record is broken, or no item is valid.
    """
    found = known_files(paths, [f"{piece}.json" for piece in PIECES], _WHAT)
    choices: list[Choice] = []
    invalid: Counter[str] = Counter()
    for path in sorted(found.paths, key=lambda path: (_place(path), path.stem)):
        for key, where, record in keyed_records(path, _WHAT):
            if _votes(record, where) < MIN_VOTES:
                invalid[path.stem] += 1
                continue
            texts = require_str(record, "caption", where), require_str(record, "foil", where)
            looks = (Look(image=require_str(record, "image_file", where)),)
            choices.append(Choice(f"{path.stem}/{key}", looks, texts, path.stem))
    parts = list(dict.fromkeys(choice.part for choice in choices))
    missing = [piece for piece in PIECES if piece not in parts]
    return assembled(
        benchmark,
        paths,
        found.paths,
        choices,
        dict.fromkeys(parts, _RULE),
        averages=macro("macro", parts),
        remarks={"invalid_items_dropped": dict(invalid), **({"missing_parts": missing} if missing else {})},
        ignored=found.ignored,
    )


def _place(path: Path) -> int:
    return PIECES.index(path.stem) if path.stem in PIECES else len(PIECES)


def _votes(record: dict[str, Any], where: str) -> int:
    votes = require_object(record.get("mturk"), f"{where}, 'mturk'").get("caption")
    if isinstance(votes, bool) or not isinstance(votes, int):
        hint = "is it a VALSE file?"
        raise InputError(f"{where}: 'mturk' has {shown_value(votes)} for the caption, expected a number of votes", hint)
    return votes
