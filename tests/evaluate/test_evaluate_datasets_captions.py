"""Captions files: recognised by content, read whole, refused with the line that is wrong."""

from __future__ import annotations

import hashlib
import json
from collections import Counter

import pytest

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.captions import FORMATS, Query, read_captions
from figclip_cli.prompts.store import PromptEvent, encoded, write_prompts


def write(tmp_path, text, name="captions.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def pairs_of(captions):
    return [(query.clip_id, *query.texts) for query in captions.queries]


def prompts_file(tmp_path, events=(("a", 0, "first"), ("a", 1, "second"), ("b", 0, "first"))):
    path = tmp_path / "prompts.jsonl"
    made = [
        PromptEvent(0, clip, None, index, (), (), (), None, text, "walk", "walk.01") for clip, index, text in events
    ]
    write_prompts(path, [encoded(made)], lambda: {"counts": {"events": len(made)}, "options": {}})
    return path


def test_the_real_msrvtt_1ka_file_has_1000_rows_and_5_duplicate_sentences(shared_data):
    captions = read_captions(shared_data / "retrieval" / "MSRVTT_JSFUSION_test.csv")
    assert captions.format == "msrvtt-1ka"
    assert len(captions.queries) == 1000 == len({query.clip_id for query in captions.queries})
    assert captions.queries[0].clip_id == "video9770"
    assert captions.queries[0].texts == ("a person is connecting something to system",)
    counts = Counter(query.texts for query in captions.queries)
    assert sum(count - 1 for count in counts.values()) == 5 == captions.duplicate_texts
    assert captions.choices["duplicate_texts"] == 5
    assert captions.choices["repeated_rows"] == 0
    assert not captions.is_paragraph
    assert captions.split is None


def test_the_real_1ka_file_can_be_restricted_to_a_list_and_forced_to_be_a_plain_csv(shared_data, tmp_path):
    path = shared_data / "retrieval" / "MSRVTT_JSFUSION_test.csv"
    ids = write(tmp_path, "video7020\nvideo9770\n", "ids.txt")
    captions = read_captions(path, ids=ids, format="csv")
    assert captions.format == "csv"
    assert [query.clip_id for query in captions.queries] == ["video9770", "video7020"]  # the file's order
    digest = hashlib.sha256(ids.read_bytes()).hexdigest()
    assert captions.choices["ids"] == {"file": "ids.txt", "sha256": digest, "clips": 2}
    json.dumps(captions.choices)


@pytest.mark.parametrize("header", ["clip_id,caption", "video_id,sentence", "caption,video", "n,video_id,text"])
def test_plain_csv_columns_are_found_by_name(tmp_path, header):
    cells = {"clip_id": "a", "video_id": "a", "video": "a", "n": "1"}
    row = ",".join(cells.get(column, '"one, two"') for column in header.split(","))
    captions = read_captions(write(tmp_path, f"{header}\n{row}\n\n"))
    assert captions.format == "csv"
    assert captions.dataset_id == "captions.csv"
    assert pairs_of(captions) == [("a", "one, two")]


def test_a_byte_order_mark_is_not_part_of_the_header(tmp_path):
    assert len(read_captions(write(tmp_path, "\ufeffclip_id,caption\na,b\n")).queries) == 1


def test_several_captions_of_a_clip_are_several_queries(tmp_path):
    assert len(read_captions(write(tmp_path, "clip_id,caption\na,b\na,c\n")).queries) == 2


def test_a_row_that_is_there_twice_is_kept_and_counted(tmp_path):
    captions = read_captions(write(tmp_path, "clip_id,caption\na,b\nc,b\na,b \na,d\n"))
    assert pairs_of(captions) == [("a", "b"), ("c", "b"), ("a", "b"), ("a", "d")]
    assert captions.choices["repeated_rows"] == 1
    assert captions.duplicate_texts == 2
    assert captions.choices["captions"] == 4


def test_the_first_caption_of_a_clip_can_be_chosen(tmp_path):
    captions = read_captions(write(tmp_path, "clip_id,caption\na,b\nc,b\na,d\n"), caption_choice="first")
    assert pairs_of(captions) == [("a", "b"), ("c", "b")]
    assert captions.choices["caption_choice"] == "first"
    assert captions.choices["captions"] == 3


def test_clip_names_become_the_ids_that_extract_frames_gives(tmp_path):
    captions = read_captions(write(tmp_path, "video,caption\nfolder/a.mp4,b\n"))
    assert captions.queries == (Query("a", None, ("b",)),)
    with pytest.raises(InputError, match="line 3: 'two/a.avi' and 'one/a.mp4' have the same clip id"):
        read_captions(write(tmp_path, "video,caption\none/a.mp4,b\ntwo/a.avi,c\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("id;words\n", "has the columns id;words"),
        ("clip_id,caption\n", "has no captions"),
        ("clip_id,caption\na,b\nc,d,e\n", "line 3: 3 columns, the header has 2"),
        ("clip_id,caption\na,\n", "line 2: empty clip id or caption"),
        ("clip_id,caption\n,b\n", "line 2: empty clip id or caption"),
        ("clip_id,caption\na/..//,b\n,c", "line 3: empty clip id or caption"),
        ("clip_id,caption\n/,b\n", "line 2: empty clip id or caption"),
        ('clip_id,caption\na,"b\nc,d\n', "line 3: not csv"),
        ("clip_id,caption\na," + "b" * 200_000, "line 2: not csv"),
        ("clip_id,caption,caption\na,b,c\n", "line 1: the column caption comes twice"),
        ("clip_id,caption\na,the <end_of_text>\n", "line 2: the caption has <start_of_text> or"),
    ],
)
def test_broken_files_name_what_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_captions(write(tmp_path, text))
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_a_missing_file_a_folder_and_a_binary_one_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_captions(tmp_path / "absent.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_captions(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(InputError, match="not UTF-8"):
        read_captions(tmp_path / "binary.csv")


def test_events_cannot_be_asked_of_a_csv(tmp_path):
    with pytest.raises(InputError, match="captions of whole clips"):
        read_captions(write(tmp_path, "clip_id,caption\na,b\n"), level="event")


def test_prompts_are_told_from_plain_jsonl_by_their_header(tmp_path):
    path = prompts_file(tmp_path)
    by_clip, by_event = read_captions(path), read_captions(path, level="event")
    assert by_clip.format == "prompts" == by_event.format
    assert by_clip.queries == (Query("a", None, ("first", "second")), Query("b", None, ("first",)))
    assert by_event.queries == (Query("a", 0, ("first",)), Query("a", 1, ("second",)), Query("b", 0, ("first",)))
    assert by_clip.duplicate_texts == 0
    assert by_event.duplicate_texts == 1


def test_prompts_can_be_restricted_to_a_list_but_have_no_first_caption(tmp_path):
    path, ids = prompts_file(tmp_path), write(tmp_path, "b\n", "ids.txt")
    assert read_captions(path, ids=ids).queries == (Query("b", None, ("first",)),)
    with pytest.raises(InputError, match="1 of 2 clips have no captions .* the first is 'z'"):
        read_captions(path, level="event", ids=write(tmp_path, "b\nz\n", "more.txt"))
    with pytest.raises(InputError, match="there is no first one"):
        read_captions(path, caption_choice="first")


@pytest.mark.parametrize("event", [("", 0, "text"), ("b", 0, " ")])
def test_prompts_that_say_nothing_are_refused(tmp_path, event):
    path = prompts_file(tmp_path, [("a", 0, "text"), event])
    with pytest.raises(InputError, match=f"annotation 0, event 0 of clip '{event[0]}': empty clip id or text"):
        read_captions(path)


def test_prompts_nested_too_deep_are_refused(tmp_path):
    path = prompts_file(tmp_path, [("a", 0, "text")])
    deep = '[{"change":{"a":' + "[" * 100_000 + "]" * 100_000 + '},"kind":"k","text":"t"}]'
    path.write_text(path.read_text().replace('"negatives":[]', f'"negatives":{deep}'))
    with pytest.raises(InputError, match="nested too deep"):
        read_captions(path)


def test_jsonl_takes_a_caption_or_a_list_of_captions(tmp_path):
    lines = [
        {"clip_id": "a", "caption": "one"},
        {"video_id": "b", "sentence": ["two", "three"], "n": 1},
        {"video": "folder/c.webm", "text": "four\u2028five"},
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    captions = read_captions(write(tmp_path, text, "captions.jsonl"))
    assert captions.format == "jsonl"
    assert pairs_of(captions) == [("a", "one"), ("b", "two"), ("b", "three"), ("c", "four\u2028five")]


def test_jsonl_of_a_single_line_is_jsonl(tmp_path):
    captions = read_captions(write(tmp_path, '{"clip_id": "a", "caption": ["one", "two"]}', "captions.jsonl"))
    assert captions.format == "jsonl"
    assert pairs_of(captions) == [("a", "one"), ("a", "two")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"clip_id": "b"}', "line 2: no caption or sentence or text"),
        ('{"caption": "b"}', "line 2: no clip_id or video_id or video"),
        ('{"clip_id": "b", "caption": 5}', "line 2: the caption is 5, expected a text"),
        ('{"clip_id": "b", "caption": ["c", null]}', "line 2: the caption is null, expected a text"),
        ('{"clip_id": "b", "caption": []}', "line 2: 'caption' is an empty list"),
        ('{"clip_id": 7, "caption": "c"}', "line 2: the clip id is 7, expected a text"),
        ('{"clip_id": "b", "caption": " "}', "line 2: empty clip id or caption"),
        ('{"clip_id": "b", "caption": "\\ud800"}', "line 2: the caption has half of a surrogate pair"),
        ('{"clip_id": "\\ud800", "caption": "c"}', "line 2: the clip id has half of a surrogate pair"),
        ('{"clip_id": "b", "clip_id": "c", "caption": "d"}', "line 2: an object has the key 'clip_id' twice"),
        ('["b", "c"]', "line 2: not a JSON object"),
        ('{"clip_id": "b"', "line 2: not JSON"),
        ('{"clip_id": ' + "[" * 100_000, "line 2: nested too deep"),
        ('{"clip_id": ' + "1" * 5000 + "}", "line 2: (a number has too many digits|no caption)"),
    ],
)
def test_a_broken_line_of_jsonl_is_named(tmp_path, line, message):
    path = write(tmp_path, '{"clip_id": "a", "caption": "one"}\n' + line + "\n", "captions.jsonl")
    with pytest.raises(InputError, match=message) as caught:
        read_captions(path)
    assert caught.value.hint


def test_lsmdc_is_a_table_with_tabs_whose_sentences_hold_quotes_and_commas(tmp_path):
    rows = [
        '1014_2012_00.01.21.399-00.01.23.997\t00:01:21.399\t00:01:23.997\t00:01:21\t00:01:24\tHe says "now", and goes.',
        '1014_2012_00.01.25.100-00.01.27.200\t00:01:25.100\t00:01:27.200\t00:01:25\t00:01:28\t"SOMEONE" nods.',
    ]
    captions = read_captions(write(tmp_path, "\r\n".join(rows) + "\r\n", "LSMDC16_challenge_1000_publictect.csv"))
    assert captions.format == "lsmdc"
    assert pairs_of(captions) == [
        ("1014_2012_00.01.21.399-00.01.23.997", 'He says "now", and goes.'),
        ("1014_2012_00.01.25.100-00.01.27.200", '"SOMEONE" nods.'),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a\tb\tc\td\te", "line 2: 5 columns with tabs between them"),
        ("a\tb\tc\td\te\t", "line 2: empty clip id or caption"),
        ("\tb\tc\td\te\tf", "line 2: empty clip id or caption"),
        ("a\tb\tc\td\te\tf\tg", "line 2: 7 columns"),
    ],
)
def test_a_broken_row_of_lsmdc_is_named(tmp_path, row, message):
    with pytest.raises(InputError, match=message):
        read_captions(write(tmp_path, f"c\t1\t2\t3\t4\tHe nods.\n{row}\n"))


def test_a_clip_of_the_list_without_captions_is_an_error_that_counts_and_names(tmp_path):
    path = write(tmp_path, "clip_id,caption\na,b\nc,d\n")
    ids = write(tmp_path, "video_id\nc\nx.mp4\ny\n", "ids.csv")
    with pytest.raises(InputError, match="2 of 3 clips have no captions in captions file .* the first is 'x'"):
        read_captions(path, ids=ids)


def test_captions_outside_the_list_may_be_broken_but_clip_ids_may_not(tmp_path):
    ids = write(tmp_path, "a\n", "ids.txt")
    path = write(tmp_path, '{"clip_id": "a", "caption": "b"}\n{"clip_id": "c", "caption": 5}\n', "captions.jsonl")
    assert pairs_of(read_captions(path, ids=ids)) == [("a", "b")]
    path = write(tmp_path, '{"clip_id": "a", "caption": "b"}\n{"clip_id": 5, "caption": "c"}\n', "captions.jsonl")
    with pytest.raises(InputError, match="line 2: the clip id is 5"):
        read_captions(path, ids=ids)


def test_a_split_is_refused_where_the_format_has_none(tmp_path):
    with pytest.raises(InputError, match="has no splits: it is csv"):
        read_captions(write(tmp_path, "clip_id,caption\na,b\n"), split="test")


def test_an_unknown_format_is_a_usage_error_with_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match="no captions format 'didmo'") as caught:
        read_captions(write(tmp_path, "clip_id,caption\na,b\n"), format="didmo")
    assert caught.value.hint == "did you mean 'didemo'?"


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "csv"])
def test_a_csv_forced_to_be_another_format_is_refused(tmp_path, name):
    with pytest.raises(InputError) as caught:
        read_captions(write(tmp_path, "clip_id,caption\na,b\n"), format=name)
    assert caught.value.hint
    assert "captions.csv" in caught.value.message
