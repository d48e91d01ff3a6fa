"""Situation recognition: every number of the official scorer, once more in plain loops, and what it stops at."""

from __future__ import annotations

import json

import numpy as np
import pytest
from situation_naive import World, relation_scores, role_scores, verb_scores, write_predictions

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.compare import compare
from figclip_cli.evaluate.datasets.vidsitu import read_truth
from figclip_cli.evaluate.datasets.vidsitu_predictions import read_predictions
from figclip_cli.evaluate.results import read_results
from figclip_cli.evaluate.situation.role_items import role_items
from figclip_cli.evaluate.situation.task import SituationInputs, evaluate_situation, official_scores
from figclip_cli.reporting import SILENT


def official(folder, world, predictions):
    """What the product says, from files."""
    world.write(folder)
    truth = read_truth(*(folder / f"{name}_valid_lb.json" for name in ("vseg_split", "vsann", "vinfo")))
    found = read_predictions([write_predictions(folder / "predictions", predictions)], truth.clip_ids)
    return official_scores(truth, found)


@pytest.mark.parametrize("seed", range(6))
def test_every_key_of_the_official_scorer_is_what_plain_loops_say(seed, tmp_path):
    pytest.importorskip("pycocoevalcap")
    world = World(seed, clips=4 + 4 * seed)
    predictions = world.predictions(100 + seed)
    found = official(tmp_path, world, predictions)
    expected = verb_scores(world, predictions["verbs"])
    expected |= role_scores(world, predictions["roles"]) | relation_scores(world, predictions["relations"])
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-9), key


# Small worlds, counted by hand


def votes(*by_event):
    return {f"Ev{number}": list(of_event) for number, of_event in enumerate(by_event, start=1)}


def annotation(clip, args, *, sense="walk.01", relations=("NoRel",) * 4):
    """Return a record whose events all have these arguments."""
    labels = dict(zip(("Ev1", "Ev2", "Ev4", "Ev5"), relations, strict=True))
    record = {}
    for number in range(1, 6):
        event = {"vid_seg_int": clip, "Verb": sense, "VerbID": sense, "Args": dict(args)}
        event["Arg_List"] = {key: place for place, key in enumerate(args)}
        record[f"Ev{number}"] = event
    for name, label in labels.items():
        record[name]["EvRel"] = label
    return record


class Small:
    """A split written by hand."""

    def __init__(self, folder, split, annotations=(), vinfo=()):
        folder.mkdir(parents=True, exist_ok=True)
        documents = {"vseg_split": list(split), "vsann": list(annotations), "vinfo": list(vinfo)}
        self.paths = {name: folder / f"{name}_valid_lb.json" for name in documents}
        for name, document in documents.items():
            self.paths[name].write_text(json.dumps(document))
        self.folder = folder

    def inputs(self, **predictions):
        """Return the inputs of an evaluation of models by flag, ``base`` and ``predictions``."""
        flags = {}
        for flag, kinds in predictions.items():
            flags[flag] = [write_predictions(self.folder / flag, kinds)]
        return {
            "split": self.paths["vseg_split"],
            "annotations": self.paths["vsann"],
            "vinfo": self.paths["vinfo"],
            **flags,
        }

    def evaluate(self, reporter=SILENT, by=(), allow_missing=False, train=None, **predictions):
        inputs = self.inputs(**predictions)
        return evaluate_situation(
            SituationInputs(**inputs, by=by, allow_missing=allow_missing, train_annotations=train), reporter
        )


class Warnings:
    """A reporter that keeps warnings."""

    def __init__(self):
        self.said = []

    def warn(self, message):
        self.said.append(message)

    def info(self, message):
        """Say nothing."""


def by_name(evaluation, group=""):
    metrics = (*evaluation.results.metrics, *evaluation.results.groups)
    return {metric.name: metric for metric in metrics if metric.group == group}


def verb_record(index, *rows):
    return {"ann_idx": index, "pred_vbs_ev": [list(row) for row in rows]}


def one_verb_world(folder, events, verb="walk.01", named=10):
    """A split in so many events of which all name the verb; in the others no two annotators agree."""
    clips = -(-events // 5)
    vinfo = []
    for clip in range(clips):
        lists = []
        for event in range(5):
            counted = clip * 5 + event < events
            others = [f"other{clip}{event}{number}.01" for number in range(10)]
            lists.append([verb] * named + others[named:] if counted else others)
        vinfo.append({"vid_seg_int": f"v{clip}", "vbid_lst": votes(*lists)})
    return Small(folder, [f"v{clip}" for clip in range(clips)], vinfo=vinfo)


def test_recall_is_over_verbs_in_more_than_nine_events(tmp_path):
    for events, scored in ((9, 0), (10, 1)):
        small = one_verb_world(tmp_path / str(events), events)
        records = [verb_record(clip, *[["walk.01"]] * 5) for clip in range(2)]
        said = Warnings()
        evaluation = small.evaluate(said, predictions={"verbs": records})
        scores = evaluation.official()
        assert (scores["recall_macro_1_th_9"], scores["num_vbs_thresh_9"]) == (float(scored), float(scored))
        assert (scores["recall_macro_1_th_8"], scores["num_vbs_thresh_8"]) == (1.0, 1.0)
        assert ("verb Rec@5" in by_name(evaluation)) is bool(scored)
        assert any("Rec@5 is left out" in line for line in said.said) is not bool(scored)


def test_recall_counts_verbs_that_two_annotators_name_and_accuracy_any(tmp_path):
    small = one_verb_world(tmp_path, 10, named=1)
    records = [verb_record(clip, *[["walk.01"]] * 5) for clip in range(2)]
    scores = small.evaluate(predictions={"verbs": records}).official()
    assert scores["num_vbs_thresh_0"] == 0.0 and scores["recall_macro_1_th_0"] == 0.0
    assert scores["Per_Ev_Top_1"] == scores["acc"] == 1.0


def test_verb_accuracy_is_of_the_first_k_and_of_all_five_events(tmp_path):
    ten = ["walk.01"] * 10
    vinfo = [{"vid_seg_int": clip, "vbid_lst": votes(*[ten] * 5)} for clip in ("a", "b")]
    small = Small(tmp_path, ["a", "b"], vinfo=vinfo)
    third, sixth = ["x", "x", "walk.01"], ["x", "x", "x", "x", "x", "walk.01"]
    records = [verb_record(0, third, third, third, ["walk.01"], third), verb_record(1, *[["walk.01"]] * 4, sixth)]
    evaluation = small.evaluate(predictions={"verbs": records})
    found = by_name(evaluation)
    assert [found[f"verb acc@{k}"].value for k in (1, 2, 3, 4, 5)] == pytest.approx([50, 50, 90, 90, 90])
    assert [found[f"all five verbs acc@{k}"].value for k in (1, 2, 3, 5)] == pytest.approx([0, 0, 50, 50])
    assert (found["verb acc@1"].n, found["all five verbs acc@1"].n) == (10, 2)
    outcomes = [sample.outcomes["base"] for sample in evaluation.samples()]
    assert (outcomes[0].right, outcomes[0].rank, outcomes[0].margin, outcomes[0].chosen) == (False, 2.0, -0.4, "x")
    assert (outcomes[9].rank, outcomes[9].margin) == (5.0, -1.0)
    assert (outcomes[8].right, outcomes[8].rank, outcomes[8].margin) == (True, 0.0, 1.0)


def relation_world(folder, rows, clip="a"):
    """One clip whose first relation has these labels, one an annotator; the other three are NoRel."""
    annotations = [annotation(clip, {"Arg0 (x)": "m"}, relations=(label, *["NoRel"] * 3)) for label in rows]
    return Small(folder, [clip], annotations)


@pytest.mark.parametrize(
    ("labels", "predicted", "right", "n"),
    [
        (("Causes", "Causes", "Enables"), ("Causes", "NoRel", "Enables"), 1, 2),  # the third column is not counted
        (("Enables", "Causes", "Causes"), ("Enables", "Causes", "Causes"), 2, 2),
        (("Causes",) * 3, ("Causes", "NoRel", "NoRel"), 1, 3),
        (("Causes", "Enables", "Reaction To"), ("Causes", "Enables", "Reaction To"), 0, 0),  # no majority
        (("Causes", "Causes", "Enables", "Enables", "Enables"), ("Causes",) * 3, 2, 2),  # the first three only
    ],
)
def test_relations_are_counted_where_a_majority_has_them(tmp_path, labels, predicted, right, n):
    small = relation_world(tmp_path, labels)
    wrong = ["Causes"] * 3
    records = [{"ann_idx": 0, "pred_evrels_ev": [list(predicted), wrong, ["NoRel"] * 3, wrong]}]
    scores = small.evaluate(predictions={"relations": records}).official()
    assert scores["Len"] == 9 + n and scores["Top_1"] == pytest.approx((3 + right) / (9 + n))
    expected = {"NoRel": 3 / 9} | ({labels[1]: right / n} if n else {})
    assert scores["Macro_Top_Dct"] == pytest.approx(expected)
    assert scores["Macro_Top_1"] == pytest.approx(sum(expected.values()) / len(expected))


def test_a_label_without_any_majority_is_left_out_and_told(tmp_path):
    said = Warnings()
    small = relation_world(tmp_path, ("Causes", "Enables", "Reaction To"))
    evaluation = small.evaluate(
        said, predictions={"relations": [{"ann_idx": 0, "pred_evrels_ev": [["NoRel"] * 3] * 4}]}
    )
    note = "relations without a majority anywhere, left out: Causes (the official scorer stops there)"
    assert said.said == [note] == evaluation.results.protocol["notes"]
    assert by_name(evaluation)["relation macro acc@1"].value == pytest.approx(100.0)
    assert by_name(evaluation, "NoRel")["relation acc@1"].n == 9
    assert evaluation.results.protocol["undecided_relations"] == 1


def test_relations_that_cannot_be_scored_are_refused(tmp_path):
    records = [{"ann_idx": 0, "pred_evrels_ev": [["NoRel"] * 3] * 4}]
    with pytest.raises(InputError, match="no relation has a majority"):
        Small(tmp_path / "a", ["a"], [annotation("a", {})]).evaluate(predictions={"relations": [
            {"ann_idx": 0, "pred_evrels_ev": [["NoRel"]] * 4}]})  # fmt: skip
    with pytest.raises(InputError, match=r"base predictions, a \(ann_idx 0\).*Ev1 has 3 labels, its annotations are 2"):
        relation_world(tmp_path / "b", ("NoRel",) * 2).evaluate(predictions={"relations": records})
    broken = annotation("a", {})
    del broken["Ev4"]["EvRel"]
    with pytest.raises(InputError, match="annotation 0 of a: Ev4 has no EvRel"):
        Small(tmp_path / "c", ["a"], [broken] * 3).evaluate(predictions={"relations": records})


def said_of(text_of):
    """Return a record of roles; the same in all events."""
    return {f"Ev{number}": dict(text_of) for number in range(1, 6)}


def test_roles_are_of_the_first_reference_and_five_names_only(tmp_path):
    args = {"Arg0 (x)": "m", "Arg3 (y)": "n", "ArgM (manner)": "o", "ArgM (location)": "p", "Scene of the Event": "q"}
    small = Small(tmp_path, ["a"], [annotation("a", args)] * 4)
    evaluation = small.evaluate(predictions={"roles": [{"ann_idx": 0, "vb_output": said_of({"Arg0": "m"})}]})
    samples = list(evaluation.samples())
    assert len(samples) == 15 and {sample.group for sample in samples} == {"Arg0", "ALoc", "AScn"}
    first = samples[0]
    assert (first.id, first.part, first.look, first.text) == ("a Ev1 Arg0 (x)", "roles", "a", "m")
    assert (first.outcomes["base"].right, first.outcomes["base"].chosen) == (True, "m")
    assert samples[1].outcomes["base"].chosen == "" and not samples[1].outcomes["base"].right
    scores = evaluation.official()
    assert {
        f"{role}_{name}" for role in ("Arg0", "ALoc", "AScn") for name in ("cider", "rouge", "bleu_4")
    } <= scores.keys()
    assert not {key for key in scores if key.startswith(("Arg1", "Arg2", "Arg3", "AMnr"))}


def test_a_perfect_one_word_answer_is_250_and_a_verb_of_one_item_0(tmp_path):
    annotations = []
    for clip, word, sense in (("a", "m", "walk.01"), ("b", "n", "walk.01")):
        annotations += [annotation(clip, {"Arg0 (x)": word}, sense=sense)] * 3
    for record in annotations[:3]:
        record["Ev1"]["VerbID"] = "fly.01"
    small = Small(tmp_path, ["a", "b"], annotations)
    records = [{"ann_idx": n, "vb_output": said_of({"Arg0": word})} for n, word in enumerate("mn")]
    found = by_name(small.evaluate(predictions={"roles": records}))
    assert found["CIDEr"].value == found["C-Arg"].value == pytest.approx(250.0)
    assert found["C-Vb"].value == pytest.approx(125.0)  # fly.01 is a group of one item
    assert found["LEA"].value == pytest.approx(100.0)
    assert found["ROUGE-L"].value == pytest.approx(100.0) == found["BLEU-1"].value


def test_vb_id_is_ignored(tmp_path):
    small = Small(tmp_path, ["a", "b"], [annotation(clip, {"Arg0 (x)": clip}) for clip in "ab" for _ in range(3)])
    scores = []
    for verb in ("walk.01", "nonsense"):
        records = [{"ann_idx": n, "vb_output": said_of({"vb_id": verb, "Arg0": "a"})} for n in range(2)]
        scores.append(small.evaluate(predictions={"roles": records}).official())
    assert scores[0] == scores[1]


# Where the official scorer stops


def test_a_role_that_a_reference_lacks_is_scored_against_the_others_and_told(tmp_path):
    full, poor = {"Arg0 (x)": "m", "Arg1 (y)": "d"}, {"Arg0 (x)": "m"}
    small = Small(tmp_path, ["a"], [annotation("a", full), annotation("a", poor), annotation("a", full)])
    said = Warnings()
    evaluation = small.evaluate(said, predictions={"roles": [{"ann_idx": 0, "vb_output": said_of({"Arg0": "m"})}]})
    assert "roles that a reference lacks: 5 (the official scorer stops there)" in said.said
    texts = [item.texts for item in role_items(read_truth(small.paths["vseg_split"], small.paths["vsann"])).items]
    assert texts == [("m", "m", "m"), ("d", "d")] * 5 and len(list(evaluation.samples())) == 10


def test_predicted_roles_of_later_references_weigh_nothing_in_lea_soft(tmp_path):
    poor, full = {"Arg0 (x)": "m"}, {"Arg0 (x)": "m", "Arg1 (y)": "d"}
    small = Small(tmp_path, ["a"], [annotation("a", poor), annotation("a", poor), annotation("a", full)])
    first = read_truth(small.paths["vseg_split"], small.paths["vsann"]).references()[0][0][0]
    assert len(first.arguments) == 1  # the stream puts a poor one first
    said = Warnings()
    records = [{"ann_idx": 0, "vb_output": said_of({"Arg0": "m", "Arg1": "d"})}]
    evaluation = small.evaluate(said, predictions={"roles": records})
    assert "predicted roles that only a later reference has: 5 (the official scorer stops there)" in said.said
    assert by_name(evaluation)["LEA"].value == pytest.approx(100.0)


def test_fewer_references_than_the_first_clip_has(tmp_path):
    annotations = [annotation("a", {"Arg0 (x)": "m"})] * 3 + [annotation("b", {"Arg0 (x)": "n"})]
    small, said = Small(tmp_path, ["a", "b"], annotations), Warnings()
    records = [{"ann_idx": n, "vb_output": said_of({"Arg0": word})} for n, word in enumerate("mn")]
    evaluation = small.evaluate(said, predictions={"roles": records})
    assert "clips with fewer references than the first: 1 (the official scorer stops there)" in said.said
    assert by_name(evaluation)["LEA"].value == pytest.approx(100.0)


def test_a_prediction_without_its_first_event_is_left_out_of_lea_as_officially(tmp_path):
    pytest.importorskip("pycocoevalcap")
    world = World(5, clips=8)
    predictions = world.predictions(6, repeated=False)
    del predictions["roles"][0]["vb_output"]["Ev1"]
    found = official(tmp_path, world, {"roles": predictions["roles"]})
    assert found == pytest.approx(role_scores(world, predictions["roles"]), abs=1e-9)
    small, said = Small(tmp_path / "s", world.split, world.annotations), Warnings()
    small.evaluate(said, predictions={"roles": predictions["roles"]})
    assert "base predictions without Ev1, which LEA leaves out as the official scorer does: 1" in said.said
    del predictions["roles"][1]["vb_output"]["Ev4"]
    small.evaluate(said, predictions={"roles": predictions["roles"]})
    assert "predictions without one of Ev2 to Ev5: 1 (the official scorer stops there)" in said.said


def test_no_role_to_score_is_refused(tmp_path):
    small = Small(tmp_path, ["a"], [annotation("a", {"Arg4 (x)": "m"})] * 3)
    with pytest.raises(InputError, match="no role to score"):
        small.evaluate(predictions={"roles": [{"ann_idx": 0, "vb_output": {}}]})


# Missing clips, two models, errors, breakdowns


@pytest.fixture
def pair(tmp_path):
    """A world, and predictions of two models."""
    world = World(11, clips=30)
    return Small(tmp_path, world.split, world.annotations, world.vinfo), world


def test_missing_clips_count_as_wrong_and_are_listed(pair):
    small, world = pair
    predictions = world.predictions(1, repeated=False)
    fewer = {kind: [record for record in records if record["ann_idx"] != 4] for kind, records in predictions.items()}
    with pytest.raises(InputError, match="no verbs of 1 of 30 clips"):
        small.evaluate(predictions=fewer)
    evaluation = small.evaluate(predictions=fewer, allow_missing=True)
    assert evaluation.results.evaluated == {"clips": 29} and evaluation.results.asked == {"clips": 30}
    reason = "no record of verbs and roles and relations: counted as wrong"
    assert evaluation.results.missing == {world.split[4]: reason}
    empty = {kind: [dict(record) for record in records] for kind, records in predictions.items()}
    for records in empty.values():
        for record in records:
            if record["ann_idx"] == 4:
                key = next(key for key in record if key != "ann_idx")
                nothing = {"pred_vbs_ev": [[]] * 5, "vb_output": said_of({}), "pred_evrels_ev": [[""] * 3] * 4}
                record[key] = nothing[key]
    found, said_nothing = evaluation.official(), small.evaluate(predictions=empty).official()
    for name, number in found.items():
        if "rouge" in name:  # nothing is as good as an annotator's empty text, no record at all is not
            assert number <= said_nothing[name]
        else:
            assert number == said_nothing[name], name
    assert found["rouge"] < said_nothing["rouge"]
    roles = [sample for sample in evaluation.samples() if sample.part == "roles" and sample.look == world.split[4]]
    assert "" in {sample.text for sample in roles}
    assert not any(sample.outcomes["base"].right for sample in roles)


def test_two_models_are_compared_and_both_are_the_numbers_they_have_alone(pair):
    small, world = pair
    first, second = (world.predictions(seed, repeated=False) for seed in (1, 2))
    alone = [by_name(small.evaluate(predictions=kinds)) for kinds in (first, second)]
    evaluation = small.evaluate(base=first, predictions=second, by=("role",))
    for name, metric in by_name(evaluation).items():
        assert metric.base_value == pytest.approx(alone[0][name].value), name
        assert metric.value == pytest.approx(alone[1][name].value), name
        assert metric.base_standard_error == pytest.approx(alone[0][name].standard_error), name
        assert metric.delta == pytest.approx(metric.value - metric.base_value) and metric.p_value is not None
        assert metric.test and (metric.standard_error > 0 or metric.value in (0.0, 100.0)), name
    assert evaluation.official() == small.evaluate(predictions=second).official()
    deltas = [metric.delta for metric in evaluation.breakdowns["role"]]
    assert deltas == sorted(deltas, reverse=True) and len(deltas) == 5
    assert evaluation.results.models["base"]["name"] != evaluation.results.models["adapted"]["name"]
    assert len(evaluation.results.models["base"]["sha256"]) == 64


def test_equal_models_do_not_differ(pair):
    small, world = pair
    kinds = world.predictions(1, repeated=False)
    with pytest.raises(UsageError, match="have the same content"):
        small.evaluate(base=kinds, predictions=kinds)
    backwards = {kind: records[::-1] for kind, records in kinds.items()}
    for metric in small.evaluate(base=kinds, predictions=backwards).results.metrics:
        assert (metric.delta, metric.delta_standard_error, metric.p_value) == (0.0, 0.0, 1.0), metric.name


def test_models_of_different_kinds_are_refused(pair):
    small, world = pair
    kinds = world.predictions(1)
    with pytest.raises(InputError, match="--predictions has verbs, roles, relations, --base has verbs"):
        small.evaluate(base={"verbs": kinds["verbs"]}, predictions=kinds)


def test_what_is_predicted_decides_which_files_are_needed(pair):
    small, world = pair
    kinds = world.predictions(1)
    for kind, flag in (("verbs", "vinfo"), ("roles", "annotations"), ("relations", "annotations")):
        inputs = small.inputs(predictions={kind: kinds[kind]})
        small.folder.joinpath("predictions").rename(small.folder / kind)
        inputs["predictions"] = [small.folder / kind]
        with pytest.raises(UsageError, match=f"without --{flag}"):
            evaluate_situation(SituationInputs(**{**inputs, flag: None}))
        other = {"vinfo": "annotations", "annotations": "vinfo"}[flag]
        assert evaluate_situation(SituationInputs(**{**inputs, other: None})).results.protocol["predicted"] == [kind]


def test_the_standard_error_of_cider_is_that_of_clips_drawn_again(pair):
    small, world = pair
    evaluation = small.evaluate(predictions={"roles": world.predictions(1)["roles"]})
    found = by_name(evaluation)["CIDEr"]
    samples = list(evaluation.samples())
    clips = {clip: number for number, clip in enumerate(world.split)}
    clip_of = np.array([clips[sample.look] for sample in samples])
    scores = np.array([sample.outcomes["base"].margin for sample in samples])
    assert found.value == pytest.approx(100 * scores.mean())
    generator, means = np.random.default_rng(0), []
    for _ in range(2000):
        counts = np.bincount(generator.integers(0, len(clips), len(clips)), minlength=len(clips))[clip_of]
        means.append(100 * (scores * counts).sum() / counts.sum())
    assert found.standard_error == pytest.approx(np.std(means), rel=0.1)


def test_breakdowns_by_verb_and_by_frequency(pair, tmp_path):
    small, world = pair
    kinds = world.predictions(1)
    train = tmp_path / "train.json"
    records = [annotation("t", {"Arg0 (x)": "m"}, sense="walk.01")] * 2 + [annotation("t", {}, sense="run.01")]
    train.write_text(json.dumps(records))
    evaluation = small.evaluate(predictions=kinds, by=("verb", "frequency"), train=train)
    samples = [sample for sample in evaluation.samples() if sample.part == "verbs"]
    truth = read_truth(small.paths["vseg_split"], small.paths["vsann"])
    senses = [event.sense for references in truth.references() for event in references[0]]
    by_verb, by_bin = evaluation.breakdowns["verb"], evaluation.breakdowns["frequency"]
    for metric in by_verb:
        if metric.name == "verb acc@5":
            own = [one.outcomes["base"].rank < 5 for one, s in zip(samples, senses, strict=True) if s == metric.group]
            assert metric.value == pytest.approx(100 * np.mean(own)) and metric.n == len(own)
    c_vb = by_name(evaluation)["C-Vb"].value
    assert np.mean([one.value for one in by_verb if one.name == "CIDEr"]) == pytest.approx(c_vb)
    assert {metric.group for metric in by_bin} == {"0", "1-9", "10-99"}
    for name in ("CIDEr", "verb acc@5"):
        own = [metric for metric in by_bin if metric.name == name]
        whole = by_name(evaluation)[name]
        assert sum(one.n for one in own) == whole.n
        assert sum(one.n * one.value for one in own) / whole.n == pytest.approx(whole.value)
        assert [one.value for one in own] == sorted((one.value for one in own), reverse=True)
    assert next(one for one in by_bin if one.group == "10-99" and one.name == "verb acc@5").n == senses.count("walk.01")
    with pytest.raises(UsageError, match="--train-annotations"):
        small.evaluate(predictions=kinds, by=("frequency",))


def test_results_can_be_read_again_and_compared(pair, tmp_path):
    small, world = pair
    first, second = (world.predictions(seed) for seed in (1, 2))
    evaluation = small.evaluate(base=first, predictions=second, by=("role", "verb"))
    written = evaluation.write(tmp_path / "out" / "r.json")
    again = read_results(tmp_path / "out" / "r.json")
    assert again.metrics == written.metrics and again.groups == written.groups
    compared = compare(tmp_path / "out" / "r.json")
    assert {count.name for count in compared.parts} == {"verbs", "roles", "relations"}
    verbs = next(count for count in compared.parts if count.name == "verbs")
    found = by_name(evaluation)["verb acc@1"]
    assert (verbs.accuracy_a, verbs.accuracy_b) == pytest.approx((found.base_value, found.value))
    relations = next(count for count in compared.parts if count.name == "relations")
    assert relations.accuracy_b == pytest.approx(by_name(evaluation)["relation acc@1"].value)


def test_predictions_that_cannot_be_meant_are_told(pair):
    small, world = pair
    predictions = world.predictions(1)
    words = [{**one, "pred_vbs_ev": [["walk"]] * 5} for one in predictions["verbs"]]
    notes = small.evaluate(predictions={"verbs": words}).results.protocol["notes"]
    assert any("not one predicted verb is a sense" in note and "'walk'" in note for note in notes)
    assert any("fewer than 5 predicted verbs: 150" in note for note in notes)
    odd = [{**one, "pred_evrels_ev": [["causes"] * 3] * 4} for one in predictions["relations"]]
    with pytest.raises(InputError, match="'causes' is not a relation"):
        small.evaluate(predictions={"relations": odd})
