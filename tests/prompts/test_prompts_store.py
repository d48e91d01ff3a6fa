"""prompts.jsonl: what is written is read back, and a damaged file is refused with its line."""

from __future__ import annotations

import hashlib
import json

import pytest

from figclip_cli.errors import InputError
from figclip_cli.prompts.roles import Role
from figclip_cli.prompts.store import Negative, PromptEvent, encoded, read_prompts, write_prompts


def prompt(clip_id: str, index: int = 0) -> PromptEvent:
    negative = Negative({"values": {"Arg0": {"from": "a", "to": "b"}}}, "role-noun-replace", "no")
    role = Role("Arg0", "walker", "caf\u00e9 owner")
    return PromptEvent(
        annotation_index=0,
        clip_id=clip_id,
        end_seconds=2.0,
        event_index=index,
        lost_roles=(),
        negatives=(negative,),
        roles=(role,),
        start_seconds=0.0,
        text="yes",
        verb="walk",
        verb_sense="walk.01",
    )


EVENTS = (prompt("v_a"), prompt("v_a", 1), prompt("v_b"))


def written(path, events=EVENTS, **header):
    write_prompts(path, iter([encoded(events)]), lambda: {"counts": {"events": len(events)}, "options": {}, **header})
    return path


def refused(path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    assert (
        "build-prompts" in caught.value.hint
        or "right file" in caught.value.hint
        or "prompts.jsonl" in caught.value.hint
    )
    return caught.value.message


def test_what_was_written_is_read_back_with_its_hash(tmp_path):
    path = written(tmp_path / "p.jsonl", seed=3)
    found = read_prompts(path)
    assert found.events == EVENTS
    assert found.header["seed"] == 3
    assert found.header["format"] == "figclip-prompts"
    assert found.header["format_version"] == 2
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_line_is_json_with_sorted_keys_in_utf8(tmp_path):
    lines = written(tmp_path / "p.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4
    for line in lines:
        assert list(json.loads(line)) == sorted(json.loads(line))
    assert "caf\u00e9" in lines[1]


def test_nothing_is_left_when_an_event_cannot_be_made(tmp_path):
    def failing():
        yield encoded(EVENTS)
        raise InputError("too long")

    with pytest.raises(InputError):
        write_prompts(tmp_path / "p.jsonl", failing(), dict)
    assert list(tmp_path.iterdir()) == []


def test_the_garbage_collector_is_as_before_after_reading(tmp_path):
    import gc

    path = written(tmp_path / "p.jsonl")
    read_prompts(path)
    assert gc.isenabled()
    refused(path, b"")
    assert gc.isenabled()


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_prompts(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        read_prompts(tmp_path)


HEADER = b'{"counts": {"events": 1}, "format": "figclip-prompts", "format_version": 2, "options": {}}\n'


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"[1]\n", "line 1: no header (Expected `object`, got `array`)"),
        (b"\xff\xfe\n", "line 1: no header ("),
        (b'{"a": 1}\n', "line 1: the format is not 'figclip-prompts'"),
        (HEADER.replace(b'version": 2', b'version": 1'), "has format version 1, this figclip reads 2"),
        (HEADER.replace(b"options", b"optiona"), "line 1: the header has no options"),
        (HEADER.replace(b"counts", b"account"), "line 1: the header has no counts"),
        (HEADER.replace(b": 1}", b": true}"), "line 1: the header does not count the events"),
        (HEADER, "has 0 events, its header says 1: the file is cut off"),
    ],
)
def test_a_wrong_header_is_refused(tmp_path, content, expected):
    assert expected in refused(tmp_path / "p.jsonl", content)


def test_a_missing_last_line_is_refused_as_cut_off(tmp_path):
    path = written(tmp_path / "p.jsonl")
    whole = path.read_bytes().splitlines(keepends=True)
    assert "has 2 events, its header says 3: the file is cut off" in refused(path, b"".join(whole[:-1]))


def test_a_line_cut_in_the_middle_is_named(tmp_path):
    path = written(tmp_path / "p.jsonl")
    assert "line 4: Input data was truncated" in refused(path, path.read_bytes()[:-20])


def test_an_added_or_repeated_or_blank_line_is_refused(tmp_path):
    path = written(tmp_path / "p.jsonl")
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    assert "line 5: clip v_a, annotation 0, event 0 is there already" in refused(path, whole + lines[1])
    assert "has 4 events, its header says 3: lines were added" in refused(
        path, whole + lines[1].replace(b"v_a", b"v_z")
    )
    assert "line 5: " in refused(path, whole + b"\n")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (b'"event_index":1', b'"event_index":"1"', "line 3: Expected `int`, got `str` - at `$.event_index`"),
        (b'"event_index":1', b'"event_index":-1', "line 3: a negative index"),
        (b'"verb":"walk",', b"", "line 2: Object missing required field `verb`"),
        (b'"kind"', b'"kinds"', "line 2: Object contains unknown field `kinds` - at `$.negatives["),
        (b'"name":"walker"', b'"name":null', "line 2: Expected `str`, got `null` - at `$.roles["),
        (b'"walk.01"', b"walk.01", "line 2: JSON is malformed"),
        ("caf\u00e9".encode(), b"caf\xe9", "line 2: "),
    ],
)
def test_a_broken_line_is_refused_with_its_number_and_what_is_wrong(tmp_path, before, after, expected):
    path = written(tmp_path / "p.jsonl")
    assert expected in refused(path, path.read_bytes().replace(before, after))


def test_a_line_nested_too_deep_is_named(tmp_path):
    lines = written(tmp_path / "p.jsonl").read_bytes()
    deep = b'"change":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    before = b'"change":{"values":{"Arg0":{"from":"a","to":"b"}}}'
    assert "line 2: nested too deep" in refused(tmp_path / "p.jsonl", lines.replace(before, deep, 1))
