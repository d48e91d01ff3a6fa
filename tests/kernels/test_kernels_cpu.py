"""The CPU paths against the definition in float64: switches, tile borders, odd ranges, what is kept or made again."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from figclip_kernels import cpu, cpu_small, paths
from figclip_kernels.problem import Needs, Problem, Sums
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import expected, random_problem

SWITCHES = list(
    itertools.product(
        (1, 2, 4),  # views
        (0, 1, 4),  # negatives
        (0, 1, 2),  # kinds of id
        (False, True),  # padding
        (False, True),  # symmetric
    )
)


def problem_with(
    views: int, negatives: int, kinds: int, padding: bool, symmetric: bool, *, rows: int = 11, width: int = 7, **more
) -> Problem:
    return random_problem(
        rows,
        width,
        views=views,
        negatives=negatives,
        missing_negatives=negatives > 1,
        kinds=kinds,
        padding=padding,
        symmetric=symmetric,
        dtype=torch.float64,
        **more,
    )


def compute(path: str, problem: Problem, needs: Needs | None = None):
    needs = needs or Needs()
    loss, per_view, per_row, sums = paths.forward(path, problem, None, needs)
    upstream = torch.tensor(1.7, dtype=problem.accumulator)
    return loss, per_row, sums, paths.gradients(path, problem, sums, upstream, needs)


def assert_equal_to_definition(path: str, problem: Problem, rtol: float, atol: float) -> None:
    loss, per_row, sums, gradients = compute(path, problem)
    exact_loss, exact_per_row, exact_sums, exact = expected(problem, 1.7)
    pairs = [
        (loss, exact_loss),
        (per_row, exact_per_row),
        (sums.rows, exact_sums.rows),
        (sums.columns, exact_sums.columns),
        (gradients.texts, exact.texts),
        (gradients.scale, exact.scale),
        *zip(gradients.views, exact.views, strict=True),
    ]
    if problem.negatives is not None:
        pairs.append((gradients.negatives, exact.negatives))
    for ours, theirs in pairs:
        limit = max([1.0, *theirs[theirs.isfinite()].abs().flatten().tolist()])
        assert torch.allclose(ours.double(), theirs, rtol=rtol, atol=atol * limit)


@pytest.fixture(params=["all", "some", "none"])
def small_tiles(request, monkeypatch):
    """Tiles of 3 x 4, of which all, some or none are kept for the backward pass."""
    monkeypatch.setattr(cpu, "TILE_ROWS", 3)
    monkeypatch.setattr(cpu, "TILE_COLUMNS", 4)
    numel = {"all": 10**6, "some": 60, "none": 0}[request.param]

    def kept(problem: Problem) -> int:
        views, rows = len(problem.views), len(problem.views[0])
        private = 0 if problem.negatives is None else problem.negatives.shape[1]
        return views * (1 + rows * private) + min(numel, views * rows * len(problem.texts))

    monkeypatch.setattr(cpu, "kept_numel", kept)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_tiles_equal_the_definition(small_tiles, switches):
    assert_equal_to_definition("cpu", problem_with(*switches), 1e-10, 1e-10)


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_few_rows_equal_the_definition(switches):
    assert_equal_to_definition("cpu_small", problem_with(*switches), 1e-10, 1e-10)


@pytest.mark.parametrize("scale", [100.0, 3000.0, -50.0, 0.0])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("path", ["cpu", "cpu_small"])
def test_scores_of_any_range_are_exact(small_tiles, path, normalize, scale):
    problem = random_problem(
        10,
        6,
        views=2,
        negatives=3,
        kinds=1,
        padding=True,
        scale=scale or 1e-6,
        normalize=normalize,
        dtype=torch.float64,
    )
    assert_equal_to_definition(path, problem, 1e-9, 1e-9)


def test_scores_out_of_a_floats_range_take_maxima():
    near = random_problem(40, 8, scale=20.0)
    far = random_problem(40, 8, scale=20.0, normalize=False, seed=1)
    far = Problem(tuple(view * 6 for view in far.views), far.texts, far.scale)
    for problem, has_shift in ((near, True), (far, False)):
        sums = cpu.log_sum_exps(problem)
        assert bool(sums.kept[0].isfinite()) is has_shift
        assert sums.rows.isfinite().all() and sums.columns.isfinite().all()
    assert_equal_to_definition("cpu", far, 1e-5, 1e-5)


@pytest.mark.parametrize("path", ["cpu", "cpu_small"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_is_scored_in_float32(path, dtype):
    problem = random_problem(70, 40, views=2, negatives=4, kinds=1, scale=60.0, dtype=dtype)
    rounding = {torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}[dtype]
    assert_equal_to_definition(path, problem, rounding, rounding)
    loss, _, _, gradients = compute(path, problem)
    assert loss.dtype == torch.float32 and abs(float(loss) - float(expected(problem)[0])) < 2e-5
    assert {gradients.texts.dtype, gradients.negatives.dtype, *(view.dtype for view in gradients.views)} == {dtype}


@pytest.mark.parametrize("path", ["cpu", "cpu_small"])
def test_a_loss_close_to_zero_keeps_its_digits(path):
    problem = random_problem(60, 64, scale=100.0)
    problem = Problem((problem.texts + 0.02 * problem.views[0],), problem.texts, torch.tensor(25.0))
    loss, _, _, gradients = compute(path, problem)
    exact_loss, _, _, exact = expected(problem, 1.7)
    assert 1e-9 < float(exact_loss) < 1e-5
    assert abs(float(loss) - float(exact_loss)) < 1e-7
    assert float((gradients.views[0] - exact.views[0]).abs().max()) < 1e-6


def test_what_is_kept_changes_no_bit(monkeypatch):
    problem = random_problem(50, 16, views=2, negatives=2, kinds=1, padding=True)
    monkeypatch.setattr(cpu, "TILE_ROWS", 16)
    monkeypatch.setattr(cpu, "TILE_COLUMNS", 16)
    results = []
    for budget in (10**9, 2 * 50 * 16 * 4 + 2000 * 4, 0):
        monkeypatch.setattr(cpu, "MEMORY_BUDGET_BYTES", budget)
        results.append(compute("cpu", problem))
    sizes = [len(result[2].kept) for result in results]
    assert sizes[0] > sizes[1] > sizes[2]
    for other in results[1:]:
        assert torch.equal(other[0], results[0][0])
        assert torch.equal(other[3].texts, results[0][3].texts)
        assert all(torch.equal(a, b) for a, b in zip(other[3].views, results[0][3].views, strict=True))


@pytest.mark.parametrize("path", ["cpu", "cpu_small"])
def test_only_what_is_needed_is_computed(path):
    problem = random_problem(9, 5, negatives=2)
    for needs in (Needs(True, False, False, False), Needs(False, True, False, False), Needs(False, False, True, True)):
        got = compute(path, problem, needs)[3]
        present = [each is not None for each in (got.views, got.texts, got.negatives, got.scale)]
        assert present == [needs.views, needs.texts, needs.negatives, needs.scale]


def test_a_strip_of_rows_is_a_part_of_the_whole(small_tiles):
    switches = {"negatives": 2, "kinds": 2, "padding": True, "dtype": torch.float64}
    whole = random_problem(11, 6, **switches)
    loss, _, exact, gradients = expected(whole, 1.7)
    strips = []
    for rows in (slice(0, 4), slice(4, 5), slice(5, 11)):
        strips.append(
            Problem(
                (whole.views[0][rows],),
                whole.texts,
                whole.scale,
                whole.negatives[rows],
                None,
                whole.row_ids[rows],
                whole.column_ids,
                whole.row_mask[rows],
                whole.column_mask,
                rows.start,
            )
        )
    parts = [cpu.log_sum_exps(strip) for strip in strips]
    columns = torch.stack([part.columns for part in parts]).logsumexp(0)
    columns = columns.masked_fill(~whole.column_mask, torch.inf)
    assert torch.allclose(torch.cat([part.rows for part in parts], 1), exact.rows)
    assert torch.allclose(columns, exact.columns)
    upstream = torch.tensor(1.7, dtype=torch.float64)
    got = [
        cpu.gradients(strip, Sums(part.positives, part.rows, columns, part.kept), upstream, Needs())
        for strip, part in zip(strips, parts, strict=True)
    ]
    assert torch.allclose(torch.cat([each.views[0] for each in got]), gradients.views[0])
    assert torch.allclose(sum(each.texts for each in got), gradients.texts)
    assert torch.allclose(sum(each.scale for each in got), gradients.scale)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 20),
    views=st.integers(1, 4),
    negatives=st.integers(0, 5),
    kinds=st.integers(0, 2),
    padding=st.booleans(),
    symmetric=st.booleans(),
    scale=st.sampled_from([1.0, 100.0, 2000.0]),
    tile=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    seed=st.integers(0, 10**6),
)
def test_shapes_of_any_kind(rows, width, views, negatives, kinds, padding, symmetric, scale, tile, seed):
    problem = problem_with(views, negatives, kinds, padding, symmetric, rows=rows, width=width, scale=scale, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "TILE_ROWS", tile[0])
        patch.setattr(cpu, "TILE_COLUMNS", tile[1])
        assert_equal_to_definition("cpu", problem, 1e-8, 1e-8)
    if cpu_small.suits(problem):
        assert_equal_to_definition("cpu_small", problem, 1e-8, 1e-8)


PEAK = """
import re
from pathlib import Path

import torch
from figclip_kernels import contrastive_loss

torch.set_num_threads(1)


def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1)) * 1024


def step(rows):
    unit = torch.nn.functional.normalize
    texts = unit(torch.randn(rows, 128), dim=1)
    views = unit(texts + torch.randn(rows, 128), dim=1).requires_grad_()
    before = status("VmRSS")
    contrastive_loss([views], texts, logit_scale=30.0, backend="cpu").loss.backward()
    return status("VmHWM") - before


step(600)
print(step(9000))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_score_matrix():
    matrix_bytes = 9000 * 9000 * 4
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100e6 < matrix_bytes / 3
