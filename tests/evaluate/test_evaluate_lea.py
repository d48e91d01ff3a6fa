"""LEA and LEA-soft: clusters counted by hand, as sums over clips, and drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from figclip_cli.evaluate.metrics.coreference import PrecisionRecall, coreference_sums, f1_of
from figclip_cli.evaluate.metrics.lea import Lea, LeaSums, clusters_of, lea_sums, lea_values
from figclip_cli.evaluate.metrics.uncertainty import Resampling, measure

KEY = [["a", "b", "c"], ["d"], ["e", "f"]]
RESPONSE = [["a", "b"], ["c", "d"], ["e"], ["f"]]
CIDER = {name: float(place) for place, name in enumerate("abcdef", start=1)}


def test_mentions_of_exactly_equal_texts_are_a_cluster():
    mentions = [("Ev1_Arg0", "man"), ("Ev1_Arg1", "Man"), ("Ev2_Arg0", "man"), ("Ev3_Arg0", "man "), ("Ev4_AScn", "")]
    assert clusters_of(mentions) == [["Ev1_Arg0", "Ev2_Arg0"], ["Ev1_Arg1"], ["Ev3_Arg0"], ["Ev4_AScn"]]


def test_three_clusters_by_hand():
    sums = lea_sums(KEY, RESPONSE, CIDER)
    # Key: of abc one pair of three is together; d is alone there only; ef is apart.
    assert (sums.recall_top, sums.recall_bottom) == (pytest.approx(3 * 1 / 3), 6.0)
    # Response: ab is together; cd is not; e and f are not alone in the key.
    assert (sums.precision_top, sums.precision_bottom) == (2.0, 6.0)
    # Soft: ab weighs its CIDErs 1 + 2 times its size; the sizes are squared below.
    assert (sums.soft_top, sums.soft_bottom) == ((1 + 2) * 2 * 1.0, 4 + 4 + 1 + 1)


def test_a_cluster_of_one_counts_where_the_other_side_has_it_alone():
    alone = lea_sums([["a"], ["b"]], [["a"], ["b", "c"]], CIDER)
    assert (alone.recall_top, alone.precision_top, alone.soft_top) == (1.0, 1.0, CIDER["a"])
    assert lea_sums([["a"]], [["z"]], {"z": 1.0}).recall_top == 0.0


def test_a_perfect_answer_and_none():
    perfect = lea_sums(KEY, KEY, dict.fromkeys("abcdef", 7.5))
    assert perfect.precision_top == perfect.precision_bottom == perfect.recall_top == perfect.recall_bottom == 6.0
    assert perfect.soft_top / perfect.soft_bottom == pytest.approx(7.5)  # CIDEr is not cut at 1
    assert lea_sums(KEY, [], {}) == LeaSums(0.0, 0.0, 0.0, 6.0, 0.0, 0.0)


def f1(precision, recall):
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def test_f1_is_of_sums_over_clips_and_the_mean_over_references():
    first, second = lea_sums(KEY, RESPONSE, CIDER), lea_sums(KEY, KEY, CIDER)
    values = lea_values([[first, second], [second], []], 2)
    expected = []
    for sums in ([first, second], [second]):
        total = [sum(column) for column in zip(*sums, strict=True)]
        expected.append(f1(total[0] / total[1], total[2] / total[3]))
    assert Lea(2, scale=100.0).number(values) == pytest.approx(100 * np.mean(expected))
    soft = []
    for sums in ([first, second], [second]):
        total = [sum(column) for column in zip(*sums, strict=True)]
        soft.append(f1(total[4] / total[5], total[2] / total[3]))
    assert Lea(2, soft=True).number(values) == pytest.approx(np.mean(soft))
    assert Lea(1).number(lea_values([[LeaSums()]], 1)) == 0.0


def test_errors_are_those_of_clips_drawn_again():
    rng = np.random.default_rng(0)
    of_clips = []
    for _ in range(12):
        labels = rng.integers(0, 3, size=(2, 6))
        clusters = [
            clusters_of([(name, str(label)) for name, label in zip("abcdef", row, strict=True)]) for row in labels
        ]
        of_clips.append([lea_sums(*clusters, CIDER), lea_sums(*reversed(clusters), CIDER)])
    resampling = Resampling(range(12), draws=50)
    for soft in (False, True):
        numbers = []
        for counts in np.concatenate(list(resampling.counts()), axis=1).T:
            again = [of_clips[clip] for clip in np.repeat(np.arange(12), counts)]
            numbers.append(Lea(2, soft).number(lea_values(again, 2)))
        metric = measure("LEA", Lea(2, soft), {"base": lea_values(of_clips, 2)}, resampling)
        assert metric.standard_error == pytest.approx(np.std(numbers))
        assert metric.n == 12


def test_two_models_are_compared_by_swaps_of_their_labels():
    perfect, bad = lea_sums(KEY, KEY, CIDER), lea_sums(KEY, RESPONSE, CIDER)
    by_model = {"base": lea_values([[bad]] * 12, 1), "adapted": lea_values([[perfect]] * 12, 1)}
    metric = measure("LEA", Lea(1), by_model, Resampling(range(12)))
    assert metric.delta > 0 and metric.p_value < 0.01 and "label swaps" in metric.test


def test_the_other_measures_by_hand():
    sums = coreference_sums(KEY, RESPONSE)
    assert sums["mentions"] == PrecisionRecall(6, 6, 6, 6)
    # MUC: links of the response 2, one of them kept (ab); of the key 3, one kept.
    assert sums["muc"] == PrecisionRecall(1, 2, 1, 3)
    # B-cubed: ab 2, cd 1, e 1/1... of the response; abc (4 + 1) / 3, d 1, ef 1 of the key.
    assert sums["bcub"] == pytest.approx(PrecisionRecall(2 + 1 + 1 + 1, 6, 5 / 3 + 1 + 1, 6))
    # CEAF: abc-ab 4/5, d-cd 2/3, ef-e 2/3.
    best = 4 / 5 + 2 / 3 + 2 / 3
    assert sums["ceafe"] == pytest.approx(PrecisionRecall(best, 4, best, 3))
    assert f1_of([sums["muc"], sums["muc"]]) == pytest.approx(f1(1 / 2, 1 / 3))
    assert f1_of([]) == 0.0
    assert coreference_sums([], [])["ceafe"] == PrecisionRecall(0, 0, 0, 0)
