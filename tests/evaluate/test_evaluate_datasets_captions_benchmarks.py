"""The captions files of the benchmarks, as their authors publish them."""

from __future__ import annotations

import json
import pickle

import pytest

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.captions import read_captions
from figclip_cli.models.tokens import TokenCounter


def write_json(tmp_path, value, name="captions.json"):
    path = tmp_path / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def id_list(tmp_path, *ids):
    path = tmp_path / "test_list.txt"
    path.write_text("\n".join(ids) + "\n")
    return path


def pairs_of(captions):
    return [(query.clip_id, *query.texts) for query in captions.queries]


# ActivityNet


def test_the_real_activitynet_val_1_gives_4917_paragraphs_of_the_known_lengths(shared_data):
    path = shared_data / "dense" / "activitynet_val_1.json"
    captions = read_captions(path)
    assert captions.format == "activitynet"
    assert captions.is_paragraph
    assert len(captions.queries) == 4917 == len({query.clip_id for query in captions.queries})
    count = TokenCounter().count  # start and end included
    lengths = [count(query.texts[0]) for query in captions.queries]
    assert round(sum(lengths) / len(lengths)) == 56
    assert max(lengths) == 375
    assert sum(length > 77 for length in lengths) == 778
    assert sum(length > 64 for length in lengths) == 1275
    own = [" ".join(map(str.strip, record["sentences"])) for record in json.loads(path.read_text()).values()]
    assert [query.texts[0] for query in captions.queries] == own
    assert captions.choices["captions"] == 17505


def test_activitynet_sentences_are_stripped_and_joined(tmp_path):
    record = {"duration": 9.5, "timestamps": [[0, 1.5], [2, 9.5]], "sentences": [" A man sits. ", "  He stands."]}
    path = write_json(tmp_path, {"v_a": record, "v_b": {"sentences": ["A dog."]}})
    assert pairs_of(read_captions(path)) == [("v_a", "A man sits. He stands."), ("v_b", "A dog.")]
    assert pairs_of(read_captions(path, ids=id_list(tmp_path, "v_b"))) == [("v_b", "A dog.")]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"timestamps": [[0, 1]]}, "clip 'v_b': 'sentences' is missing"),
        ({"sentences": []}, "clip 'v_b': 'sentences' is an empty list"),
        ({"sentences": "A dog."}, "clip 'v_b': 'sentences' is 'A dog.', expected a list"),
        ({"sentences": ["A dog.", 5]}, "clip 'v_b', sentence 2: the caption is 5"),
        ({"sentences": ["A dog.", " "]}, "clip 'v_b', sentence 2: empty"),
        ({"sentences": ["A dog."], "timestamps": []}, "'timestamps' is not a pair for each of the 1 sentences, but 0"),
        ({"sentences": ["A dog."], "timestamps": 3}, "'timestamps' is not .* but 3"),
        (["A dog."], "clip 'v_b': a list, expected an object"),
        (None, "clip 'v_b': null, expected an object"),
    ],
)
def test_a_broken_record_of_activitynet_is_named(tmp_path, record, message):
    path = write_json(tmp_path, {"v_a": {"sentences": ["A cat."]}, "v_b": record})
    with pytest.raises(InputError, match=message):
        read_captions(path)


def test_a_clip_that_the_json_names_twice_is_refused_not_lost(tmp_path):
    path = tmp_path / "val_1.json"
    path.write_text('{"v_a": {"sentences": ["One."]}, "v_a": {"sentences": ["Two."]}}')
    with pytest.raises(InputError, match="has the key 'v_a' twice"):
        read_captions(path)


@pytest.mark.parametrize("format", [None, "activitynet"])
def test_paragraphs_have_no_splits_and_no_first_caption(tmp_path, format):
    path = write_json(tmp_path, {"v_a": {"sentences": ["A cat.", "A dog."]}})
    with pytest.raises(InputError, match="has no splits: it is activitynet"):
        read_captions(path, split="val", format=format)
    with pytest.raises(InputError, match="joins the captions of a clip: there is no first one"):
        read_captions(path, caption_choice="first", format=format)


# DiDeMo


def moment(video, description, number=0):
    return {
        "num_segments": 6,
        "description": description,
        "dl_link": "https://www.flickr.com/video_download.gne?id=1",
        "times": [[4, 4], [4, 5]],
        "video": video,
        "annotation_id": number,
    }


def test_didemo_joins_the_descriptions_of_a_video_in_file_order(tmp_path):
    records = [
        moment("2629@N04_1_a.m4v", "a dog runs"),
        moment("77@N00_2_b.mov", "the camera pans"),
        moment("2629@N04_1_a.m4v", "the dog stops ", 2),
        moment("2629@N04_1_a.m4v", "a dog runs", 3),
    ]
    captions = read_captions(write_json(tmp_path, records, "test_data.json"))
    assert captions.format == "didemo"
    assert captions.is_paragraph
    assert pairs_of(captions) == [
        ("2629@N04_1_a", "a dog runs the dog stops a dog runs"),
        ("77@N00_2_b", "the camera pans"),
    ]
    assert captions.choices["captions"] == 4
    assert captions.choices["repeated_rows"] == 1


def test_didemo_takes_the_1004_of_a_list_that_names_files(tmp_path):
    records = [moment(f"{n}@N00.avi", f"caption {n}", n) for n in range(1037)]
    path = write_json(tmp_path, records)
    assert len(read_captions(path).queries) == 1037
    ids = id_list(tmp_path, *(f"{n}@N00.avi" for n in range(1004)))
    assert len(read_captions(path, ids=ids).queries) == 1004


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"video": "a.mp4"}, "record 2: 'description' is missing"),
        ({"description": "words"}, "record 2: 'video' is missing"),
        (moment(5, "words"), "record 2: the clip id is 5"),
        (moment("a.mp4", None), "record 2: the caption is null"),
        (moment("a.mp4", ""), "record 2: empty clip id or caption"),
        ("words", "record 2: 'words', expected an object"),
    ],
)
def test_a_broken_record_of_didemo_is_named(tmp_path, record, message):
    with pytest.raises(InputError, match=message):
        read_captions(write_json(tmp_path, [moment("b.mp4", "first"), record]))


# MSVD

MSVD = {
    "-4wsuPCjDBc_5_15": ["a squirrel is eating", "a chipmunk is eating", "a squirrel is eating"],
    "-7KMZQEsJW4_205_208": ["a man brushes a flower"],
    "eyhzdC936uk_15_27": ["a squirrel is eating"],
}


def as_words(captions):
    return {clip: [caption.split() for caption in texts] for clip, texts in captions.items()}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_msvd_as_pickled_words_and_as_json_are_the_same_captions(tmp_path, protocol):
    words = tmp_path / "raw-captions.pkl"
    words.write_bytes(pickle.dumps(as_words(MSVD), protocol=protocol))
    from_words, from_json = read_captions(words), read_captions(write_json(tmp_path, MSVD))
    assert from_words.format == "msvd" == from_json.format
    assert from_words.queries == from_json.queries
    assert len(from_json.queries) == 5
    assert from_json.choices["repeated_rows"] == 1
    assert from_json.duplicate_texts == 2
    assert pairs_of(read_captions(write_json(tmp_path, as_words(MSVD)))) == pairs_of(from_json)


def test_a_pickle_of_python_2_is_read(tmp_path):
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(b"(dp1\nS'abc_1_2'\np2\n(lp3\n(lp4\nS'a'\np5\naS'caf\\xc3\\xa9'\np6\naasS'def_3_4'\n(l(lg5\naas.")
    assert pairs_of(read_captions(path)) == [("abc_1_2", "a caf\u00e9"), ("def_3_4", "a")]


def test_the_test_clips_of_msvd_come_from_a_list(tmp_path):
    captions = read_captions(write_json(tmp_path, MSVD), ids=id_list(tmp_path, "eyhzdC936uk_15_27", "-4wsuPCjDBc_5_15"))
    assert [query.clip_id for query in captions.queries] == ["-4wsuPCjDBc_5_15"] * 3 + ["eyhzdC936uk_15_27"]
    assert captions.choices["ids"]["clips"] == 2
    with pytest.raises(InputError, match="has no splits: it is msvd"):
        read_captions(write_json(tmp_path, MSVD), split="test")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "clip 'b': an empty list, expected a list of captions"),
        ("words", "clip 'b': 'words', expected a list of captions"),
        (["words", 5], "clip 'b', caption 2: the caption is 5"),
        (["words", []], "clip 'b', caption 2: empty clip id or caption"),
        ([["a", 5]], "clip 'b', caption 1: the caption is a list"),
        ([""], "clip 'b', caption 1: empty clip id or caption"),
    ],
)
def test_a_broken_clip_of_msvd_is_named(tmp_path, texts, message):
    with pytest.raises(InputError, match=message):
        read_captions(write_json(tmp_path, {"a": ["words"], "b": texts}))


def test_a_pickle_that_is_no_object_or_has_numbers_for_clips_is_refused(tmp_path):
    path = tmp_path / "raw-captions.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(InputError, match="is not msvd: it is a list"):
        read_captions(path)
    path.write_bytes(pickle.dumps({5: ["words"]}))
    with pytest.raises(InputError, match="the clip id is 5"):
        read_captions(path)


# MSR-VTT


def msrvtt(splits=("train", "validate", "test"), captions=2):
    """A file whose video N has the N-th split."""
    videos = [{"video_id": f"video{n}", "url": "u", "id": n} for n in range(len(splits))]
    for video, split in zip(videos, splits, strict=True):
        video |= {"split": split} if split else {}
    sentences = [
        {"caption": f"caption {k} of {n}", "video_id": f"video{n}", "sen_id": len(splits) * k + n}
        for k in range(captions)
        for n in range(len(splits))
    ]
    return {"info": {"year": "2016"}, "videos": videos, "sentences": sentences}


def test_the_full_msrvtt_test_split_has_2990_videos_with_20_captions(tmp_path):
    splits = ["train"] * 6513 + ["validate"] * 497 + ["test"] * 2990
    path = write_json(tmp_path, msrvtt(splits, captions=20), "MSRVTT_data.json")
    captions = read_captions(path)
    assert captions.format == "msrvtt-json"
    assert captions.split == "test" == captions.choices["split"]
    assert len(captions.queries) == 59_800
    clips = {query.clip_id for query in captions.queries}
    assert clips == {f"video{n}" for n in range(7010, 10_000)}
    first = read_captions(path, caption_choice="first")
    assert len(first.queries) == 2990
    assert first.queries[0].texts == ("caption 0 of 7010",)


def test_another_split_and_all_of_it_can_be_asked_for(tmp_path):
    path = write_json(tmp_path, msrvtt())
    assert {query.clip_id for query in read_captions(path, split="validate").queries} == {"video1"}
    everything = read_captions(path, split="all")
    assert len(everything.queries) == 6
    assert everything.split == "all"


def test_a_list_takes_the_place_of_the_default_split_and_narrows_a_named_one(tmp_path):
    path = write_json(tmp_path, msrvtt())
    listed = read_captions(path, ids=id_list(tmp_path, "video0", "video2"))
    assert {query.clip_id for query in listed.queries} == {"video0", "video2"}
    assert listed.split is None
    assert {q.clip_id for q in read_captions(path, split="test", ids=id_list(tmp_path, "video2")).queries} == {"video2"}
    with pytest.raises(InputError, match="1 of 2 clips have no captions in split test .* the first is 'video0'"):
        read_captions(path, split="test", ids=id_list(tmp_path, "video0", "video2"))


def test_an_unknown_split_is_refused_with_those_that_are_there(tmp_path):
    path = write_json(tmp_path, msrvtt(("train", "train", "validate")))
    with pytest.raises(InputError, match=r"no split 'test', only 'train' \(2 videos\), 'validate' \(1 videos\)"):
        read_captions(path)
    with pytest.raises(InputError, match="no split 'validation'") as caught:
        read_captions(path, split="validation")
    assert caught.value.hint == "did you mean 'validate'?"


def test_without_splits_in_the_file_nothing_is_guessed(tmp_path):
    path = write_json(tmp_path, msrvtt((None, None)))
    with pytest.raises(InputError, match="does not say which clips are its test split") as caught:
        read_captions(path)
    assert "--split all" in caught.value.hint
    with pytest.raises(InputError, match="does not say which clips are of split 'test'"):
        read_captions(path, split="test")
    assert len(read_captions(path, split="all").queries) == 4
    assert len(read_captions(path, ids=id_list(tmp_path, "video1")).queries) == 2
    only_sentences = write_json(tmp_path, {"sentences": msrvtt()["sentences"]})
    assert len(read_captions(only_sentences, split="all").queries) == 6
    with pytest.raises(InputError, match="does not say which clips"):
        read_captions(only_sentences)


def test_the_frozen_form_takes_a_list_and_the_first_caption_is_fitclips_choice(tmp_path):
    annotations = [
        {"image_id": "video9770", "caption": "first", "id": 0},
        {"image_id": "video1", "caption": "other", "id": 1},
        {"image_id": "video9770", "caption": "second", "id": 2},
    ]
    path = write_json(tmp_path, {"info": {}, "images": [], "annotations": annotations}, "MSR_VTT.json")
    ids = id_list(tmp_path, "video9770")
    assert pairs_of(read_captions(path, ids=ids)) == [("video9770", "first"), ("video9770", "second")]
    captions = read_captions(path, ids=ids, caption_choice="first")
    assert captions.format == "msrvtt-json"
    assert pairs_of(captions) == [("video9770", "first")]
    with pytest.raises(InputError, match="does not say which clips are its test split"):
        read_captions(path)
    assert len(read_captions(path, split="all").queries) == 3


def changed(part, index, record):
    document = msrvtt()
    document[part][index] = record
    return document


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed("sentences", 2, {"video_id": "video2", "sen_id": 1}), "sentence 3: 'caption' is missing"),
        (changed("sentences", 2, {"video_id": "video2", "caption": 4}), "sentence 3: the caption is 4"),
        (changed("sentences", 2, {"video_id": "video2", "caption": ""}), "sentence 3: empty"),
        (
            changed("sentences", 0, {"video_id": "videoX", "caption": "a"}),
            "sentence 1: 'videoX' is not among the videos",
        ),
        (changed("sentences", 0, {"video_id": None, "caption": "a"}), "sentence 1: null is not among the videos"),
        (changed("sentences", 1, "words"), "sentence 2: 'words', expected an object"),
        (changed("videos", 1, {"split": "test"}), "video 2: 'video_id' is missing"),
        (changed("videos", 1, {"video_id": 3, "split": "test"}), "video 2: 'video_id' is 3"),
        (changed("videos", 1, {"video_id": "video0", "split": "test"}), "video 2: 'video0' is there already"),
        (changed("videos", 1, {"video_id": "video1"}), "video 'video1' has no split, others have one"),
        (changed("videos", 1, {"video_id": "video1", "split": 1}), "video 2: 'split' is 1"),
        ({**msrvtt(), "videos": 5}, "'videos' is 5, expected a list"),
        ({**msrvtt(), "sentences": msrvtt()["sentences"][:2]}, "1 of 1 videos have no sentence, the first is 'video2'"),
    ],
)
def test_a_broken_record_of_msrvtt_is_named(tmp_path, document, message):
    with pytest.raises(InputError, match=message) as caught:
        read_captions(write_json(tmp_path, document))
    assert caught.value.hint


# Recognition

DOCUMENTS = {
    "msrvtt-json": msrvtt(),
    "msvd": MSVD,
    "didemo": [moment("a.mp4", "words")],
    "activitynet": {"v_a": {"sentences": ["A cat."]}},
}


@pytest.mark.parametrize("forced", DOCUMENTS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_format_that_is_forced_says_what_does_not_fit(tmp_path, name, forced):
    path = write_json(tmp_path, DOCUMENTS[name])
    assert read_captions(path).format == name
    if forced == name:
        assert read_captions(path, format=forced).queries == read_captions(path).queries
        return
    with pytest.raises(InputError) as caught:
        read_captions(path, format=forced)
    assert "captions.json" in caught.value.message
    assert caught.value.hint


def test_indented_json_is_recognised_too(tmp_path):
    for name, document in DOCUMENTS.items():
        path = tmp_path / "indented.json"
        path.write_text(json.dumps(document, indent=1))
        assert read_captions(path).format == name


@pytest.mark.parametrize("value", [{"a": 5}, [1, 2], ["a"], {"a": {"b": 1}}, [{"b": 1}]])
def test_json_of_another_form_is_refused_with_the_formats(tmp_path, value):
    with pytest.raises(InputError, match="JSON of no known format") as caught:
        read_captions(write_json(tmp_path, value))
    assert "activitynet" in caught.value.hint


@pytest.mark.parametrize("value", [{}, []])
def test_empty_json_is_refused(tmp_path, value):
    with pytest.raises(InputError, match="is empty JSON"):
        read_captions(write_json(tmp_path, value))


def test_json_that_is_cut_off_names_line_and_column(tmp_path):
    path = tmp_path / "cut.json"
    path.write_text(json.dumps(DOCUMENTS["activitynet"], indent=1)[:-3])
    with pytest.raises(InputError, match=r"not JSON \(line 6, column"):
        read_captions(path)
