"""Winoground: two images and two captions of the same words; each caption is right for one image.

Format: the data set of that name by facebook on the Hugging Face hub (Thrush et al., 2022), ``examples.jsonl``. Both
comparisons of the text, image and group scores are strict there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import assembled, known_files, optional_text, records
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import check_text, require_str, shown_value

PART = "winoground"
_NAMES = ("examples.jsonl", "examples.json")
_WHAT = "Winoground file"


def read_winoground(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read the examples; the group of an item is its ``collapsed_tag``, else its ``tag``.

    Raises:
        InputError: The file is no JSONL and no JSON list, or a record is broken.
    """
    found = known_files(paths, _NAMES, _WHAT)
    choices = [_choice(record, where) for path in found.paths for where, record in records(path, _WHAT)]
    rules = {PART: PartRule("micro", "strict", scoring="winoground")}
    remarks = {"licence": "Winoground's licence is for research and forbids passing the data on"}
    return assembled(benchmark, paths, found.paths, choices, rules, remarks=remarks, ignored=found.ignored)


def _choice(record: dict[str, Any], where: str) -> Choice:
    return Choice(
        id=f"{PART}/{_id(record, where)}",
        looks=(Look(image=_image(record, "image_0", where)), Look(image=_image(record, "image_1", where))),
        texts=(require_str(record, "caption_0", where), require_str(record, "caption_1", where)),
        part=PART,
        group=optional_text(record, "collapsed_tag", where) or optional_text(record, "tag", where),
    )


def _id(record: dict[str, Any], where: str) -> str:
    value = record.get("id")
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise InputError(f"{where}: 'id' is {shown_value(value)}, expected a number", "is it Winoground?")
    name = str(value)
    check_text(name, f"{where}: 'id'")
    return name


def _image(record: dict[str, Any], key: str, where: str) -> str:
    """Return an image's name; the examples name it without the ending that the file has."""
    name = require_str(record, key, where)
    return name if PurePosixPath(name).suffix else f"{name}.png"
