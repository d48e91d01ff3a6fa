"""Whatever JSON a file holds, reading it ends in a set of choices or in an error that says what is wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figclip_cli.errors import FigclipError
from figclip_cli.evaluate.datasets.choices import Compositional
from figclip_cli.evaluate.datasets.compositional import BENCHMARKS, read_compositional
from figclip_cli.files import canonical_json

PLACES = {"vl-checklist": "Object/vg.json", "sugarcrepe": "swap_att.json", "prompts": "prompts.jsonl"}
TEXT = st.sampled_from(["a red dog", "two cats' toys", "A man.", "é", "..."])
NAME = st.text("abc/._-", min_size=1, max_size=8)
SIDES = {f"bbox_{side}": st.integers(0, 30) for side in "xywh"}
REGION = {"image_path": NAME, **SIDES, "true_caption": TEXT, "false_caption": TEXT}
NEGATIVE = {"change": st.just({}), "kind": NAME, "text": TEXT}
EVENT = {
    "annotation_index": st.integers(0, 2),
    "clip_id": NAME,
    "end_seconds": st.none(),
    "event_index": st.integers(0, 4),
    "lost_roles": st.just([]),
    "negatives": st.lists(st.fixed_dictionaries(NEGATIVE), max_size=3),
    "roles": st.just([]),
    "start_seconds": st.none(),
    "text": TEXT,
    "verb": TEXT,
    "verb_sense": NAME,
}
FIELDS = {
    "sugarcrepe": {"filename": NAME, "caption": TEXT, "negative_caption": TEXT},
    "aro-vg-relation": {**REGION, "relation_name": TEXT},
    "aro-vg-attribution": {**REGION, "attributes": st.lists(TEXT, min_size=2, max_size=2)},
    "aro-coco-order": {"image": NAME, "caption": st.lists(TEXT, min_size=1, max_size=2)},
    "aro-flickr-order": {
        "image": NAME,
        "caption_options": st.lists(st.lists(TEXT, min_size=2), min_size=1, max_size=2),
    },
    "vl-checklist": {"POS": st.lists(TEXT, min_size=1, max_size=2), "NEG": st.lists(TEXT, min_size=1, max_size=2)},
    "winoground": {"id": st.integers(), "image_0": NAME, "image_1": NAME, "caption_0": TEXT, "caption_1": TEXT},
    "valse": {
        "image_file": NAME,
        "caption": TEXT,
        "foil": TEXT,
        "mturk": st.fixed_dictionaries({"caption": st.integers(0, 3)}),
    },
    "velociti": {"test_name": NAME, "video_id": NAME, "pos": TEXT, "neg": TEXT},
    "prompts": EVENT,
    "choices": {"clip_id": NAME, "texts": st.lists(TEXT, min_size=2, max_size=3), "event_index": st.integers(0, 4)},
}

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.just("\ud800"))
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@st.composite
def documents(draw, benchmark):
    """Draw a document of the benchmark; in half of them something is broken."""
    fields = FIELDS[benchmark]
    items = [draw(st.fixed_dictionaries(fields)) for _ in range(draw(st.integers(0, 3)))]
    breaks = draw(st.integers(0, 5))
    if breaks == 0 and items:
        items[-1][draw(st.sampled_from(sorted(fields)))] = draw(ANYTHING)
    elif breaks == 1 and items:
        del items[-1][draw(st.sampled_from(sorted(fields)))]
    elif breaks == 2:
        items.append(draw(ANYTHING))
    if benchmark == "vl-checklist":
        items = [[draw(NAME), item] if breaks != 3 else item for item in items]
    if benchmark in ("sugarcrepe", "valse"):
        items = {draw(st.text(max_size=4)): item for item in items}
    return draw(ANYTHING) if breaks == 4 else items


def written(benchmark, document):
    if benchmark != "prompts" or not isinstance(document, list):
        return json.dumps(document)
    counts = {"events": len(document)}
    header = {"format": "figclip-prompts", "format_version": 2, "counts": counts, "options": {}}
    return "\n".join(map(json.dumps, [header, *document]))


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_any_json_ends_in_a_set_or_in_an_error_of_ours(benchmark, tmp_path):
    path = tmp_path / PLACES.get(benchmark, "file.json")
    path.parent.mkdir(exist_ok=True)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(documents(benchmark))
    def check(document):
        path.write_text(written(benchmark, document))
        try:
            read = read_compositional(benchmark, [path])
        except FigclipError as error:
            assert error.message and "\n" not in error.message
            return
        assert isinstance(read, Compositional) and read.choices
        assert len({choice.id for choice in read.choices}) == len(read.choices)
        assert set(read.rules) == {choice.part for choice in read.choices}
        for choice in read.choices:
            assert choice.looks and len(choice.texts) >= 2 and all(choice.texts)
            assert all(look.box is None or min(look.box[2:]) > 0 for look in choice.looks)
        canonical_json(read.remarks).encode()

    check()
