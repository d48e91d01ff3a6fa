"""Compositional benchmarks: read in their published formats, refused with the record that is wrong."""

from __future__ import annotations

import json

import pytest

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.choices import Average, Look
from figclip_cli.evaluate.datasets.compositional import BENCHMARKS, read_compositional

SUGARCREPE = {
    "add_obj": 2062,
    "add_att": 692,
    "replace_obj": 1652,
    "replace_att": 788,
    "replace_rel": 1406,
    "swap_obj": 245,
    "swap_att": 666,
}


def write(folder, name, value):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def pair(number=0, **changed):
    return {"filename": f"{number}.jpg", "caption": "a dog", "negative_caption": "a cat", **changed}


def foil(votes=3, **changed):
    mturk = {"foil": 0, "caption": votes, "other": 0}
    return {"image_file": "a_1.jpg", "caption": "A man.", "foil": "A torso.", "mturk": mturk, **changed}


def example(number=0, **changed):
    texts = {"caption_0": "one in two", "caption_1": "two in one", "tag": "Noun", "collapsed_tag": "Object"}
    return {"id": number, "image_0": f"ex_{number}_img_0", "image_1": f"ex_{number}_img_1.jpeg", **texts, **changed}


def row(test="coref", clip="v_a_seg_0_10.mp4", **changed):
    return {"test_name": test, "video_id": clip, "event": "(Ev1, Ev3)", "pos": "he runs", "neg": "she runs", **changed}


def test_the_real_sugarcrepe_files_have_the_published_counts(shared_data):
    read = read_compositional("sugarcrepe", [shared_data / "sugarcrepe"])
    assert len(read.choices) == 7511 and read.uses == "images" and read.dataset_id == "sugarcrepe"
    assert {part: sum(choice.part == part for choice in read.choices) for part in read.rules} == SUGARCREPE
    assert len({choice.looks[0].image for choice in read.choices}) == 1560
    assert [average.name for average in read.averages] == ["Replace", "Swap", "Add", "macro"]
    assert all(rule.official_ties == "strict" and rule.headline == "micro" for rule in read.rules.values())
    swap = json.loads((shared_data / "sugarcrepe" / "swap_att.json").read_text())
    choice = next(choice for choice in read.choices if choice.id == "swap_att/7")
    assert choice.texts == (swap["7"]["caption"], swap["7"]["negative_caption"])
    assert choice.looks == (Look(image=swap["7"]["filename"]),)


def test_files_in_any_order_give_the_same_set_and_a_changed_file_another_hash(tmp_path):
    files = [write(tmp_path, f"{part}.json", {"0": pair()}) for part in ("swap_att", "swap_obj", "add_obj")]
    read, turned = (read_compositional("sugarcrepe", paths) for paths in (files, files[::-1]))
    assert (read.choices, read.sha256, list(read.rules)) == (turned.choices, turned.sha256, list(turned.rules))
    assert read.averages == (
        Average("Swap", ("swap_obj", "swap_att")),
        Average("macro", ("swap_obj", "swap_att", "add_obj")),
    )
    assert read.remarks["missing_parts"] == ["replace_obj", "replace_att", "replace_rel", "add_att"]
    write(tmp_path, "swap_att.json", {"0": pair(1)})
    assert read_compositional("sugarcrepe", files).sha256 != read.sha256


def test_other_files_of_a_folder_are_ignored_and_said_so(tmp_path):
    write(tmp_path, "swap_att.json", {"0": pair()})
    write(tmp_path, "notes.txt", "hello")
    write(tmp_path, "swap_atr.json", "{")
    read = read_compositional("sugarcrepe", [tmp_path])
    assert read.remarks["ignored_files"] == ["notes.txt", "swap_atr.json"]
    assert [choice.id for choice in read.choices] == ["swap_att/0"]


def test_items_whose_texts_are_equal_are_counted(tmp_path):
    write(tmp_path, "swap_att.json", {"0": pair(), "1": pair(negative_caption="a dog")})
    assert read_compositional("sugarcrepe", [tmp_path]).remarks["items_with_equal_texts"] == 1


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_a_folder_without_a_known_file_is_refused_with_what_is_expected(tmp_path, benchmark):
    write(tmp_path, "other.txt", "x")
    with pytest.raises(InputError, match="has no ") as caught:
        read_compositional(benchmark, [tmp_path])
    assert "json" in caught.value.hint
    with pytest.raises(InputError, match="does not exist"):
        read_compositional(benchmark, [tmp_path / "absent" / "Object" / "vg.json"])
    with pytest.raises(InputError, match="was given"):
        read_compositional(benchmark, [])


def test_an_unknown_benchmark_is_a_usage_error_with_the_nearest_name(tmp_path):
    with pytest.raises(UsageError, match="no benchmark 'sugarcrep'") as caught:
        read_compositional("sugarcrep", [tmp_path])
    assert "sugarcrepe" in caught.value.hint


def test_a_file_given_twice_and_a_misnamed_file_are_refused(tmp_path):
    path = write(tmp_path, "swap_att.json", {"0": pair()})
    with pytest.raises(InputError, match="twice"):
        read_compositional("sugarcrepe", [path, tmp_path])
    with pytest.raises(InputError, match="not named like") as caught:
        read_compositional("sugarcrepe", [write(tmp_path, "swap_atr.json", {"0": pair()})])
    assert "swap_att" in caught.value.hint


@pytest.mark.parametrize(
    ("benchmark", "name", "document", "message"),
    [
        ("sugarcrepe", "add_att.json", "{", "not JSON"),
        ("sugarcrepe", "add_att.json", [pair()], "a list, expected a JSON object"),
        ("sugarcrepe", "add_att.json", {}, "no items"),
        ("sugarcrepe", "add_att.json", {"7": 3}, "record '7': 3, expected"),
        ("sugarcrepe", "add_att.json", {"7": {"filename": "a.jpg", "caption": "a"}}, "'negative_caption' is missing"),
        ("sugarcrepe", "add_att.json", {"7": pair(caption="")}, "record '7': 'caption' is empty"),
        ("sugarcrepe", "add_att.json", {"7": pair(caption=["a"])}, "'caption' is a list"),
        ("sugarcrepe", "add_att.json", {"7": pair(caption="\ud800")}, "record '7': 'caption'"),
        ("sugarcrepe", "add_att.json", "[" * 100_000, "nested too deep"),
        ("winoground", "examples.jsonl", json.dumps(example()) + "\n7", "line 2: not a JSON object"),
        ("winoground", "examples.json", {"0": example()}, "expected a JSON list"),
        ("winoground", "examples.json", [example(), example()], "names 'winoground/0' twice"),
        ("winoground", "examples.json", [example(True)], "'id' is true"),
        ("winoground", "examples.json", [example(image_1={"bytes": "x"})], "'image_1' is an object"),
        ("winoground", "examples.json", [example(collapsed_tag=3)], "'collapsed_tag' is 3"),
        ("valse", "plurals.json", {"a": foil(mturk=None)}, "'mturk': null"),
        ("valse", "plurals.json", {"a": foil("3")}, "'mturk' has '3'"),
        ("valse", "plurals.json", {"a": foil(1)}, "no items"),
        ("velociti", "test.csv", "", "no items"),
        ("velociti", "test.csv", "test_name,video_id\ncoref,v,x\n", "line 2: 3 columns, the header has 2"),
        ("velociti", "test.csv", "test_name,video_id,pos\ncoref,v,x\n", "line 2: 'neg' is missing"),
        ("velociti", "test.csv", 'test_name\n"coref\n', "not csv"),
        ("velociti", "test.json", [row(pos=None)], "record 0: 'pos' is null"),
        ("prompts", "prompts.jsonl", "{}\n", "format"),
    ],
)
def test_broken_files_name_what_is_wrong(tmp_path, benchmark, name, document, message):
    path = write(tmp_path, name, document)
    with pytest.raises(InputError, match=message) as caught:
        read_compositional(benchmark, [path])
    assert caught.value.hint and "\n" not in caught.value.message


def test_a_winoground_item_has_two_images_and_two_texts(tmp_path):
    lines = "\n".join(json.dumps(record) for record in (example(), example(1, collapsed_tag=None)))
    read = read_compositional("winoground", [write(tmp_path, "examples.jsonl", lines)])
    first, second = read.choices
    assert first.looks == (Look(image="ex_0_img_0.png"), Look(image="ex_0_img_1.jpeg"))
    assert first.texts == ("one in two", "two in one")
    assert (first.group, second.group) == ("Object", "Noun")
    rule = read.rules["winoground"]
    assert (rule.scoring, rule.official_ties, rule.headline) == ("winoground", "strict", "micro")
    listed = read_compositional("winoground", [write(tmp_path, "list.json", [example(), example(1, collapsed_tag="")])])
    assert listed.choices == read.choices


def test_valse_keeps_what_two_of_three_annotators_confirmed(tmp_path):
    write(tmp_path, "actant-swap.json", {"a": foil(3), "b": foil(2), "c": foil(1), "d": foil(0)})
    write(tmp_path, "existence.json", {"a": foil(2, caption="There are none.")})
    write(tmp_path, "foil-it.json", {"a": foil(0)})
    read = read_compositional("valse", [tmp_path])
    assert [choice.id for choice in read.choices] == ["existence/a", "actant-swap/a", "actant-swap/b"]
    assert read.choices[1].texts == ("A man.", "A torso.") and read.choices[1].looks == (Look(image="a_1.jpg"),)
    assert read.remarks["invalid_items_dropped"] == {"actant-swap": 2, "foil-it": 1}
    assert list(read.rules) == ["existence", "actant-swap"]
    assert read.averages == (Average("macro", ("existence", "actant-swap")),)


def test_velociti_looks_at_whole_clips_and_leaves_control_out_of_the_macro(tmp_path):
    rows = [row("chrono"), row(), row("control"), row(clip="v_b_seg_5_15")]
    read = read_compositional("velociti", [write(tmp_path, "velociti.json", rows)])
    assert read.uses == "clips"
    assert read.choices[1].looks == (Look(clip_id="v_a_seg_0_10"),) and read.choices[1].texts == ("he runs", "she runs")
    assert list(read.rules) == ["control", "coref", "chrono"]
    assert read.averages == (Average("macro", ("coref", "chrono")),)
    assert "tune" in read.remarks["licence"] and "VidSitu" in read.remarks["leakage"]


def test_velociti_rows_are_the_same_from_json_jsonl_and_csv(tmp_path):
    rows = [row(pos='he says "run, run"'), row("chrono", pos="two\nlines")]
    cells = [[one[key].replace('"', '""') for key in rows[0]] for one in rows]
    table = ",".join(rows[0]) + "\n" + "\n".join(",".join(f'"{cell}"' for cell in line) for line in cells)
    texts = [json.dumps(rows), "\n".join(map(json.dumps, rows)), table]
    endings = ("json", "jsonl", "csv")
    made = [read_compositional("velociti", [write(tmp_path, f"a.{e}", t)]) for e, t in zip(endings, texts, strict=True)]
    assert made[0].choices == made[1].choices == made[2].choices


def test_own_negatives_are_choices_on_the_frames_of_their_event(inputs, tmp_path):
    from figclip_cli.prompts import PromptOptions, build, read_prompts
    from figclip_cli.prompts.negatives import parse_requests

    path = tmp_path / "prompts.jsonl"
    requests = parse_requests("verb-role=2,role-noun-replace=1")
    build([inputs / "vidsitu" / "vsann_train_lb.json"], path, options=PromptOptions(negatives=requests))
    read = read_compositional("prompts", [tmp_path])
    events = read_prompts(path).events
    assert len(read.choices) == sum(len(event.negatives) for event in events) > 0
    expected = {
        f"{event.clip_id}/{event.annotation_index}/{event.event_index}/{number}": (
            (Look(clip_id=event.clip_id, event_index=event.event_index),),
            (event.text, negative.text),
            negative.kind,
            event.verb_sense,
        )
        for event in events
        for number, negative in enumerate(event.negatives)
    }
    assert {choice.id: (choice.looks, choice.texts, choice.part, choice.group) for choice in read.choices} == expected
    assert list(read.rules) == ["verb-role", "role-noun-replace"]
    assert read.averages == (Average("macro", ("verb-role", "role-noun-replace")),)


def test_prompts_without_negatives_are_refused(inputs, tmp_path):
    from figclip_cli.prompts import PromptOptions, build
    from figclip_cli.prompts.negatives import parse_requests

    path = tmp_path / "prompts.jsonl"
    options = PromptOptions(negatives=parse_requests("verb-role=0"))
    build([inputs / "vidsitu" / "vsann_train_lb.json"], path, options=options)
    with pytest.raises(InputError, match="has no negatives"):
        read_compositional("prompts", [path])
