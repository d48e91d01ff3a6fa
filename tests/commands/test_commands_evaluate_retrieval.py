"""``evaluate retrieval`` on each benchmark's own captions: every number again, one clip and one text at a time."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections import Counter
from pathlib import Path

import evaluate_lists as lists
import evaluate_worlds as worlds
import numpy as np
import pytest
import torch
from evaluate_worlds import Eyes, clip_pixels, rank, refused, score, scored, unit
from samples import CLIP_IDS

from figclip_cli.models.clip import Clip

adapted_eyes, base_eyes, here, world = worlds.adapted_eyes, worlds.base_eyes, worlds.here, worlds.world


def shown(item):
    return item[0] if item[1] is None else f"{item[0]}#{item[1]}"


class Expected:
    """What should come out of queries: the scores of every text and clip, and the ranks in both directions."""

    def __init__(self, eyes, pixels, queries, *, pooling="mean-l2", ties="average", multi="max-per-video"):
        self.queries = queries
        self.items = list(dict.fromkeys((clip, event) for clip, event, _ in queries))
        looks = [eyes.look(pixels(item), pooling) for item in self.items]
        texts = [unit(np.mean([eyes.text(text) for text in of], axis=0)) if len(of) > 1 else eyes.text(of[0])
                 for _, _, of in queries]  # fmt: skip
        self.own = [self.items.index((clip, event)) for clip, event, _ in queries]
        self.scores = [[score(text, look) for look in looks] for text in texts]
        self.names = [" / ".join(of) for _, _, of in queries]
        self.multi, self.ties = multi, ties
        self.tied = Counter()

    def text_to_video(self):
        """Of each text: rank, margin, what comes first."""
        names = [shown(item) for item in self.items]
        for row, own in zip(self.scores, self.own, strict=True):
            others = {item: one for item, one in enumerate(row) if item != own}
            yield self._outcome("t2v", row[own], others, names[own], names)

    def video_to_text(self):
        """Of each clip: the same; what comes first is a clip where clips are ranked, each by its best text."""
        names = [shown(item) for item in self.items]
        for clip in range(len(self.items)):
            column = [row[clip] for row in self.scores]
            of_clip = [[column[text] for text, own in enumerate(self.own) if own == one] for one in range(len(names))]
            if self.multi == "min-rank":
                others = {text: column[text] for text, own in enumerate(self.own) if own != clip}
                yield self._outcome("v2t", max(of_clip[clip]), others, self.names[self.own.index(clip)], self.names)
            else:
                others = {other: max(scores) for other, scores in enumerate(of_clip) if other != clip}
                yield self._outcome("v2t", max(of_clip[clip]), others, names[clip], names)

    def _outcome(self, direction, own, others, name, called):
        strongest = max(others, key=others.get)  # the first of equal ones
        self.tied[direction] += own in others.values()
        found = rank(own, list(others.values()), self.ties)
        return found, own - others[strongest], name if found == 0 else called[strongest]


class CutEyes(Eyes):
    """Eyes that read no more than some tokens, start and end included."""

    def __init__(self, clip, most):
        def tokens(texts):
            (ids,) = clip.tokenizer(texts).tolist()
            kept, end = [one for one in ids if one], max(ids)
            kept = kept if len(kept) <= most else [*kept[: most - 1], end]
            return torch.tensor([kept + [0] * (len(ids) - len(kept))])

        super().__init__(dataclasses.replace(clip, tokenizer=tokens))


def numbers(direction, ranks):
    recalls = {1: [one == 0 for one in ranks], 5: [one < 5 for one in ranks], 10: [one < 10 for one in ranks]}
    percents = {f"{direction} R@{k}": 100 * statistics.fmean(hits) for k, hits in recalls.items()}
    product = np.prod(list(percents.values()))
    return {
        **percents,
        f"{direction} MdR": statistics.median(ranks) + 1,
        f"{direction} MnR": statistics.fmean(ranks) + 1,
        f"{direction} gmean": product ** (1 / 3),
    }


def check(run, model, expected, key="value"):
    """Compare samples and numbers in both directions with what should come out."""
    found = {"t2v": list(expected.text_to_video()), "v2t": list(expected.video_to_text())}
    seen, names = Counter(), []
    for (clip, event, _), text in zip(expected.queries, expected.names, strict=True):
        item = shown((clip, event))
        names.append(("t2v", f"{item}/{seen[item]}", item, text))
        seen[item] += 1
    first = {}
    for (clip, event, _), text in zip(expected.queries, expected.names, strict=True):
        first.setdefault((clip, event), text)
    names += [("v2t", shown(item), shown(item), first[item]) for item in expected.items]
    for sample, name, outcome in zip(run.samples, names, found["t2v"] + found["v2t"], strict=True):
        assert (sample["part"], sample["id"], sample["look"], sample["text"]) == name
        mine = sample["outcomes"][model]
        assert (mine["rank"], mine["right"]) == (outcome[0], outcome[0] == 0)
        assert mine["margin"] == pytest.approx(outcome[1], abs=1e-6) and mine["chosen"] == outcome[2]
    values = {}
    for direction, outcomes in found.items():
        values |= numbers(direction, [one for one, _, _ in outcomes])
    assert list(run.values()) == list(values)
    assert run.values(key) == pytest.approx(values)
    assert run.document["protocol"]["tied_queries"][model] == dict(expected.tied)


CAPTIONS = {
    "msrvtt-1ka": (lists.msrvtt_1ka, False),
    "msrvtt-json": (lists.msrvtt_data, False),
    "msvd": (lists.msvd, False),
    "didemo": (lists.didemo, True),
    "lsmdc": (lists.lsmdc, False),
    "activitynet": (lists.activitynet, True),
    "csv": (lists.plain_captions, False),
    "jsonl": (lists.jsonl_captions, False),
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_every_captions_file_gives_the_numbers_of_one_clip_and_one_text_at_a_time(
    name, here, world, tmp_path, base_eyes
):
    make, paragraphs = CAPTIONS[name]
    made = make(tmp_path)
    run = scored(here, "retrieval", *made.flags, *world.flags)
    counts = {"clips": len({clip for clip, _, _ in made.queries}), "texts": len(made.queries)}
    assert run.document["task"] == "zero-shot retrieval" and run.document["missing"] == {}
    assert run.document["n_asked"] == run.document["n_evaluated"] == counts
    protocol = run.document["protocol"]
    assert (protocol["captions_format"], protocol["paragraphs"], protocol["level"]) == (name, paragraphs, "video")
    texts = [texts for _, _, texts in made.queries]
    assert protocol["duplicate_texts"] == len(texts) - len(set(texts))
    assert protocol["overlong_texts"] == (1 if name == "activitynet" else 0)
    check(run, "base", Expected(base_eyes, clip_pixels(world.frames), made.queries))


@pytest.mark.parametrize("level", ["video", "event"])
def test_our_own_prompts_by_clip_and_by_event_of_base_and_run(
    level, here, prepared, tmp_path, finished_run, base_eyes, adapted_eyes
):
    clips = CLIP_IDS if level == "video" else CLIP_IDS[1:3]
    made = lists.prompts_as_queries(tmp_path, prepared / "prompts.jsonl", clips, level=level)
    flags, pixels = [*made.flags, "--frames", prepared / "frames.h5"], clip_pixels(prepared / "frames.h5")
    model = "--base-only", "--model", prepared / "base-model"
    alone = scored(here, "retrieval", *flags, *model, output="alone.json")
    both = scored(here, "retrieval", *flags, "--run", finished_run.path, output="both.json")
    counts = {"clips": 6, "texts": 6} if level == "video" else {"events": 10, "texts": 10}
    assert both.document["n_evaluated"] == counts and both.document["protocol"]["level"] == level
    check(both, "base", Expected(base_eyes, pixels, made.queries), key="base_value")
    check(both, "adapted", Expected(adapted_eyes, pixels, made.queries))
    for one, own in zip(both.document["metrics"], alone.document["metrics"], strict=True):
        assert (one["base_value"], one["base_standard_error"]) == (own["value"], own["standard_error"])
        assert one["delta"] == one["value"] - one["base_value"] and 0 < one["p_value"] <= 1
        assert own["base_value"] is own["delta"] is own["p_value"] is None
    assert [s["outcomes"]["base"] for s in both.samples] == [s["outcomes"]["base"] for s in alone.samples]


@pytest.mark.parametrize("ties", ["average", "optimistic", "pessimistic"])
@pytest.mark.parametrize("multi", ["max-per-video", "min-rank"])
def test_equal_captions_of_several_clips_tie_exactly_and_count_as_the_rule_says(
    multi, ties, here, world, tmp_path, base_eyes
):
    made = lists.msvd(tmp_path)
    run = scored(here, "retrieval", *made.flags, *world.flags, "--ties", ties, "--multi-caption", multi)
    expected = Expected(base_eyes, clip_pixels(world.frames), made.queries, ties=ties, multi=multi)
    check(run, "base", expected)
    protocol = run.document["protocol"]
    assert (protocol["ties"], protocol["video_to_text_multi_caption"]) == (ties, multi)
    assert protocol["duplicate_texts"] == 2 and protocol["tied_queries"]["base"] == {"t2v": 0, "v2t": 3}
    assert protocol["candidates"] == {"t2v": 3, "v2t": 3 if multi == "max-per-video" else len(made.queries)}


def test_one_sentence_of_two_clips_ties_in_one_direction_and_this_is_said(here, world, tmp_path):
    made = lists.msrvtt_1ka(tmp_path)
    run = scored(here, "retrieval", *made.flags, *world.flags)
    assert run.document["protocol"]["tied_queries"] == {"base": {"t2v": 0, "v2t": 2}}
    assert "ties: base v2t: the right item of 2 of 5 queries ties with a wrong one (average)" in run.said.stderr


def first_captions(queries):
    return list({(clip, event): (clip, event, texts) for clip, event, texts in reversed(queries)}.values())[::-1]


CHOICES = {
    "first": ["--caption-choice", "first"],
    "train": ["--split", "train"],
    "all": ["--split", "all"],
    "l2-mean": ["--pooling", "l2-mean"],
    "fitclip": ["--protocol", "fitclip"],
}


@pytest.mark.parametrize("name", CHOICES)
def test_each_choice_of_captions_and_pooling_is_made_and_recorded(name, here, world, tmp_path, base_eyes):
    made, queries = lists.msrvtt_data(tmp_path), None
    sentences = json.loads(Path("MSRVTT_data.json").read_text())["sentences"]
    every = [(one["video_id"], None, (one["caption"],)) for one in sentences]
    queries = {"first": first_captions(made.queries), "all": every}.get(name, made.queries)
    if name == "train":
        queries = [query for query in every if query[0] == worlds.names_of("msrvtt")[0]]
        assert "--split" in CHOICES[name] and len(queries) == 3
        run = here("evaluate", "retrieval", *made.flags, *world.flags, *CHOICES[name], "--json")
        assert run.code == 0 and json.loads(run.stdout)["n_evaluated"] == {"clips": 1, "texts": 3}
        return
    run = scored(here, "retrieval", *made.flags, *world.flags, *CHOICES[name])
    pooling = "l2-mean" if name in ("l2-mean", "fitclip") else "mean-l2"
    assert run.document["protocol"]["pooling"] == pooling
    assert run.document["protocol"]["captions"]["caption_choice"] == ("first" if name == "first" else "all")
    check(run, "base", Expected(base_eyes, clip_pixels(world.frames), queries, pooling=pooling))


def test_clip4clips_frames_are_refused_extracted_as_the_hint_says_and_sliced(here, world, tmp_path, base_eyes):
    made = lists.activitynet(tmp_path)
    flags, videos = [*made.flags, "--protocol", "clip4clip"], world.folder / "videos" / "activitynet"
    said = refused(here("evaluate", "retrieval", *flags, *world.flags), 3)
    assert "has 4 frames at midpoints, the protocol 'clip4clip' asks for 1 frames a second, crop 'center'" in said
    frames = worlds.frames_by_the_hint(here, said, videos)
    run = scored(here, "retrieval", *flags, *world.base, "--frames", frames, output="all.json")
    protocol = run.document["protocol"]
    assert (protocol["num_frames"], protocol["max_tokens"], protocol["pooling"]) == (64, 64, "l2-mean-l2")
    assert (
        protocol["frames"]["fps"] == 1 and clip_pixels(frames)((worlds.names_of("activitynet")[0], None)).shape[0] == 3
    )
    check(run, "base", Expected(CutEyes(base_eyes.clip, 64), clip_pixels(frames), made.queries, pooling="l2-mean-l2"))
    run = scored(here, "retrieval", *flags, *world.base, "--frames", frames, "--num-frames", 2, "--max-tokens", 9)

    def ends(item):
        return clip_pixels(frames)(item)[[0, -1]]

    assert run.document["protocol"]["changed"] == ["max_tokens", "num_frames"]
    check(run, "base", Expected(CutEyes(base_eyes.clip, 9), ends, made.queries, pooling="l2-mean-l2"))


def test_clips_that_are_missing_or_broken_are_listed_and_the_others_ranked(here, world, tmp_path, base_eyes):
    made = lists.plain_captions(tmp_path)
    with Path("captions.csv").open("a") as file:
        file.write(f"gone,a dog\n{worlds.BROKEN}.mp4,a cat\ngone,a second text\n")
    run = scored(here, "retrieval", *made.flags, *world.flags, code=4)
    assert run.document["n_asked"] == {"clips": 7, "texts": 9}
    assert run.document["n_evaluated"] == {"clips": 5, "texts": 6}
    assert list(run.document["missing"]) == ["gone", worlds.BROKEN]
    assert run.document["protocol"]["candidates"] == {"t2v": 5, "v2t": 5}
    assert "2 clips were not evaluated, the first is gone" in run.said.stderr
    check(run, "base", Expected(base_eyes, clip_pixels(world.frames), made.queries))
    shown = here("evaluate", "retrieval", *made.flags, *world.flags)
    assert shown.code == 4 and "captions.csv: 5 of 7 clips, 6 of 9 texts" in shown.stdout
    worlds.write(tmp_path / "captions.csv", "clip_id,caption\ngone,a dog\n")
    said = refused(here("evaluate", "retrieval", *made.flags, *world.flags, "-o", "none.json"), 3)
    assert "not one of the 1 clips asked for is there: 'gone'" in said and not Path("none.json").exists()


def test_videos_take_the_place_of_frames_and_are_extracted_once(here, world, tmp_path):
    made, videos = lists.lsmdc(tmp_path), world.folder / "videos"
    folders = "--videos", videos / "lsmdc", "--videos", videos / "broken"
    fitclip = "--protocol", "fitclip"
    stored = scored(here, "retrieval", *made.flags, *world.flags, *fitclip, output="stored.json")
    first = scored(here, "retrieval", *made.flags, *world.base, *folders, *fitclip, output="first.json")
    assert first.samples == stored.samples and first.values() == stored.values()
    assert first.document["protocol"]["frames"]["frames_per_event"] == 4
    again = scored(here, "retrieval", *made.flags, *world.base, *folders, *fitclip, output="again.json")
    assert "extracted before" in again.said.stderr and again.samples == first.samples
    assert [path.suffix for path in Path(".figclip/frames").glob("*.h5")] == [".h5"]


def test_a_second_run_finds_every_feature_and_without_a_cache_none_is_kept(here, world, tmp_path, monkeypatch):
    made = lists.msvd(tmp_path)
    bare = scored(here, "retrieval", *made.flags, *world.flags, "--no-cache", output="bare.json")
    assert not Path(".figclip").exists()
    first = scored(here, "retrieval", *made.flags, *world.flags, output="first.json")

    def never(*_):
        raise AssertionError("a tower was asked")

    monkeypatch.setattr(Clip, "encode_frames", never)
    monkeypatch.setattr(Clip, "encode_texts", never)
    again = scored(here, "retrieval", *made.flags, *world.flags, output="again.json")
    assert bare.samples == first.samples == again.samples and again.document["metrics"] == first.document["metrics"]


@pytest.mark.parametrize("multi", ["max-per-video", "min-rank"])
def test_records_of_clip_benchmark_have_no_recall_of_another_definition(multi, here, world, tmp_path):
    made = lists.msvd(tmp_path)
    flags = "--clip-benchmark", "records", "--multi-caption", multi
    run = scored(here, "retrieval", *made.flags, *world.flags, *flags)
    (path,) = Path("records").iterdir()
    record = json.loads(path.read_text())
    named = {f"image_retrieval_recall@{k}": f"t2v R@{k}" for k in (1, 5, 10)}
    if multi == "min-rank":
        named |= {f"text_retrieval_recall@{k}": f"v2t R@{k}" for k in (1, 5, 10)}
    assert record["metrics"] == {name: run.metric(one)["value"] / 100 for name, one in named.items()}
    assert record["task"] == "zeroshot_retrieval"


def test_the_table_and_the_default_names(here, world, tmp_path, finished_run):
    lists.plain_captions(tmp_path)
    for name, path in (("frames.h5", world.frames), ("runs", finished_run.path.parent), ("base-model", world.model)):
        Path(name).symlink_to(path)
    said = here("evaluate", "retrieval", "--groups")
    assert said.code == 0, said.stderr
    for line in ("captions: captions.csv (default)", "frames: frames.h5 (default)", "run: runs/quick (default: the"):
        assert line in said.stderr
    assert "captions.csv: 5 clips, 6 texts" in said.stdout and "delta" in said.stdout and "MdR" in said.stdout
    assert said.stdout.strip().endswith("results/retrieval-captions-quick.json")
    worlds.write(tmp_path / "lab.toml", "[evaluate.retrieval]\nties = 'pessimistic'\nbase-only = true\n")
    run = scored(here, "retrieval", "--config", "lab.toml")
    assert run.document["protocol"]["ties"] == "pessimistic" and list(run.document["models"]) == ["base"]


REFUSALS = {
    "absent": (["--captions", "gone.csv"], 3, "captions file gone.csv does not exist"),
    "empty": (["--captions", "empty.csv"], 3, "empty.csv"),
    "no format": (["--captions-format", "msrvtt"], 2, "did you mean 'msrvtt-"),
    "no split": (["--split", "tset"], 3, "has no split 'tset'"),
    "events": (["--level", "event"], 3, "has captions of whole clips, not of events"),
    "ids of others": (["--ids", "ids.txt"], 3, "1 of 2 clips have no captions"),
    "empty ids": (["--ids", "empty.csv"], 3, "has no ids"),
    "no frames": (["--frames", "gone.h5"], 3, "gone.h5"),
    "frames and videos": (["--videos", "."], 2, "frames files and --videos contradict each other"),
    "run and base": (["--run", "x"], 2, "--base-only and --run contradict each other"),
    "unknown protocol": (["--protocol", "clip5clip"], 2, ""),
    "few frames": (["--num-frames", "3"], 3, "asks for 3 frames at midpoints"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_cannot_be_meant_is_refused_in_one_line_and_nothing_is_written(name, here, world, tmp_path):
    flags, code, words = REFUSALS[name]
    made = lists.msrvtt_data(tmp_path)
    worlds.write(tmp_path / "empty.csv", "\n")
    worlds.write(tmp_path / "ids.txt", "video9771\nvideo1\n")
    said = here("evaluate", "retrieval", *made.flags, *world.flags, *flags)
    if words:
        assert words in refused(said, code)
    else:
        assert said.code == code and said.stdout == ""
    assert not Path("results").exists()


def test_results_that_exist_are_kept_unless_they_may_be_replaced(here, world, tmp_path):
    made = lists.lsmdc(tmp_path)
    scored(here, "retrieval", *made.flags, *world.flags, output="r.json")
    before = Path("r.json").read_bytes()
    said = refused(here("evaluate", "retrieval", *made.flags, *world.flags, "-o", "r.json"), 2)
    assert "r.json already exists" in said and Path("r.json").read_bytes() == before
    scored(here, "retrieval", *made.flags, *world.flags, "--overwrite", "--ties", "optimistic", output="r.json")
    assert Path("r.json").read_bytes() != before
