"""Batches: every clip once an epoch, in an order that seed and epoch alone decide."""

from __future__ import annotations

import pytest

from figclip_cli.adapt.data import ClipBatches, stable_integer


def batches(count, size, seed=0):
    return ClipBatches(None, [f"c{i}" for i in range(count)], size=size, seed=seed, workers=0)


@pytest.mark.parametrize(("count", "size"), [(6, 3), (7, 3), (20, 4), (2, 5), (1, 4), (5, 2)])
def test_every_clip_is_in_one_batch_of_an_epoch(count, size):
    order = batches(count, size).order(0)
    assert sorted(clip for batch in order for clip in batch) == sorted(f"c{i}" for i in range(count))
    assert all(len(set(batch)) == len(batch) for batch in order)
    assert len(order) == len(batches(count, size))


def test_no_batch_is_left_with_one_clip():
    assert [len(batch) for batch in batches(7, 3).order(0)] == [3, 4]


def test_the_order_differs_by_epoch_and_by_seed_and_is_the_same_every_time():
    first = batches(30, 5)
    assert first.order(0) == batches(30, 5).order(0)
    assert first.order(0) != first.order(1) and first.order(0) != batches(30, 5, seed=1).order(0)


def test_stable_integers_never_change():
    """Written down so that a change of Python or platform that would reorder every run is noticed."""
    assert stable_integer(0, 3, "v_x_seg_0_10") == 861_332_479_008_199_246
