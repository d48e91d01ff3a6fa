"""Whatever a captions file holds, it ends in captions or in an error that figclip raises on purpose."""

from __future__ import annotations

import json
import pickle

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figclip_cli.errors import FigclipError
from figclip_cli.evaluate.datasets.captions import FORMATS, Captions, read_captions

QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEYS = st.sampled_from(
    "clip_id video_id video caption sentence text videos sentences annotations image_id split description "
    "timestamps format counts options".split()
)
TEXTS = st.sampled_from(["a", "b.mp4", "", " ", "test", "all", "figclip-prompts", "\ud800", "<end_of_text>", "\u2028"])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS, st.text(max_size=3))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(KEYS | TEXTS, inner, max_size=4),
        st.fixed_dictionaries({"video_id": TEXTS, "caption": inner}, optional={"split": TEXTS}),
        st.fixed_dictionaries({"video": TEXTS, "description": inner}),
        st.fixed_dictionaries({"videos": st.lists(inner, max_size=2), "sentences": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"annotations": st.lists(inner, max_size=2)}),
    ),
    max_leaves=8,
)
CALLS = st.fixed_dictionaries(
    {
        "format": st.none() | st.sampled_from(FORMATS),
        "split": st.sampled_from([None, "test", "all"]),
        "level": st.sampled_from(["video", "event"]),
        "caption_choice": st.sampled_from(["all", "first"]),
    }
)


def check(path, call):
    try:
        captions = read_captions(path, **call)
    except FigclipError as error:
        assert str(path) in error.message
        assert "\n" not in error.message
        return
    assert isinstance(captions, Captions)
    assert captions.queries
    json.dumps(captions.choices)
    for query in captions.queries:
        assert query.clip_id.strip()
        assert all(text.strip() for text in query.texts)
        (query.clip_id + " ".join(query.texts)).encode()


@QUICK
@given(content=st.binary(max_size=80), call=CALLS)
def test_any_bytes(tmp_path, content, call):
    path = tmp_path / "captions"
    path.write_bytes(content)
    check(path, call)


@QUICK
@given(value=VALUES, call=CALLS)
def test_any_json(tmp_path, value, call):
    path = tmp_path / "captions.json"
    path.write_text(json.dumps(value))
    check(path, call)


@QUICK
@given(values=st.lists(VALUES, max_size=3), call=CALLS)
def test_any_json_lines(tmp_path, values, call):
    path = tmp_path / "captions.jsonl"
    path.write_text("\n".join(map(json.dumps, values)))
    check(path, call)


@QUICK
@given(value=VALUES, protocol=st.integers(0, 5), call=CALLS)
def test_any_pickle(tmp_path, value, protocol, call):
    path = tmp_path / "captions.pkl"
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    check(path, call)


@QUICK
@given(
    header=st.sampled_from(
        ["clip_id,caption", "key,vid_key,video_id,sentence", "c\t0\t0\t0\t0\twords", '"clip_id","text"']
    ),
    rows=st.text(alphabet='ab",\t\n\r<\x00\x85 ', max_size=40),
    call=CALLS,
)
def test_any_rows_below_a_header(tmp_path, header, rows, call):
    path = tmp_path / "captions.csv"
    path.write_text(f"{header}\n{rows}", newline="")
    check(path, call)


@QUICK
@given(at=st.integers(0, 400), to=st.binary(max_size=3))
@pytest.mark.parametrize("name", ["captions.json", "captions.pkl"])
def test_any_damage_to_a_good_file(tmp_path, name, at, to):
    good = {"a": ["one thing", "two things"], "b": ["three"] * 9}
    data = json.dumps(good).encode() if name.endswith("json") else pickle.dumps(good)
    path = tmp_path / name
    path.write_bytes(data[: at % len(data)] + to + data[at % len(data) + len(to) :])
    check(path, {})
