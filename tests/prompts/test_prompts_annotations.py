"""Reading VidSitu's annotation files, and every way in which they can be wrong."""

from __future__ import annotations

import json

import pytest
from vidsitu_fixture import event, record, write

from figclip_cli.errors import InputError, UsageError
from figclip_cli.prompts.annotations import read_annotations, read_split


def read_one(tmp_path, *events):
    return read_annotations([write(tmp_path / "a.json", record("v_x", *events))]).annotations[0].events[0]


def refused(tmp_path, *records) -> str:
    with pytest.raises(InputError) as caught:
        read_annotations([write(tmp_path / "a.json", *records)], strict=True)
    return caught.value.message


def changed(key: str, value) -> dict:
    """A record whose second event has one member replaced, or removed where value is None."""
    broken = event()
    if value is None:
        del broken[key]
    else:
        broken[key] = value
    return record("v_x", event(), broken)


def test_the_verb_is_the_word_of_its_sense_however_much_was_written_with_it(tmp_path):
    assert read_one(tmp_path, event(verb="walk (move on foot)")).verb == "walk"
    assert read_one(tmp_path, event(verb="pick_up (take)", sense="pick_up.04")).verb == "pick up"


def test_roles_come_in_the_order_of_arg_list_whose_numbers_may_be_strings(tmp_path):
    args = {"Arg1 (path)": "road", "Arg0 (walker)": "man", "Scene of the Event": "town"}
    order = {"Scene of the Event": "10", "Arg0 (walker)": "2", "Arg1 (path)": 9}
    arguments = read_one(tmp_path, event(args, order=order)).arguments
    assert [argument.arg for argument in arguments] == ["Arg0", "Arg1", "scene"]


@pytest.mark.parametrize("empty", ["", "...", " ", " ... ", ".", "\t\n"])
def test_empty_values_and_dots_are_empty(tmp_path, empty):
    assert read_one(tmp_path, event({"Arg0 (walker)": empty})).arguments[0].value == ""


def test_values_lose_trailing_punctuation_and_spaces_but_never_their_case(tmp_path):
    assert (
        read_one(tmp_path, event({"Arg0 (walker)": "  Mr. Bean ,  the\nMan. "})).arguments[0].value
        == "Mr. Bean , the Man"
    )


def test_two_keys_of_one_role_are_both_kept_in_order(tmp_path):
    args = {"Arg1 (a)": "one", "Arg1 (b)": "two"}
    order = {"Arg1 (a)": 1, "Arg1 (b)": 0}
    arguments = read_one(tmp_path, event(args, order=order)).arguments
    assert [(a.arg, a.description, a.value) for a in arguments] == [("Arg1", "b", "two"), ("Arg1", "a", "one")]


def test_annotations_of_one_clip_are_numbered_in_file_order_and_clips_are_sorted(tmp_path):
    one, two = event(sense="one.01"), event(sense="two.01")
    path = write(tmp_path / "a.json", record("v_b", one), record("v_a", one), record("v_b", two))
    found = [(a.clip_id, a.annotation_index, a.events[0].verb) for a in read_annotations([path]).annotations]
    assert found == [("v_a", 0, "one"), ("v_b", 0, "one"), ("v_b", 1, "two")]


def test_several_files_are_read_in_sorted_order_whatever_the_order_given(tmp_path):
    second = write(tmp_path / "b.json", record("v_x", event(sense="later.01")))
    first = write(tmp_path / "a.json", record("v_x", event(sense="sooner.01")))
    files = read_annotations([second, first])
    assert [source["name"] for source in files.sources] == ["a.json", "b.json"]
    assert [annotation.events[0].verb for annotation in files.annotations] == ["sooner", "later"]


def test_the_same_file_twice_is_a_usage_error(tmp_path):
    path = write(tmp_path / "a.json", record("v_x"))
    with pytest.raises(UsageError, match="are the same"):
        read_annotations([path, path])


def test_records_with_problems_are_left_out_and_listed_and_strict_stops_at_the_first(tmp_path):
    records = (record("v_ok"), changed("VerbID", None), changed("Verb", 3), record("v_fine"))
    assert refused(tmp_path, *records).endswith("a.json, record 1 (clip v_x): Ev2, VerbID is missing")
    files = read_annotations([tmp_path / "a.json"])
    assert [annotation.clip_id for annotation in files.annotations] == ["v_fine", "v_ok"]
    assert files.records == 4
    assert [problem.partition(", ")[2] for problem in files.problems] == [
        "record 1 (clip v_x): Ev2, VerbID is missing",
        "record 2 (clip v_x): Ev2, Verb is a number, not a string",
    ]


def test_a_file_without_a_usable_record_is_refused_even_if_not_strict(tmp_path):
    with pytest.raises(InputError, match=r"Ev2, Verb is missing \(none of 1 records is usable\)"):
        read_annotations([write(tmp_path / "a.json", changed("Verb", None))])


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("Verb", None, "Ev2, Verb is missing"),
        ("Verb", 3, "Ev2, Verb is a number, not a string"),
        ("Verb", " ", "Ev2, Verb is empty"),
        ("Verb", "...", "Ev2, Verb: '...' has no word"),
        ("VerbID", ["walk.01"], "Ev2, VerbID is a list, not a string"),
        ("VerbID", "walk 01", "Ev2, VerbID: 'walk 01' is not a sense like walk.01"),
        ("Args", None, "Ev2, Args is missing"),
        ("Args", [], "Ev2, Args is a list, not an object"),
        ("Arg_List", None, "Ev2, Arg_List is missing"),
        ("Arg_List", True, "Ev2, Arg_List is a boolean, not an object"),
        ("Arg_List", {}, "Ev2, Arg_List: 'Arg0 (walker)' is missing, Args has it"),
        ("vid_seg_int", "v_y", "Ev2, vid_seg_int: 'v_y' here, 'v_x' in Ev1"),
        ("vid_seg_int", "", "Ev2, vid_seg_int is empty"),
    ],
)
def test_a_missing_key_or_wrong_type_names_record_event_and_key(tmp_path, key, value, expected):
    message = refused(tmp_path, changed(key, value))
    assert message.startswith(f"{tmp_path / 'a.json'}, record 0 (clip v_x): {expected}")


def test_a_missing_clip_id_is_named(tmp_path):
    broken = record("v_x")
    del broken["Ev1"]["vid_seg_int"]
    assert "Ev1, vid_seg_int is missing" in refused(tmp_path, broken)


def test_a_role_in_arg_list_alone_is_refused(tmp_path):
    broken = event({}, order={"Arg0 (walker)": 0})
    assert "Ev1, Args: 'Arg0 (walker)' is missing, Arg_List has it" in refused(tmp_path, record("v_x", broken))


@pytest.mark.parametrize(
    "key", ["Arg6 (far)", "ArgM", "ArgM (tempo)", "Scene of the event", "Scene", "arg0", "Arg0 (x"]
)
def test_an_unknown_role_names_record_event_and_key_and_the_known_ones(tmp_path, key):
    message = refused(tmp_path, record("v_x", event(), event({key: "man"})))
    assert f"record 0 (clip v_x): Ev2, Args: '{key}' is not a role; known: ArgN (name)" in message


@pytest.mark.parametrize(("value", "what"), [(None, "null"), (3, "a number"), (["man"], "a list")])
def test_a_value_that_is_no_string_is_refused(tmp_path, value, what):
    message = refused(tmp_path, record("v_x", event({"Arg0 (walker)": value})))
    assert f"Ev1, Args, 'Arg0 (walker)': {what}, not a string" in message


@pytest.mark.parametrize("position", ["first", None, 1.5, True])
def test_a_position_that_is_no_whole_number_is_refused(tmp_path, position):
    broken = event({"Arg0 (walker)": "man"}, order={"Arg0 (walker)": position})
    assert f"Ev1, Arg_List, 'Arg0 (walker)': {position!r} is not a whole number" in refused(
        tmp_path, record("v_x", broken)
    )


def test_missing_and_surplus_events_are_refused(tmp_path):
    four = record("v_x")
    del four["Ev3"]
    assert "Ev3 is missing" in refused(tmp_path, four)
    assert "Ev6: a clip has the events Ev1 to Ev5" in refused(tmp_path, {**record("v_x"), "Ev6": event()})
    assert "Ev2 is a list, not an object" in refused(tmp_path, {**record("v_x"), "Ev2": []})


def test_a_record_that_is_no_object_is_refused(tmp_path):
    assert "record 1: it is a list, not an object with Ev1 to Ev5" in refused(tmp_path, record("v_x"), [1])


def test_unlabelled_test_records_are_refused_with_a_hint_to_the_labelled_splits(tmp_path):
    unlabelled = {f"Ev{n}": {"vid_seg_int": "v_x"} for n in range(1, 6)}
    with pytest.raises(InputError, match="none of the 1 records of .*a.json has labels") as caught:
        read_annotations([write(tmp_path / "a.json", unlabelled)])
    assert "train or the valid" in caught.value.hint
    files = read_annotations([write(tmp_path / "a.json", unlabelled, record("v_y"))])
    assert (files.unlabelled, files.problems, len(files.annotations)) == (1, (), 1)


def test_text_that_is_no_unicode_or_would_be_taken_for_the_tokenizers_marks_is_refused(tmp_path):
    assert "surrogate" in refused(tmp_path, record("v_x", event({"Arg0 (walker)": "man \ud800"})))
    assert "<end_of_text>" in refused(tmp_path, record("v_x", event({"Arg0 (<End_of_text>)": "man"})))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{}", "has no records"),
        ("3", "is not a list or an object of records"),
        ('["v_a", "v_b"]', "is a list of texts"),
        ('[{"vid_seg_int": "v_a", "vb_lst": {}}]', "is a vinfo file, which has no roles"),
        ('[{"a": 1}]', "is of no format that figclip knows (VidSitu, imSitu or SWiG, AllenNLP SRL, figclip's simple"),
        ("[]", "has no records"),
        ("[{]", "is not JSON (line 1, column 3"),
    ],
)
def test_a_file_that_is_no_list_of_records_is_refused(tmp_path, content, expected):
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_annotations([path])
    assert expected in caught.value.message


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="annotation file .* does not exist"):
        read_annotations([tmp_path / "none.json"])


def test_a_split_is_a_list_of_clip_ids_and_anything_else_is_refused(tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(["v_a", "v_b"]))
    assert read_split(path) == {"v_a", "v_b"}
    for content, message in (('{"a": 1}', "is not a list"), ("[1]", "is not a list"), ("[]", "names no clip")):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            read_split(path)
