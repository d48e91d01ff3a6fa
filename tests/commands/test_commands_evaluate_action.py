"""``evaluate action`` on lists as each data set publishes them: every number again, a clip and a prompt at a time."""

from __future__ import annotations

import hashlib
import json
import statistics
from pathlib import Path

import evaluate_lists as lists
import evaluate_worlds as worlds
import numpy as np
import pytest
from evaluate_lists import Labelled
from evaluate_worlds import clip_pixels, pooled, rank, refused, score, scored

from figclip_cli.models.clip import Clip

adapted_eyes, base_eyes, here, world = worlds.adapted_eyes, worlds.base_eyes, worlds.here, worlds.world
TOP = ("top-1", "top-5", "mean of top-1 and top-5", "per-class mean")


def class_feature(eyes, spoken, templates, averaging):
    texts = [template.replace("{}", spoken) for template in templates]
    return pooled(np.array([eyes.raw_text(text) for text in texts]), averaging)


def looked_at(eyes, frames, labelled, templates, *, averaging="l2-mean-l2", pooling="mean-l2", ties="average"):
    """What should come out of each clip of each split: class, rank, margin and choice."""
    classes = {name: class_feature(eyes, said, templates, averaging) for name, said in labelled.spoken.items()}
    pixels, made = clip_pixels(frames), {}
    for split, clips in labelled.splits.items():
        for clip, name in clips.items():
            seen = eyes.look(pixels((clip, None)), pooling)
            scores = {one: score(seen, feature) for one, feature in classes.items()}
            own, others = scores[name], [other for one, other in scores.items() if one != name]
            found, wrong = rank(own, others, ties), {one: scores[one] for one in scores if one != name}
            chosen = name if found == 0 else max(wrong, key=wrong.get)  # the first of equal ones
            made[split, clip] = (name, found, own - max(others), chosen)
    return made


def numbers(outcomes):
    """The four numbers of one split's outcomes."""
    outcomes = list(outcomes)
    first = [found == 0 for _, found, _, _ in outcomes]
    fifth = [found < 5 for _, found, _, _ in outcomes]
    by_class = {}
    for (name, *_), right in zip(outcomes, first, strict=True):
        by_class.setdefault(name, []).append(right)
    top1, top5 = 100 * statistics.fmean(first), 100 * statistics.fmean(fifth)
    means = [statistics.fmean(rights) for rights in by_class.values()]
    return dict(zip(TOP, (top1, top5, (top1 + top5) / 2, 100 * statistics.fmean(means)), strict=True))


def check(run, model, expected, key="value"):
    """Compare samples, headline numbers, deviations and breakdowns with what should come out."""
    for sample, ((split, clip), (name, found, margin, chosen)) in zip(run.samples, expected.items(), strict=True):
        outcome = sample["outcomes"][model]
        assert (sample["part"], sample["id"], sample["look"]) == (split, clip, clip)
        assert (sample["group"], sample["text"], outcome["chosen"]) == (name, name, chosen)
        assert (outcome["rank"], outcome["right"]) == (found, found == 0)
        assert outcome["margin"] == pytest.approx(margin, abs=1e-6)
    splits = list(dict.fromkeys(split for split, _ in expected))
    of_split = {one: numbers(out for (split, _), out in expected.items() if split == one) for one in splits}
    assert list(run.values()) == list(TOP)
    groups = run.grouped(key)
    for name in TOP:
        alone = [of_split[split][name] for split in splits]
        assert run.metric(name)[key] == pytest.approx(statistics.fmean(alone))
        deviation = run.metric(name)["base_deviation" if key == "base_value" else "deviation"]
        if len(splits) > 1:
            assert deviation == pytest.approx(statistics.stdev(alone))
            assert [groups.pop((name, split)) for split in splits] == pytest.approx(alone)
        else:
            assert deviation is None
    rights = {}
    for name, found, _, _ in expected.values():
        rights.setdefault(("top-1", name), []).append(found == 0)
    assert groups == pytest.approx({name: 100 * statistics.fmean(right) for name, right in rights.items()})


LISTS = {
    "ucf101": (lists.ucf101, "ucf101", "ucf101", 48),
    "hmdb51": (lists.hmdb51, "hmdb51", "hmdb51-folder", 48),
    "hmdb51-csv": (lists.hmdb51_csv, "hmdb51", "hmdb51-csv", 48),
    "kinetics": (lists.kinetics, "kinetics", "kinetics-csv", 28),
    "ssv2": (lists.ssv2, "ssv2", "ssv2", 28),
    "vifi": (lists.vifi, "hmdb51", "indexed", 48),
    "csv": (lists.plain_actions, "actions.csv", "csv", 28),
}


@pytest.mark.parametrize("name", LISTS)
def test_every_list_gives_the_numbers_of_one_clip_and_one_prompt_at_a_time(name, here, world, tmp_path, base_eyes):
    make, dataset, form, prompts = LISTS[name]
    labelled = make(tmp_path)
    run = scored(here, "action", *labelled.flags, *world.flags)
    clips = {clip for split in labelled.splits.values() for clip in split}
    assert run.document["task"] == "zero-shot action recognition"
    assert run.document["dataset"]["id"] == dataset
    assert run.document["n_asked"] == run.document["n_evaluated"] == {"clips": len(clips)}
    assert run.document["missing"] == {} and list(run.document["models"]) == ["base"]
    protocol = run.document["protocol"]
    assert protocol["list_format"] == form and len(protocol["templates"]) == prompts
    assert protocol["tied_clips"] == {"base": 0}
    assert protocol["splits"] == {
        split: {"classes": len(labelled.spoken), "asked": len(of_split), "evaluated": len(of_split)}
        for split, of_split in labelled.splits.items()
    }
    check(run, "base", looked_at(base_eyes, world.frames, labelled, protocol["templates"]))


def test_a_run_stands_beside_the_base_whose_numbers_do_not_change(
    here, world, tmp_path, finished_run, base_eyes, adapted_eyes
):
    labelled = lists.hmdb51(tmp_path)
    frames = "--frames", world.frames
    alone = scored(here, "action", *labelled.flags, *world.flags, output="alone.json")
    both = scored(here, "action", *labelled.flags, *frames, "--run", finished_run.path, output="both.json")
    assert list(both.document["models"]) == ["adapted", "base"] and both.document["seeds"]["adapt"] == 0
    templates = both.document["protocol"]["templates"]
    check(both, "base", looked_at(base_eyes, world.frames, labelled, templates), key="base_value")
    check(both, "adapted", looked_at(adapted_eyes, world.frames, labelled, templates))
    for place in ("metrics", "groups"):
        for one, own in zip(both.document[place], alone.document[place], strict=True):
            assert (one["base_value"], one["base_standard_error"]) == (own["value"], own["standard_error"])
            assert one["delta"] == one["value"] - one["base_value"]
            assert own["base_value"] is own["delta"] is own["p_value"] is None and 0 < one["p_value"] <= 1
    assert [s["outcomes"]["base"] for s in both.samples] == [s["outcomes"]["base"] for s in alone.samples]


CHOICES = {
    "photo": (["--prompts", "photo"], {"templates": ["a photo of a {}."]}),
    "video": (["--prompts", "video"], {"templates": ["a video of a person {}."]}),
    "kinetics": (["--prompts", "openai-kinetics"], {}),
    "raw names": (["--prompts", "bare", "--class-names", "raw"], {"templates": ["{}"]}),
    "mine": (
        ["--templates", "mine.txt", "--prompt-averaging", "l2-mean"],
        {"templates": ["{} in a film", "look: {}!"], "averaging": "l2-mean"},
    ),
    "raw features first": (["--prompt-averaging", "mean-l2"], {"averaging": "mean-l2"}),
    "clips": (["--pooling", "l2-mean-l2"], {"pooling": "l2-mean-l2"}),
    "fitclip": (["--protocol", "fitclip"], {"averaging": "l2-mean", "pooling": "l2-mean"}),
    "fitclip but": (["--protocol", "fitclip", "--prompt-averaging", "l2-mean-l2"], {"pooling": "l2-mean"}),
}


@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_of_prompts_and_pooling_is_made_and_recorded(name, here, world, tmp_path, base_eyes):
    flags, made = CHOICES[name]
    labelled = lists.ucf101(tmp_path)
    if "raw" in flags:
        labelled = Labelled(labelled.flags, labelled.splits, {one: one for one in labelled.spoken})
    worlds.write(tmp_path / "mine.txt", "{} in a film\nlook: {}!\n")
    run = scored(here, "action", *labelled.flags, *world.flags, *flags)
    protocol = run.document["protocol"]
    made = {"templates": protocol["templates"], "averaging": "l2-mean-l2", "pooling": "mean-l2", **made}
    assert (protocol["prompt_averaging"], protocol["pooling"]) == (made["averaging"], made["pooling"])
    assert protocol["templates"] == made["templates"]
    assert protocol["name"] == ("fitclip" if "fitclip" in name else "figclip")
    check(run, "base", looked_at(base_eyes, world.frames, labelled, **made))


def narrowed(labelled, names, split=None):
    """The same lists with some classes only, and perhaps one split with another name."""
    splits = {
        split or one: {clip: name for clip, name in clips.items() if name in names}
        for one, clips in labelled.splits.items()
    }
    return Labelled(labelled.flags, splits, {name: said for name, said in labelled.spoken.items() if name in names})


def test_some_classes_only_compete(here, world, tmp_path, base_eyes):
    labelled = lists.ucf101(tmp_path)
    worlds.write(tmp_path / "few.txt", "tai chi\nApply Eye Makeup\nhammering\n")
    run = scored(here, "action", *labelled.flags, *world.flags, "--only-classes", "few.txt")
    kept = narrowed(labelled, ["ApplyEyeMakeup", "Hammering", "TaiChi"])
    assert run.document["n_asked"] == {"clips": 3}
    assert run.document["protocol"]["list_choices"]["only_classes"]["file"] == "few.txt"
    check(run, "base", looked_at(base_eyes, world.frames, kept, run.document["protocol"]["templates"]))


def test_classes_are_drawn_by_the_hashes_of_their_names(here, world, tmp_path, base_eyes):
    labelled = lists.ucf101(tmp_path)
    flags = [*labelled.flags, *world.flags, "--class-draws", "3x4", "--draw-seed", "7", "--exclude-classes", "out.txt"]
    worlds.write(tmp_path / "out.txt", "Jump Rope\nsailing\n")
    run = scored(here, "action", *flags)
    pool, expected = [name for name in labelled.spoken if name != "JumpRope"], {}
    for draw in (1, 2, 3):
        pool.sort(key=lambda name: hashlib.sha256(f"7/{draw}/{name.lower()}".encode()).hexdigest())
        drawn = narrowed(labelled, pool[:4], f"split 1 draw {draw}")
        expected |= looked_at(base_eyes, world.frames, drawn, run.document["protocol"]["templates"])
    assert len({split for split, _ in expected}) == 3
    check(run, "base", expected)
    choices = run.document["protocol"]["list_choices"]["class_draws"]
    assert (choices["draws"], choices["classes"], choices["seed"]) == (3, 4, 7)
    assert choices["excluded"]["file"] == "out.txt"


@pytest.mark.parametrize("split", ["2", "full"])
def test_one_split_or_all_clips_once(split, here, world, tmp_path, base_eyes):
    labelled = lists.hmdb51(tmp_path)
    every = {clip: name for clips in labelled.splits.values() for clip, name in clips.items()}
    splits = {"full": every} if split == "full" else {"split 2": labelled.splits["split 2"]}
    run = scored(here, "action", *labelled.flags, *world.flags, "--split", split)
    found = {sample["id"]: sample["group"] for sample in run.samples}
    ((name, clips),) = splits.items()
    assert found == clips and run.document["n_evaluated"] == {"clips": len(clips)}
    ordered = Labelled(labelled.flags, {name: found}, labelled.spoken)
    check(run, "base", looked_at(base_eyes, world.frames, ordered, run.document["protocol"]["templates"]))


@pytest.mark.parametrize("ties", ["average", "optimistic", "pessimistic"])
def test_classes_whose_prompts_are_cut_to_the_same_tokens_tie_exactly(ties, here, world, tmp_path, base_eyes):
    names = {"brush hair": "brush", "brush teeth": "brush", "sail": "sail"}
    clips = dict(zip(worlds.names_of("msrvtt"), ["brush hair", "brush teeth", "sail", "brush hair"], strict=False))
    worlds.write(tmp_path / "a.csv", "video_id,label\n" + "".join(f"{clip},{name}\n" for clip, name in clips.items()))
    flags = "--list", "a.csv", "--prompts", "bare", "--max-tokens", 3, "--ties", ties
    run = scored(here, "action", *flags, *world.flags)
    labelled = Labelled([], {"a": clips}, names)
    expected = looked_at(base_eyes, world.frames, labelled, ["{}"], ties=ties)
    check(run, "base", expected)
    assert run.document["protocol"]["tied_clips"] == {"base": 3} and run.document["protocol"]["ties"] == ties
    ranks = {"average": 0.5, "optimistic": 0.0, "pessimistic": 1.0}
    assert {found % 1 for name, found, _, _ in expected.values() if name != "sail"} == {ranks[ties] % 1}


def test_clips_that_are_missing_or_broken_are_listed_and_the_others_scored(here, world, tmp_path, base_eyes):
    labelled = lists.plain_actions(tmp_path)
    with Path("actions.csv").open("a") as file:
        file.write(f"gone.mp4,dive,val\n{worlds.BROKEN}.mp4,surf,val\n")
    run = scored(here, "action", *labelled.flags, *world.flags, code=4)
    assert run.document["n_asked"] == {"clips": 7} and run.document["n_evaluated"] == {"clips": 5}
    assert run.document["missing"]["gone"] == "not in the frames file"
    assert list(run.document["missing"]) == ["gone", worlds.BROKEN]
    assert run.document["missing"][worlds.BROKEN].startswith("failed")
    assert run.document["protocol"]["splits"] == {"val": {"classes": 4, "asked": 7, "evaluated": 5}}
    assert "2 clips were not evaluated, the first is gone" in run.said.stderr
    check(run, "base", looked_at(base_eyes, world.frames, labelled, run.document["protocol"]["templates"]))
    shown = here("evaluate", "action", *labelled.flags, *world.flags)
    assert shown.code == 4 and "actions.csv: 5 of 7 clips" in shown.stdout and "hint: " in shown.stderr


def test_a_split_without_a_single_clip_is_refused_and_nothing_is_written(here, world, tmp_path):
    labelled = lists.hmdb51_csv(tmp_path)
    rows = Path("hmdb51.csv").read_text().splitlines()
    worlds.write(
        tmp_path / "hmdb51.csv", "\n".join([rows[0], *(row[:-1] + "1" for row in rows[1:])]) + "\nx,kick_ball,1,1,2"
    )
    assert "clips" in refused(here("evaluate", "action", *labelled.flags, *world.flags), 3)
    assert not Path("results").exists()


def test_vifis_frames_are_refused_extracted_as_the_hint_says_or_taken_from_videos(here, world, tmp_path, base_eyes):
    labelled = lists.vifi(tmp_path)
    labelled = Labelled(labelled.flags, labelled.splits, {name: name for name in labelled.spoken})
    videos = world.folder / "videos" / "hmdb51"
    flags = [*labelled.flags, "--protocol", "vifi"]
    said = refused(here("evaluate", "action", *flags, *world.flags), 3)
    assert "has crop 'center', the protocol 'vifi' asks for 32 frames at midpoints, crop 'center-0.875'" in said
    frames = worlds.frames_by_the_hint(here, said, videos)
    run = scored(here, "action", *flags, *world.base, "--frames", frames)
    assert run.document["protocol"]["frames"]["crop"] == "center-0.875"
    assert run.document["protocol"]["templates"] == ["{}"] and run.document["protocol"]["changed"] == []
    check(run, "base", looked_at(base_eyes, frames, labelled, ["{}"]))
    from_videos = scored(here, "action", *flags, *world.base, "--videos", videos, output="videos.json")
    assert from_videos.values() == run.values() and from_videos.samples == run.samples
    assert "extracted before" not in from_videos.said.stderr
    again = scored(here, "action", *flags, *world.base, "--videos", videos, "--no-cache", output="again.json")
    assert "extracted before" in again.said.stderr and again.samples == run.samples


def test_a_second_run_finds_every_feature_and_without_a_cache_none_is_kept(here, world, tmp_path, monkeypatch):
    labelled = lists.hmdb51(tmp_path)
    bare = scored(here, "action", *labelled.flags, *world.flags, "--no-cache", output="bare.json")
    assert not Path(".figclip").exists()
    first = scored(here, "action", *labelled.flags, *world.flags, output="first.json")

    def never(*_):
        raise AssertionError("a tower was asked")

    monkeypatch.setattr(Clip, "encode_frames", never)
    monkeypatch.setattr(Clip, "encode_texts", never)
    second = scored(here, "action", *labelled.flags, *world.flags, "--pooling", "l2-mean", "--ties", "optimistic")
    assert bare.samples == first.samples != second.samples
    again = scored(here, "action", *labelled.flags, *world.flags, output="again.json")
    assert again.document["metrics"] == first.document["metrics"] and again.samples == first.samples


def test_the_table_and_on_request_the_groups_are_shown(here, world, tmp_path):
    labelled = lists.hmdb51(tmp_path)
    said = here("evaluate", "action", *labelled.flags, *world.flags, "--groups", "--no-samples")
    assert said.code == 0 and "zero-shot action recognition, hmdb51: 6 clips" in said.stdout
    assert "hmdb51: by group" in said.stdout and said.stdout.strip().endswith("results/action-splits-base.json")
    for word in ("split 1", "split 3", "brush_hair", "per-class mean", "dev"):
        assert word in said.stdout
    assert "results: results/action-splits-base.json (default)" in said.stderr
    assert [path.name for path in Path("results").iterdir()] == ["action-splits-base.json"]
    assert json.loads(Path("results/action-splits-base.json").read_text())["samples"] is None
    plain = here("evaluate", "action", *labelled.flags, *world.flags, "--overwrite", "--quiet")
    assert "split 1" not in plain.stdout and "brush_hair" not in plain.stdout and plain.stderr == ""


def test_records_of_clip_benchmark_hold_shares(here, world, tmp_path):
    labelled = lists.kinetics(tmp_path)
    run = scored(here, "action", *labelled.flags, *world.flags, "--clip-benchmark", "records")
    (path,) = Path("records").iterdir()
    record = json.loads(path.read_text())
    assert (record["dataset"], record["task"]) == ("kinetics", "zeroshot_classification")
    named = {"acc1": "top-1", "acc5": "top-5", "mean_per_class_recall": "per-class mean"}
    assert record["metrics"] == {name: run.metric(one)["value"] / 100 for name, one in named.items()}


def test_flags_come_from_a_file_and_the_command_line_wins(here, world, tmp_path):
    labelled = lists.ucf101(tmp_path)
    list_, classes = labelled.flags[1], labelled.flags[3]
    settings = f'list = ["{list_}"]\nclasses = "{classes}"\nframes = "{world.frames}"\nmodel = "{world.model}"\n'
    worlds.write(
        tmp_path / "lab.toml",
        f"[evaluate.action]\n{settings}base-only = true\nprompts = 'photo'\nties = 'optimistic'\n",
    )
    run = scored(here, "action", "--config", "lab.toml", "--ties", "pessimistic")
    assert run.document["protocol"]["templates"] == ["a photo of a {}."]
    assert run.document["protocol"]["ties"] == "pessimistic"
    worlds.write(tmp_path / "typo.toml", "[evaluate.action]\npromts = 'photo'\n")
    assert "did you mean 'prompts'?" in refused(here("evaluate", "action", "--config", "typo.toml"), 2)


def test_the_default_names_are_used_and_said(here, world, tmp_path, finished_run):
    lists.plain_actions(tmp_path)
    for name, path in (("frames.h5", world.frames), ("runs", finished_run.path.parent), ("base-model", world.model)):
        Path(name).symlink_to(path)
    said = here("evaluate", "action", "--split", "val")
    assert said.code == 0, said.stderr
    for line in ("list: actions.csv (default)", "frames: frames.h5 (default)", "run: runs/quick (default: the newest"):
        assert line in said.stderr
    assert Path("results/action-actions-quick.json").is_file() and "delta" in said.stdout


def test_the_program_itself_prints_one_document_and_nothing_else(figclip, world, tmp_path):
    labelled = lists.kinetics(tmp_path)
    output = figclip("evaluate", "action", *labelled.flags, *world.flags, "--json", "--quiet", cwd=tmp_path)
    assert (output.returncode, output.stderr) == (0, "")
    assert json.loads(output.stdout) == json.loads((tmp_path / "results" / "action-val-base.json").read_text())


REFUSALS = {
    "no list": (["--list", "gone.txt"], 3, "action list gone.txt does not exist"),
    "empty list": (["--list", "empty.txt"], 3, "action list empty.txt is empty"),
    "a picture": (["--list", "noise.txt"], 3, "not UTF-8"),
    "indexes without classes": (["--list", "indexed.txt"], 3, "has indexes, not names of classes"),
    "no format": (["--list-format", "ucf"], 2, "did you mean 'ucf101'?"),
    "other format": (["--list-format", "ssv2"], 3, "is not of the format ssv2"),
    "no split": (["--split", "9"], 2, "no split '9'"),
    "unknown class": (["--only-classes", "strange.txt"], 3, "is not a class of split"),
    "too many drawn": (["--class-draws", "2x8"], 2, "8 classes cannot be drawn"),
    "no draw": (["--class-draws", "0x3"], 2, "0 draws of 3 classes"),
    "wrong draw": (["--class-draws", "3"], 2, "--class-draws 3 is not NxCLASSES"),
    "nothing drawn": (["--exclude-classes", "strange.txt"], 2, "--exclude-classes is for --class-draws"),
    "no templates": (["--templates", "empty.txt"], 3, "has no templates"),
    "run and base": (["--run", "runs/x"], 2, "--base-only and --run contradict each other"),
    "frames and videos": (["--videos", "."], 2, "frames files and --videos contradict each other"),
    "few frames": (["--num-frames", "3"], 3, "asks for 3 frames at midpoints"),
    "few tokens": (["--max-tokens", "2"], 2, ""),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_meant_is_refused_in_one_line_and_nothing_is_written(name, here, world, tmp_path):
    flags, code, words = REFUSALS[name]
    labelled = lists.ucf101(tmp_path)
    worlds.write(tmp_path / "empty.txt", "\n")
    Path("noise.txt").write_bytes(bytes(range(128, 256)))
    worlds.write(tmp_path / "strange.txt", "Juggling\nTai Chi\n")
    worlds.write(tmp_path / "indexed.txt", "a.mp4 0\nb.mp4 1\n")
    own = [] if "--list" in flags else labelled.flags
    said = here("evaluate", "action", *own, *world.flags, *flags)
    if words:
        assert words in refused(said, code)
    else:
        assert said.code == code and said.stdout == ""
    assert not Path("results").exists()


def test_results_that_exist_are_kept_unless_they_may_be_replaced(here, world, tmp_path):
    labelled = lists.kinetics(tmp_path)
    first = scored(here, "action", *labelled.flags, *world.flags, output="r.json")
    before = Path("r.json").read_bytes()
    assert "r.json already exists" in refused(
        here("evaluate", "action", *labelled.flags, *world.flags, "-o", "r.json"), 2
    )
    assert Path("r.json").read_bytes() == before
    again = scored(
        here, "action", *labelled.flags, *world.flags, "--overwrite", "--ties", "pessimistic", output="r.json"
    )
    assert again.document != first.document and again.document["metrics"] == first.document["metrics"]
