"""What flipped: counts, order and filters by hand; files that cannot be compared."""

from __future__ import annotations

import json

import pytest
from scipy.stats import binomtest

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.compare import CompareOptions, compare, newest_results
from figclip_cli.evaluate.flips import write_flips
from figclip_cli.evaluate.results import Metric, Results
from figclip_cli.evaluate.samples import Outcome, Sample
from figclip_cli.reporting import SILENT


class Listening:
    def __init__(self):
        self.warnings, self.info, self.detail, self.track = [], SILENT.info, SILENT.detail, SILENT.track

    def warn(self, message):
        self.warnings.append(message)


# id, part, group, look, margins of base and adapted
ITEMS = (
    ("1", "swap", "on", "x.jpg", 0.1, 0.2),
    ("2", "swap", "on", "x.jpg", -0.1, 0.3),
    ("3", "swap", "in", "y.jpg", -0.4, 0.1),
    ("4", "add", "in", "y.jpg", 0.5, -0.2),
    ("5", "add", "in", "z.jpg", -0.3, -0.1),
)


def samples_of(items=ITEMS, models=("base", "adapted"), ranks=False):
    for name, part, group, look, *margins in items:
        yield Sample(
            id=name,
            part=part,
            group=group,
            look=look,
            text=f"text {name}",
            outcomes={
                model: Outcome(
                    right=margin > 0,
                    margin=margin,
                    rank=max(0.0, -margin * 10) if ranks else None,
                    chosen="right" if margin > 0 else f"wrong of {model}",
                )
                for model, margin in zip(models, margins, strict=False)
            },
        )


def write(path, samples, *, models=("base", "adapted"), task="compositional", protocol=None, sha="d"):
    samples = list(samples)
    results = Results(
        task=task,
        dataset_id="toy",
        dataset_sha256=sha,
        asked={"items": len(samples)},
        evaluated={"items": len(samples)},
        missing={},
        protocol=protocol or {},
        models={model: {"name": f"{path.stem}-{model}"} for model in models},
        metrics=(Metric("x", 1.0, 0.0, True),),
    )
    results.write(path, samples=samples)
    return path


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "a.json", samples_of())


def facts(count):
    return count.both_right, count.only_a, count.only_b, count.both_wrong


def test_one_file_is_its_base_against_its_adapted_model(file):
    found = compare(file)
    assert (found.a.name, found.b.name) == ("a-base", "a-adapted")
    assert facts(found.whole) == (1, 1, 2, 1) and found.whole.n == 5
    assert {part.name: facts(part) for part in found.parts} == {"add": (0, 1, 0, 1), "swap": (1, 0, 2, 0)}
    assert (found.whole.accuracy_a, found.whole.accuracy_b) == (40.0, 60.0)
    assert found.whole.delta == pytest.approx(20.0)
    assert found.whole.p_value == binomtest(1, 3).pvalue == 1.0


def test_flips_are_sorted_by_the_change_of_margin_and_say_what_was_chosen(file):
    found = compare(file)
    assert [(flip.id, flip.change) for flip in found.won] == [("3", pytest.approx(0.5)), ("2", pytest.approx(0.4))]
    (lost,) = found.lost
    assert (lost.id, lost.part, lost.group, lost.look, lost.text) == ("4", "add", "in", "y.jpg", "text 4")
    assert (lost.chosen_a, lost.chosen_b, lost.flip) == ("right", "wrong of adapted", "lost")


def test_models_can_be_chosen(file, tmp_path):
    back = compare(file, options=CompareOptions(model_a="adapted", model_b="base"))
    assert facts(back.whole) == (1, 2, 1, 1) and [flip.id for flip in back.won] == ["4"]
    other = write(
        tmp_path / "b.json", samples_of([(*item[:4], item[5]) for item in ITEMS], ("base",)), models=("base",)
    )
    found = compare(file, other)
    assert (found.a.name, found.b.name) == ("a-adapted", "b-base") and facts(found.whole) == (3, 0, 0, 2)
    assert facts(compare(file, other, options=CompareOptions(model_a="base")).whole) == (1, 1, 2, 1)
    with pytest.raises(UsageError, match="b.json has no adapted model, only base"):
        compare(file, other, options=CompareOptions(model_b="adapted"))
    with pytest.raises(UsageError, match="b.json has no adapted model"):
        compare(other)
    with pytest.raises(UsageError, match="compared with itself"):
        compare(file, options=CompareOptions(model_b="base"))


def test_parts_and_groups_can_be_chosen(file):
    assert facts(compare(file, options=CompareOptions(part="swap")).whole) == (1, 0, 2, 0)
    assert facts(compare(file, options=CompareOptions(group="in")).whole) == (0, 1, 1, 1)
    assert facts(compare(file, options=CompareOptions(part="swap", group="in")).whole) == (0, 0, 1, 0)
    with pytest.raises(UsageError, match="no item has the part 'swpa'") as caught:
        compare(file, options=CompareOptions(part="swpa"))
    assert caught.value.hint == "did you mean 'swap'?"
    with pytest.raises(UsageError, match="no item of the part 'add' has the group 'on'"):
        compare(file, options=CompareOptions(part="add", group="on"))


def test_groups_are_in_order_of_what_they_won(file):
    found = compare(file, options=CompareOptions(group_by="group"))
    assert [(group.name, *facts(group)) for group in found.groups] == [("on", 1, 0, 1, 0), ("in", 0, 1, 1, 1)]
    by_look = compare(file, options=CompareOptions(group_by="look")).groups
    assert [group.name for group in by_look] == ["x.jpg", "y.jpg", "z.jpg"]
    assert compare(file).groups == ()


def test_a_rank_below_k_is_right_and_at_1_only_the_first(tmp_path):
    items = [("1", "t2v", "", "", -0.05, 0.0), ("2", "t2v", "", "", -0.2, -0.1), ("3", "t2v", "", "", -0.3, -0.2)]
    file = write(tmp_path / "a.json", samples_of(items, ranks=True))  # ranks 0.5 and 0, 2 and 1, 3 and 2
    assert facts(compare(file, options=CompareOptions(at=1)).whole) == (0, 0, 1, 2)
    assert facts(compare(file, options=CompareOptions(at=2)).whole) == (1, 0, 1, 1)
    assert facts(compare(file, options=CompareOptions(at=3)).whole) == (2, 0, 1, 0)
    assert [flip.rank_b for flip in compare(file, options=CompareOptions(at=2)).won] == [1.0]


def test_items_without_ranks_cannot_be_counted_at_k(file):
    with pytest.raises(UsageError, match="items such as '1' have no rank"):
        compare(file, options=CompareOptions(at=5))


def test_different_items_are_refused_and_common_ones_compared_when_asked(file, tmp_path):
    other = write(
        tmp_path / "b.json", samples_of([*ITEMS[1:], ("9", "add", "", "", 1.0, 1.0), ("8", "x", "", "", 1, 1)])
    )
    with pytest.raises(InputError, match=r"4 items in both, 1 only in .*a.json, 2 only in .*b.json") as caught:
        compare(file, other)
    assert "--common" in caught.value.hint
    listening = Listening()
    found = compare(file, other, options=CompareOptions(common=True, model_a="base"), reporter=listening)
    assert found.whole.n == 4 and (found.only_in_a, found.only_in_b) == (1, 2)
    assert listening.warnings[0].startswith("only the common items are compared: 4 items in both")
    none = write(tmp_path / "c.json", samples_of([("9", "add", "", "", 1.0, 1.0)]))
    with pytest.raises(InputError, match="no item in common"):
        compare(file, none, options=CompareOptions(common=True))


def test_the_same_name_in_another_part_is_another_item(file, tmp_path):
    other = write(tmp_path / "b.json", samples_of([("1", "add", *ITEMS[0][2:]), *ITEMS[1:]]))
    with pytest.raises(InputError, match="4 items in both"):
        compare(file, other)


def test_different_tasks_are_refused(file, tmp_path):
    other = write(tmp_path / "b.json", samples_of(), task="retrieval")
    with pytest.raises(InputError, match="of the task 'compositional', .* of 'retrieval'"):
        compare(file, other)


def test_other_protocols_texts_and_data_sets_are_warned_of(tmp_path):
    common = {"ties": "wrong", "frames": {"size": 224, "crop": "center"}, "tied": {"base": 1, "adapted": 2}}
    first = write(tmp_path / "a.json", samples_of(), protocol=common)
    changed = {**common, "frames": {"size": 336, "crop": "center"}, "tied": {"base": 9}, "pooling": "mean-l2"}
    import msgspec

    texts = [msgspec.structs.replace(s, text="other") if s.id == "2" else s for s in samples_of()]
    second = write(tmp_path / "b.json", texts, protocol=changed, sha="e")
    listening = Listening()
    found = compare(first, second, reporter=listening)
    assert found.protocol_differences == ("frames.size", "pooling") and found.other_texts == 1
    assert listening.warnings[1].startswith("1 of 5 items have another text")
    assert listening.warnings[2] == "the protocols differ: frames.size, pooling"
    assert "not the same file" in listening.warnings[0]
    quiet = Listening()
    compare(first, write(tmp_path / "c.json", samples_of(), protocol=common), reporter=quiet)
    assert quiet.warnings == []


def test_results_without_samples_or_with_changed_ones_are_refused(file):
    beside = file.with_name("a.samples.jsonl")
    beside.write_text(beside.read_text().replace("0.3", "0.4"))
    with pytest.raises(InputError, match="not the one that was written with a.json"):
        compare(file)
    beside.unlink()
    with pytest.raises(InputError, match="does not exist"):
        compare(file)


def test_the_document_has_all_flips_and_is_json(file, tmp_path):
    found = compare(file, options=CompareOptions(group_by="group"))
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert [flip["id"] for flip in document["won"]] == ["3", "2"] and document["lost"][0]["chosen_b"]
    assert document["all"]["only_b"] == 2 and document["all"]["p_value"] == 1.0
    assert document["groups"][0]["name"] == "on" and document["b"]["model"] == "adapted"
    write_flips(tmp_path / "flips.jsonl", (*found.won, *found.lost))
    lines = [json.loads(line) for line in (tmp_path / "flips.jsonl").read_text().splitlines()]
    assert [(line["flip"], line["id"]) for line in lines] == [("won", "3"), ("won", "2"), ("lost", "4")]
    assert all(list(line) == sorted(line) for line in lines)


def test_the_newest_results_are_found(tmp_path):
    import os

    with pytest.raises(InputError, match="no results file in"):
        newest_results(tmp_path / "results")
    for age, name in enumerate(("b.json", "a.json", "c.txt")):
        (tmp_path / name).write_text("{}")
        os.utime(tmp_path / name, (1000 - age, 1000 - age))
    assert newest_results(tmp_path) == tmp_path / "b.json"
