"""The large-batch Triton path where float32 or float16 alone would not do: sums far apart, losses close to zero."""

from __future__ import annotations

import os
from dataclasses import replace
from unittest import mock

import pytest
import torch
from kernel_cases import expected, in_float64, random_problem

pytest.importorskip("triton")
from figclip_kernels import triton_config, triton_gradients, triton_tiles
from figclip_kernels.losses import losses
from figclip_kernels.problem import Needs
from test_kernels_triton_tiles import DEVICE, PLANS, TINY, assert_as_defined, assert_near, tensors_of


@pytest.fixture(autouse=True)
def tiny_tiles(monkeypatch):
    monkeypatch.delenv("FIGCLIP_TRITON_BACKWARD", raising=False)
    with triton_config.using(TINY):
        yield


@pytest.mark.parametrize("plan", PLANS)
def test_a_row_and_a_column_far_below_the_others(plan):
    """Without a base of their own their sums would be zero."""
    problem = random_problem(18, 8, scale=1.0, normalize=False, device=DEVICE)
    views, texts = problem.views[0].clone(), problem.texts.clone()
    views[:, 0], texts[:, 0] = 10.0, 10.0
    views[3, 0], texts[5, 0] = -30.0, -25.0
    assert_as_defined(replace(problem, views=(views,), texts=texts), plans=(plan,), tolerance=1e-4)


def test_a_column_alone_far_below_the_others():
    """No row's sum is poor then: what is checked of columns must see it."""
    problem = random_problem(18, 8, scale=1.0, normalize=False, device=DEVICE)
    views, texts = problem.views[0].clone(), problem.texts.clone()
    views[:, 0], texts[:, 0] = 10.0, 10.0
    texts[5, 0] = -25.0
    assert_as_defined(replace(problem, views=(views,), texts=texts), plans=("strips",), tolerance=1e-4)


@pytest.mark.parametrize("plan", PLANS)
def test_small_probabilities_are_not_lost_in_float16(plan, monkeypatch):
    """A strip whose log-sum-exps are those of 10^8 times the columns, and none of whose positives is looked at."""
    monkeypatch.setenv("FIGCLIP_TRITON_BACKWARD", plan)
    problem = random_problem(7, 12, columns=30, offset=20, dtype=torch.float16, device=DEVICE)
    sums = triton_tiles.log_sum_exps(problem)
    sums = replace(sums, rows=sums.rows + 18.0, columns=sums.columns + 18.0)
    upstream = 2.0**24
    got = triton_tiles.gradients(problem, sums, torch.tensor(upstream, device=DEVICE), Needs())
    exact = in_float64(problem)
    scores = exact.scale * exact.views[0] @ exact.texts.T  # (7, 30)
    by_score = 0.5 * (scores - sums.rows[0][:, None]).exp() + 0.5 * (scores - sums.columns[0]).exp()
    wanted = upstream / 30 * exact.scale * by_score.T @ exact.views[0]
    assert_near(got.texts[:20], wanted[:20], 1e-2, plan)


@pytest.mark.parametrize("symmetric", [True, False])
def test_gradients_keep_their_last_bits_where_the_loss_is_close_to_zero(symmetric):
    """Log-sum-exps near 100, whose rounding to float32 alone would be a thousandth of the gradient."""
    problem = random_problem(40, 32, scale=100.0, symmetric=symmetric, device=DEVICE)
    near = torch.nn.functional.normalize(problem.texts + 1.1 * problem.views[0], dim=1)
    problem = replace(problem, views=(near,))
    right_loss, _, _, right = expected(problem)
    assert 1e-4 < float(right_loss) < 1e-2
    sums = triton_tiles.log_sum_exps(problem)
    assert abs(float(losses(problem, sums)[0].sum() / right_loss) - 1) < 1e-4
    for plan in PLANS:
        with mock.patch.dict(os.environ, FIGCLIP_TRITON_BACKWARD=plan):
            got = triton_tiles.gradients(problem, sums, torch.tensor(1.0, device=DEVICE), Needs())
        assert_near(got.views[0], right.views[0], 5e-5, plan)
        assert_near(got.texts, right.texts, 5e-5, plan)


@pytest.mark.parametrize("scale", [300.0, 3000.0])
@pytest.mark.parametrize("plan", PLANS)
def test_scores_far_apart(scale, plan):
    """Log-sum-exps hundreds to thousands of nats apart within one tile: one exponential a score does not do.

    Scores reach 100 * scale nats, which float32 rounds by up to 2**-24 of that: so much are probabilities off.
    """
    problem = random_problem(19, 14, scale=scale, normalize=False, negatives=2, device=DEVICE)
    assert_as_defined(problem, plans=(plan,), tolerance=scale * 100 * 2**-24)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_rounded_in_place_without_reading_what_was_written(dtype, monkeypatch):
    monkeypatch.setattr(triton_gradients, "_ROUNDING_BYTES", 200)
    total, factor = torch.randn(31, 5, device=DEVICE), torch.tensor(3.0, device=DEVICE)
    for each in (None, factor):
        wanted = (total if each is None else total * each).to(dtype)
        copy = total.clone()
        got = triton_gradients._rounded(copy, each, dtype)
        assert torch.equal(got, wanted) and got.dtype == dtype and got.is_contiguous()
        assert got.data_ptr() == copy.data_ptr()


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("spoiler", [float("nan"), float("inf")])
def test_what_missing_negatives_hold_does_not_matter(plan, spoiler, monkeypatch):
    monkeypatch.setenv("FIGCLIP_TRITON_BACKWARD", plan)
    clean = random_problem(18, 9, views=2, negatives=3, missing_negatives=True, device=DEVICE)
    spoiled = replace(clean, negatives=clean.negatives.masked_fill(~clean.negatives_mask[..., None], spoiler))
    outcomes = []
    for problem in (clean, spoiled):
        sums = triton_tiles.log_sum_exps(problem)
        gradients = triton_tiles.gradients(problem, sums, torch.tensor(1.0, device=DEVICE), Needs())
        outcomes.append([*tensors_of(sums), *tensors_of(gradients)])
    for left, right in zip(*outcomes, strict=True):
        assert torch.equal(left, right)
