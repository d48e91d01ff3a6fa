"""The check of paths against the reference: what it must notice, and what it must leave alone."""

from __future__ import annotations

import math
import os
from dataclasses import replace

import pytest
import torch
from figclip_kernels import cpu, cpu_small
from figclip_kernels import self_check as module
from figclip_kernels.self_check import dtypes_on, paths_on, self_check

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def without_interpreted_kernels(monkeypatch):
    """Interpreted kernels take most of a second a problem; one test asks for them.

    The environment stays as it is: Triton reads it once, when the first test of the process imports it.
    """
    monkeypatch.setattr(module, "_interpreted", lambda: False)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(cpu_small, "MAX_ROWS", 64)
    monkeypatch.setattr(module, "_SIZES", ((5, 16), (40, 8), (70, 4)))


def by_path(checks):
    return {(check.path, check.dtype): check for check in checks}


def test_all_paths_and_dtypes_of_a_cpu_are_right(small):
    checks = self_check("cpu", seconds=60.0)
    assert {(check.path, check.dtype) for check in checks} == {
        (path, dtype) for path in ("cpu_small", "cpu") for dtype in ("float32", "bfloat16", "float16")
    }
    for check in checks:
        assert check.status == "ok" and check.complete and check.failure == "" and check.device == "cpu"
        assert check.cases == (16 if check.path == "cpu_small" else 25)  # few rows only, and all
        assert 0 < check.gradient_error < check.tolerance / 2 and check.loss_error < 1e-6


def test_its_problems_hold_both_values_of_each_switch_with_both_of_each_other():
    cases = [case for case in module._cases() if case.rows == 5]
    switches = [(case.views == 2, case.negatives, case.ids, case.padding, case.symmetric) for case in cases]
    assert switches[0] == (True,) * 5
    for i in range(5):
        for j in range(i):
            assert len({(each[i], each[j]) for each in switches}) == 4
    assert len({case.seed for case in module._cases()}) == 25


def test_a_path_that_is_wrong_far_from_the_usual_range_is_found(monkeypatch):
    right = cpu._log_sums_with_maxima
    monkeypatch.setattr(cpu, "_log_sums_with_maxima", lambda scores: right(scores) * 1.01)
    check = by_path(self_check("cpu", seconds=60.0))["cpu", "float32"]
    assert check.status == "FAILED" and "scale 400" in check.failure


@pytest.mark.parametrize("of", ["views", "texts", "negatives", "scale"])
@pytest.mark.parametrize("path", [cpu, cpu_small], ids=["cpu", "cpu_small"])
def test_a_wrong_gradient_is_found_and_named(monkeypatch, path, of):
    right = path.gradients

    def wrong(*arguments):
        got = right(*arguments)
        value = getattr(got, of)
        if value is None:
            return got
        return replace(got, **{of: tuple(each * 1.03 for each in value) if of == "views" else value * 1.03})

    monkeypatch.setattr(path, "gradients", wrong)
    checks = by_path(self_check("cpu", seconds=0.0))
    name = path.__name__.rpartition(".")[2]
    bad, good = checks[name, "float32"], checks["cpu" if name == "cpu_small" else "cpu_small", "float32"]
    assert bad.status == "FAILED" and f"gradient of {'view 0' if of == 'views' else f'the {of}'} is off" in bad.failure
    assert "5 rows of 70" in bad.failure and bad.gradient_error == pytest.approx(0.03, rel=0.01)
    assert good.status == "ok"


def test_a_loss_that_is_not_a_number_is_found(monkeypatch):
    forward = cpu_small.forward

    def wrong(*arguments):
        per_view, per_row, sums = forward(*arguments)
        return per_view * math.nan, per_row, sums

    monkeypatch.setattr(cpu_small, "forward", wrong)
    check = self_check("cpu", seconds=0.0)[0]
    assert check.status == "FAILED" and check.loss_error == math.inf and check.failure.startswith("loss is off by inf")


def test_a_path_that_raises_is_reported_once_and_left_alone(monkeypatch):
    monkeypatch.setattr(module, "_SIZES", ((5, 16),))
    calls = []

    def crash(*arguments):
        calls.append(arguments)
        raise RuntimeError("\n  no compiler\nat line 3")

    monkeypatch.setattr(cpu, "log_sum_exps", crash)
    checks = self_check("cpu", seconds=30.0)
    for check in checks:
        assert check.status == ("FAILED" if check.path == "cpu" else "ok")
        if check.path == "cpu":
            assert check.cases == 0 and check.failure.startswith("RuntimeError: no compiler (5 rows of 16, 2 view(s)")
    assert len(calls) == 3  # one a dtype


def test_without_time_each_path_computes_one_problem_in_float32():
    for check in self_check("cpu", seconds=0.0):
        assert not check.complete
        assert (check.cases, check.status) == ((1, "ok") if check.dtype == "float32" else (0, "not run"))


def test_nothing_of_the_process_is_changed_and_two_runs_say_the_same(small):
    torch.manual_seed(5)
    before = torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    torch.set_default_dtype(torch.float64)
    try:
        first = self_check("cpu", seconds=0.0)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(before[1])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == before[2:]
    assert self_check("cpu", seconds=0.0) == first


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu")])
def test_it_works_in_any_context(context):
    with context():
        assert not any(check.failure for check in self_check("cpu", seconds=0.0))


def test_float32_may_round_where_torch_was_told_that_it_may():
    assert self_check("cpu", seconds=0.0)[0].tolerance == module.FLOAT32_TOLERANCE
    torch.set_float32_matmul_precision("high")
    try:
        assert self_check("cpu", seconds=0.0)[0].tolerance == module.ROUNDED_TOLERANCE
    finally:
        torch.set_float32_matmul_precision("highest")


def test_paths_and_dtypes_follow_the_device(monkeypatch):
    monkeypatch.setattr(module, "has_triton", lambda: True)
    assert paths_on(CPU) == ("cpu_small", "cpu")
    assert paths_on(torch.device("cuda", 0)) == ("triton_small", "triton_tiles", "cpu")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert torch.bfloat16 not in dtypes_on(torch.device("cuda", 0))
    monkeypatch.setattr(module, "has_triton", lambda: False)
    assert paths_on(torch.device("cuda", 0)) == ("reference", "cpu")
    assert paths_on(torch.device("mps")) == ("reference",)


@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are not interpreted beside a GPU")
def test_interpreted_kernels_are_checked_on_few_rows(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(module, "_interpreted", lambda: True)
    checks = by_path(self_check("cpu", seconds=0.0))
    for path in ("triton_small", "triton_tiles"):
        assert checks[path, "float32"].status == "ok" and checks[path, "float32"].cases == 1


@pytest.mark.gpu
@pytest.mark.skipif(
    not torch.cuda.is_available() and os.environ.get("FIGCLIP_REQUIRE_GPU") != "1", reason="needs a CUDA device"
)
def test_all_paths_of_a_gpu_are_right():
    for check in self_check("cuda:0", seconds=60.0):
        assert check.status == "ok", check
