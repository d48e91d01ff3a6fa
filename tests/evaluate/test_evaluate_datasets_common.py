"""Clip ids, lists of ids and checked JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import (
    clip_id_of,
    csv_rows,
    parse_json,
    quoted,
    read_id_list,
    read_json_document,
    read_json_lines,
    read_lines,
    refuse_repeated,
    require_str,
    shown_value,
)


def write(tmp_path, text, name="ids.txt"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize(
    ("name", "clip_id"),
    [
        ("video9770", "video9770"),
        ("folder/sub/v_abc.mp4", "v_abc"),
        ("folder\\v_abc.AVI", "v_abc"),
        (" a.webm ", "a"),
        ("2629@N04_1_a.m4v", "2629@N04_1_a"),
        ("a.mov.mp4", "a.mov"),
        ("1014_2012_00.01.21.399-00.01.23.997", "1014_2012_00.01.21.399-00.01.23.997"),
        ("lecture.v2", "lecture.v2"),
        ("", ""),
        ("/", ""),
    ],
)
def test_a_clip_id_is_the_name_without_folder_and_video_ending(name, clip_id):
    assert clip_id_of(name) == clip_id


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a\nb.mp4\n\nc\n", "ids.txt"),
        ("\ufeffa\r\nb.mp4\r\nc", "ids.txt"),
        ("video_id\na\nb\nc\n", "train.csv"),
        ('"key","video_id"\n1,a\n2,b.mp4\n"3, or 4","c"\n', "ids.csv"),
        ("video,n\na,1\n\nb,2\nfolder/c.mkv,3\n", "ids.csv"),
        ('["a", "b.mp4", "c"]', "ids.json"),
        ('["a", "b", "c"]', "ids.txt"),
        ('{"a": {"duration": 1}, "b": {}, "c": {}}', "val_1.json"),
    ],
)
def test_a_list_of_ids_comes_in_several_forms(tmp_path, text, name):
    assert read_id_list(write(tmp_path, text, name)) == ("a", "b", "c")


def test_the_real_lists_have_their_published_lengths(shared_data):
    assert len(read_id_list(shared_data / "retrieval" / "MSRVTT_JSFUSION_test.csv")) == 1000
    assert len(read_id_list(shared_data / "dense" / "activitynet_val_1.json")) == 4917


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no ids"),
        ("\n \n", "has no ids"),
        ("video_id\n", "has no ids"),
        ("[]", "has no ids"),
        ("a\nb\na.mp4\n", "names 'a' twice"),
        ("a\n/\n", "line 2: empty id"),
        ("video_id,n\na,1\n,2\n", "line 3: empty id"),
        ("n,video_id\n1,a\n2\n", "line 3: 1 columns, the header has 2"),
        ('n,video_id\n1,"a\n2,b\n', "line 3: not csv"),
        ('["a", 5]', "is not a JSON list of names"),
        ('["a", ""]', "entry 2: empty id"),
        ('["a", "\\ud800"]', "entry 2 has half of a surrogate pair"),
        ('["a"', "not JSON"),
        ('{"train": ["a"], "test": ["b"]}', "is an object of lists: 'train', 'test'"),
        ('{"a": 1, "a": 2}', "has the key 'a' twice"),
    ],
)
def test_a_broken_list_names_what_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_id_list(write(tmp_path, text))
    assert caught.value.hint


def test_a_list_that_is_missing_a_folder_or_binary_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_id_list(tmp_path / "absent.txt")
    with pytest.raises(InputError, match="is a folder"):
        read_id_list(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_id_list(tmp_path / "binary")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | st.text(alphabet='ab",[]{}:\n\t/ ', max_size=30).map(str.encode))
def test_any_list_ends_in_distinct_ids_or_an_error(tmp_path, content):
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    try:
        ids = read_id_list(path)
    except InputError:
        return
    assert all(ids)
    assert len(set(ids)) == len(ids) > 0


def test_lines_end_with_a_newline_alone(tmp_path):
    text = "one\x0cstill one\r\n\n two\u2028still two \nthree\x85"
    found = list(read_lines(write(tmp_path, text), "list", "check it"))
    assert found == [(1, "one\x0cstill one"), (3, "two\u2028still two"), (4, "three")]


def test_json_lines_are_numbered_and_a_broken_one_is_named(tmp_path):
    path = write(tmp_path, '{"a": "x\u2028y"}\n\n{"b": 2}\n')
    assert list(read_json_lines(path, "file", "check it")) == [(1, {"a": "x\u2028y"}), (3, {"b": 2})]
    for line, message in (("[1]", "line 2: not a JSON object"), ("{", "line 2: not JSON"), ("[" * 10**5, "too deep")):
        with pytest.raises(InputError, match=message):
            list(read_json_lines(write(tmp_path, "{}\n" + line), "file", "check it"))


def test_json_with_a_key_twice_at_any_depth_is_refused(tmp_path):
    path = write(tmp_path, '[{"a": {"b": 1, "c": 2, "b": 3}}]')
    with pytest.raises(InputError, match="an object has the key 'b' twice"):
        read_json_document(path, "file", "check it")


def test_json_is_read_with_and_without_a_byte_order_mark(tmp_path):
    for text in ('{"a": [1, 2]}', '\ufeff{"a": [1, 2]}'):
        assert read_json_document(write(tmp_path, text), "file", "check it") == {"a": [1, 2]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"here: not JSON \(column 1"),
        ('{"a": 1,\n"b" 2}', r"here: not JSON \(line 2, column 5"),
        ("[" * 100_000, "here: nested too deep"),
        ("1" * 5000, "here: a number has too many digits"),
    ],
)
def test_json_that_cannot_be_read_is_an_input_error(text, message):
    with pytest.raises(InputError, match=message):
        parse_json(text, "here")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
@settings(max_examples=50, deadline=None)
def test_json_is_what_python_reads(value):
    assert parse_json(json.dumps(value), "here") == json.loads(json.dumps(value))


def test_csv_rows_are_numbered_by_their_last_line():
    assert csv_rows('a,b\n\n"c\nd",e\n', "here") == [(1, ["a", "b"]), (4, ["c\nd", "e"])]


def test_repeated_ids_are_named():
    refuse_repeated(["a", "b"], "list")
    with pytest.raises(InputError, match="list names 'b' twice"):
        refuse_repeated(["a", "b", "c", "b", "a"], "list")


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        ({}, "missing"),
        ({"key": ""}, "empty"),
        ({"key": " "}, "' '"),
        ({"key": None}, "null"),
        ({"key": True}, "true"),
        ({"key": 1.5}, "1.5"),
        ({"key": 10**5000}, "a long number"),
        ({"key": ["a"]}, "a list"),
        ({"key": {}}, "an object"),
    ],
)
def test_a_text_that_is_none_is_shown(record, shown):
    with pytest.raises(InputError, match=f"record 3: 'key' is {shown}, expected a text"):
        require_str(record, "key", "record 3")


def test_a_text_is_returned_stripped_and_half_a_surrogate_pair_is_refused():
    assert require_str({"key": " a b "}, "key", "record 3") == "a b"
    with pytest.raises(InputError, match="record 3: 'key' has half of a surrogate pair"):
        require_str({"key": "\udfff"}, "key", "record 3")


def test_names_and_values_in_messages_are_one_short_printable_line():
    assert quoted("v_abc") == "'v_abc'"
    assert quoted("a\n\ud800") == r"'a\n\ud800'"
    assert len(quoted("a" * 1000)) == 62
    assert shown_value("a" * 1000) == repr("a" * 40)
