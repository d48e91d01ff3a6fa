"""VidSitu's annotation and prediction files: what is read, in which order, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from situation_naive import EVENTS, World, annotations_by_clip, first_records, references, write_predictions

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.vidsitu import read_split, read_truth, read_verb_votes, vidsitu_files
from figclip_cli.evaluate.datasets.vidsitu_annotations import mapped_name, read_annotations
from figclip_cli.evaluate.datasets.vidsitu_predictions import prediction_files, read_predictions


@pytest.fixture
def world():
    return World(1, clips=6)


@pytest.fixture
def folder(world, tmp_path):
    return world.write(tmp_path)


def truth_of(folder):
    return read_truth(*(folder / f"{name}_valid_lb.json" for name in ("vseg_split", "vsann", "vinfo")))


def put(path, document):
    path.write_text(json.dumps(document))
    return path


def refused(error, function, *arguments, **options):
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    assert "\n" not in str(caught.value)
    return f"{caught.value} | {caught.value.hint}"


def test_annotation_is_kept_as_it_is_written(world, folder):
    truth = truth_of(folder)
    assert truth.clip_ids == tuple(world.split)
    by_clip = annotations_by_clip(world)
    for clip, found in zip(world.split, truth.annotations, strict=True):
        for record, annotation in zip(by_clip[clip], found, strict=True):
            for name, event in zip(EVENTS, annotation, strict=True):
                written = record[name]
                assert {one.key: one.value for one in event.arguments} == written["Args"]
                assert [int(written["Arg_List"][one.key]) for one in event.arguments] == list(
                    range(len(event.arguments))
                )
                assert [list(written["Args"])[one.place] for one in event.arguments] == [
                    one.key for one in event.arguments
                ]
                assert (event.verb, event.sense) == (written["Verb"], written["VerbID"])
                assert event.relation == written.get("EvRel", "")


def test_keys_are_mapped_as_by_the_official_scorer():
    known = {
        "Arg0 (walker)": "Arg0", "Arg5": "Arg5", "Arg1 anything": "Arg1", "Scene of the Event": "AScn",
        "ArgM (direction)": "ADir", "ArgM (purpose)": "APrp", "ArgM (manner)": "AMnr", "ArgM (location)": "ALoc",
        "ArgM (goal)": "AGol", "ArgM (goal of the direction)": "ADir", "ArgM (location or purpose)": "APrp",
    }  # fmt: skip
    assert {key: mapped_name(key) for key in known} == known
    for key in (
        "Arg6 (x)",
        "ArgM (time)",
        "ArgM",
        "Arg0(walker)",
        "scene of the event",
        "arg0 (x)",
        "",
        "ArgM (Location)",
    ):
        assert mapped_name(key) is None


def test_references_follow_the_legacy_stream_of_seed_five(folder, world):
    """One stream over the whole split; what comes fourth is left out, three of the others stay."""
    for clip, expected, found in zip(world.split, references(world), truth_of(folder).references(), strict=True):
        own = annotations_by_clip(world)[clip]
        assert len(found) == 3
        assert [[event.sense for event in one] for one in found] == [
            [record[name]["VerbID"] for name in EVENTS] for record in expected
        ]
        assert all(record in own for record in expected)


def test_the_stream_is_not_started_again_for_each_clip(tmp_path):
    world = World(3, clips=9, annotations=(5,))
    truth = truth_of(world.write(tmp_path))
    state = np.random.get_state()[1].tolist()
    orders = []
    for of_clip, chosen in zip(truth.annotations, truth.references(), strict=True):
        orders.append([of_clip.index(one) for one in chosen])
    stream = np.random.RandomState(5)
    expected = [[at for place, at in enumerate(stream.permutation(5)) if place != 3][:3] for _ in range(9)]
    assert orders == expected and len({tuple(order) for order in orders}) > 1
    assert np.random.get_state()[1].tolist() == state  # the global stream is left alone


def test_one_or_two_annotations_are_all_references(tmp_path):
    world = World(4, clips=5, annotations=(1, 2))
    truth = truth_of(world.write(tmp_path))
    assert [len(of) for of in truth.references()] == [len(of) for of in truth.annotations]


def test_files_are_found_in_vidsitu_own_folders_and_in_one(tmp_path):
    for part, name in (("split_files", "vseg_split"), ("vseg_ann_files", "vsann"), ("vinfo_files", "vinfo")):
        (tmp_path / part).mkdir()
        put(tmp_path / part / f"{name}_valid_lb.json", [])
    found = vidsitu_files(tmp_path, "valid")
    assert [path.parent.name for path in found] == ["split_files", "vseg_ann_files", "vinfo_files"]
    put(tmp_path / "vsann_train_lb.json", [])
    assert vidsitu_files(tmp_path, "train").annotations == tmp_path / "vsann_train_lb.json"
    assert "does not exist" in refused(InputError, vidsitu_files, tmp_path / "none", "valid")


def test_the_first_ten_votes_count(world, folder):
    votes = read_verb_votes(folder / "vinfo_valid_lb.json")
    assert votes[world.split[0]][2] == tuple(world.vinfo[0]["vbid_lst"]["Ev3"][:10])


def test_the_hash_is_of_all_files(world, folder):
    first = truth_of(folder)
    assert {name: source["name"] for name, source in first.sources.items()} == {
        "split": "vseg_split_valid_lb.json", "annotations": "vsann_valid_lb.json", "vinfo": "vinfo_valid_lb.json",
    }  # fmt: skip
    world.vinfo[0]["vbid_lst"]["Ev1"][0] = "fly.01"
    world.write(folder)
    assert truth_of(folder).sha256 != first.sha256
    alone = read_truth(folder / "vseg_split_valid_lb.json")
    assert (alone.annotations, alone.verb_votes) == ((), ())


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "an object, not a list of clip ids"),
        ([], "is an empty list"),
        (["a", "\ud800"], "entry 1 has half of a surrogate pair"),
        (["a", 3], "entry 1: 3, not a clip id"),
        (["a", ""], "entry 1: '', not a clip id"),
        (["a", None], "entry 1: null, not a clip id"),
        (["a", "b", "a"], "names 'a' twice"),
    ],
)
def test_splits_that_are_refused(tmp_path, document, said):
    message = refused(InputError, read_split, put(tmp_path / "split.json", document))
    assert said in message and "split.json" in message


def changed(record, path, value):
    """Return a record with one place changed; ``...`` removes it."""
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


BROKEN = [
    (("Ev2",), ..., "Ev2 is missing"),
    (("Ev2",), [], "Ev2 is a list, not an object"),
    (("Ev1", "vid_seg_int"), 7, "Ev1, vid_seg_int is a number"),
    (("Ev3", "vid_seg_int"), "other", "Ev3, vid_seg_int: 'other' here"),
    (("Ev1", "VerbID"), ..., "Ev1, VerbID is missing"),
    (("Ev1", "VerbID"), " ", "Ev1, VerbID is empty"),
    (("Ev1", "Verb"), None, "Ev1, Verb: null, not a string"),
    (("Ev1", "EvRel"), True, "Ev1, EvRel: a boolean, not a string"),
    (("Ev4", "Args"), [], "Ev4, Args is a list"),
    (("Ev4", "Args", "Arg9 (x)"), "a", "Ev4, Arg_List: 'Arg9 (x)' is missing"),
    (("Ev4", "Arg_List", "Arg0 (y)"), 0, "Ev4, Args: 'Arg0 (y)' is missing"),
    (("Ev4", "Arg_List"), 5, "Ev4, Arg_List is a number"),
]


@pytest.mark.parametrize(("path", "value", "said"), BROKEN, ids=lambda value: str(value)[:30])
def test_broken_annotation_is_refused_with_file_record_and_key(world, tmp_path, path, value, said):
    records = [world.annotations[0], changed(world.annotations[1], path, value)]
    message = refused(InputError, read_annotations, put(tmp_path / "ann.json", records))
    assert said in message and "ann.json, record 1" in message


def test_values_of_arguments_are_checked(world, tmp_path):
    args = {"Arg0 (a)": "man", "Arg1 (b)": "dog"}
    for values, order, said in (
        ({**args, "Arg1 (b)": 3}, None, "'Arg1 (b)': a number, not a string"),
        ({**args, "Arg1 (b)": None}, None, "'Arg1 (b)': null, not a string"),
        ({**args, "Arg1 (b)": "\ud800"}, None, "half of a surrogate pair"),
        ({"Arg0 (a)": "man", "ArgM (time)": "dog"}, None, "'ArgM (time)' is not a role of VidSitu"),
        (args, {"Arg0 (a)": 0, "Arg1 (b)": True}, "true is not a whole number"),
        (args, {"Arg0 (a)": 0, "Arg1 (b)": "x"}, "'x' is not a whole number"),
        (args, {"Arg0 (a)": 0, "Arg1 (b)": 1.5}, "1.5 is not a whole number"),
    ):
        record = changed(world.annotations[0], ("Ev2", "Args"), values)
        record = changed(record, ("Ev2", "Arg_List"), order or dict.fromkeys(values, 0))
        assert said in refused(InputError, read_annotations, put(tmp_path / "ann.json", [record]))


def test_annotation_without_arg_list_keeps_its_order(world, tmp_path):
    record = changed(world.annotations[0], ("Ev1", "Arg_List"), ...)
    (found,) = read_annotations(put(tmp_path / "ann.json", [record])).values()
    assert [one.key for one in found[0][0].arguments] == list(record["Ev1"]["Args"])


def test_test_annotation_and_clips_without_annotation_are_refused(world, folder):
    bare = {name: {"vid_seg_int": "v"} for name in EVENTS}
    assert "no labels" in refused(InputError, read_annotations, put(folder / "test.json", [bare]))
    world.split.append("v_new_seg_0_10")
    world.write(folder)
    message = refused(InputError, truth_of, folder)
    assert "1 of the 7 clips" in message and "v_new_seg_0_10" in message


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda info: info.append(info[0]), "has a record already"),
        (lambda info: info[1].pop("vbid_lst"), "vbid_lst is missing"),
        (lambda info: info[1]["vbid_lst"].pop("Ev2"), "Ev2 is missing"),
        (lambda info: info[1]["vbid_lst"].update(Ev2=["a.01"] * 8), "Ev2 has 8 verbs, not 9 or more"),
        (lambda info: info[1]["vbid_lst"].update(Ev2=["a.01"] * 9 + [None]), "null is not a sense"),
        (lambda info: info[1]["vbid_lst"].update(Ev2=["a.01"] * 9 + [["b"]]), "a list is not a sense"),
        (lambda info: info.__setitem__(1, "x"), "it is a string, not an object"),
        (lambda info: info[1].update(vid_seg_int=None), "vid_seg_int is null"),
    ],
)
def test_broken_votes_are_refused(world, tmp_path, change, said):
    change(world.vinfo)
    message = refused(InputError, read_verb_votes, put(tmp_path / "vinfo.json", world.vinfo))
    assert said in message and "vinfo.json, record" in message


def test_nine_votes_are_enough_and_an_eleventh_is_not_counted(world, tmp_path):
    world.vinfo[0]["vbid_lst"]["Ev1"] = ["a.01"] * 9
    world.vinfo[0]["vbid_lst"]["Ev2"] = ["a.01"] * 10 + ["b.01"]
    votes = read_verb_votes(put(tmp_path / "vinfo.json", world.vinfo))[world.split[0]]
    assert (len(votes[0]), set(votes[1])) == (9, {"a.01"})


# Predictions


def test_kinds_are_recognised_and_the_first_record_of_a_clip_counts(world, tmp_path):
    predictions = world.predictions(7)
    found = read_predictions([write_predictions(tmp_path / "p", predictions)], world.split)
    assert found.kinds == ("verbs", "roles", "relations")
    assert found.repeated == {"verbs": 1, "roles": 1, "relations": 1}
    for kind, key in (("verbs", "pred_vbs_ev"), ("relations", "pred_evrels_ev")):
        first = first_records(predictions[kind])
        assert [[list(row) for row in rows] for rows in getattr(found, kind)] == [first[n][key] for n in range(6)]
    first = first_records(predictions["roles"])
    for number, roles in enumerate(found.roles):
        for event, filled in roles.items():
            assert filled == {name: text for name, text in first[number]["vb_output"][event].items() if name != "vb_id"}
    assert [file["predicts"] for file in found.files] == [["verbs"], ["roles"], ["relations"]]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_of_plain_data_is_read_whatever_its_name(world, tmp_path, protocol):
    records = world.predictions(7)["verbs"]
    as_json = read_predictions([put(tmp_path / "v.json", records)], world.split)
    name = "v.pkl" if protocol == 0 else "verbs_out"
    (tmp_path / name).write_bytes(pickle.dumps(records, protocol=protocol))
    assert read_predictions([tmp_path / name], world.split).verbs == as_json.verbs


def test_a_pickle_with_anything_else_is_refused(world, tmp_path):
    (tmp_path / "v.pkl").write_bytes(pickle.dumps([{"ann_idx": np.int64(0), "pred_vbs_ev": []}]))
    assert "no pickle of plain data" in refused(InputError, read_predictions, [tmp_path / "v.pkl"], world.split)


def test_records_may_name_the_clip(world, tmp_path):
    records = world.predictions(7, repeated=False)["verbs"]
    expected = read_predictions([put(tmp_path / "a.json", records)], world.split).verbs
    by_id = [{"clip_id": world.split[one["ann_idx"]], "pred_vbs_ev": one["pred_vbs_ev"]} for one in records]
    both = [{"vid_seg_int": world.split[one["ann_idx"]], **one} for one in records]
    for named in (by_id, both):
        assert read_predictions([put(tmp_path / "b.json", named)], world.split).verbs == expected


def test_files_of_all_kinds_at_once_and_folders(world, tmp_path):
    predictions = world.predictions(7, repeated=False)
    merged = {}
    for records in predictions.values():
        for record in records:
            merged.setdefault(record["ann_idx"], {}).update(record)
    apart = read_predictions([write_predictions(tmp_path / "p", predictions)], world.split)
    (tmp_path / "q").mkdir()
    put(tmp_path / "q" / "predictions.json", list(merged.values()))
    together = read_predictions([tmp_path / "q"], world.split)
    assert (apart.verbs, apart.roles, apart.relations) == (together.verbs, together.roles, together.relations)
    put(tmp_path / "p" / "predictions.json", {"for": "people"})  # beside the three it is not read
    assert [path.name for path in prediction_files([tmp_path / "p"])] == ["verbs.json", "roles.json", "relations.json"]
    (tmp_path / "empty").mkdir()
    assert "has no verbs.json" in refused(InputError, prediction_files, [tmp_path / "empty"])
    twice = [tmp_path / "p", tmp_path / "p" / "verbs.json"]
    assert "both predict verbs" in refused(UsageError, read_predictions, twice, world.split)


def good(kind):
    return copy.deepcopy({
        "verbs": {"ann_idx": 0, "pred_vbs_ev": [["walk.01"]] * 5},
        "roles": {"ann_idx": 0, "vb_output": {name: {"Arg0": "man"} for name in EVENTS}},
        "relations": {"ann_idx": 0, "pred_evrels_ev": [["NoRel"] * 3] * 4},
    }[kind])  # fmt: skip


WRONG = [
    ("verbs", ("ann_idx",), True, "ann_idx is true, not a whole number"),
    ("verbs", ("ann_idx",), 1.0, "ann_idx is 1.0, not a whole number"),
    ("verbs", ("ann_idx",), "1", "ann_idx is '1', not a whole number"),
    ("verbs", ("ann_idx",), -1, "ann_idx -1 is not of the split's 2 clips"),
    ("verbs", ("ann_idx",), 2, "ann_idx 2 is not of the split's 2 clips"),
    ("verbs", ("ann_idx",), 10**30, "ann_idx a long number is not of"),
    ("verbs", ("ann_idx",), ..., "neither ann_idx nor vid_seg_int"),
    ("verbs", ("clip_id",), "elsewhere", "'elsewhere' is not a clip of the split"),
    ("verbs", ("clip_id",), "v_a", "ann_idx 1 is not the clip 'v_a'"),
    ("verbs", ("pred_vbs_ev",), ..., "pred_vbs_ev is missing"),
    ("verbs", ("pred_vbs_ev",), {}, "pred_vbs_ev is an object"),
    ("verbs", ("pred_vbs_ev",), [["a"]] * 4, "pred_vbs_ev has 4 rows, not 5"),
    ("verbs", ("pred_vbs_ev", 2), "walk.01", "row 2 is a string, not a list"),
    ("verbs", ("pred_vbs_ev", 2), [5], "row 2: 5 is not a sense"),
    ("verbs", ("pred_vbs_ev", 2), [None], "row 2: null is not a sense"),
    ("verbs", ("pred_vbs_ev", 2), ["\ud800"], "half of a surrogate pair"),
    ("relations", ("pred_evrels_ev",), [["a"]] * 5, "pred_evrels_ev has 5 rows, not 4"),
    ("relations", ("pred_evrels_ev", 0), [["Causes"]], "row 0: a list is not a label"),
    ("roles", ("vb_output",), [], "vb_output is a list, not an object"),
    ("roles", ("vb_output",), {"ev1": {}}, "none of Ev1 to Ev5, but 'ev1'"),
    ("roles", ("vb_output", "Ev2"), None, "vb_output, Ev2 is null"),
    ("roles", ("vb_output", "Ev2", "Arg0"), ["man"], "Ev2, Arg0 is a list, not a string"),
    ("roles", ("vb_output", "Ev2", "AMnr"), 4, "Ev2, AMnr is a number, not a string"),
    ("roles", ("vb_output", "Ev2", "Args"), {}, "has Args: this is annotation"),
    ("roles", ("vb_output", "Ev2", "Arg0"), "\udfff", "half of a surrogate pair"),
]


@pytest.mark.parametrize(("kind", "path", "value", "said"), WRONG, ids=lambda value: str(value)[:40])
def test_broken_predictions_are_refused_with_file_record_and_key(tmp_path, kind, path, value, said):
    second = changed({**good(kind), "ann_idx": 1}, path, value)
    file = put(tmp_path / "p.json", [good(kind), second])
    message = refused(InputError, read_predictions, [file], ["v_a", "v_b"])
    assert said in message and "p.json, record 1" in message


def test_files_that_are_no_predictions(tmp_path):
    for content, said in (
        ("{}", "an object, not a list"), ("[]", "is an empty list"), ("[3]", "record 0 has none of"),
        ('[{"ann_idx": 0}]', "record 0 has none of pred_vbs_ev, vb_output, pred_evrels_ev"), ("nan", "not JSON"),
        ("[" * 100_000, "nested too deep"), ('[{"ann_idx": 0, "ann_idx": 1}]', "twice"),
    ):  # fmt: skip
        (tmp_path / "p.json").write_text(content)
        assert said in refused(InputError, read_predictions, [tmp_path / "p.json"], ["v_a"])
    (tmp_path / "p.json").write_bytes(b"\xff\xfe[")
    assert "not UTF-8" in refused(InputError, read_predictions, [tmp_path / "p.json"], ["v_a"])
    assert "does not exist" in refused(InputError, read_predictions, [tmp_path / "none.json"], ["v_a"])


def test_a_clip_without_a_record_is_refused_unless_it_may_be(tmp_path):
    file = put(tmp_path / "p.json", [{**good("verbs"), "ann_idx": 1}])
    message = refused(InputError, read_predictions, [file], ["v_a", "v_b"])
    assert "no verbs of 1 of 2 clips" in message and "'v_a' (ann_idx 0)" in message and "--allow-missing" in message
    found = read_predictions([file], ["v_a", "v_b"], allow_missing=True)
    assert found.verbs[0] is None and found.missing() == {0: ["verbs"]}


def test_roles_that_vidsitu_does_not_have_are_told(tmp_path):
    record = good("roles")
    record["vb_output"]["Ev1"] |= {"ARG0": "man", "vb_id": "walk.01", "Arg3": "door"}
    found = read_predictions([put(tmp_path / "p.json", [record])], ["v_a"])
    assert found.unknown_roles == {"ARG0"} and found.roles[0]["Ev1"] == {"Arg0": "man", "Arg3": "door"}


@pytest.mark.parametrize("kind", ["verb", "srl", "evrel"])
def test_the_published_examples_are_read(shared_data, kind):
    file = shared_data / "vidsitu" / f"{kind}_prediction_example.json"
    indices = [record["ann_idx"] for record in json.loads(file.read_text())]
    split = [f"v_{number}" for number in range(max(indices) + 1)]
    found = read_predictions([file], split, allow_missing=True)
    assert found.kinds == ({"verb": "verbs", "srl": "roles", "evrel": "relations"}[kind],)
    assert len(found.missing()) == len(split) - len(set(indices)) and not found.unknown_roles
