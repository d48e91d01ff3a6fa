"""Lists of clips in every form that data sets come with, and what is refused."""

from __future__ import annotations

import json

import pytest
from samples import annotation_record
from small_sources import event, write_small_prompts

from figclip_cli.adapt.clip_lists import read_clip_list, read_clip_lists
from figclip_cli.errors import InputError

IDS = ["v_a-b_seg_0_10", "v_c.d_seg_10_20"]
FIRST, SECOND = IDS


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ids.json", json.dumps(IDS)),
        ("ids.json", "\ufeff" + json.dumps(IDS, indent=2)),
        ("objects.json", json.dumps([{"clip_id": FIRST}, {"clip_id": SECOND, "video": "another"}])),
        ("objects.json", json.dumps([{"clip": FIRST}, {"vid_seg_int": SECOND}])),
        ("objects.json", json.dumps([{"video_id": FIRST}, {"video": SECOND}])),
        ("nested.json", json.dumps([{"Ev1": {"x": 1, "vid_seg_int": FIRST}}, {"Ev1": {"vid_seg_int": SECOND}}])),
        ("keys.json", json.dumps({FIRST: {"video": "other"}, SECOND: [1, 2]})),
        ("lines.jsonl", f'{{"clip_id": "{FIRST}"}}\n\n{{"clip": "{SECOND}"}}\n'),
        ("lines.jsonl", f'"{FIRST}"\n"{SECOND}"\n'.replace('"', "")),
        (
            "headed.jsonl",
            f'{{"format": "x", "format_version": 2}}\n{{"clip_id": "{FIRST}"}}\n{{"clip_id": "{SECOND}"}}',
        ),
        ("column.csv", f"n,clip_id\n1,{FIRST}\n2, {SECOND} \n3,\n"),
        ("column.CSV", f"video_id,sentence\r\n{FIRST},a b\r\n{SECOND},\r\n"),
        ("quoted.csv", f'sentence,video\n"one, two",{FIRST}\n"x",{SECOND}\n'),
        ("first.csv", f"video,clip\nv,{FIRST}\nv,{SECOND}\n"),
        ("short.csv", f"n,clip_id\n1,{FIRST}\n2\n3,{SECOND}\n"),
        ("list.txt", f"# a comment\n{FIRST}\n\n  {SECOND}  # another\n{FIRST}\n"),
        ("windows.txt", f"{FIRST}\r\n{SECOND}\r\n"),
        ("bom.txt", f"\ufeff{FIRST}\n{SECOND}"),
        ("no-ending", f"{FIRST}\n{SECOND}\n"),
        ("endings.txt", f"{FIRST}.mp4\n{SECOND}.MKV\n"),
        ("endings.json", json.dumps([f"{FIRST}.webm", SECOND])),
        ("endings.csv", f"video\n{FIRST}.mp4\n{SECOND}\n"),
    ],
)
def test_every_form_gives_the_same_two_clips(tmp_path, name, text):
    (tmp_path / name).write_bytes(text.encode())
    assert read_clip_list(tmp_path / name) == set(IDS)


@pytest.mark.parametrize("text", ['{"clip_id": "v1"}\n', '{"vid_seg_int": "v1", "n": 3}', '{"v1": {"clip_id": "x"}}'])
def test_a_file_of_one_object_is_one_clip(tmp_path, text):
    """One JSON line is also one JSON object, whose keys are not ids."""
    (tmp_path / "one.jsonl").write_text(text)
    assert read_clip_list(tmp_path / "one.jsonl") == {"v1"}


def test_the_list_of_the_vidsitu_split_is_read_as_it_comes(tmp_path):
    """The form of vseg_split_*.json: one JSON list of segment names on one line."""
    ids = ["v_---9CpRcKoU_seg_115_125", "v_-0I2RkkYWQk_seg_0_10", "v__5Xv42-x0dM_seg_20_30"]
    (tmp_path / "vseg_split_testvb_lb.json").write_text(json.dumps(ids))
    assert read_clip_list(tmp_path / "vseg_split_testvb_lb.json") == set(ids)


def test_the_vidsitu_annotation_itself_is_a_list(tmp_path):
    ids = [f"v_x{number:07d}_seg_0_10" for number in range(3)]
    (tmp_path / "vsann_valid_lb.json").write_text(json.dumps([annotation_record(one, 0) for one in ids]))
    assert read_clip_list(tmp_path / "vsann_valid_lb.json") == set(ids)


def test_the_real_annotation_examples_are_lists(shared_data):
    assert len(read_clip_list(shared_data / "retrieval" / "MSRVTT_JSFUSION_test.csv")) == 1000
    dense = shared_data / "dense" / "activitynet_val_1.json"
    assert read_clip_list(dense) == set(json.loads(dense.read_text()))


def test_a_prompts_file_is_a_list_of_its_clips(tmp_path):
    path = write_small_prompts(tmp_path / "prompts.jsonl", [event("a", 0), event("a", 1), event("b", 0)])
    assert read_clip_list(path) == {"a", "b"}


def test_a_prompts_file_without_events_names_no_clip(tmp_path):
    path = write_small_prompts(tmp_path / "prompts.jsonl", [])
    with pytest.raises(InputError, match="names no clip"):
        read_clip_list(path)


def test_an_ending_inside_a_name_stays(tmp_path):
    (tmp_path / "l.txt").write_text("a.mp4.b\nv1.0\nc.mp4\n")
    assert read_clip_list(tmp_path / "l.txt") == {"a.mp4.b", "v1.0", "c"}


def test_several_lists_are_joined_and_none_is_empty(tmp_path):
    (tmp_path / "a.txt").write_text("x\ny\n")
    (tmp_path / "b.json").write_text('["y", "z"]')
    assert read_clip_lists([tmp_path / "a.txt", tmp_path / "b.json"]) == {"x", "y", "z"}
    assert read_clip_lists([]) == frozenset()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("l.txt", b"", "names no clip"),
        ("l.txt", b"# only a comment\n\n", "names no clip"),
        ("l.json", b"[]", "names no clip"),
        ("l.json", b"{}", "names no clip"),
        ("l.csv", b"clip_id\n\n", "names no clip"),
        ("l.csv", b"name,text\na,b\n", "has no column clip_id, clip, vid_seg_int, video_id, video"),
        ("l.csv", b"", "has no column"),
        ("l.json", b"[1, 2]", "entry 1 has no clip id"),
        ("l.json", b'["a", {"text": "b"}]', "entry 2 has no clip id"),
        ("l.json", b'["a", null]', "entry 2 has no clip id"),
        ("l.json", b'["a", "b"', r"is not JSON \(line 1: "),
        ("l.jsonl", b'{"clip_id": "a"}\n{"clip_id": \n', r"is not JSON \(line 2: "),
        ("l.txt", b"\xff\xfe\x00a", "is not UTF-8 text"),
    ],
)
def test_what_is_no_list_is_refused_in_one_line_that_names_the_file(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message) as caught:
        read_clip_list(tmp_path / name)
    assert str(tmp_path / name) in caught.value.message and "\n" not in caught.value.message
    assert caught.value.hint and caught.value.exit_code == 3


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(InputError, match="clip list .*absent.json does not exist"):
        read_clip_list(tmp_path / "absent.json")
