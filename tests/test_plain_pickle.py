"""Pickles of plain data are read; nothing is run, nothing blows up, and everything else is an input error."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figclip_cli import plain_pickle
from figclip_cli.errors import InputError
from figclip_cli.plain_pickle import read_plain_pickle

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
QUICK = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PREDICTIONS = [
    {"ann_idx": 0, "pred_vbs_ev": [["walk.01", "run.02"]] * 5, "pred_scores_ev": [[0.5, 0.25]] * 5},
    {"ann_idx": 1, "vb_output": {"Ev1": {"vb_id": "drive.01", "Arg1": "man in a caf\u00e9", "AScn": ""}}},
]


def read(tmp_path, data):
    path = tmp_path / "file.pkl"
    path.write_bytes(data)
    return read_plain_pickle(path, "predictions")


def refused(tmp_path, data, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, data)
    assert "file.pkl" in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_of_every_protocol_is_read(tmp_path, protocol):
    value = {"predictions": PREDICTIONS, "n": [None, True, False, -1, 2**63, 1e300, "", "x" * 300, []], "": {}}
    assert read(tmp_path, pickle.dumps(value, protocol=protocol)) == value


@QUICK
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(-9, 9), inner),
        max_leaves=20,
    ),
    protocol=st.sampled_from(PROTOCOLS),
)
def test_what_was_pickled_is_what_is_read(tmp_path, value, protocol):
    assert read(tmp_path, pickle.dumps(value, protocol=protocol)) == value


def test_tuples_become_lists_and_shared_parts_stay_shared(tmp_path):
    shared = ["a"]
    value = read(tmp_path, pickle.dumps({"t": (1, (2, shared)), "s": shared}))
    assert value == {"t": [1, [2, ["a"]]], "s": ["a"]}
    assert value["t"][1][1] is value["s"]


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (
            b"(dp1\nS'id'\np2\n(lp3\nS'caf\\xc3\\xa9'\np4\nasI5\nL7L\nsF0.5\nI01\ns.",
            {"id": ["caf\u00e9"], 5: 7, 0.5: True},
        ),
        (b"(lp1\nS'caf\\xe9'\np2\naVna\\u00efve\np3\na.", ["caf\u00e9", "na\u00efve"]),
        (b"\x80\x02]q\x01(U\x05caf\xc3\xa9q\x02T\x01\x00\x00\x00aK\x05e.", ["caf\u00e9", "a", 5]),
        (b"\x80\x02]q\x01U\x04caf\xe9q\x02a.", ["caf\u00e9"]),
    ],
)
def test_texts_of_python_2_are_utf8_else_latin1(tmp_path, data, value):
    assert read(tmp_path, data) == value


class Runs:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_code_is_not_run_and_what_would_run_is_named(tmp_path, protocol):
    data = pickle.dumps({"a": [Runs(tmp_path / "made")]}, protocol=protocol)
    refused(tmp_path, data, r"no pickle of plain data: it holds '(posix|nt)\.mkdir'")
    assert not (tmp_path / "made").exists()
    pickle.loads(data)
    assert (tmp_path / "made").exists()  # the file does run code elsewhere


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("value", [collections.OrderedDict(a=1), {1, 2}, b"bytes", bytearray(b"b"), 1j, len, int])
def test_other_types_are_refused(tmp_path, protocol, value):
    refused(
        tmp_path, pickle.dumps([value], protocol=protocol), "no pickle of plain data: it (holds|has the instruction)"
    )


def test_keys_that_are_tuples_and_huge_numbers_are_refused(tmp_path):
    refused(tmp_path, pickle.dumps({(1, 2): 3}), "a tuple for a key")
    refused(tmp_path, pickle.dumps([10**4000]), "a whole number of more than 64 bits")
    refused(tmp_path, pickle.dumps({10**4000: 1}), "a whole number of more than 64 bits")


def test_what_is_kept_elsewhere_is_refused(tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return "there" if obj == "text" else None

    buffer = io.BytesIO()
    Pickler(buffer).dump(["text"])
    refused(tmp_path, buffer.getvalue(), "refers to something kept elsewhere")
    refused(tmp_path, b"Pthere\n.", "refers to something kept elsewhere")
    refused(tmp_path, b"\x82\x01.", "it has the instruction EXT1")


def long_texts():
    return [
        b"\x8d" + struct.pack("<Q", 2**62) + b"a.",  # BINUNICODE8
        b"X" + struct.pack("<I", 2**32 - 1) + b"a.",
        b"T" + struct.pack("<I", 2**31 - 1) + b"a.",
        b"\x8e" + struct.pack("<Q", 2**34) + b"a.",  # BINBYTES8
        b"\x8b" + struct.pack("<I", 2**31 - 1) + b"a.",  # LONG4
    ]


@pytest.mark.parametrize("data", long_texts(), ids=lambda data: data[:1].hex())
def test_a_count_beyond_the_file_reserves_nothing(tmp_path, data):
    tracemalloc.start()
    refused(tmp_path, data, "cut off")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@pytest.mark.parametrize("data", [b"]r\xff\xff\xff\x7f.", b"]p2147483647\n.", b"]q\xff."])
def test_a_part_numbered_beyond_the_parts_reserves_nothing(tmp_path, data):
    refused(tmp_path, data, "numbers its parts beyond their count")


def test_a_few_bytes_that_stand_for_billions_of_values_are_refused(tmp_path):
    value = ["word"] * 10
    for _ in range(9):
        value = [value] * 10
    data = pickle.dumps(value)
    assert len(data) < 400
    refused(tmp_path, data, "more than 20,000,000 values")
    refused(tmp_path, pickle.dumps(["a" * 1_000_000] * 1000), "more than 500,000,000 letters")


def test_lists_that_hold_themselves_or_are_deep_are_refused(tmp_path):
    loop: list = []
    loop.append({"a": loop})
    refused(tmp_path, pickle.dumps(loop), "nested more than 50 deep")
    refused(tmp_path, b"]" * 100_000 + b"a" * 99_999 + b".", "nested more than 50 deep")
    deep: list = []
    for _ in range(49):
        deep = [deep]
    assert read(tmp_path, pickle.dumps(deep)) == deep
    refused(tmp_path, pickle.dumps([deep]), "nested more than 50 deep")
    shallow_first = [deep[0], [[[deep[0]]]]]  # the part that is shared is within bounds where it comes first
    refused(tmp_path, pickle.dumps(shallow_first), "nested more than 50 deep")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (pickle.dumps(PREDICTIONS)[:-1], "it is cut off"),
        (pickle.dumps(PREDICTIONS)[:40], "it is cut off"),
        (b"(lp0", "it is cut off"),
        (pickle.dumps([1]) + b"more", "4 bytes follow its end"),
        (b"hello", "it is cut off"),
        (b"]\x01.", "byte 2 is no instruction"),
        (b"\x80\x63].", "broken pickle"),
        (b".", "broken pickle"),
        (b"}]Ns.", "broken pickle"),
        (b"I" + b"1" * 5000 + b"\n.", "broken pickle"),
        (b"X\x02\x00\x00\x00\xff\xfe.", "broken pickle"),
        (b"]pwords\n.", "broken pickle"),
    ],
)
def test_broken_pickles_are_input_errors(tmp_path, data, message):
    refused(tmp_path, data, message)


def test_a_file_that_is_missing_a_folder_or_too_long_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="does not exist"):
        read_plain_pickle(tmp_path / "absent.pkl", "predictions")
    with pytest.raises(InputError, match="is a folder"):
        read_plain_pickle(tmp_path, "predictions")
    monkeypatch.setattr(plain_pickle, "MAX_INSTRUCTIONS", 50)
    refused(tmp_path, pickle.dumps([*range(100)]), "more than 50 instructions")
    monkeypatch.setattr(plain_pickle, "MAX_FILE_BYTES", 20)
    refused(tmp_path, pickle.dumps([*range(100)]), "is a pickle of more than")


@QUICK
@given(data=st.binary(max_size=60) | st.text("()]}.NsaeuK\x01pq0123\n", max_size=30).map(lambda text: text.encode()))
def test_any_bytes_end_in_plain_data_or_an_input_error(tmp_path, data):
    try:
        value = read(tmp_path, data)
    except InputError:
        return
    pickle.dumps(value)


@QUICK
@given(at=st.integers(0, 10**6), to=st.binary(min_size=1, max_size=2), protocol=st.sampled_from(PROTOCOLS))
def test_any_damage_ends_in_plain_data_or_an_input_error(tmp_path, at, to, protocol):
    data = pickle.dumps(PREDICTIONS, protocol=protocol)
    at %= len(data)
    try:
        read(tmp_path, data[:at] + to + data[at + len(to) :])
    except InputError:
        return
