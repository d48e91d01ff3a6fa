"""Dense captioning, every number again: loops as densevid_eval's definition reads, with pycocoevalcap as the scorer."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.compare import CompareOptions, compare
from figclip_cli.evaluate.dense_captioning import task as dense_captioning
from figclip_cli.evaluate.dense_captioning.scores import random_garbage
from figclip_cli.evaluate.dense_captioning.task import evaluate_dense_captioning
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions
from figclip_cli.evaluate.metrics.bleu import bleu_counts, corpus_bleu
from figclip_cli.evaluate.metrics.cider import cider
from figclip_cli.evaluate.metrics.ptb import ptb_words
from figclip_cli.evaluate.metrics.rouge import rouge_l
from figclip_cli.evaluate.metrics.soda import soda
from figclip_cli.evaluate.results import read_results

WORDS = "a the man woman dog runs jumps sits down up on to ball (red) T-shirt, doesn't stop. 1 1/2 cups café".split()
TIOUS = (0.3, 0.5, 0.7, 0.9)
NO_METEOR = DenseCaptioningOptions(meteor="off", rouge=True)


class FakeMeteor:
    """A similarity that is not symmetric and whose groups are of counts added up, without Java."""

    def __init__(self, reporter):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *ignored):
        return None

    @staticmethod
    def of_group(pairs):
        both = sum(len(set(hypothesis.split()) & set(reference.split())) for hypothesis, reference in pairs)
        return both / (1 + sum(len(reference.split()) for _, reference in pairs))

    def of_groups(self, groups):
        return [self.of_group(group) for group in groups]

    def of_pairs(self, pairs):
        return [self.of_group([pair]) for pair in pairs]


@pytest.fixture
def fake_meteor(monkeypatch):
    monkeypatch.setattr("figclip_cli.evaluate.dense_captioning.scores.Meteor", FakeMeteor)
    monkeypatch.setattr(dense_captioning, "why_unavailable", lambda: None)


class Remarks:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.said = []

    def info(self, message):
        self.said.append(message)

    warn = detail = info


def sentence(rng):
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 9)))


def event(rng):
    start = rng.randint(0, 8)
    return [start, start + rng.randint(1, 4)]


def annotated(rng, names):
    made = {}
    for name in names:
        events = rng.randint(1, 4)
        times = [event(rng) for _ in range(events)]
        made[name] = {"duration": 12, "timestamps": times, "sentences": [sentence(rng) for _ in range(events)]}
    return made


def predicted(rng, names, most=6):
    return {
        name: [{"sentence": sentence(rng), "timestamp": event(rng)} for _ in range(rng.randint(0, most))]
        for name in names
    }


def world(folder, seed=0, videos=8):
    """Two sets of references that do not have the same videos, and two submissions with videos too few and too many."""
    rng = random.Random(seed)
    names = [f"v_{number}" for number in range(videos)]
    sets = [annotated(rng, names[:-1]), annotated(rng, names[1:])]
    results = [predicted(rng, [*names[:-2], "v_unknown"]), predicted(rng, names[1:])]
    paths = []
    for number, (references, proposals) in enumerate(zip(sets, results, strict=True), start=1):
        document = {"version": "1", "results": proposals, "external_data": {"used": False}}
        for name, value in ((f"val_{number}.json", references), (f"model_{number}.json", document)):
            (folder / name).write_text(json.dumps(value))
            paths.append(folder / name)
    return sets, results, paths[::2], paths[1::2]


def naive_iou(first, second):
    intersection = max(0, min(second[1], first[1]) - max(second[0], first[0]))
    union = min(max(second[1], first[1]) - min(second[0], first[0]), second[1] - second[0] + first[1] - first[0])
    return intersection / (union + 1e-8)


def naive_pairs(sets, proposals, name, tiou, garbage):
    """Hypothesis and reference of each pair of a video, in words."""
    made = []
    for number, proposal in enumerate(proposals):
        matched = [
            text
            for references in sets
            if name in references
            for times, text in zip(references[name]["timestamps"], references[name]["sentences"], strict=True)
            if naive_iou(proposal["timestamp"], times) >= tiou
        ]
        said = ptb_words(proposal["sentence"])
        made += [(said, ptb_words(text)) for text in matched or [garbage(name, number)]]
    return made


def own_scorer():
    """Scores of a video's pairs by figclip's scorers, which have tests of their own, called for this video alone."""

    def score(pairs):
        hypotheses, references = [pair[0] for pair in pairs], [[pair[1]] for pair in pairs]
        bleu = corpus_bleu(bleu_counts(hypotheses, references))
        return {
            "CIDEr": np.mean(cider(hypotheses, references)),
            "ROUGE-L": np.mean(rouge_l(hypotheses, references)),
            **{f"BLEU-{order}": value for order, value in enumerate(bleu, start=1)},
        }

    return score


def public_scorer():
    """Scores of a video's pairs by pycocoevalcap."""
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    def score(pairs):
        references = {number: [reference] for number, (_, reference) in enumerate(pairs)}
        hypotheses = {number: [hypothesis] for number, (hypothesis, _) in enumerate(pairs)}
        with contextlib.redirect_stdout(io.StringIO()):
            bleu, _ = Bleu(4).compute_score(references, hypotheses, verbose=0)
        return {
            "CIDEr": Cider().compute_score(references, hypotheses)[0],
            "ROUGE-L": Rouge().compute_score(references, hypotheses)[0],
            **{f"BLEU-{order}": value for order, value in enumerate(bleu, start=1)},
        }

    return score


def videos_of(sets):
    return list(dict.fromkeys(name for references in sets for name in references))


def naive_language(sets, results, tiou, score, garbage):
    """Each measure's mean over the videos of the union, in percent."""
    by_video = []
    for name in videos_of(sets):
        pairs = naive_pairs(sets, results.get(name, []), name, tiou, garbage)
        by_video.append(score(pairs) if pairs else {})
    measures = {measure for scores in by_video for measure in scores}
    return {measure: 100 * np.mean([scores.get(measure, 0) for scores in by_video]) for measure in measures}


def naive_detection(sets, results, tiou):
    recalls, precisions = [], []
    for name in videos_of(sets):
        recall = precision = 0.0
        for references in sets:
            if name not in references:
                continue
            times = references[name]["timestamps"]
            covered, right = set(), set()
            for number, proposal in enumerate(results.get(name, [])):
                for place, one in enumerate(times):
                    if naive_iou(proposal["timestamp"], one) > tiou:
                        covered.add(place)
                        right.add(number)
            recall = max(recall, len(covered) / len(times))
            if results.get(name):
                precision = max(precision, len(right) / len(results[name]))
        recalls.append(recall)
        precisions.append(precision)
    return {"recall": 100 * np.mean(recalls), "precision": 100 * np.mean(precisions)}


def in_groups(results):
    return {(metric.name, metric.group): metric for metric in results.groups}


def headline(results):
    return {metric.name: metric for metric in results.metrics}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("variant", ["2018", "2021"])
@pytest.mark.parametrize("scorer", [own_scorer, public_scorer])
def test_every_number_is_that_of_densevid_eval(tmp_path, seed, variant, scorer):
    score = scorer()
    sets, results, annotations, predictions = world(tmp_path, seed)
    options = DenseCaptioningOptions(meteor="off", rouge=True, variant=variant)
    made = evaluate_dense_captioning(predictions[0], annotations, options=options).results
    garbage = random_garbage if variant == "2021" else lambda *ignored: "abc123!@#"
    by_tiou = {
        tiou: naive_language(sets, results[0], tiou, score, garbage) | naive_detection(sets, results[0], tiou)
        for tiou in TIOUS
    }
    groups = in_groups(made)
    assert {name for name, _ in groups} == set(by_tiou[0.3]) == set(headline(made))
    for name, metric in headline(made).items():
        for tiou in TIOUS:
            assert groups[name, f"tIoU {tiou}"].value == pytest.approx(by_tiou[tiou][name], abs=1e-9), (name, tiou)
        assert metric.value == pytest.approx(np.mean([by_tiou[tiou][name] for tiou in TIOUS]), abs=1e-9)
        assert metric.n == 8
        assert metric.higher_is_better


def naive_soda(sets, proposals, name, *, swapped, similarity):
    """SODA of one video with all its references in one list."""
    references = sorted(
        (tuple(times), number, text)
        for number, one in enumerate(sets)
        if name in one
        for times, text in zip(one[name]["timestamps"], one[name]["sentences"], strict=True)
    )
    told = sorted((tuple(one["timestamp"]), number, one["sentence"]) for number, one in enumerate(proposals))
    worth = np.zeros((len(told), len(references)))
    for row, (times, _, said) in enumerate(told):
        for column, (own, _, text) in enumerate(references):
            pair = (ptb_words(said), ptb_words(text))
            worth[row, column] = naive_iou(times, own) * similarity([pair[::-1] if swapped else pair])
    return soda(worth)


def distinct_times(references):
    """Events of one time have no order of their own: leave one of each."""
    made = {}
    for name, video in references.items():
        events = dict(zip(map(tuple, video["timestamps"]), video["sentences"], strict=True))
        made[name] = {**video, "timestamps": [list(one) for one in events], "sentences": list(events.values())}
    return made


@pytest.mark.parametrize("swapped", [True, False])
@pytest.mark.parametrize("which", ["both", "all"])
@pytest.mark.parametrize("choice", ["merged", "best"])
def test_soda_and_meteor_are_their_definitions(tmp_path, fake_meteor, swapped, which, choice):
    sets, results, annotations, predictions = world(tmp_path, 5)
    sets = [distinct_times(one) for one in sets]
    for path, references in zip(annotations, sets, strict=True):
        path.write_text(json.dumps(references))
    options = DenseCaptioningOptions(
        soda_references=choice, soda_meteor="swapped" if swapped else "plain", soda_videos=which
    )
    made = evaluate_dense_captioning(predictions[0], annotations, options=options).results
    scores = []
    for name in videos_of(sets):
        proposals = results[0].get(name, [])
        if not proposals:
            if which == "all":
                scores.append((0.0, 0.0, 0.0))
            continue
        lists = [sets] if choice == "merged" else [[one] for one in sets if name in one]
        of_lists = [naive_soda(one, proposals, name, swapped=swapped, similarity=FakeMeteor.of_group) for one in lists]
        scores.append(max(of_lists, key=lambda one: one.f1))
    precision, recall, f1 = 100 * np.mean(scores, axis=0)
    numbers = headline(made)
    assert numbers["SODA_c"].value == pytest.approx(f1, abs=1e-9)
    assert numbers["SODA_c precision"].value == pytest.approx(precision, abs=1e-9)
    assert numbers["SODA_c recall"].value == pytest.approx(recall, abs=1e-9)
    assert numbers["SODA_c"].n == len(scores)
    groups = in_groups(made)
    for tiou in TIOUS:
        expected = naive_language(
            sets, results[0], tiou, lambda pairs: {"METEOR": FakeMeteor.of_group(pairs)}, lambda *ignored: "abc123!@#"
        )
        assert groups["METEOR", f"tIoU {tiou}"].value == pytest.approx(expected["METEOR"], abs=1e-9)
    assert made.protocol["soda_c"] == {
        "computed": True,
        "references": choice,
        "meteor_arguments": "swapped" if swapped else "plain",
        "mean_over_videos_in": which,
    }


@pytest.mark.slow
@pytest.mark.skipif(
    os.environ.get("FIGCLIP_METEOR_TESTS") != "1", reason="starts Java twice, half a minute; FIGCLIP_METEOR_TESTS=1"
)
def test_with_the_real_meteor(tmp_path):
    reason = dense_captioning.why_unavailable()
    if reason:
        pytest.skip(reason)
    from pycocoevalcap.meteor.meteor import Meteor

    sets, results, annotations, predictions = world(tmp_path, 1)
    made = evaluate_dense_captioning(predictions[0], annotations).results
    theirs = Meteor()

    def score(pairs):
        references = {number: [reference] for number, (_, reference) in enumerate(pairs)}
        return {"METEOR": theirs.compute_score(references, {k: [pair[0]] for k, pair in enumerate(pairs)})[0]}

    for tiou in TIOUS:
        expected = naive_language(sets, results[0], tiou, score, lambda *ignored: "abc123!@#")
        assert in_groups(made)["METEOR", f"tIoU {tiou}"].value == pytest.approx(expected["METEOR"], abs=1e-9)
    assert 0 < headline(made)["SODA_c"].value < 100


# By hand


def one_video(folder, proposals, *, times=((0, 10), (20, 30)), texts=("A man runs fast.", "He sits down again.")):
    references = {"v_a": {"duration": 40, "timestamps": [list(one) for one in times], "sentences": list(texts)}}
    (folder / "val.json").write_text(json.dumps(references))
    (folder / "mine.json").write_text(json.dumps({"version": "1", "results": proposals, "external_data": {}}))
    return folder / "mine.json", [folder / "val.json"]


def told(text, *times):
    return {"sentence": text, "timestamp": list(times)}


def test_a_perfect_submission(tmp_path):
    proposals = {"v_a": [told("a man runs fast", 0, 10), told("He sits down again", 20, 30)]}
    made = headline(evaluate_dense_captioning(*one_video(tmp_path, proposals), options=NO_METEOR).results)
    assert made["CIDEr"].value == pytest.approx(1000)
    assert made["BLEU-4"].value == pytest.approx(100)
    assert made["ROUGE-L"].value == pytest.approx(100)
    assert made["recall"].value == made["precision"].value == 100


def test_one_pair_alone_has_no_cider(tmp_path):
    # The idf is that of the video's pairs: with one pair every n-gram is in all of them.
    proposals = {"v_a": [told("a man runs fast", 0, 10)]}
    made = headline(evaluate_dense_captioning(*one_video(tmp_path, proposals), options=NO_METEOR).results)
    assert made["CIDEr"].value == 0
    assert made["BLEU-1"].value == pytest.approx(100)
    assert made["recall"].value == 50


def test_a_proposal_without_a_match_is_compared_with_garbage(tmp_path):
    proposals = {"v_a": [told("a man runs fast", 0, 10), told("he sits down again", 31, 40)]}
    made = headline(evaluate_dense_captioning(*one_video(tmp_path, proposals), options=NO_METEOR).results)
    assert made["CIDEr"].value == pytest.approx(500)  # 10 and 0, and the idf of two pairs
    assert made["BLEU-1"].value == pytest.approx(50)


def test_a_proposal_is_compared_with_every_event_that_it_overlaps(tmp_path):
    paths = one_video(
        tmp_path, {"v_a": [told("a man runs fast", 0, 10)]}, times=((0, 10), (0, 9)), texts=("A man runs fast.", "No.")
    )
    made = in_groups(evaluate_dense_captioning(*paths, options=NO_METEOR).results)
    assert made["ROUGE-L", "tIoU 0.7"].value == pytest.approx(50)
    assert made["ROUGE-L", "tIoU 0.9"].value == pytest.approx(50 if 9 / (10 + 1e-8) >= 0.9 else 100)


def test_the_garbage_of_2021_is_letters_and_always_the_same():
    made = [random_garbage(name, number) for name in ("v_a", "v_b") for number in range(50)]
    assert made == [random_garbage(name, number) for name in ("v_a", "v_b") for number in range(50)]
    assert len(set(made)) == 100
    assert all(text.isalpha() and text.islower() and 10 <= len(text) <= 20 and ptb_words(text) == text for text in made)
    assert {len(text) for text in made} == set(range(10, 21))


def test_a_cap_on_proposals_takes_the_first(tmp_path):
    proposals = {"v_a": [told("a man runs fast", 0, 10), told("he sits down again", 31, 40)]}
    paths = one_video(tmp_path, proposals)
    options = DenseCaptioningOptions(meteor="off", max_proposals=1)
    made = evaluate_dense_captioning(*paths, options=options).results
    assert headline(made)["precision"].value == 100
    assert made.protocol["submissions"]["base"]["dropped_proposals"] == 1


# What is said


def test_videos_that_are_missing_count_0_and_those_that_are_unknown_are_said(tmp_path):
    _, results, annotations, predictions = world(tmp_path, 2)
    remarks = Remarks()
    made = evaluate_dense_captioning(predictions[0], annotations, options=NO_METEOR, reporter=remarks).results
    counts = made.protocol["submissions"]["base"]
    empty = sum(not proposals for name, proposals in results[0].items() if name != "v_unknown")
    assert counts["videos_without_proposals"] == 2 + empty
    assert counts["videos_in_no_reference"] == 1
    assert made.asked == made.evaluated
    assert made.asked["videos"] == 8
    assert made.missing == {}
    assert any(f"{2 + empty} of 8 videos have no proposals and count 0" in one for one in remarks.said)
    assert any("1 videos are in no reference, such as v_unknown" in one for one in remarks.said)
    assert any("METEOR and SODA_c are not computed: --meteor off" in one for one in remarks.said)
    assert made.protocol["meteor"]["why_not"] == "--meteor off"
    assert not {"METEOR", "SODA_c"} & set(headline(made))


def test_meteor_that_is_not_there_is_said_or_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dense_captioning, "why_unavailable", lambda: "there is no Java (no 'java' on the PATH)")
    _, _, annotations, predictions = world(tmp_path)
    remarks = Remarks()
    made = evaluate_dense_captioning(predictions[0], annotations, reporter=remarks).results
    assert made.protocol["meteor"]["computed"] is made.protocol["soda_c"]["computed"] is False
    assert "METEOR and SODA_c are not computed: there is no Java (no 'java' on the PATH)" in remarks.said
    with pytest.raises(InputError, match="--meteor on: there is no Java") as caught:
        evaluate_dense_captioning(predictions[0], annotations, options=DenseCaptioningOptions(meteor="on"))
    assert "figclip-cli[meteor]" in caught.value.hint


def test_ids_without_their_prefix_give_the_same_numbers(tmp_path):
    _, results, annotations, predictions = world(tmp_path, 3)
    first = evaluate_dense_captioning(predictions[0], annotations, options=NO_METEOR).results
    bare = {name.removeprefix("v_"): proposals for name, proposals in results[0].items()}
    predictions[0].write_text(json.dumps({"version": "1", "results": bare, "external_data": {}}))
    second = evaluate_dense_captioning(predictions[0], annotations, options=NO_METEOR).results
    assert first.metrics == second.metrics
    assert second.protocol["submissions"]["base"]["renamed_ids"] == len(results[0]) - 1


# Two submissions


def test_a_base_is_compared_video_by_video(tmp_path):
    _, _, annotations, predictions = world(tmp_path, 4)
    alone = [headline(evaluate_dense_captioning(path, annotations, options=NO_METEOR).results) for path in predictions]
    evaluation = evaluate_dense_captioning(predictions[1], annotations, base=predictions[0], options=NO_METEOR)
    for name, metric in headline(evaluation.results).items():
        assert metric.base_value == alone[0][name].value
        assert metric.value == alone[1][name].value
        assert metric.delta == pytest.approx(metric.value - metric.base_value)
        assert 0 < metric.p_value <= 1
        assert metric.standard_error == pytest.approx(alone[1][name].standard_error)
    assert evaluation.results.base_name == "model_1"
    assert evaluation.results.adapted_name == "model_2"


def test_soda_of_two_submissions_is_of_the_videos_that_each_has(tmp_path, fake_meteor):
    _, _, annotations, predictions = world(tmp_path, 4)
    alone = [headline(evaluate_dense_captioning(path, annotations).results)["SODA_c"] for path in predictions]
    both = evaluate_dense_captioning(predictions[1], annotations, base=predictions[0]).results
    metric = headline(both)["SODA_c"]
    assert (metric.base_value, metric.value) == pytest.approx((alone[0].value, alone[1].value))
    assert metric.statistic == "mean over videos with proposals"
    assert 0 < metric.p_value <= 1


def test_the_same_file_twice_is_refused(tmp_path):
    _, _, annotations, predictions = world(tmp_path)
    with pytest.raises(UsageError, match="have the same content"):
        evaluate_dense_captioning(predictions[0], annotations, base=predictions[0])


def test_two_files_of_one_name_are_told_apart(tmp_path):
    _, _, annotations, predictions = world(tmp_path)
    for name, path in zip(("old", "new"), predictions, strict=True):
        (tmp_path / name).mkdir()
        path.rename(tmp_path / name / "predictions.json")
    old, new = (tmp_path / name / "predictions.json" for name in ("old", "new"))
    made = evaluate_dense_captioning(new, annotations, base=old, options=NO_METEOR).results
    assert (made.base_name, made.adapted_name) == ("old/predictions", "new/predictions")


def test_results_and_samples_can_be_compared(tmp_path):
    _, _, annotations, predictions = world(tmp_path, 6)
    files = []
    for path in predictions:
        files.append(tmp_path / "results" / path.name)
        evaluate_dense_captioning(path, annotations, options=NO_METEOR).write(files[-1])
    read = read_results(files[0])
    assert read.samples["count"] == 8
    assert read.seeds == {"bootstrap": 0}
    made = compare(files[0], files[1], options=CompareOptions())
    assert made.whole.n == 8
    lines = [
        json.loads(line) for line in Path(f"{files[0]}".replace(".json", ".samples.jsonl")).read_text().splitlines()
    ]
    margins = [line["outcomes"]["base"]["margin"] for line in lines[1:]]
    assert np.mean(margins) == pytest.approx(headline(read)["CIDEr"].value - 30)
    assert [line["outcomes"]["base"]["right"] for line in lines[1:]] == [margin >= 0 for margin in margins]


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiou": ()}, "--tiou names no overlap"),
        ({"tiou": ("0.3", "x")}, "--tiou x is not a number between 0 and 1"),
        ({"tiou": ("1",)}, "--tiou 1 is not"),
        ({"tiou": ("nan",)}, "--tiou nan is not"),
        ({"tiou": ("0.5", ".5")}, "--tiou names 0.5 twice"),
        ({"variant": "2019"}, "--variant cannot be '2019'"),
        ({"meteor": "maybe"}, "--meteor cannot be 'maybe'"),
        ({"max_proposals": 0}, "--max-proposals must be at least 1"),
    ],
)
def test_options_that_cannot_be_meant(options, message):
    with pytest.raises(UsageError, match=message):
        DenseCaptioningOptions(**options)


def test_other_overlaps(tmp_path):
    _, _, annotations, predictions = world(tmp_path)
    options = DenseCaptioningOptions(meteor="off", tiou=("0.25", "0.5"))
    made = evaluate_dense_captioning(predictions[0], annotations, options=options).results
    assert {group for _, group in in_groups(made)} == {"tIoU 0.25", "tIoU 0.5"}
    assert made.protocol["tiou"] == [0.25, 0.5]
