"""Choices of one's own: read as written, refused in one line, and scored like any benchmark."""

from __future__ import annotations

import json

import pytest

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.choices import Look
from figclip_cli.evaluate.datasets.compositional import read_compositional

RIGHT = {"clip_id": "v_1.mp4", "event_index": 2, "part": "object", "texts": ["a cat", "a dog", "a cow"], "group": "pet"}


def write(folder, *records, name="choices.jsonl"):
    path = folder / name
    text = json.dumps(list(records)) if name.endswith(".json") else "\n".join(json.dumps(one) for one in records)
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["choices.jsonl", "mine.json"])
def test_a_record_is_read_as_written(tmp_path, name):
    whole = {"clip_id": "v_2", "texts": ["night", "day"]}
    read = read_compositional("choices", [write(tmp_path, RIGHT, whole, name=name)])
    first, second = read.choices
    assert first.looks == (Look(clip_id="v_1", event_index=2),) and first.texts == ("a cat", "a dog", "a cow")
    assert (first.part, first.group) == ("object", "pet")
    assert (first.id, second.id) == ("v_1/0/2/0", "v_2/0/clip/1")
    assert second.looks == (Look(clip_id="v_2"),) and (second.part, second.group) == ("choices", "")
    assert read.uses == "clips" and list(read.rules) == ["object", "choices"]
    assert [(average.name, average.of) for average in read.averages] == [("macro", ("object", "choices"))]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"texts": ["a cat"]}, "has one text"),
        ({"texts": "a cat"}, "expected a list of texts"),
        ({"texts": ["a cat", ""]}, "expected a text"),
        ({"texts": ["a cat", 3]}, "expected a text"),
        ({"event_index": -1}, "'event_index' is -1"),
        ({"event_index": True}, "'event_index' is true"),
        ({"event_index": 1.5}, "'event_index' is 1.5"),
        ({"clip_id": None}, "'clip_id' is null"),
        ({"part": ["x"]}, "'part' is"),
        ({"clip": "v_1"}, "unknown key 'clip'"),
        ({"part": "macro"}, "names the mean of the parts"),
        ({"part": "all items"}, "names the mean of the parts"),
        ({"part": "x" * 400}, "has 400 characters"),
        ({"part": "a\n|b"}, "on one line"),
        ({"group": "y" * 81}, "'group' has 81 characters"),
        ({"group": "a\u2028b"}, "on one line"),
        ({"texts": ["a cat", "a cat "]}, "'a cat' twice"),
        ({"texts": ["a cat", "a dog", "a dog"]}, "'a dog' twice"),
        ({"event_index": 10**30}, "a long number"),
        ({"event_index": 10_000}, "'event_index' is 10000"),
        ({"group": "other"}, "the same choice as"),
    ],
)
def test_a_broken_record_is_refused_with_its_place(tmp_path, changed, message):
    with pytest.raises(InputError) as caught:
        read_compositional("choices", [write(tmp_path, RIGHT, RIGHT | changed)])
    assert message in caught.value.message and "line 2" in caught.value.message and caught.value.hint


def test_a_choice_is_there_once_over_all_files(tmp_path):
    with pytest.raises(InputError, match=r"b\.jsonl, line 2: the same choice as .*a\.jsonl, line 1"):
        read_compositional(
            "choices",
            [
                write(tmp_path, RIGHT, name="a.jsonl"),
                write(tmp_path, RIGHT | {"event_index": 3}, RIGHT, name="b.jsonl"),
            ],
        )
    orders = RIGHT | {"texts": ["a cat", "a cow", "a dog"]}, RIGHT | {"part": "animal"}
    assert len(read_compositional("choices", [write(tmp_path, RIGHT, *orders)]).choices) == 3


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no items"):
        read_compositional("choices", [write(tmp_path, name="mine.json")])
