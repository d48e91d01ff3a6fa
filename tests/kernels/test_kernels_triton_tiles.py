"""The large-batch Triton path equals the definition in float64, for every switch.

Without a GPU the kernels run in Triton's interpreter. What that proves: indices, masks, strides, the order of sums and
all arithmetic in float32. What it does not: a GPU's approximate exponential and logarithm (the interpreter's are
NumPy's), flushing of tiny numbers, tf32, and the compiler. Products of bfloat16 and float16 are exact in float32 in
both; the interpreter rounds to bfloat16 towards zero where a GPU rounds to nearest, so its bfloat16 gradients are up
to twice as far off as a GPU's.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import fields, replace
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import expected, in_float64, random_problem

pytest.importorskip("triton")
from figclip_kernels import reference, triton_config, triton_tiles
from figclip_kernels.problem import Needs, Problem, Sums
from figclip_kernels.triton_config import Config, Tiles

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = Tiles(16, 16, 16, 4, 1)
# Small enough that twenty rows make several row blocks, runs, slices and strips of both sides.
TINY = Config(SMALL, SMALL, SMALL, slice_depth=16, tiles_per_run=2, row_group=2, workspace_bytes=1024, strip_columns=16)
PLANS = triton_config.PLANS
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@pytest.fixture(autouse=True)
def tiny_tiles(monkeypatch):
    monkeypatch.delenv("FIGCLIP_TRITON_BACKWARD", raising=False)
    with triton_config.using(TINY):
        yield


def assert_near(got, wanted, tolerance, what, floor=1e-6):
    """Equal where infinite, else within ``tolerance`` of the largest finite value, or of ``floor`` if that is more."""
    assert got.shape == wanted.shape, what
    got, wanted = got.double().cpu(), wanted.double().cpu()
    finite = wanted.isfinite()
    assert torch.equal(got[~finite], wanted[~finite]), what
    if finite.any():
        worst = (got - wanted)[finite].abs().max().item()
        scale = max(floor, wanted[finite].abs().max().item())
        assert worst <= tolerance * scale, f"{what}: off by {worst}, values up to {scale}"


def assert_as_defined(problem: Problem, plans=PLANS, tolerance=None, upstream=0.5, needs=Needs()):
    """Compare sums and gradients with autograd's in float64."""
    tolerance = TOLERANCE[problem.texts.dtype] if tolerance is None else tolerance
    _, _, wanted, wanted_gradients = expected(problem, upstream)
    sums = triton_tiles.log_sum_exps(problem)
    for name in ("positives", "rows", "columns"):
        # The rounding of bfloat16 features is in the expected values too: sums stay as exact as float32.
        assert_near(getattr(sums, name), getattr(wanted, name), min(tolerance, 1e-5), name)
    for plan in plans:
        with mock.patch.dict(os.environ, FIGCLIP_TRITON_BACKWARD=plan):
            got = triton_tiles.gradients(problem, sums, torch.tensor(upstream, device=DEVICE), needs)
        for name in ("views", "texts", "negatives", "scale"):
            of_got, of_wanted = getattr(got, name), getattr(wanted_gradients, name)
            if not getattr(needs, name) or of_wanted is None:
                assert of_got is None, name
                continue
            pairs = zip(of_got, of_wanted, strict=True) if name == "views" else [(of_got, of_wanted)]
            # Where probabilities cancel, what is left is the rounding of terms of up to scale / rows.
            floor = 1e-2 if name == "scale" else 1e-2 * problem.scale.item() / len(problem.texts)
            for each, of_reference in pairs:
                assert each.dtype == (problem.scale.dtype if name == "scale" else problem.texts.dtype)
                assert_near(each, of_reference, tolerance, f"{plan} {name}", floor)


SWITCHES = list(itertools.product((0, 1, 4), (0, 1, 2), (False, True), (False, True)))


@pytest.mark.parametrize(("negatives", "kinds", "padding", "symmetric"), SWITCHES)
def test_every_switch_in_float32(negatives, kinds, padding, symmetric):
    """All combinations; sizes, views and the backward plan go round with them."""
    number = SWITCHES.index((negatives, kinds, padding, symmetric))
    problem = random_problem(
        (5, 17, 20)[number % 3],
        (7, 16, 21)[number // 3 % 3],
        views=(1, 1, 2)[number % 3],
        negatives=negatives,
        missing_negatives=number % 2 == 0,
        kinds=kinds,
        padding=padding,
        symmetric=symmetric,
        device=DEVICE,
        seed=number,
    )
    assert_as_defined(problem, plans=PLANS if number % 3 == 0 else (PLANS[number % 2],))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("everything", [False, True])
def test_half_precision_features(dtype, plan, everything):
    more = {"negatives": 4, "missing_negatives": True, "kinds": 2, "padding": True, "views": 2} if everything else {}
    assert_as_defined(random_problem(18, 12, dtype=dtype, device=DEVICE, **more), plans=(plan,))


def test_four_views():
    assert_as_defined(random_problem(6, 9, views=4, negatives=2, device=DEVICE))


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("wanted", list(itertools.product((False, True), repeat=4)))
def test_every_choice_of_gradients(plan, wanted):
    problem = random_problem(6, 5, views=2, negatives=2, device=DEVICE)
    assert_as_defined(problem, plans=(plan,), needs=Needs(*wanted))


@pytest.mark.parametrize("plan", PLANS)
def test_features_wider_than_one_program_finishes(plan):
    problem = random_problem(20, 150, views=2, negatives=2, padding=True, kinds=1, device=DEVICE)
    assert_as_defined(problem, plans=(plan,))


@pytest.mark.parametrize("symmetric", [True, False])
def test_rows_in_many_chunks(symmetric, monkeypatch):
    """Chunks of one group of row blocks, as for more columns than ``PARTS_BYTES`` has room for."""
    problem = random_problem(
        75, 9, views=2, negatives=2, missing_negatives=True, kinds=1, padding=True, symmetric=symmetric, device=DEVICE
    )
    whole = triton_tiles.log_sum_exps(problem)
    monkeypatch.setattr(triton_tiles, "PARTS_BYTES", 1)
    for left, right in zip(tensors_of(whole), tensors_of(triton_tiles.log_sum_exps(problem)), strict=True):
        assert_near(left, right, 1e-7, "sums")
    assert_as_defined(problem, plans=("strips",))


def test_nothing_but_oneself_to_compare_with():
    """All ids equal: every row scores its own text only, and whole tiles are left out."""
    problem = random_problem(35, 6, negatives=1, kinds=1, device=DEVICE)
    same = torch.zeros_like(problem.row_ids)
    assert_as_defined(replace(problem, row_ids=same, column_ids=same), tolerance=1e-5)


def test_all_but_one_row_is_padding():
    problem = random_problem(18, 6, padding=True, negatives=2, device=DEVICE)
    mask = torch.arange(18, device=DEVICE) == 17
    assert_as_defined(replace(problem, row_mask=mask, column_mask=mask))


@settings(max_examples=10, deadline=None)
@given(
    rows=st.integers(1, 40),
    width=st.integers(1, 40),
    negatives=st.integers(0, 5),
    kinds=st.integers(0, 2),
    padding=st.booleans(),
    symmetric=st.booleans(),
    plan=st.sampled_from(PLANS),
    seed=st.integers(0, 100),
)
def test_any_shape(rows, width, negatives, kinds, padding, symmetric, plan, seed):
    problem = random_problem(
        rows, width, negatives=negatives, kinds=kinds, padding=padding, symmetric=symmetric, device=DEVICE, seed=seed
    )
    if padding and not problem.row_mask.any():
        problem = replace(problem, row_mask=None, column_mask=None)
    with triton_config.using(TINY):
        assert_as_defined(problem, plans=(plan,), tolerance=2e-5)


@pytest.mark.parametrize("plan", PLANS)
def test_strips_add_up_to_the_whole(plan, monkeypatch):
    """Rows spread over processes: columns' log-sum-exps are merged, texts' and the scale's gradients summed."""
    monkeypatch.setenv("FIGCLIP_TRITON_BACKWARD", plan)
    whole = random_problem(33, 10, negatives=2, kinds=1, padding=True, views=2, device=DEVICE)
    sums = triton_tiles.log_sum_exps(whole)
    upstream = torch.tensor(1.0, device=DEVICE)
    gradients = triton_tiles.gradients(whole, sums, upstream, Needs())
    cuts = [slice(0, 9), slice(9, 10), slice(10, 33)]
    strips = [
        replace(
            whole,
            views=tuple(view[cut] for view in whole.views),
            negatives=whole.negatives[cut],
            row_ids=whole.row_ids[cut],
            row_mask=whole.row_mask[cut],
            offset=cut.start,
        )
        for cut in cuts
    ]
    parts = [triton_tiles.log_sum_exps(strip) for strip in strips]
    for name in ("positives", "rows"):
        assert_near(torch.cat([getattr(part, name) for part in parts], 1), getattr(sums, name), 1e-6, name)
    columns = torch.logsumexp(torch.stack([part.columns for part in parts]), 0)
    assert_near(columns, sums.columns, 1e-6, "columns")
    got = [
        triton_tiles.gradients(strip, replace(part, columns=columns), upstream, Needs())
        for strip, part in zip(strips, parts, strict=True)
    ]
    for number in range(2):
        assert_near(torch.cat([each.views[number] for each in got]), gradients.views[number], 2e-6, "views")
    assert_near(torch.cat([each.negatives for each in got]), gradients.negatives, 2e-6, "negatives")
    assert_near(sum(each.texts for each in got), gradients.texts, 2e-6, "texts")
    assert_near(sum(each.scale for each in got), gradients.scale, 2e-6, "scale")


def test_a_strip_equals_the_reference_strip():
    problem = random_problem(7, 9, columns=30, offset=20, negatives=3, kinds=2, padding=True, device=DEVICE)
    sums, exact = triton_tiles.log_sum_exps(problem), reference.log_sum_exps(in_float64(problem))
    for name in ("positives", "rows", "columns"):
        assert_near(getattr(sums, name), getattr(exact, name), 1e-5, name)


def spread(features: torch.Tensor) -> torch.Tensor:
    """Return the same values with gaps between rows."""
    room = features.new_full((*features.shape[:-1], features.shape[-1] + 3), float("nan"))
    room[..., 1:-2] = features
    return room[..., 1:-2]


@pytest.mark.parametrize("layout", [spread, lambda features: features.mT.contiguous().mT])
def test_inputs_need_not_be_contiguous(layout):
    problem = random_problem(18, 7, negatives=2, device=DEVICE)
    moved = replace(
        problem,
        views=tuple(map(layout, problem.views)),
        texts=layout(problem.texts),
        negatives=layout(problem.negatives),
    )
    assert not moved.texts.is_contiguous()
    assert_as_defined(moved)


def tensors_of(record) -> list[torch.Tensor]:
    found = []
    for field in fields(record):
        value = getattr(record, field.name)
        found += [each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, torch.Tensor)]
    return found


@pytest.mark.parametrize("plan", PLANS)
def test_same_bits_twice_and_inputs_are_left_alone(plan, monkeypatch):
    monkeypatch.setenv("FIGCLIP_TRITON_BACKWARD", plan)
    problem = random_problem(20, 9, views=2, negatives=2, missing_negatives=True, kinds=1, padding=True, device=DEVICE)
    before = [each.clone() for each in tensors_of(problem)]

    def run():
        sums = triton_tiles.log_sum_exps(problem)
        return sums, triton_tiles.gradients(problem, sums, torch.tensor(1.0, device=DEVICE), Needs())

    for one, other in zip(run(), run(), strict=True):
        for left, right in zip(tensors_of(one), tensors_of(other), strict=True):
            assert torch.equal(left, right)
    for left, right in zip(before, tensors_of(problem), strict=True):
        assert torch.equal(left, right)


def test_block_sizes_do_not_change_the_result():
    problem = random_problem(33, 20, negatives=2, device=DEVICE)
    sums = triton_tiles.log_sum_exps(problem)
    other = Tiles(32, 16, 32, 4, 1)
    with triton_config.using(Config(other, other, other, slice_depth=32, tiles_per_run=1, row_group=1)):
        assert_as_defined(problem)
        for left, right in zip(tensors_of(sums), tensors_of(triton_tiles.log_sum_exps(problem)), strict=True):
            assert_near(left, right, 1e-6, "sums")


def test_tensor_descriptors_load_the_same():
    pytest.importorskip("triton.tools.tensor_descriptor")
    problem = random_problem(20, 20, negatives=1, device=DEVICE)  # rows of 80 bytes
    plain = triton_tiles.log_sum_exps(problem)
    with triton_config.using(replace(TINY, descriptors=True)):
        for left, right in zip(tensors_of(plain), tensors_of(triton_tiles.log_sum_exps(problem)), strict=True):
            assert torch.equal(left, right)
        assert_as_defined(problem, plans=("strips",))


def test_without_a_gpu_and_without_the_interpreter_it_says_so():
    code = (
        "import torch\nfrom figclip_kernels import triton_tiles\nfrom figclip_kernels.problem import Problem\n"
        "one = torch.ones(2, 4)\n"
        "try:\n    triton_tiles.log_sum_exps(Problem((one,), one, torch.tensor(1.0)))\n"
        "except RuntimeError as error:\n    print(error)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.startswith("the Triton kernels need CUDA tensors, got one on cpu"), done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_default_block_sizes_on_a_gpu(plan, dtype):
    with triton_config.using(triton_config.CONFIGS[90, dtype.itemsize]):
        problem = random_problem(
            1000, 384, negatives=4, kinds=2, padding=True, views=2, scale=50.0, dtype=dtype, device=DEVICE
        )
        assert_as_defined(problem, plans=(plan,), tolerance=max(1e-4, TOLERANCE[dtype]))


@pytest.mark.gpu
@pytest.mark.parametrize("plan", PLANS)
def test_features_more_than_two_to_the_31_elements_apart(plan, monkeypatch):
    monkeypatch.setenv("FIGCLIP_TRITON_BACKWARD", plan)
    width, stride = 64, 2**30 + 16
    problem = random_problem(3, width, dtype=torch.bfloat16, device="cuda")
    room = torch.empty(3 * stride, dtype=torch.bfloat16, device="cuda")  # 6 GiB
    far = room.as_strided((3, width), (stride, 1))
    far.copy_(problem.texts)
    one = torch.tensor(1.0, device="cuda")
    for moved in (replace(problem, texts=far), replace(problem, views=(far,), texts=problem.views[0])):
        plain = replace(moved, views=tuple(map(torch.clone, moved.views)), texts=moved.texts.clone())
        sums = triton_tiles.log_sum_exps(plain)
        gradients = triton_tiles.gradients(plain, sums, one, Needs())
        far_sums = triton_tiles.log_sum_exps(moved)
        far_gradients = triton_tiles.gradients(moved, far_sums, one, Needs())
        wanted, got = (tensors_of(sums), tensors_of(gradients)), (tensors_of(far_sums), tensors_of(far_gradients))
        for left, right in zip((*wanted[0], *wanted[1]), (*got[0], *got[1]), strict=True):
            assert_near(right, left, 1e-2, plan)


def test_sums_have_the_documented_shapes():
    problem = random_problem(5, 6, negatives=3, views=2, symmetric=False, device=DEVICE)
    sums = triton_tiles.log_sum_exps(problem)
    assert isinstance(sums, Sums)
    assert [tuple(each.shape) for each in tensors_of(sums)] == [(2, 5), (2, 5), (2, 0), (2, 5, 3)]
    assert [each.dtype for each in tensors_of(sums)] == [torch.float64] * 3 + [torch.float32]
