"""``evaluate compositional`` on each benchmark's own files: every number again, one look and one text at a time."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import evaluate_choices as choices
import evaluate_worlds as worlds
import pytest
from evaluate_worlds import CLOSE, clip_pixels, image_pixels, refused, score, scored
from samples import CLIP_IDS

from figclip_cli.models.clip import Clip

adapted_eyes, base_eyes, here, world = worlds.adapted_eyes, worlds.base_eyes, worlds.here, worlds.world
OFFICIAL = {"aro-coco-order": "lenient", "aro-flickr-order": "lenient"}
"""Whether a tie counts as right; elsewhere it does not."""


def margins_of(eyes, features, item):
    """The margin of each score of an item, and the wrong text that scores highest for its first look."""
    looks = [features[look] for look in item.looks]
    table = [[score(look, eyes.text(text)) for look in looks] for text in item.texts]
    first = [row[0] for row in table]
    others = [one for one, text in zip(first, item.texts, strict=True) if text != item.texts[0]]
    assert all(abs(one - first[0]) > CLOSE for one in others)
    wrong = item.texts[1 + first[1:].index(max(first[1:]))]
    if len(looks) == 1:
        return {"": first[0] - max(first[1:])}, wrong
    (a, b), (c, d) = table
    text, image = min(a - c, d - b), min(a - b, d - c)
    return {"text score": text, "image score": image, "group score": min(text, image)}, wrong


def looked_at(eyes, pixels, items):
    looks = {look for item in items for look in item.looks}
    features = {look: eyes.look(pixels(look)) for look in looks}
    return [margins_of(eyes, features, item) for item in items]


def is_right(margin, rule):
    return margin > 0 if rule == "strict" else margin >= 0


def percent(rights):
    return 100 * statistics.fmean(rights)


def macro_of(pairs):
    """Mean over groups of the shares of right items."""
    groups = {}
    for group, right in pairs:
        groups.setdefault(group, []).append(right)
    return 100 * statistics.fmean(statistics.fmean(rights) for rights in groups.values())


def check(run, model, items, found, rule, *, headline=None, averages=None, key="value"):
    """Compare samples, headline numbers and breakdowns with what should come out.

    ``headline`` takes (group, right) pairs of a part to its number; ``averages`` are names with the names they are of.
    """
    assert len(run.samples) == len(items)
    score_names = list(found[0][0])
    for sample, item, (margins, wrong) in zip(run.samples, items, found, strict=True):
        outcome, margin = sample["outcomes"][model], margins[score_names[-1]]
        assert (sample["id"], sample["part"], sample["group"]) == (item.id, item.part, item.group)
        assert (sample["look"], sample["text"]) == (item.looks[0][0], item.texts[0])
        assert outcome["margin"] == pytest.approx(margin, abs=1e-6) and outcome["rank"] is None
        right = is_right(margin, rule)
        assert (outcome["right"], outcome["chosen"]) == (right, item.texts[0] if right else wrong)

    def numbers(rule, headline, only=None):
        made = {}
        for part in dict.fromkeys(item.part for item in items):
            for name in score_names:
                inside = [
                    (item.group, is_right(margins[name], rule))
                    for item, (margins, _) in zip(items, found, strict=True)
                    if item.part == part and only in (None, item.group)
                ]
                if inside:
                    made[name or part] = headline(inside)
        return made

    def plain(pairs):
        return percent([right for _, right in pairs])

    headline = headline or plain
    expected = numbers(rule, headline)
    for name, of in (averages or {}).items():
        expected[name] = statistics.fmean(expected[one] for one in of)
    if len({item.part for item in items}) > 1:
        expected["all items"] = percent([is_right(margins[score_names[0]], rule) for margins, _ in found])
    assert list(run.values()) == list(expected)
    assert run.values(key) == pytest.approx(expected)

    groups = {}
    for one in ("strict", "lenient"):
        groups |= {(name, f"ties {one}"): value for name, value in numbers(one, headline).items()}
    if headline is not plain:
        groups |= {(name, "micro"): value for name, value in numbers(rule, plain).items()}
    for part in dict.fromkeys(item.part for item in items):
        labels = {item.group for item in items if item.part == part}
        for label in labels if len(labels) > 1 else ():
            mine = numbers(rule, plain, label)
            wanted = mine if score_names[0] else {part: mine[part]}
            groups |= {(name, label): value for name, value in wanted.items()}
    assert run.grouped(key) == pytest.approx(groups)


SYMMETRIC = ("next to", "near")


def without_symmetric(pairs):
    return macro_of((group, right) for group, right in pairs if group not in SYMMETRIC)


def without_rare(pairs):
    counts = [group for group, _ in pairs]
    return macro_of((group, right) for group, right in pairs if counts.count(group) >= 25)


BENCHMARKS = {
    "sugarcrepe": (
        choices.sugarcrepe,
        {
            "averages": {
                "Replace": ["replace_obj", "replace_att", "replace_rel"],
                "Swap": ["swap_obj", "swap_att"],
                "Add": ["add_obj", "add_att"],
                "macro": list(choices.SUGARCREPE),
            }
        },
    ),
    "aro-vg-relation": (choices.aro_relation, {"headline": without_symmetric}),
    "aro-vg-attribution": (choices.aro_attribution, {"headline": without_rare}),
    "aro-coco-order": (lambda folder: choices.aro_order(folder, given=False), {}),
    "aro-flickr-order": (lambda folder: choices.aro_order(folder, given=True), {}),
    "vl-checklist": (
        choices.vl_checklist,
        {
            "averages": {
                "Object": ["Object/hake", "Object/vg"],
                "Attribute": ["Attribute/vaw"],
                "Relation": ["Relation/swig", "Relation/vg"],
                "macro": ["Object", "Attribute", "Relation"],
            }
        },
    ),
    "winoground": (choices.winoground, {}),
    "valse": (choices.valse, {"averages": {"macro": ["existence", "action-replacement"]}}),
}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_of_images_gives_the_numbers_of_one_image_and_one_text_at_a_time(
    name, here, world, tmp_path, base_eyes
):
    make, more = BENCHMARKS[name]
    made = make(tmp_path)
    run = scored(here, "compositional", *made.flags, *world.base)
    images = {look[0] for item in made.items for look in item.looks}
    counts = {"items": len(made.items), "images": len(images)}
    assert run.document["task"] == "compositional" and run.document["missing"] == {}
    assert run.document["n_asked"] == run.document["n_evaluated"] == counts
    protocol, rule = run.document["protocol"], OFFICIAL.get(name, "strict")
    assert protocol["benchmark"] == name and set(protocol["ties"].values()) == {rule}
    found = looked_at(base_eyes, image_pixels(made.root), made.items)
    tied = {score_name or "all": sum(margins[score_name] == 0 for margins, _ in found) for score_name in found[0][0]}
    assert protocol["tied_items"] == {"base": {title.removesuffix(" score"): n for title, n in tied.items()}}
    check(run, "base", made.items, found, rule, **more)


def test_velocitis_clips_are_scored_by_all_of_their_twenty_frames(here, world, tmp_path, prepared, base_eyes):
    made = choices.velociti(tmp_path, CLIP_IDS)
    flags = [*made.flags, "--frames", prepared / "frames.h5", "--protocol", "velociti", *world.base]
    run = scored(here, "compositional", *flags)
    assert run.document["n_evaluated"] == {"items": 12, "clips": 6}
    assert (run.document["protocol"]["name"], run.document["protocol"]["num_frames"]) == ("velociti", 20)
    order = ("control", "agent_bind", "action_adv", "chrono")
    found = looked_at(base_eyes, clip_pixels(prepared / "frames.h5"), made.items)
    by_test = [(item, one) for test in order for item, one in zip(made.items, found, strict=True) if item.part == test]
    assert [sample["id"] for sample in run.samples] == [item.id for item in made.items]
    assert list(run.values())[:4] == list(order)
    for test in order:
        rights = [margins[""] > 0 for item, (margins, _) in by_test if item.part == test]
        assert run.metric(test)["value"] == pytest.approx(percent(rights)) and run.metric(test)["n"] == len(rights)
    macro = statistics.fmean(run.metric(test)["value"] for test in order if test != "control")
    assert run.metric("macro")["value"] == pytest.approx(macro)
    for sample, (margins, _) in zip(run.samples, found, strict=True):
        assert sample["outcomes"]["base"]["margin"] == pytest.approx(margins[""], abs=1e-6)
    small = ["--frames", world.frames, *flags[-5:]]
    said = refused(here("evaluate", "compositional", *made.flags, *small), 3)
    assert "asks for 20 frames at midpoints" in said and "--frames-per-event 20" in said


@pytest.fixture(scope="module")
def negatives(prepared):
    return choices.own_negatives(prepared / "prompts.jsonl")


def test_negatives_of_our_own_are_scored_by_the_frames_of_their_event_by_base_and_run(
    here, prepared, negatives, finished_run, base_eyes, adapted_eyes
):
    flags = [*negatives.flags, "--frames", prepared / "frames.h5"]
    model = "--base-only", "--model", prepared / "base-model"
    alone = scored(here, "compositional", *flags, *model, output="alone.json")
    both = scored(here, "compositional", *flags, "--run", finished_run.path, output="both.json")
    pixels, parts = clip_pixels(prepared / "frames.h5"), list(dict.fromkeys(item.part for item in negatives.items))
    assert len(parts) > 1 and both.document["n_evaluated"] == {"items": len(negatives.items), "clips": 6}
    for model, eyes, key in (("base", base_eyes, "base_value"), ("adapted", adapted_eyes, "value")):
        found = looked_at(eyes, pixels, negatives.items)
        check(both, model, negatives.items, found, "strict", averages={"macro": parts}, key=key)
    for place in ("metrics", "groups"):
        for one, own in zip(both.document[place], alone.document[place], strict=True):
            assert (one["base_value"], one["base_standard_error"]) == (own["value"], own["standard_error"])
            assert one["delta"] == one["value"] - one["base_value"] and 0 < one["p_value"] <= 1
    assert [s["outcomes"]["base"] for s in both.samples] == [s["outcomes"]["base"] for s in alone.samples]


@pytest.mark.parametrize("rule", ["strict", "lenient"])
@pytest.mark.parametrize("name", ["sugarcrepe", "aro-coco-order", "winoground"])
def test_equal_texts_tie_exactly_and_count_as_the_rule_says(name, rule, here, world, tmp_path, base_eyes):
    make, more = BENCHMARKS[name]
    made = make(tmp_path)
    run = scored(here, "compositional", *made.flags, *world.base, "--ties", rule)
    found = looked_at(base_eyes, image_pixels(made.root), made.items)
    tied = [item.id for item, (margins, _) in zip(made.items, found, strict=True) if 0 in margins.values()]
    outcomes = {sample["id"]: sample["outcomes"]["base"] for sample in run.samples}
    assert tied and set(run.document["protocol"]["ties"].values()) == {rule}
    if name != "winoground":  # there the other comparison may be lost
        assert all(outcomes[one]["margin"] == 0 and outcomes[one]["right"] == (rule == "lenient") for one in tied)
    check(run, "base", made.items, found, rule, **more)


def test_another_seed_makes_other_shuffles_and_is_recorded(here, world, tmp_path):
    made = choices.aro_order(tmp_path, given=False)
    runs = [
        scored(here, "compositional", *made.flags[:-1], seed, *world.base, output=f"{seed}.json") for seed in (3, 4)
    ]
    assert [run.document["seeds"]["order"] for run in runs] == [3, 4]
    assert [run.document["protocol"]["remarks"]["seed"] for run in runs] == [3, 4]
    margins = [[sample["outcomes"]["base"]["margin"] for sample in run.samples] for run in runs]
    assert margins[0] != margins[1]


def test_images_that_are_missing_or_damaged_are_listed_and_their_items_left_out(here, world, tmp_path, base_eyes):
    made = choices.sugarcrepe(tmp_path)
    (made.root / "000000000001.jpg").unlink()
    (made.root / "000000000002.jpg").write_bytes(b"no picture")
    run = scored(here, "compositional", *made.flags, *world.base, code=4)
    left = [item for item in made.items if item.looks[0][0][:-4] not in ("000000000001", "000000000002")]
    assert run.document["n_asked"] == {"items": 28, "images": 4}
    assert run.document["n_evaluated"] == {"items": len(left), "images": 2}
    assert list(run.document["missing"]) == ["000000000001.jpg", "000000000002.jpg"]
    absent, damaged = run.document["missing"].values()
    assert absent == f"not in {made.root}" and damaged.startswith("image 000000000002.jpg ")
    check(run, "base", left, looked_at(base_eyes, image_pixels(made.root), left), "strict",
          **BENCHMARKS["sugarcrepe"][1])  # fmt: skip
    assert "2 images were not evaluated, the first is 000000000001.jpg: not in" in run.said.stderr
    shown = here("evaluate", "compositional", *made.flags, *world.base)
    assert shown.code == 4 and f"{len(left)} of 28 items, 2 of 4 images" in shown.stdout
    for path in made.root.iterdir():
        path.unlink()
    assert "not one of the 4 images asked for is there" in refused(
        here("evaluate", "compositional", *made.flags, *world.base, "-o", "none.json"), 3
    )


def test_images_are_found_in_the_second_folder_and_below_a_folder_of_the_path(here, world, tmp_path):
    made = choices.aro_order(tmp_path, given=True)
    whole = scored(here, "compositional", *made.flags, *world.base, output="a.json")
    (tmp_path / "empty").mkdir()
    flags = [word for word in made.flags if word not in ("--images", str(made.root))]
    folders = "--images", tmp_path / "empty", "--images", made.root / "val2014"
    again = scored(here, "compositional", *flags, *folders, *world.base, output="b.json")
    assert again.samples == whole.samples


def test_a_second_run_finds_every_feature_and_without_a_cache_none_is_kept(here, world, tmp_path, monkeypatch):
    made = choices.aro_relation(tmp_path)
    bare = scored(here, "compositional", *made.flags, *world.base, "--no-cache", output="bare.json")
    assert not Path(".figclip").exists()
    first = scored(here, "compositional", *made.flags, *world.base, output="first.json")

    def never(*_):
        raise AssertionError("a tower was asked")

    monkeypatch.setattr(Clip, "encode_frames", never)
    monkeypatch.setattr(Clip, "encode_texts", never)
    again = scored(here, "compositional", *made.flags, *world.base, output="again.json")
    assert bare.samples == first.samples == again.samples and again.document["metrics"] == first.document["metrics"]


def test_the_table_the_groups_and_records_of_clip_benchmark(here, world, tmp_path):
    made = choices.winoground(tmp_path)
    said = here("evaluate", "compositional", *made.flags, *world.base, "--groups", "--clip-benchmark", "records")
    assert said.code == 0 and "compositional, examples.jsonl: 8 items, 16 images" in said.stdout
    assert "by group" in said.stdout and "ties lenient" in said.stdout and "Relation" in said.stdout
    document = json.loads(Path("results/winoground-examples-base.json").read_text())
    groups = [one for one in document["groups"] if one["group"] == "ties lenient"]  # there a tie counts as right
    values = {one["name"]: one["value"] / 100 for one in groups}
    (path,) = Path("records").iterdir()
    record = json.loads(path.read_text())
    named = {"text_acc": "text score", "image_acc": "image score", "acc": "group score"}
    assert record["metrics"] == {name: values[one] for name, one in named.items()}
    assert record["task"] == "image_caption_selection"


def test_a_record_of_clip_benchmark_for_each_part(here, world, tmp_path):
    made = choices.sugarcrepe(tmp_path)
    run = scored(here, "compositional", *made.flags, *world.base, "--clip-benchmark", "records")
    records = [json.loads(path.read_text()) for path in Path("records").iterdir()]
    found = {one["dataset"]: one["metrics"] for one in records}
    lenient = {part: run.metric(part, "ties lenient")["value"] for part in choices.SUGARCREPE}
    assert found == {f"sugar_crepe/{part}": {"acc": value / 100} for part, value in lenient.items()}
    assert lenient["add_att"] > run.metric("add_att")["value"]


def test_flags_come_from_a_file_and_the_defaults_are_said(here, world, tmp_path, prepared, finished_run):
    made = choices.valse(tmp_path)
    worlds.write(
        tmp_path / "lab.toml",
        f'model = "{world.model}"\n[evaluate.compositional]\nbenchmark = "valse"\nannotations = "data"\n'
        f'images = ["{made.root}"]\nbase-only = true\nties = "lenient"\n',
    )
    run = scored(here, "compositional", "--config", "lab.toml")
    assert run.document["protocol"]["ties"] == {"existence": "lenient", "action-replacement": "lenient"}
    assert run.document["protocol"]["remarks"]["invalid_items_dropped"] == {"existence": 2, "action-replacement": 2}
    for name in ("frames.h5", "prompts.jsonl", "runs", "base-model"):
        Path(name).symlink_to(prepared / name)
    said = here("evaluate", "compositional")
    assert said.code == 0, said.stderr
    for line in ("annotations: prompts.jsonl (default)", "frames: frames.h5 (default)", "run: runs/quick (default"):
        assert line in said.stderr
    assert Path("results/prompts-prompts-quick.json").is_file() and "delta" in said.stdout


def test_the_program_itself_prints_one_document_and_nothing_else(figclip, world, tmp_path):
    made = choices.valse(tmp_path)
    output = figclip("evaluate", "compositional", *made.flags, *world.base, "--json", "--quiet", cwd=tmp_path)
    assert (output.returncode, output.stderr) == (0, "")
    assert json.loads(output.stdout) == json.loads((tmp_path / "results" / "valse-data-base.json").read_text())


IMAGES, DATA = ["--images", "val2017"], ["--annotations", "data"]
REFUSALS = {
    "unknown": (["--benchmark", "sugarcrape", *DATA, *IMAGES], 2, "did you mean 'sugarcrepe'?"),
    "unknown, without files": (["--benchmark", "sugarcrape", *IMAGES], 2, "did you mean 'sugarcrepe'?"),
    "no annotations": (["--benchmark", "sugarcrepe", *IMAGES], 2, "--benchmark sugarcrepe needs --annotations"),
    "absent": (["--benchmark", "valse", "--annotations", "gone", *IMAGES], 3, "gone does not exist"),
    "wrong files": (["--benchmark", "valse", *DATA, *IMAGES], 3, "has no VALSE file"),
    "no prompts": ([], 3, "prompts file prompts.jsonl does not exist"),
    "empty": (["--benchmark", "winoground", "--annotations", "empty.jsonl", *IMAGES], 3, "no items"),
    "no images": (["--benchmark", "sugarcrepe", *DATA], 2, "is about images"),
    "images absent": (["--benchmark", "sugarcrepe", *DATA, "--images", "gone"], 3, "images gone does not exist"),
    "images and frames": (["--benchmark", "sugarcrepe", *DATA, *IMAGES, "--frames", "f.h5"], 2, "not clips"),
    "images of clips": (["--benchmark", "velociti", "--annotations", "velociti.json", *IMAGES], 2, "about clips"),
    "no frames": (["--benchmark", "velociti", "--annotations", "velociti.json"], 3, "frames.h5"),
    "run and base": (["--benchmark", "sugarcrepe", *DATA, *IMAGES, "--run", "x"], 2, "contradict each other"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_meant_is_refused_in_one_line_and_nothing_is_written(name, here, world, tmp_path):
    flags, code, words = REFUSALS[name]
    choices.sugarcrepe(tmp_path)
    choices.velociti(tmp_path, CLIP_IDS)
    worlds.write(tmp_path / "empty.jsonl", "")
    assert words in refused(here("evaluate", "compositional", *flags, *world.base), code)
    assert not Path("results").exists()


def test_results_that_exist_are_kept_unless_they_may_be_replaced(here, world, tmp_path):
    made = choices.valse(tmp_path)
    scored(here, "compositional", *made.flags, *world.base, output="r.json")
    before = Path("r.json").read_bytes()
    said = refused(here("evaluate", "compositional", *made.flags, *world.base, "-o", "r.json"), 2)
    assert "r.json already exists" in said and Path("r.json").read_bytes() == before
    scored(here, "compositional", *made.flags, *world.base, "--overwrite", "--ties", "lenient", output="r.json")
    assert Path("r.json").read_bytes() != before
