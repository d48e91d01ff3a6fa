"""What the large-batch Triton path decides before it launches a kernel: plans, block sizes, what torch can do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from kernel_cases import random_problem

pytest.importorskip("triton")
from figclip_kernels import triton_config
from figclip_kernels.problem import Needs
from test_kernels_triton_tiles import DEVICE, SMALL, TINY, assert_near


@pytest.fixture(autouse=True)
def tiny_tiles(monkeypatch):
    monkeypatch.delenv("FIGCLIP_TRITON_BACKWARD", raising=False)
    with triton_config.using(TINY):
        yield


def test_the_plan_says_why(monkeypatch):
    problem = random_problem(20, 12, device=DEVICE)
    assert triton_config.backward_plan(problem, Needs())[0] == "strips"
    wide = random_problem(20, 17, device=DEVICE)
    assert triton_config.backward_plan(wide, Needs(texts=False)) == (
        "strips",
        "17 features do not fit the registers of one program",
    )
    if DEVICE == "cpu":
        assert triton_config.backward_plan(problem, Needs(texts=False))[0] == "own-rows"
    monkeypatch.setenv("FIGCLIP_TRITON_BACKWARD", "both")
    with pytest.raises(ValueError, match="must be one of own-rows, strips, got 'both'"):
        triton_config.backward_plan(problem, Needs())


@pytest.mark.parametrize("how", ["addmm", "mm", "none"])
def test_products_are_added_whatever_torch_can_do(how, monkeypatch):
    """Old torch versions lack products of half-precision matrices into float32; here they are imitated."""
    monkeypatch.setattr(triton_config, "wide_products", lambda device, dtype: how)
    mm, addmm = torch.mm, torch.addmm

    def wide_mm(left, right, out_dtype):
        return mm(left.to(out_dtype), right.to(out_dtype))

    def wide_addmm(total, left, right, *, out_dtype=None, **more):
        return addmm(total, left.float(), right.float(), **more)

    monkeypatch.setattr(torch, "mm", wide_mm)
    monkeypatch.setattr(torch, "addmm", wide_addmm)
    left, right = torch.randn(3, 4).bfloat16(), torch.randn(4, 5).bfloat16()
    total = torch.full((3, 5), float("nan"))
    triton_config.add_product(total, left, right, 0.5, True)
    triton_config.add_product(total, left, right, 2.0, False)
    assert_near(total, 2.5 * (left.double() @ right.double()), 1e-6, how)


def test_running_out_of_memory_is_no_answer_to_what_torch_can_do(monkeypatch):
    def out_of_memory(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *shape, dtype, device: zeros(*shape, dtype=dtype))
    monkeypatch.setattr(torch, "addmm", out_of_memory)
    triton_config.wide_products.cache_clear()
    with pytest.raises(torch.cuda.OutOfMemoryError):
        triton_config.wide_products(torch.device("cuda", 0), torch.bfloat16)
    triton_config.wide_products.cache_clear()


def test_tf32_is_seen_however_it_was_allowed():
    code = (
        "import torch\nfrom figclip_kernels.triton_config import allows_tf32, precision\n"
        "print(allows_tf32(), precision(torch.float32))\n"
        "matmul = torch.backends.cuda.matmul\n"
        "if hasattr(matmul, 'fp32_precision'):\n    matmul.fp32_precision = 'tf32'\n"
        "else:\n    matmul.allow_tf32 = True\n"
        "print(allows_tf32(), precision(torch.float32), precision(torch.bfloat16))\n"
    )  # in a process of its own: what is set there cannot be unset by torch's older functions
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "ieee", "True", "tf32", "ieee"]


@pytest.mark.parametrize(("value", "wanted"), [("1", True), ("True", True), ("ON", True), ("y", True), ("0", False)])
def test_a_yes_to_the_interpreter_is_what_triton_takes_for_one(value, wanted, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", value)
    assert triton_config.is_interpreted() == wanted


def test_descriptors_are_for_rows_that_do_not_overlap():
    pytest.importorskip("triton.tools.tensor_descriptor")
    config, plain = replace(TINY, descriptors=True), torch.zeros(8, 16)
    assert triton_config.descriptors(plain, plain, SMALL, config)[0] is not None
    for other in (plain[:1].expand(8, 16), torch.zeros(64).as_strided((8, 16), (4, 1)), torch.zeros(16, 8).T):
        assert triton_config.descriptors(plain, other, SMALL, config) == (None, None)


def test_tuned_block_sizes_survive_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = triton_config.tuned_path("NVIDIA H100 80GB HBM3", 2)
    assert path == tmp_path / "figclip_kernels" / "nvidia-h100-80gb-hbm3-2.json"
    assert triton_config.from_json(triton_config.to_json(TINY)) == TINY
    assert [triton_config.architecture(each) for each in ((8, 0), (8, 9), (9, 0), (10, 0), (12, 0))] == [
        80,
        86,
        90,
        100,
        86,
    ]
