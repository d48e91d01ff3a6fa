"""Captions files: recognised by content, read whole, refused with the line that is wrong."""

from __future__ import annotations

from collections import Counter

import pytest

from figclip_cli.errors import InputError
from figclip_cli.evaluate.captions import read_captions


def write(tmp_path, text, name="captions.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_real_msrvtt_1ka_file_has_1000_rows_and_5_duplicate_sentences(shared_data):
    captions = read_captions(shared_data / "retrieval" / "MSRVTT_JSFUSION_test.csv")
    assert captions.format == "msrvtt-1ka"
    assert len(captions.queries) == 1000 == len({query.clip_id for query in captions.queries})
    assert captions.queries[0].clip_id == "video9770"
    assert captions.queries[0].texts == ("a person is connecting something to system",)
    counts = Counter(query.texts for query in captions.queries)
    assert sum(count - 1 for count in counts.values()) == 5


@pytest.mark.parametrize("header", ["clip_id,caption", "video_id,sentence", "caption,video", "n,video_id,text"])
def test_plain_csv_columns_are_found_by_name(tmp_path, header):
    cells = {"clip_id": "a", "video_id": "a", "video": "a", "n": "1"}
    row = ",".join(cells.get(column, '"one, two"') for column in header.split(","))
    captions = read_captions(write(tmp_path, f"{header}\n{row}\n\n"))
    assert captions.format == "csv" and captions.dataset_id == "captions.csv"
    assert [(query.clip_id, query.texts) for query in captions.queries] == [("a", ("one, two",))]


def test_a_byte_order_mark_is_not_part_of_the_header(tmp_path):
    assert len(read_captions(write(tmp_path, "\ufeffclip_id,caption\na,b\n")).queries) == 1


def test_several_captions_of_a_clip_are_several_queries(tmp_path):
    assert len(read_captions(write(tmp_path, "clip_id,caption\na,b\na,c\n")).queries) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has the columns none"),
        ("id;words\n", "has the columns id;words"),
        ("clip_id,caption\n", "has no captions"),
        ("clip_id,caption\na,b\nc,d,e\n", "line 3: 3 columns, the header has 2"),
        ("clip_id,caption\na,\n", "line 2: empty clip id or caption"),
    ],
)
def test_broken_files_name_what_is_wrong(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read_captions(write(tmp_path, text))
    assert caught.value.hint


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_captions(tmp_path / "absent.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x80" * 9)
    with pytest.raises(InputError, match="not UTF-8"):
        read_captions(tmp_path / "binary.csv")


def test_events_cannot_be_asked_of_a_csv(tmp_path):
    with pytest.raises(InputError, match="captions of whole clips"):
        read_captions(write(tmp_path, "clip_id,caption\na,b\n"), level="event")
