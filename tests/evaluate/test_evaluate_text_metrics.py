"""CIDEr, BLEU and ROUGE-L: hand-worked cases, and the COCO caption scorer on texts with everything awkward in them."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from figclip_cli.evaluate.metrics.bleu import Bleu, bleu_counts, bleu_values, corpus_bleu
from figclip_cli.evaluate.metrics.cider import CiderTexts, cider, cider_in_groups
from figclip_cli.evaluate.metrics.rouge import rouge_l
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure

WORDS = ["a", "the", "man", "Man", "dog", ".", "dog.", "in", "(red)", "MAN"]


def texts_of(seed):
    rng = random.Random(seed)
    words = WORDS[: rng.randint(2, len(WORDS))]

    def text():
        space = "  " if rng.random() < 0.1 else " "
        return space.join(rng.choice(words) for _ in range(rng.choice([0, 1, 1, 2, 3, 4, 5, 9, 20])))

    items = rng.randint(1, 40)
    references = [[text() for _ in range(rng.randint(1, 6))] for _ in range(items)]
    references[0].append("the man")  # the scorer needs one n-gram
    hypotheses = [rng.choice(of_item) if rng.random() < 0.3 else text() for of_item in references]
    return hypotheses, references, np.array([rng.randint(0, 5) for _ in range(items)])


def of_scorer(scorer, hypotheses, references, **options):
    gts, res = dict(enumerate(references)), {number: [text] for number, text in enumerate(hypotheses)}
    return scorer.compute_score(gts, res, **options)


@pytest.mark.parametrize("seed", range(25))
def test_all_three_are_as_the_coco_caption_scorer(seed):
    pytest.importorskip("pycocoevalcap")
    from pycocoevalcap.bleu.bleu import Bleu as TheirBleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    hypotheses, references, _ = texts_of(seed)
    near = {"rtol": 0, "atol": 1e-9}
    np.testing.assert_allclose(cider(hypotheses, references), of_scorer(Cider(), hypotheses, references)[1], **near)
    np.testing.assert_allclose(rouge_l(hypotheses, references), of_scorer(Rouge(), hypotheses, references)[1], **near)
    theirs = of_scorer(TheirBleu(4), hypotheses, references, verbose=0)[0]
    np.testing.assert_allclose(corpus_bleu(bleu_counts(hypotheses, references)), theirs, **near)


@pytest.mark.parametrize("seed", range(10))
def test_groups_are_scored_as_if_they_were_alone(seed):
    hypotheses, references, groups = texts_of(seed)
    found = cider_in_groups(hypotheses, references, groups)
    bleu = corpus_bleu(bleu_counts(hypotheses, references), groups)
    for group in set(groups.tolist()):
        rows = np.flatnonzero(groups == group)
        own = [hypotheses[row] for row in rows], [references[row] for row in rows]
        np.testing.assert_allclose(found[rows], cider(*own), rtol=0, atol=1e-12)
        np.testing.assert_allclose(bleu[group], corpus_bleu(bleu_counts(*own)), rtol=0, atol=1e-12)
        left_out = corpus_bleu(bleu_counts(hypotheses, references), np.where(groups == group, 0, -1))
        np.testing.assert_allclose(left_out, bleu[[group]], rtol=0, atol=1e-12)
    prepared = CiderTexts(hypotheses, references)
    np.testing.assert_array_equal(prepared.scores(groups), found)
    np.testing.assert_array_equal(prepared.scores(), cider(hypotheses, references))


def test_a_perfect_answer_scores_what_its_length_allows():
    """Of the four orders of n-grams a text of k words has k."""
    others, references = ["x", "y"], [["x"], ["y"]]
    for words, expected in ((1, 2.5), (2, 5.0), (3, 7.5), (4, 10.0), (7, 10.0)):
        text = " ".join(f"w{number}" for number in range(words))
        assert cider([text, *others], [[text], *references])[0] == pytest.approx(expected, abs=1e-12)


def test_cider_by_hand():
    """Two items; man and dog are each in one of them, so both weigh log 2; the length penalty counts 2-grams."""
    found = cider(["man dog", "man"], [["dog"], ["man", "man man"]])
    one_apart = math.exp(-1 / 72)
    # One of two single tokens is right, and one 2-gram against none is one apart.
    assert found[0] == pytest.approx(10 / 4 * one_apart / math.sqrt(2))
    # Against "man man" the one token points the same way, though only one of the two is matched.
    assert found[1] == pytest.approx(10 / 4 * (1 + one_apart) / 2)
    everywhere = cider(["man dog", "man"], [["man dog"], ["man"]])
    assert everywhere[1] == 0.0  # man is in both items and weighs nothing
    assert everywhere[0] == pytest.approx(10 / 4 * 2)  # dog, and the 2-gram


def test_a_group_of_one_item_and_an_empty_hypothesis_score_nothing():
    assert cider(["a man"], [["a man"]]).tolist() == [0.0]
    assert cider_in_groups(["a man", "a man"], [["a man"], ["a man"]], [0, 7]).tolist() == [0.0, 0.0]
    assert cider(["", "x"], [["dog"], ["y"]]).tolist() == [0.0, 0.0]
    assert cider([""], [[""]]).tolist() == [0.0]


def test_case_punctuation_and_white_space():
    references = [["a man ."], ["y"]]
    assert cider(["A man.", "y"], references)[0] == 0.0
    assert cider(["a  man\t.", "y"], references)[0] == pytest.approx(7.5)
    assert rouge_l(["A man ."], [["a man ."]])[0] < 1.0


def test_bleu_by_hand():
    counts = bleu_counts(["the the the cat"], [["the cat", "the the cat sat down"]])
    assert counts.matches.tolist() == [[3, 2, 1, 0]]
    assert counts.totals.tolist() == [[4, 3, 2, 1]]
    assert (counts.hypothesis_lengths.tolist(), counts.reference_lengths.tolist()) == ([4], [5])
    one, two, three, four = corpus_bleu(counts)
    penalty = math.exp(1 - 5 / 4)
    assert one == pytest.approx(0.75 * penalty)
    assert two == pytest.approx(math.sqrt(0.75 * 2 / 3) * penalty)
    assert three == pytest.approx((0.75 * 2 / 3 * 1 / 2) ** (1 / 3) * penalty)
    assert four < 1e-3


def test_of_two_lengths_as_near_the_shorter_counts():
    counts = bleu_counts(["a b c"], [["a b c d", "a b"]])
    assert counts.reference_lengths.tolist() == [2]


def test_rouge_by_hand():
    """Precision is best with one reference, recall with another."""
    found = rouge_l(["a b c"], [["a b c d e f", "b"]])[0]
    assert found == pytest.approx(1.0)  # 3 of 3 of the hypothesis, 1 of 1 of the second reference
    half = rouge_l(["a x b y"], [["a b"]])[0]
    precision, recall = 0.5, 1.0
    assert half == pytest.approx(2.44 * precision * recall / (recall + 1.44 * precision))
    assert rouge_l([""], [["a"]])[0] == 0.0
    assert rouge_l([""], [[""]])[0] == 1.0  # cut at single spaces, both have one empty token


def test_nothing_to_score_and_texts_that_do_not_fit():
    assert len(cider([], [])) == len(rouge_l([], [])) == len(bleu_counts([], []).matches) == 0
    for metric in (cider, rouge_l, bleu_counts):
        with pytest.raises(ValueError, match="item 1 has no reference"):
            metric(["a", "b"], [["a"], []])
        with pytest.raises(ValueError, match="2 hypotheses"):
            metric(["a", "b"], [["a"]])
    with pytest.raises(ValueError, match="groups of 1"):
        cider_in_groups(["a", "b"], [["a"], ["b"]], [0])


def test_bleu_as_a_statistic_is_bleu_of_the_items_drawn():
    hypotheses, references, groups = texts_of(3)
    values = bleu_values(bleu_counts(hypotheses, references))
    resampling = Resampling(range(len(hypotheses)), draws=40)
    counts = np.concatenate(list(resampling.counts()), axis=1)
    for order in (1, 2, 3, 4):
        plain, macro = Bleu(order, 100.0), Bleu(order, 100.0, groups)
        expected = corpus_bleu(bleu_counts(hypotheses, references))[order - 1]
        assert plain.number(values) == pytest.approx(100 * expected)
        by_group = corpus_bleu(bleu_counts(hypotheses, references), groups)[sorted(set(groups.tolist())), order - 1]
        assert macro.number(values) == pytest.approx(100 * by_group.mean())
        drawn = [np.repeat(np.arange(len(hypotheses)), column) for column in counts.T]
        spreads = []
        for groups_of in (np.zeros(len(groups), dtype=np.int64), groups):
            numbers = []
            for rows in drawn:
                again = bleu_counts([hypotheses[row] for row in rows], [references[row] for row in rows])
                present = sorted(set(groups_of[rows].tolist()))
                numbers.append(100 * corpus_bleu(again, groups_of[rows])[present, order - 1].mean())
            spreads.append(np.std(numbers))
        found = [measure("BLEU", one, {"base": values}, resampling) for one in (plain, macro)]
        assert [metric.standard_error for metric in found] == pytest.approx(spreads)
        assert [metric.statistic for metric in found] == ["BLEU of sums", "mean of BLEU of sums"]


def test_two_models_of_bleu_are_compared_by_swaps_of_their_labels():
    hypotheses, references, _ = texts_of(5)
    worse, better = (bleu_values(bleu_counts(texts, references)) for texts in (hypotheses, [r[0] for r in references]))
    metric = measure("BLEU", Bleu(1, 100.0), {"base": worse, "adapted": better}, Resampling(range(len(references))))
    assert metric.delta > 0 and metric.p_value < 0.05 and "label swaps" in metric.test
