"""Files of timed sentences and of predictions: what is read, what is kept as it is, and what is refused in one line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figclip_cli.errors import FigclipError, InputError, UsageError
from figclip_cli.evaluate.datasets.dense_captions import read_dense_captions, read_reference_sets
from figclip_cli.evaluate.datasets.dense_events import aligned_ids
from figclip_cli.evaluate.datasets.dense_submissions import read_submission

VIDEO = {"duration": 60, "timestamps": [[0, 10.5], [10, 60]], "sentences": [" A man runs. ", "He stops."]}
PROPOSAL = {"sentence": "a man", "timestamp": [1.5, 4]}
YOUCOOK2 = {
    "database": {
        "abc": {
            "duration": 100.5,
            "subset": "training",
            "recipe_type": "101",
            "annotations": [{"segment": [1, 20], "id": 0, "sentence": "cut the onion"}],
        },
        "def": {
            "duration": 90,
            "subset": "validation",
            "annotations": [
                {"segment": [5, 30], "id": 0, "sentence": "fry it"},
                {"segment": [30, 31.5], "id": 1, "sentence": "serve"},
            ],
        },
        "ghi": {"duration": 80, "subset": "testing"},
    }
}


def written(folder, value, name="val.json"):
    path = folder / name
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def submitted(results, **more):
    return {"version": "VERSION 1.0", "results": results, "external_data": {"used": False}, **more}


# References


def test_the_real_activitynet_val_1(shared_data):
    path = shared_data / "dense" / "activitynet_val_1.json"
    captions = read_dense_captions(path)
    assert (captions.format, len(captions.videos), captions.split) == ("activitynet", 4917, None)
    assert captions.choices["events"] == 17505
    assert captions.choices["reversed_segments"] == 0
    document = json.loads(path.read_text())
    for name, video in captions.videos.items():
        assert video.segments_seconds.tolist() == document[name]["timestamps"]
        assert video.sentences == tuple(map(str.strip, document[name]["sentences"]))
        assert video.duration_seconds == document[name]["duration"]


def test_activitynet_by_hand(tmp_path):
    captions = read_dense_captions(written(tmp_path, {"v_a": VIDEO}))
    video = captions.videos["v_a"]
    assert video.duration_seconds == 60.0
    assert video.segments_seconds.dtype == np.float64
    assert video.segments_seconds.tolist() == [[0.0, 10.5], [10.0, 60.0]]
    assert video.sentences == ("A man runs.", "He stops.")
    assert json.loads(json.dumps(captions.choices)) == captions.choices


def test_a_start_after_its_end_is_kept_and_counted(tmp_path):
    captions = read_dense_captions(written(tmp_path, {"v_a": {**VIDEO, "timestamps": [[9, 3], [4, 4]]}}))
    assert captions.videos["v_a"].segments_seconds.tolist() == [[9, 3], [4, 4]]
    assert captions.choices["reversed_segments"] == 1
    json.dumps(captions.choices)


def test_an_empty_sentence_is_kept_and_counted(tmp_path):
    captions = read_dense_captions(written(tmp_path, {"v_a": {**VIDEO, "sentences": ["A man.", " "]}}))
    assert captions.videos["v_a"].sentences == ("A man.", "")
    assert captions.choices["empty_sentences"] == 1


@pytest.mark.parametrize(("split", "videos"), [(None, ["def"]), ("training", ["abc"]), ("all", ["abc", "def"])])
def test_youcook2_has_splits(tmp_path, split, videos):
    captions = read_dense_captions(written(tmp_path, YOUCOOK2), split=split)
    assert list(captions.videos) == videos
    assert (captions.format, captions.split) == ("youcook2", split or "validation")
    if "def" in videos:
        assert captions.videos["def"].segments_seconds.tolist() == [[5, 30], [30, 31.5]]
        assert captions.videos["def"].sentences == ("fry it", "serve")


@pytest.mark.parametrize("split", ["testing", "valdation"])
def test_a_split_without_annotations_is_refused(tmp_path, split):
    with pytest.raises(UsageError, match=f"no annotated split '{split}'"):
        read_dense_captions(written(tmp_path, YOUCOOK2), split=split)


def test_activitynet_has_no_splits(tmp_path):
    with pytest.raises(UsageError, match="has no splits"):
        read_dense_captions(written(tmp_path, {"v_a": VIDEO}), split="validation")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"timestamps": [[0, 1]]}, "video 'v_a' has 1 timestamps and 2 sentences"),
        ({"timestamps": [], "sentences": []}, "video 'v_a' has no events"),
        ({"timestamps": [[0, 1], [2]]}, r"timestamp 2 is a list of 1, expected \[start, end]"),
        ({"timestamps": [[0, 1], "2-3"]}, "timestamp 2 is '2-3'"),
        ({"timestamps": [[0, 1], [2, True]]}, "timestamp 2, end is true, expected a time"),
        ({"timestamps": [[0, 1], [None, 3]]}, "timestamp 2, start is null"),
        ({"timestamps": [[0, 1], [float("nan"), 3]]}, "timestamp 2, start is nan, expected a time"),
        ({"timestamps": [[0, 1], [-1e308, 1e308]]}, "timestamp 2, start is -1e.308, expected a time"),
        ({"timestamps": [[0, 1], [0, 10**400]]}, "timestamp 2, end is a long number, expected a time"),
        ({"timestamps": {"0": 1}}, "'timestamps' is an object, expected a list"),
        ({"sentences": ["a", 3]}, "sentence 2 is 3, expected a text"),
        ({"sentences": ["a", "\ud800"]}, "sentence 2 has half of a surrogate pair"),
        ({"duration": "60"}, "'duration' is '60', expected a time"),
        ({"duration": 0}, "'duration' is 0, expected more than 0"),
        ({"duration": float("inf")}, "'duration' is inf"),
    ],
)
def test_a_broken_video_is_named_with_its_file(tmp_path, change, message):
    path = written(tmp_path, {"v_b": VIDEO, "v_a": {**VIDEO, **change}})
    with pytest.raises(InputError, match=message) as caught:
        read_dense_captions(path)
    assert str(path) in str(caught.value)
    assert "video 'v_a'" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["duration", "timestamps", "sentences"])
def test_a_missing_key_is_named(tmp_path, key):
    video = {name: value for name, value in VIDEO.items() if name != key}
    with pytest.raises(InputError, match=f"video 'v_a': '{key}' is missing"):
        read_dense_captions(written(tmp_path, {"v_a": video}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not JSON"),
        ("{}", "has no videos"),
        ("[1]", "is a list, expected an object of videos"),
        ("3", "is 3"),
        ('{"a": 1}', "video 'a' is 1, expected an object"),
        ('{"a": {}, "a": {}}', "has the key 'a' twice"),
        ("[" * 100_000, "nested too deep"),
        ('{"database": {"a": {"subset": "testing"}}}', "no annotated video"),
        ('{"database": {"a": {}}}', "'subset' is missing"),
        (
            '{"database": {"a": {"subset": "validation", "annotations": [{"segment": [1, 2]}], "duration": 3}}}',
            "'sentence'",
        ),
        (
            '{"database": {"a": {"subset": "validation", "annotations": [{"segment": 1, "sentence": ""}]}}}',
            "'segment' is 1",
        ),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_dense_captions(written(tmp_path, text))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "val.json"
    path.write_bytes(b'{"v_\xff": {}}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_dense_captions(path)


# Several sets


def test_sets_share_the_ids_of_the_first(tmp_path):
    paths = [
        written(tmp_path, {"v_a": VIDEO, "v_b": VIDEO}, "val_1.json"),
        written(tmp_path, {"a": VIDEO, "v_c": VIDEO}, "val_2.json"),
    ]
    first, second = read_reference_sets(paths)
    assert (list(first.videos), list(second.videos)) == (["v_a", "v_b"], ["v_a", "v_c"])
    assert (first.choices["renamed_ids"], second.choices["renamed_ids"]) == (0, 1)


def test_a_set_given_twice_is_refused(tmp_path):
    paths = [written(tmp_path, {"v_a": VIDEO}, name) for name in ("one.json", "two.json")]
    with pytest.raises(InputError, match=r"one.json and .*two.json have the same content"):
        read_reference_sets(paths)


@pytest.mark.parametrize(
    ("names", "known", "called"),
    [
        (["v_a", "b"], ["v_a", "v_b"], ["v_a", "v_b"]),
        (["v_a", "b"], ["a", "b"], ["a", "b"]),
        (["v_x", "x"], ["v_x", "x"], ["v_x", "x"]),
        (["v_9"], ["v_v_9"], ["v_v_9"]),  # an id of YouTube that begins with v_
        (["q"], ["v_a"], ["q"]),
    ],
)
def test_ids_with_and_without_their_prefix(names, known, called):
    assert list(aligned_ids(names, known, "file").values()) == called


def test_two_names_of_one_video_are_refused():
    with pytest.raises(InputError, match="file: 'v_a' and 'a' are one video"):
        aligned_ids(["v_a", "a"], ["v_a"], "file")


# Submissions


def test_the_real_sample_submission(shared_data):
    path = shared_data / "dense" / "sample_submission.json"
    submission = read_submission(path)
    document = json.loads(path.read_text())
    assert submission.version == document["version"]
    assert submission.external_data == document["external_data"]
    for name, proposals in document["results"].items():
        assert submission.videos[name].sentences == tuple(one["sentence"] for one in proposals)
        assert submission.videos[name].segments_seconds.tolist() == [one["timestamp"] for one in proposals]


def test_a_submission_by_hand(tmp_path):
    results = {"v_a": [PROPOSAL, {"sentence": "", "timestamp": [5, 2]}], "v_b": []}
    submission = read_submission(written(tmp_path, submitted(results), "mine.v2.json"))
    assert submission.name == "mine.v2"
    assert submission.videos["v_a"].sentences == ("a man", "")
    assert submission.videos["v_b"].segments_seconds.shape == (0, 2)
    assert (submission.reversed_segments, submission.dropped) == (1, 0)


def test_results_alone_are_enough(tmp_path):
    submission = read_submission(written(tmp_path, {"results": {"v_a": [PROPOSAL]}}))
    assert (submission.version, submission.external_data) == ("", None)


def test_only_the_first_proposals_count(tmp_path):
    path = written(tmp_path, submitted({"v_a": [{**PROPOSAL, "sentence": str(number)} for number in range(5)]}))
    submission = read_submission(path, max_proposals=2)
    assert submission.videos["v_a"].sentences == ("0", "1")
    assert submission.dropped == 3


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "is a list, expected an object"),
        ({"version": "1"}, "'results' is missing"),
        (submitted([]), "'results' is a list, expected an object"),
        (submitted({}), "'results' is empty"),
        (submitted({"v_a": [], "v_b": []}), "not one of its 2 videos has a proposal"),
        (submitted({"v_a": {}}), "video 'v_a' is an object, expected a list"),
        (submitted({"v_a": ["a man"]}), "video 'v_a', proposal 1 is 'a man', expected an object"),
        (submitted({"v_a": [PROPOSAL, {"sentence": "x"}]}), "proposal 2: 'timestamp' is missing"),
        (submitted({"v_a": [{"timestamp": [1, 2]}]}), "proposal 1: 'sentence' is missing"),
        (submitted({"v_a": [{**PROPOSAL, "sentence": ["a"]}]}), "'sentence' is a list, expected a text"),
        (submitted({"v_a": [{**PROPOSAL, "sentence": None}]}), "'sentence' is null, expected a text"),
        (submitted({"v_a": [{**PROPOSAL, "sentence": "\udfff"}]}), "sentence has half of a surrogate pair"),
        (submitted({"v_a": [{**PROPOSAL, "timestamp": [1, 2, 3]}]}), "timestamp is a list of 3"),
        (submitted({"v_a": [{**PROPOSAL, "timestamp": [1, float("nan")]}]}), "timestamp, end is nan"),
        (submitted({"v_a": [{**PROPOSAL, "timestamp": [False, 2]}]}), "timestamp, start is false"),
        (submitted({"v_a": [PROPOSAL]}, version=["1"]), "'version' is a list"),
        (submitted({"v_a": [PROPOSAL]}, version=True), "'version' is true"),
        (submitted({"v_a": [PROPOSAL]}, external_data="none"), "'external_data' is 'none'"),
    ],
)
def test_a_broken_submission_is_refused_in_one_line(tmp_path, document, message):
    path = written(tmp_path, document)
    with pytest.raises(InputError, match=message) as caught:
        read_submission(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_proposal_that_would_not_count_is_checked_too(tmp_path):
    path = written(tmp_path, submitted({"v_a": [PROPOSAL, {"sentence": 1, "timestamp": [1, 2]}]}))
    with pytest.raises(InputError, match="proposal 2"):
        read_submission(path, max_proposals=1)


def test_predictions_take_the_ids_of_the_references(tmp_path):
    submission = read_submission(written(tmp_path, submitted({"a": [PROPOSAL], "z": [PROPOSAL]})))
    renamed = submission.renamed(["v_a", "v_b"])
    assert (list(renamed.videos), renamed.renamed_ids) == (["v_a", "z"], 1)
    with pytest.raises(InputError, match="not one of its 2 videos is in the references, such as 'a'") as caught:
        submission.renamed(["v_q"])
    assert "'v_q'" in caught.value.hint


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["results", "database", "v_a", "timestamps", "sentences", "timestamp", "sentence", "duration"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING)
@pytest.mark.parametrize("read", [read_dense_captions, read_submission])
def test_no_json_gives_a_traceback(tmp_path, read, value):
    path = written(tmp_path, json.dumps(value))
    try:
        read(path)
    except FigclipError as error:
        assert "\n" not in error.message
