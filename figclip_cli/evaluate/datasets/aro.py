"""ARO's Visual Genome Relation and Attribution: a region of an image, a true caption and one with its words swapped.

Format and rules: mertyg/vision-language-models-are-bows (Yuksekgonul et al., 2023), ``dataset_zoo/aro_datasets.py`` and
the notebook that replicates the paper's numbers. A tie counts as wrong there, because the false caption comes first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choice_files import assembled, known_files, records, texts_in
from figclip_cli.evaluate.datasets.choices import Box, Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.datasets.common import require_str, shown_value

RELATION, ATTRIBUTION = "vg-relation", "vg-attribution"
MIN_ATTRIBUTE_PAIR_ITEMS = 25
_MAX_PIXELS = 1 << 31

# The notebook leaves these relations out of the macro average, because swapping their ends may say the same. The macro
# over relations has no minimum number of items.
SYMMETRIC_RELATIONS = frozenset(
    name.strip()
    for name in (
        "adjusting, around, attached to, beside, between, bigger than, biting, boarding, brushing, by, chewing, "
        "cleaning, climbing, close to, coming from, coming out of, contain, crossing, dragging, draped over, drinking, "
        "drinking from, driving, driving down, driving on, eating from, eating in, enclosing, exiting, facing, "
        "filled with, floating in, floating on, flying, flying above, flying in, flying over, flying through, full of, "
        "going down, going into, going through, grazing in, growing in, growing on, guiding, hanging from, hanging in, "
        "hanging off, hanging over, higher than, holding onto, hugging, in between, jumping off, jumping on, "
        "jumping over, kept in, larger than, leading, leaning over, leaving, licking, longer than, looking in, "
        "looking into, looking out, looking over, looking through, lying next to, lying on top of, making, mixed with, "
        "mounted on, moving, near, next to, of, on the back of, on the edge of, on the front of, on the other side of, "
        "on the side of, opening, painted on, parked at, parked beside, parked by, parked in, parked in front of, "
        "parked near, parked next to, perched on, petting, piled on, playing, playing in, playing on, playing with, "
        "pouring, reaching for, reading, reflected on, riding on, running in, running on, running through, "
        "seen through, sitting behind, sitting beside, sitting by, sitting in front of, sitting near, sitting next to, "
        "sitting under, skiing down, skiing on, sleeping in, sleeping on, smiling at, sniffing, splashing, "
        "sprinkled on, stacked on, standing against, standing around, standing behind, standing beside, "
        "standing in front of, standing near, standing next to, staring at, stuck in, surrounding, swimming in, "
        "swinging, talking to, topped with, touching, traveling down, traveling on, tying, typing on, underneath, "
        "wading in, waiting for, walking across, walking by, walking down, walking next to, walking through, with, "
        "working in, working on, worn on, wrapped around, wrapped in"
    ).split(",")
)


def read_vg_relation(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read ``visual_genome_relation.json``: the macro over relations, without the symmetric ones.

    Raises:
        InputError: The file is not this list, or a record is broken.
    """
    found = known_files(paths, ["visual_genome_relation.json"], _what(RELATION))
    choices = _choices(found.paths, RELATION)
    symmetric = [choice.group for choice in choices if choice.group in SYMMETRIC_RELATIONS]
    rules = {RELATION: PartRule("macro", "strict", dropped_groups=SYMMETRIC_RELATIONS)}
    remarks = {"symmetric_items_dropped": len(symmetric), "symmetric_relations_dropped": sorted(set(symmetric))}
    return assembled(benchmark, paths, found.paths, choices, rules, remarks=remarks, ignored=found.ignored)


def read_vg_attribution(benchmark: str, paths: Sequence[Path], seed: int) -> Compositional:
    """Read ``visual_genome_attribution.json``: the macro over pairs of attributes with at least 25 items.

    Raises:
        InputError: The file is not this list, or a record is broken.
    """
    found = known_files(paths, ["visual_genome_attribution.json"], _what(ATTRIBUTION))
    choices = _choices(found.paths, ATTRIBUTION)
    rare = [n for n in Counter(choice.group for choice in choices).values() if n < MIN_ATTRIBUTE_PAIR_ITEMS]
    rules = {ATTRIBUTION: PartRule("macro", "strict", min_group_items=MIN_ATTRIBUTE_PAIR_ITEMS)}
    remarks = {"rare_items_dropped": sum(rare), "rare_attribute_pairs_dropped": len(rare)}
    return assembled(benchmark, paths, found.paths, choices, rules, remarks=remarks, ignored=found.ignored)


def _what(part: str) -> str:
    return f"ARO {part} file"


def _choices(files: Sequence[Path], part: str) -> list[Choice]:
    return [
        Choice(
            id=f"{part}/{number}",
            looks=(Look(image=require_str(record, "image_path", where), box=_box(record, where)),),
            texts=(require_str(record, "true_caption", where), require_str(record, "false_caption", where)),
            part=part,
            group=require_str(record, "relation_name", where) if part == RELATION else _attributes(record, where),
        )
        for path in files
        for number, (where, record) in enumerate(records(path, _what(part)))
    ]


def _attributes(record: dict[str, Any], where: str) -> str:
    pair = texts_in(record.get("attributes"), where, "'attributes'")
    if len(pair) != 2:
        raise InputError(f"{where}: {len(pair)} attributes, expected two", "is it VG-Attribution?")
    return "_".join(pair)


def _box(record: dict[str, Any], where: str) -> Box:
    x, y, width, height = (_pixels(record, f"bbox_{side}", where) for side in "xywh")
    if min(width, height) <= 0:
        raise InputError(f"{where}: the box is {width} by {height} pixels", "correct the record, or leave it out")
    return x, y, width, height


def _pixels(record: dict[str, Any], key: str, where: str) -> int:
    value = record.get(key)
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or abs(value) >= _MAX_PIXELS:  # type: ignore[arg-type]
        shown = "missing" if key not in record else shown_value(value)
        raise InputError(f"{where}: '{key}' is {shown}, expected a number of pixels", "is it an ARO file?")
    return int(value)  # type: ignore[arg-type]
