"""SugarCrepe: a caption of a COCO val2017 image against one hard negative, in seven files.

Format and counts: RAIVNLab/sugar-crepe (Hsieh et al., 2023), a JSON object of ``filename``, ``caption`` and
``negative_caption``. An item is right when the caption scores strictly higher.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from figclip_cli.errors import InputError, nearest
from figclip_cli.evaluate.datasets.choice_files import assembled, keyed_records, known_files, macro
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import require_str

AVERAGES = {
    "Replace": ("replace_obj", "replace_att", "replace_rel"),
    "Swap": ("swap_obj", "swap_att"),
    "Add": ("add_obj", "add_att"),
}
PARTS = tuple(part for parts in AVERAGES.values() for part in parts)
_RULE = PartRule("micro", "strict")
_WHAT = "SugarCrepe file"


def read_sugarcrepe(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read some or all of the seven files.

    The averages Replace, Swap and Add are only there when all their files are.

    Raises:
        InputError: A file has another name, or a record is broken.
    """
    found = known_files(paths, [f"{part}.json" for part in PARTS], _WHAT)
    for path in found.paths:
        if path.stem not in PARTS:
            raise InputError(f"{path} is not named like a {_WHAT}", nearest(path.stem, PARTS))
    files = sorted(found.paths, key=lambda path: PARTS.index(path.stem))
    present = [path.stem for path in files]
    averages = [average for name, of in AVERAGES.items() if set(of) <= set(present) for average in macro(name, of)]
    missing = [part for part in PARTS if part not in present]
    return assembled(
        benchmark,
        paths,
        files,
        [choice for path in files for choice in _choices(path)],
        dict.fromkeys(PARTS, _RULE),
        averages=[*averages, *macro("macro", present)],
        remarks={"missing_parts": missing} if missing else {},
        ignored=found.ignored,
    )


def _choices(path: Path) -> list[Choice]:
    return [
        Choice(
            id=f"{path.stem}/{key}",
            looks=(Look(image=require_str(record, "filename", where)),),
            texts=(require_str(record, "caption", where), require_str(record, "negative_caption", where)),
            part=path.stem,
        )
        for key, where, record in keyed_records(path, _WHAT)
    ]
