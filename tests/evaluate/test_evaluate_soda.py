"""SODA_c against every pairing that does not cross."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from figclip_cli.evaluate.metrics.soda import Soda, best_sum, in_order, soda


def every_pairing(worth):
    """The largest sum over all sets of pairs whose rows and columns both rise."""
    rows, columns = worth.shape
    best = 0.0
    for size in range(1, min(rows, columns) + 1):
        for own in itertools.combinations(range(rows), size):
            for others in itertools.combinations(range(columns), size):
                best = max(best, sum(worth[row, column] for row, column in zip(own, others, strict=True)))
    return best


@given(
    arrays.arrays(
        np.float64, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.floats(0, 1, allow_subnormal=False)
    )
)
def test_the_best_sum_is_that_of_every_pairing(worth):
    assert best_sum(worth) == pytest.approx(every_pairing(worth), abs=1e-12)


def test_pairs_must_not_cross():
    crossing = np.array([[0.0, 1.0], [1.0, 0.0]])
    assert best_sum(crossing) == 1.0
    assert best_sum(crossing[:, ::-1]) == 2.0


def test_precision_recall_and_f1_by_hand():
    made = soda(np.array([[0.5, 0.0, 0.0], [0.0, 0.0, 0.3]]))
    assert made == pytest.approx((0.8 / 2, 0.8 / 3, 2 * 0.4 * (0.8 / 3) / (0.4 + 0.8 / 3)))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 2)])
def test_nothing_is_worth_nothing(shape):
    assert soda(np.zeros(shape)) == Soda(0.0, 0.0, 0.0)


def test_order_is_by_start_then_end_then_place():
    assert in_order(np.array([[3.0, 4], [1, 9], [1, 2], [3, 4]])).tolist() == [2, 1, 0, 3]
