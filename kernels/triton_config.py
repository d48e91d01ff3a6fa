"""Block sizes of the large-batch Triton path by architecture, and what its launches have in common.

Nothing is tuned at a first call. ``python -m figclip_kernels.triton_compile --tune`` times block sizes on the GPU at
hand and saves the fastest, which :func:`config_for` then reads.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .problem import Needs, Problem

MIB = 1 << 20
PLANS = ("own-rows", "strips")
# What Triton itself takes as a yes in TRITON_INTERPRET.
_YES = ("1", "true", "yes", "on", "y")


@dataclass(frozen=True)
class Tiles:
    """How one kernel cuts up a matrix product. Sizes are powers of two of at least 16.

    Attributes:
        block_rows: Rows of a tile.
        block_columns: Columns of a tile.
        block_depth: Features read in one step.
        warps: Warps of a program.
        stages: Steps of loads in flight.
        registers: Of a thread at most, so that two programs fit a multiprocessor and one computes exponentials while
            the other multiplies; none leaves it to the compiler.
    """

    block_rows: int
    block_columns: int
    block_depth: int
    warps: int
    stages: int
    registers: int | None = None

    def options(self, kinds: int) -> dict[str, int]:
        """Return how a launch with so many kinds of id says warps, stages and registers.

        No product is fused with a sum outside of matrix products: a score, which is a product, must be the same number
        wherever it is compared with another.
        """
        options = {"num_warps": self.warps, "num_stages": self.stages, "enable_fp_fusion": False}
        # Ids are of 64 bits and a thread compares many: short of registers it would keep them in memory.
        return options if self.registers is None or kinds else options | {"maxnreg": self.registers}


@dataclass(frozen=True)
class Config:
    """The block sizes of all kernels for one architecture and one width of feature element.

    Attributes:
        forward: Of the log-sum-exps.
        weights: Of the strips' gradients with respect to scores.
        own_rows: Of the gradients that are made without a workspace.
        slice_depth: Features whose gradient one own-rows program holds at most.
        tiles_per_run: Column tiles one forward program takes at most.
        row_group: Row blocks that follow one another over the same columns, to find these in L2.
        workspace_bytes: Size of the strips' workspace.
        strip_columns: Columns of a strip, unless its rows are few.
        descriptors: Whether forward and strips load through tensor descriptors (TMA) where features allow it.
    """

    forward: Tiles
    weights: Tiles
    own_rows: Tiles
    slice_depth: int = 256
    tiles_per_run: int = 8
    row_group: int = 8
    workspace_bytes: int = 16 * MIB
    strip_columns: int = 8192
    descriptors: bool = False


FLOAT32 = Config(
    forward=Tiles(64, 64, 32, 4, 3),
    weights=Tiles(64, 64, 32, 4, 3),
    own_rows=Tiles(32, 32, 32, 8, 2),
    slice_depth=128,
    workspace_bytes=64 * MIB,
)
# By (architecture, bytes of a feature element), chosen by what `triton_compile` prints: no spills in the inner loops,
# shared memory for two programs where registers allow two. 86 stands for GPUs with 99 KiB, and for unknown ones.
CONFIGS: dict[tuple[int, int], Config] = {
    (80, 2): Config(
        forward=Tiles(128, 128, 32, 8, 4, 128),
        weights=Tiles(128, 128, 32, 8, 4, 128),
        own_rows=Tiles(64, 64, 32, 8, 2),
    ),
    (86, 2): Config(
        forward=Tiles(128, 128, 32, 8, 3, 128),
        weights=Tiles(128, 128, 32, 8, 3, 128),
        own_rows=Tiles(64, 32, 32, 8, 2),
    ),
    # Triton 3.2 cannot compile own rows where eight warps share 64 rows on sm_90.
    (90, 2): Config(
        forward=Tiles(128, 128, 64, 8, 3, 128),
        weights=Tiles(128, 128, 64, 8, 3, 128),
        own_rows=Tiles(128, 64, 64, 8, 2),
    ),
    (100, 2): Config(
        forward=Tiles(128, 128, 64, 8, 3),
        weights=Tiles(128, 128, 64, 8, 3),
        own_rows=Tiles(128, 64, 64, 8, 2),
    ),
    (80, 4): FLOAT32,
    (86, 4): FLOAT32,
    (90, 4): FLOAT32,
    (100, 4): FLOAT32,
}

_override: Config | None = None


@contextmanager
def using(config: Config) -> Iterator[None]:
    """Compute with ``config`` instead of the table's, in the whole process, as long as the context lasts."""
    global _override
    before, _override = _override, config
    try:
        yield
    finally:
        _override = before


def config_for(device: torch.device, dtype: torch.dtype) -> Config:
    """Return the block sizes for features of ``dtype`` on ``device``: tuned ones if there are, else the table's."""
    return _override if _override is not None else _config_for(device, dtype.itemsize)


@lru_cache(maxsize=64)
def _config_for(device: torch.device, itemsize: int) -> Config:
    if device.type != "cuda":
        return CONFIGS[86, itemsize]
    config = CONFIGS[architecture(torch.cuda.get_device_capability(device)), itemsize]
    path = tuned_path(torch.cuda.get_device_name(device), itemsize)
    if not path.exists():
        return config
    try:
        return from_json(path.read_text())
    except (OSError, ValueError, TypeError, KeyError) as error:
        warnings.warn(f"ignored the tuned block sizes in {path}: {error}", stacklevel=3)
        return config


def architecture(capability: tuple[int, int]) -> int:
    """Return the first part of the key into :data:`CONFIGS` of a GPU's compute capability."""
    return {(8, 0): 80, (9, 0): 90, (10, 0): 100, (10, 3): 100}.get(capability, 86)


def tuned_path(gpu: str, itemsize: int) -> Path:
    """Return where the tuned block sizes of a GPU, by its name, are kept."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = "".join(letter if letter.isalnum() else "-" for letter in gpu.lower())
    return cache / "figclip_kernels" / f"{name}-{itemsize}.json"


def from_json(text: str) -> Config:
    """Return block sizes written by :func:`to_json`.

    Raises:
        ValueError, TypeError, KeyError: The text is no such thing.
    """
    fields: dict[str, Any] = json.loads(text)
    for name in ("forward", "weights", "own_rows"):
        fields[name] = Tiles(**fields[name])
    return Config(**fields)


def to_json(config: Config) -> str:
    """Return block sizes as text."""
    return json.dumps(asdict(config), indent=2) + "\n"


@lru_cache(maxsize=16)
def processors(device: torch.device) -> int:
    """Return how many multiprocessors a device has; 1 for a CPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


def is_interpreted() -> bool:
    """Return whether Triton was told to interpret its kernels, so that they run on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "").strip().lower() in _YES


def check_device(tensor: Tensor) -> None:
    """Refuse tensors that the kernels cannot read.

    Raises:
        RuntimeError: The tensor is neither on a CUDA device nor are kernels interpreted.
    """
    if tensor.device.type != "cuda" and not is_interpreted():
        raise RuntimeError(
            f"the Triton kernels need CUDA tensors, got one on {tensor.device}; "
            "TRITON_INTERPRET=1, set before triton is imported, runs them on the CPU, slowly"
        )


def precision(dtype: torch.dtype) -> str:
    """Return ``tf32`` where torch is allowed to multiply float32 in it, else ``ieee``."""
    return "tf32" if dtype == torch.float32 and allows_tf32() else "ieee"


def allows_tf32() -> bool:
    """Return whether torch may multiply float32 matrices on a GPU as TF32.

    ``torch.get_float32_matmul_precision`` raises where the setting was made through torch's newer attributes.
    """
    matmul = torch.backends.cuda.matmul
    return bool(matmul.fp32_precision == "tf32" if hasattr(matmul, "fp32_precision") else matmul.allow_tf32)


def unit_stride(features: Tensor) -> Tensor:
    """Return the features themselves if a row's elements are neighbours in memory, else a copy."""
    return features if features.stride(-1) == 1 or features.shape[-1] == 1 else features.contiguous()


@dataclass(frozen=True)
class Masks:
    """What leaves pairs out, as the kernels read it: contiguous, or none."""

    row_ids: Tensor | None
    column_ids: Tensor | None
    row_mask: Tensor | None
    column_mask: Tensor | None
    negatives_mask: Tensor | None
    kinds: int

    @classmethod
    def of(cls, problem: Problem) -> Masks:
        """Return the masks of a problem."""
        row_ids, column_ids, row_mask, column_mask, negatives_mask = (
            None if each is None else each.contiguous()
            for each in (
                problem.row_ids,
                problem.column_ids,
                problem.row_mask,
                problem.column_mask,
                problem.negatives_mask,
            )
        )
        kinds = 0 if row_ids is None else row_ids.shape[1]
        return cls(row_ids, column_ids, row_mask, column_mask, negatives_mask, kinds)

    def strip(self, own: slice, others: slice) -> tuple[Tensor | None, ...]:
        """Return row ids, column ids, row mask and column mask of some rows and columns."""
        wanted = ((self.row_ids, own), (self.column_ids, others), (self.row_mask, own), (self.column_mask, others))
        return tuple(None if each is None else each[where] for each, where in wanted)


def descriptors(rows: Tensor, columns: Tensor, tiles: Tiles, config: Config) -> tuple[Any, Any]:
    """Return tensor descriptors of two feature matrices; none if not wanted or not possible.

    The copy engine wants addresses and rows that are multiples of 16 bytes, and rows that do not overlap.
    """
    fits = all(
        each.data_ptr() % 16 == 0
        and each.stride(0) * each.element_size() % 16 == 0
        and each.stride(-1) == 1
        and each.stride(0) >= each.shape[1]
        and each.numel()
        for each in (rows, columns)
    )
    if not config.descriptors or not fits:
        return None, None
    from triton.tools.tensor_descriptor import TensorDescriptor  # from Triton 3.4 on

    return (
        TensorDescriptor.from_tensor(rows, [tiles.block_rows, tiles.block_depth]),
        TensorDescriptor.from_tensor(columns, [tiles.block_columns, tiles.block_depth]),
    )


def backward_plan(problem: Problem, needs: Needs) -> tuple[str, str]:
    """Return which plan makes the gradients of a problem, ``own-rows`` or ``strips``, and why, as a clause.

    The environment variable ``FIGCLIP_TRITON_BACKWARD`` overrides the choice.

    Raises:
        ValueError: The variable holds no name of a plan.
    """
    asked = os.environ.get("FIGCLIP_TRITON_BACKWARD")
    if asked:
        if asked not in PLANS:
            raise ValueError(f"FIGCLIP_TRITON_BACKWARD must be one of {', '.join(PLANS)}, got {asked!r}")
        return asked, "asked for by FIGCLIP_TRITON_BACKWARD"
    device, dtype, width = problem.texts.device, problem.texts.dtype, problem.texts.shape[1]
    config = config_for(device, dtype)
    if device.type == "cuda" and dtype != torch.float32 and wide_products(device, dtype) == "none":
        return "own-rows", f"this torch cannot multiply {dtype} into float32"
    if needs.texts:
        return "strips", "one score matrix serves both the views' and the texts' gradient"
    if width > config.slice_depth:
        return "strips", f"{width} features do not fit the registers of one program"
    programs = -(-problem.views[0].shape[0] // config.own_rows.block_rows)
    if programs < processors(device) // 2:
        return "strips", f"{programs} row blocks leave most multiprocessors without work"
    return "own-rows", "the texts are frozen: no workspace is needed"


@lru_cache(maxsize=16)
def wide_products(device: torch.device, dtype: torch.dtype) -> str:
    """Return how torch adds a product of half-precision matrices to a float32 one.

    ``addmm`` in one call, ``mm`` with a sum of its own (torch 2.8), or ``none``: operands must be widened first.
    """
    if device.type != "cuda":
        return "none"
    with torch.no_grad():
        small = torch.zeros(16, 16, dtype=dtype, device=device)
        total = torch.zeros(16, 16, dtype=torch.float32, device=device)
        try:
            torch.addmm(total, small, small, out_dtype=torch.float32, out=total)
            return "addmm"
        except torch.cuda.OutOfMemoryError:  # a RuntimeError that says nothing of what torch can do
            raise
        except (RuntimeError, TypeError, NotImplementedError):
            pass
        try:
            torch.mm(small, small, out_dtype=torch.float32)
            return "mm"
        except torch.cuda.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError, NotImplementedError):
            return "none"


def add_product(total: Tensor, left: Tensor, right: Tensor, weight: float, first: bool) -> None:
    """Add ``weight`` * left (m, k) @ right (k, n) to ``total`` (m, n), float32, or overwrite it if it is the first."""
    how = "addmm" if left.dtype == torch.float32 else wide_products(left.device, left.dtype)
    beta = 0.0 if first else 1.0  # with 0, what total holds does not matter
    if how == "mm":
        product = torch.mm(left, right, out_dtype=torch.float32)
        if first:
            torch.mul(product, weight, out=total)
        else:
            total.add_(product, alpha=weight)
    elif how == "none" or left.dtype == torch.float32:
        torch.addmm(total, left.float(), right.float(), beta=beta, alpha=weight, out=total)
    else:
        torch.addmm(total, left, right, out_dtype=torch.float32, beta=beta, alpha=weight, out=total)
