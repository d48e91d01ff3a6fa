"""The large-batch kernels compile for GPUs that are not here, and fit them.

Compiling needs no GPU. It runs in a process of its own, as kernels of this one may be interpreted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("triton")
import torch
from figclip_kernels import triton_compile, triton_config
from figclip_kernels.triton_config import CONFIGS, Tiles

# Architecture, dtype, and whether with ids, padding and private negatives: enough to see every kernel and every switch
# on the architecture that matters most, and that the others compile.
BUILDS = [
    (90, "bf16", False),
    (90, "bf16", True),
    (90, "fp32", False),
    (80, "fp16", False),
    (86, "bf16", False),
    (100, "bf16", False),
]
CODE = """
import json, sys
from dataclasses import asdict, replace
from figclip_kernels import triton_compile
from figclip_kernels.triton_config import CONFIGS
dtypes = {name: dtype for dtype, name in triton_compile.TYPES.items()}
found = []
def add(architecture, name, masked, config, only=None):
    for function, tiles, constants in triton_compile.variants(config, dtypes[name], masked):
        if only is None or function.__name__ == only:
            use = triton_compile.compile_kernel(function, tiles, constants, architecture, dtypes[name])
            found.append({"architecture": architecture, "dtype": name, "masked": masked, **asdict(use)})
for architecture, name, masked in json.loads(sys.argv[1]):
    add(architecture, name, masked, CONFIGS[architecture, dtypes[name].itemsize])
add(90, "bf16", False, replace(CONFIGS[90, 2], descriptors=True), "tile_sums")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def compiled():
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(BUILDS)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_kernel_compiles_for_every_build(compiled):
    kernels = {"tile_sums", "merge_sums", "strip_gradients", "own_rows_products", "finish_rows"}
    for architecture, dtype, masked in BUILDS:
        got = {
            use["kernel"]
            for use in compiled
            if (use["architecture"], use["dtype"], use["masked"]) == (architecture, dtype, masked)
        }
        assert got == kernels


def test_memory_fits_the_multiprocessor(compiled):
    for use in compiled:
        assert use["shared"] <= triton_compile.SHARED_LIMITS[use["architecture"]], use
        assert use["tensor_memory"] <= 512, use


def test_little_is_spilled(compiled):
    """What is spilled lies outside the loop over features: in branches for tiles on the diagonal or far apart.

    Most of it is in ``strip_gradients``, which keeps two programs on a multiprocessor by 128 registers a thread.
    """
    for use in compiled:
        assert use["spilled"] <= 640, use


def test_two_forward_programs_share_a_multiprocessor(compiled):
    """One computes exponentials while the other's tensor cores multiply."""
    for use in compiled:
        if (use["architecture"], use["dtype"], use["masked"]) == (90, "bf16", False) and use["kernel"] in (
            "tile_sums",
            "strip_gradients",
        ):
            threads = 32 * CONFIGS[90, 2].forward.warps
            assert 2 * threads * use["registers"] <= 65536
            assert 2 * use["shared"] <= 227 << 10


def test_tensor_cores_are_used(compiled):
    """The instruction that each architecture has for half precision; float32 stays exact, without any."""
    wanted = {80: "mma.sync", 86: "mma.sync", 90: "wgmma", 100: "tcgen05.mma"}
    for use in compiled:
        if use["kernel"] in ("tile_sums", "strip_gradients", "own_rows_products"):
            instructions = [] if use["dtype"] == "fp32" else [wanted[use["architecture"]]]
            assert use["instructions"] == instructions, use


def test_every_architecture_has_block_sizes():
    assert set(CONFIGS) == {(each, size) for each in triton_compile.SHARED_LIMITS for size in (2, 4)}
    tried = [tiles for each in triton_compile.CANDIDATES.values() for tiles in each]
    for tiles in (*tried, *(getattr(each, name) for each in CONFIGS.values() for name in triton_compile.CANDIDATES)):
        for size in (tiles.block_rows, tiles.block_columns, tiles.block_depth):
            assert size >= 16 and size & (size - 1) == 0
        # The error bound of the shared exponential counts on at most 256 scores in a row or column of a tile.
        assert max(tiles.block_rows, tiles.block_columns) <= 256


def test_tuning_keeps_the_fastest_of_each_kernel(monkeypatch, capsys):
    """The choice, with invented times; one candidate does not compile."""
    fast, broken = Tiles(64, 64, 64, 4, 3), Tiles(128, 256, 64, 8, 3)

    def invented(kernel, problem, config):
        tiles = {"forward": config.forward, "strips": config.weights, "own-rows": config.own_rows}[kernel]
        if tiles == broken:
            raise RuntimeError("out of resource: shared memory")
        return 1.0 if tiles in (fast, Tiles(64, 32, 64, 4, 2)) and config.descriptors else 2.0

    monkeypatch.setattr(triton_compile, "_time", invented)
    monkeypatch.setattr(triton_compile, "_here", lambda: torch.device("cpu"))
    with triton_config.using(CONFIGS[90, 2]):
        best = triton_compile.tune(torch.bfloat16, rows=4, width=8)
    assert (best.forward, best.weights, best.own_rows) == (fast, fast, Tiles(64, 32, 64, 4, 2))
    assert best.descriptors
    assert "RuntimeError" in capsys.readouterr().out


def test_the_command_line_refuses_what_it_cannot_do(monkeypatch, capsys):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert triton_compile.main([]) == 2
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err
    if not torch.cuda.is_available():
        monkeypatch.delenv("TRITON_INTERPRET")
        assert triton_compile.main(["--tune"]) == 2
        assert "needs a CUDA device" in capsys.readouterr().err
