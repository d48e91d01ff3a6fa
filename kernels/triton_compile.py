"""Tools to choose block sizes: what the kernels take on an architecture, and how long on the GPU at hand.

``python -m figclip_kernels.triton_compile`` compiles every kernel of the large-batch path for sm_80, sm_86, sm_90 and
sm_100, which needs no GPU, and prints registers, spilled bytes and shared memory. With ``--tune`` it times block sizes
on the GPU at hand and saves the fastest under the user's cache folder, from where :func:`.triton_config.config_for`
reads them.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from .problem import Needs, Problem
from .triton_config import CONFIGS, Config, Tiles, config_for, is_interpreted, precision, to_json, tuned_path, using

# Bytes of shared memory a program can have.
SHARED_LIMITS = {80: 163 << 10, 86: 99 << 10, 90: 227 << 10, 100: 227 << 10}
TYPES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
INTEGERS = set(
    "R C N D offset shift blocks column_blocks runs tiles_per_run row_stride column_stride view_stride text_stride "
    "workspace_stride negatives_row_stride negatives_stride parts_stride earlier".split()
)
ALIGNED = {"D", *(name for name in INTEGERS if name.endswith("stride"))} - {"parts_stride"}
FLOATS = {"row_share", "column_share", "unit", "weight"}
FEATURES = {"views", "texts", "rows_features", "columns_features", "negatives", "workspace"}
BOOLS = {"row_mask", "column_mask", "negatives_mask"}
IDS = {"row_ids", "column_ids"}
DOUBLES = {"positives", "row_sums", "column_sums"}


@dataclass(frozen=True)
class Use:
    """What a compiled kernel takes of a multiprocessor.

    Attributes:
        kernel: Its name.
        registers: A thread's.
        spilled: Bytes a thread keeps in memory for want of registers.
        shared: Bytes of shared memory of a program.
        tensor_memory: Columns of tensor memory of a program (sm_100); there are 512.
        instructions: Names of matrix instructions in its code: ``mma.sync``, ``wgmma``, ``tcgen05``.
    """

    kernel: str
    registers: int
    spilled: int
    shared: int
    tensor_memory: int
    instructions: tuple[str, ...]


def compile_kernel(
    function: Any, tiles: Tiles, constants: dict[str, Any], architecture: int, dtype: torch.dtype
) -> Use:
    """Compile one kernel for an architecture (80, 86, 90, 100) and features of a dtype, and return what it takes.

    Arguments that ``constants`` sets to none are absent. Rows of features are taken to be aligned.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature: dict[str, str] = {}
    aligned: dict[tuple[int, ...], list[list[Any]]] = {}
    for position, name in enumerate(function.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        signature[name] = _type(name, TYPES[dtype], tiles)
        if signature[name].startswith("*") or name in ALIGNED:
            aligned[position,] = [["tt.divisibility", 16]]
    source = ASTSource(function, signature, constants, aligned)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", architecture, 32), options=tiles.options(constants.get("KINDS", 0))
    )
    usage = _resource_usage(compiled.asm["cubin"])
    names = tuple(name for name in ("mma.sync", "wgmma", "tcgen05.mma") if name in compiled.asm["ptx"])
    tensor_memory = getattr(compiled.metadata, "tmem_size", None) or 0
    return Use(function.__name__, usage["REG"], usage["STACK"], compiled.metadata.shared, tensor_memory, names)


def _type(name: str, dtype: str, tiles: Tiles) -> str:
    """Return the type of a kernel's argument by its name, as Triton writes it."""
    if name in ("view_tiles", "text_tiles"):
        rows = tiles.block_rows if name == "view_tiles" else tiles.block_columns
        return f"tensordesc<{dtype}[{rows}, {tiles.block_depth}]>"
    if name in INTEGERS or name in FLOATS:
        return "i32" if name in INTEGERS else "fp32"
    if name in FEATURES or name == "views_gradient":
        return f"*{dtype}"
    if name in DOUBLES:
        return "*fp64"
    return "*i1" if name in BOOLS else "*i64" if name in IDS else "*fp32"


def _resource_usage(binary: bytes) -> dict[str, int]:
    """Return registers and stack of a compiled kernel."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(binary)
        text = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"(REG|STACK):(\d+)", text)}


def variants(config: Config, dtype: torch.dtype, masked: bool) -> Iterator[tuple[Any, Tiles, dict[str, Any]]]:
    """Yield every kernel of the large-batch path with its tiles and constants as a launch would set them.

    Args:
        config: The block sizes.
        dtype: Of the features.
        masked: With ids of two kinds, padding and private negatives; else with none of these.
    """
    from . import triton_gradients, triton_tiles

    absent = () if masked else ("row_ids", "column_ids", "row_mask", "column_mask")
    no_negatives = () if masked else ("negatives", "negatives_mask", "private", "negatives_gradient")
    kinds = {"KINDS": 2 if masked else 0}
    plain = {"view_tiles": None, "text_tiles": None} if not config.descriptors else {}
    shared: dict[str, Any] = {"EVEN": True, "PRECISION": precision(dtype)}

    def constants(function: Any, tiles: Tiles | None, **more: Any) -> dict[str, Any]:
        names: dict[str, Any] = dict.fromkeys((*absent, *no_negatives)) | kinds | plain | shared | more
        if tiles is not None:
            columns = "N_COLUMNS" if "N_COLUMNS" in function.arg_names else "N"
            names |= {"M": tiles.block_rows, columns: tiles.block_columns, "K": tiles.block_depth}
        return {name: value for name, value in names.items() if name in function.arg_names}

    forward, weights, own = config.forward, config.weights, config.own_rows
    function = triton_tiles.tile_sums
    yield function, forward, constants(function, forward, SYMMETRIC=True, GROUP=config.row_group, PAIRS=32)
    function = triton_gradients.strip_gradients
    yield function, weights, constants(function, weights, GROUP=config.row_group)
    function = triton_gradients.own_rows_products
    for whole in (True, False):
        yield function, own, constants(function, own, SLICE=config.slice_depth, WHOLE=whole, ADD=False)
    small = Tiles(16, 16, 128, 4, 3)
    function = triton_tiles.merge_sums
    yield function, small, constants(function, None, PARTS=16, B=128)
    function = triton_gradients.finish_rows
    yield function, small, constants(function, None, ADD=False, M=16, K=128)


def table(architecture: int, dtype: torch.dtype, config: Config | None = None) -> list[tuple[Use, str]]:
    """Return what each kernel takes on an architecture, and a line that says it."""
    config = CONFIGS[architecture, dtype.itemsize] if config is None else config
    lines = []
    for masked in (False, True):
        for function, tiles, constants in variants(config, dtype, masked):
            use = compile_kernel(function, tiles, constants, architecture, dtype)
            mode = "masked" if masked else "plain"
            whole = {True: " whole", False: " sliced"}.get(constants.get("WHOLE", ""), "")
            line = (
                f"sm_{architecture} {TYPES[dtype]} {mode:6} {use.kernel + whole:26} {use.registers:3} registers "
                f"{use.spilled:4} B spilled {use.shared >> 10:3} KiB shared {' '.join(use.instructions)}"
            )
            lines.append((use, line))
    return lines


# What is tried, for each kernel by itself; block_depth halves for float32.
CANDIDATES = {
    "forward": (
        Tiles(128, 128, 64, 8, 3, 128),
        Tiles(128, 128, 64, 8, 4),
        Tiles(128, 256, 64, 8, 3),
        Tiles(256, 128, 64, 8, 3),
        Tiles(64, 128, 64, 4, 3, 168),
        Tiles(128, 64, 64, 4, 3, 168),
        Tiles(64, 64, 64, 4, 3),
    ),
    "own_rows": (
        Tiles(128, 64, 64, 8, 2),
        Tiles(128, 64, 64, 8, 3),
        Tiles(128, 32, 64, 8, 2),
        Tiles(64, 64, 64, 4, 2),
        Tiles(64, 32, 64, 4, 2),
    ),
}
CANDIDATES["weights"] = CANDIDATES["forward"]


def tune(dtype: torch.dtype, rows: int = 8192, width: int = 512) -> Config:
    """Time candidates on the current GPU, print a line for each, and return the fastest of each kernel.

    Needs a CUDA device. What does not compile or asks for too much memory is passed over.
    """
    device = _here()
    generator = torch.Generator(device).manual_seed(0)
    views, texts = (
        torch.nn.functional.normalize(torch.randn(rows, width, device=device, generator=generator), dim=1).to(dtype)
        for _ in range(2)
    )
    problem = Problem((views,), texts, torch.full((), 50.0, device=device))
    best = config_for(device, dtype)
    for kernel, field in (("forward", "forward"), ("strips", "weights"), ("own-rows", "own_rows")):
        timed = []
        for tiles in dict.fromkeys((getattr(best, field), *CANDIDATES[field])):
            if dtype == torch.float32:
                tiles = replace(tiles, block_depth=min(32, tiles.block_depth))
            for descriptors in (False, True) if field != "own_rows" else (best.descriptors,):
                config = replace(best, **{field: tiles}, descriptors=descriptors)
                try:
                    milliseconds = _time(kernel, problem, config)
                except Exception as error:  # Triton's own errors have no common class
                    print(f"{kernel:8} {tiles} descriptors={descriptors}: {type(error).__name__}")
                    continue
                print(f"{kernel:8} {tiles} descriptors={descriptors}: {milliseconds:.3f} ms", flush=True)
                timed.append((milliseconds, tiles, descriptors))
        if timed:
            _, tiles, descriptors = min(timed, key=lambda each: each[0])
            # Descriptors are one switch for forward and strips: the forward pass decides.
            best = replace(best, **{field: tiles}, descriptors=descriptors if field == "forward" else best.descriptors)
    return best


def _here() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def _time(kernel: str, problem: Problem, config: Config) -> float:
    """Return the milliseconds that ``forward``, ``strips`` or ``own-rows`` take with some block sizes."""
    from triton.testing import do_bench

    from . import triton_tiles

    upstream = torch.ones((), device=problem.texts.device)
    with using(config):
        if kernel == "forward":
            return float(do_bench(lambda: triton_tiles.log_sum_exps(problem)))
        sums = triton_tiles.log_sum_exps(problem)
        needs = Needs(texts=kernel == "strips", negatives=False)
        before = os.environ.get("FIGCLIP_TRITON_BACKWARD")
        os.environ["FIGCLIP_TRITON_BACKWARD"] = kernel
        try:
            return float(do_bench(lambda: triton_tiles.gradients(problem, sums, upstream, needs)))
        finally:
            os.environ.pop("FIGCLIP_TRITON_BACKWARD")
            if before is not None:
                os.environ["FIGCLIP_TRITON_BACKWARD"] = before


def _tune_and_save(dtypes: list[torch.dtype]) -> None:
    for itemsize in sorted({dtype.itemsize for dtype in dtypes}):
        config = tune(next(dtype for dtype in dtypes if dtype.itemsize == itemsize))
        path = tuned_path(torch.cuda.get_device_name(), itemsize)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_json(config))
        print(f"saved {path}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m figclip_kernels.triton_compile", description=__doc__)
    parser.add_argument("--tune", action="store_true", help="time block sizes on the GPU at hand and save the fastest")
    parser.add_argument("--architecture", type=int, choices=sorted(SHARED_LIMITS), help="only this one")
    parser.add_argument("--dtype", choices=sorted(TYPES.values()), help="only this one")
    given = parser.parse_args(arguments)
    dtypes = [dtype for dtype, name in TYPES.items() if given.dtype in (None, name)]
    if is_interpreted():
        print("unset TRITON_INTERPRET: interpreted kernels are not compiled", file=sys.stderr)
        return 2
    if given.tune:
        if not torch.cuda.is_available():
            print("--tune needs a CUDA device", file=sys.stderr)
            return 2
        _tune_and_save(dtypes)
        return 0
    for architecture in sorted(SHARED_LIMITS) if given.architecture is None else (given.architecture,):
        for dtype in dtypes:
            for _, line in table(architecture, dtype):
                print(line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
