"""Accuracy of choices, against a second, simple implementation on scores with many ties."""

from __future__ import annotations

import numpy as np
import pytest
from live_numbers import averaged, part_accuracy, part_weights

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.datasets.choices import Average, PartRule
from figclip_cli.evaluate.metrics.choices import choice_outcomes, winoground_outcomes

RULES = [
    PartRule("micro", "strict"),
    PartRule("macro", "strict"),
    PartRule("macro", "lenient", dropped_groups=frozenset("ab")),
    PartRule("macro", "strict", min_group_items=12),
    PartRule("micro", "strict", dropped_groups=frozenset("c"), min_group_items=8),
]


def tied_scores(generator, *shape):
    """Return scores of four values, so that ties are common."""
    return (generator.integers(0, 4, shape) / np.float32(3)).astype(np.float32)


def test_choices_agree_with_comparing_one_by_one():
    generator = np.random.default_rng(0)
    scores = [tied_scores(generator, count) for count in generator.integers(2, 6, 400)]
    outcomes = choice_outcomes(scores)
    for place, row in enumerate(scores):
        own, wrong = float(row[0]), [float(value) for value in row[1:]]
        assert outcomes.strict[place] == all(own > value for value in wrong)
        assert outcomes.lenient[place] == all(own >= value for value in wrong)
        assert outcomes.tied[place] == (own == max(wrong))
        assert outcomes.margin[place] == own - max(wrong)
    assert outcomes.tied.sum() > 50
    assert outcomes.strict.sum() < outcomes.lenient.sum() == outcomes.right("lenient").sum()


def test_scores_that_differ_in_the_last_bit_are_no_tie():
    own = np.float32(0.25)
    outcomes = choice_outcomes([np.array([own, np.nextafter(own, np.float32(0))]), np.array([own, own])])
    assert outcomes.strict.tolist() == [True, False] and outcomes.tied.tolist() == [False, True]
    tiny = np.array([np.float32(1e-45), np.float32(0)])
    assert choice_outcomes([tiny]).strict.tolist() == [True]


def test_no_choices_have_no_outcomes():
    assert choice_outcomes([]).strict.shape == (0,)
    with pytest.raises(ValueError, match="no wrong text"):
        choice_outcomes([np.ones(1, dtype=np.float32)])


def test_scores_that_are_not_finite_are_refused():
    for value in (np.nan, np.inf):
        with pytest.raises(VerificationError, match="not finite"):
            choice_outcomes([np.array([1.0, value], dtype=np.float32)])
        with pytest.raises(VerificationError, match="not finite"):
            winoground_outcomes(np.full((1, 2, 2), value, dtype=np.float32))


def test_winoground_agrees_with_the_definitions():
    scores = tied_scores(np.random.default_rng(1), 600, 2, 2)
    outcomes = winoground_outcomes(scores)
    for place, item in enumerate(scores.tolist()):
        (c0_i0, c0_i1), (c1_i0, c1_i1) = item
        strict = {"text": c0_i0 > c1_i0 and c1_i1 > c0_i1, "image": c0_i0 > c0_i1 and c1_i1 > c1_i0}
        lenient = {"text": c0_i0 >= c1_i0 and c1_i1 >= c0_i1, "image": c0_i0 >= c0_i1 and c1_i1 >= c1_i0}
        for rule, expected in (("strict", strict), ("lenient", lenient)):
            expected["group"] = expected["text"] and expected["image"]
            assert {name: bool(found.right(rule)[place]) for name, found in outcomes.items()} == expected
    for found in outcomes.values():
        assert (found.strict <= found.lenient).all() and found.tied.any()


def test_winoground_by_hand():
    # Texts by images. The first is right in all; in the second text 0 wins both images; in the third all is tied.
    scores = np.array([[[3, 1], [2, 4]], [[5, 4], [1, 3]], [[1, 1], [1, 1]]], dtype=np.float32)
    outcomes = winoground_outcomes(scores)
    assert outcomes["text"].strict.tolist() == [True, False, False]
    assert outcomes["image"].strict.tolist() == [True, True, False]
    assert outcomes["group"].strict.tolist() == [True, False, False]
    assert outcomes["group"].tied.tolist() == [False, False, True]
    assert outcomes["text"].margin.tolist() == [1.0, -1.0, 0.0]
    assert outcomes["image"].margin.tolist() == [2.0, 1.0, 0.0]


def simple_accuracy(right, rule, groups):
    counted = {
        group: [r for r, g in zip(right, groups, strict=True) if g == group]
        for group in sorted(set(groups) - rule.dropped_groups)
        if groups.count(group) >= rule.min_group_items
    }
    values = [value for inside in counted.values() for value in inside]
    if rule.headline == "micro":
        return 100 * sum(values) / len(values), len(values), len(counted)
    means = [sum(inside) / len(inside) for inside in counted.values()]
    return 100 * sum(means) / len(means), len(values), len(counted)


@pytest.mark.parametrize("rule", RULES)
def test_accuracy_and_weights_agree_with_a_simple_implementation(rule):
    generator = np.random.default_rng(2)
    for _ in range(20):
        groups = list(generator.choice(list("abcdef"), p=[0.3, 0.25, 0.2, 0.15, 0.07, 0.03], size=90))
        right = generator.random(90) < 0.6
        accuracy = part_accuracy(right, rule, groups)
        percent, items, counted = simple_accuracy(right.tolist(), rule, groups)
        assert accuracy.percent == pytest.approx(percent, abs=1e-10)
        assert (accuracy.items, accuracy.groups) == (items, counted)
        weights = part_weights(rule, groups)
        assert weights.dtype == np.float64 and weights.sum() == pytest.approx(1.0)
        assert (weights > 0).sum() == items
        assert 100 * weights @ right == pytest.approx(percent, abs=1e-10)


def test_weights_by_hand():
    assert part_weights(PartRule("micro", "strict"), ["", "", "", ""]).tolist() == [0.25] * 4
    rule = PartRule("macro", "strict", dropped_groups=frozenset({"of"}))
    assert part_weights(rule, ["on", "of", "on", "in"]).tolist() == [0.25, 0.0, 0.25, 0.5]
    accuracy = part_accuracy(np.array([True, False, False, True]), rule, ["on", "of", "on", "in"])
    assert (accuracy.percent, accuracy.items, accuracy.groups) == (75.0, 3, 2)


def test_all_right_is_exactly_a_hundred_percent():
    groups = [str(number % 7) for number in range(49_999)]
    right = np.ones(len(groups), dtype=bool)
    assert {part_accuracy(right, PartRule(headline, "strict"), groups).percent for headline in ("micro", "macro")} == {
        100.0
    }


def test_a_part_of_which_no_group_counts_is_refused():
    for rule in (PartRule("macro", "strict", min_group_items=3), PartRule("macro", "strict", frozenset({"a"}))):
        with pytest.raises(InputError, match="none of 1 groups counts"):
            part_weights(rule, ["a", "a"])


def test_averages_may_be_of_averages():
    percents = {"Object/vg": 80.0, "Object/hake": 60.0, "Relation/vg": 50.0}
    averages = [Average("Object", ("Object/vg", "Object/hake")), Average("macro", ("Object", "Relation/vg"))]
    assert averaged(percents, averages) == {"Object": 70.0, "macro": 60.0}
