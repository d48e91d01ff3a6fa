"""A batch spread over processes: loss and gradients are those of one process that holds it all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_cases import expected, random_problem

WORKER = Path(__file__).with_name("distributed_worker.py")


def run_processes(folder: Path, case: dict) -> list[dict]:
    count = len(case["counts"])
    torch.save(case, folder / "case.pt")
    arguments = [sys.executable, str(WORKER), str(folder / "case.pt"), str(folder / "store")]
    processes = [
        subprocess.Popen([*arguments, str(rank), str(count)], stderr=subprocess.PIPE, text=True)
        for rank in range(count)
    ]
    for process in processes:
        errors = process.communicate(timeout=120)[1]
        assert process.returncode == 0, errors
    return [torch.load(folder / f"out-{rank}.pt", weights_only=True) for rank in range(count)]


@pytest.mark.parametrize(
    ("counts", "switches"),
    [
        ([6, 6], {"views": 2, "negatives": 3, "missing_negatives": True, "kinds": 2, "dtype": torch.float64}),
        ([7, 4], {"symmetric": False, "negatives": 1, "dtype": torch.float64}),
        ([5, 5, 2], {"views": 2, "padding": True, "kinds": 1, "dtype": torch.float64}),
        ([5, 6, 0], {"negatives": 2, "scale": 400.0, "normalize": False, "dtype": torch.float64}),
        ([6, 3], {"views": 2, "negatives": 4, "dtype": torch.bfloat16}),
        ([6, 5], {"views": 2, "negatives": 2, "kinds": 1, "padding": True, "backend": "triton_tiles"}),
        ([4, 5], {"views": 1, "negatives": 0, "frozen": True, "dtype": torch.float64}),
    ],
    ids=["even", "one-way", "uneven", "empty", "bfloat16", "triton", "frozen"],
)
def test_shards_equal_the_whole(tmp_path, counts, switches):
    backend, frozen = switches.pop("backend", "auto"), switches.pop("frozen", False)
    problem = random_problem(sum(counts), 9, **switches)
    loss, per_row, sums, gradients = expected(problem, 1.7)
    names = ("views", "texts", "negatives", "negatives_mask", "row_mask", "scale", "weights", "symmetric")
    case = {name: getattr(problem, name) for name in names}
    case |= {"ids": problem.row_ids, "counts": counts, "backend": backend, "train_texts": not frozen}
    case["views"], case["weights"] = list(case["views"]), list(case["weights"])
    outputs = run_processes(tmp_path, case)

    exact = problem.texts.dtype == torch.float64
    near = {"rtol": 1e-9, "atol": 1e-9} if exact else {"rtol": 2e-4, "atol": 2e-5}
    near_gradients = near if problem.texts.dtype != torch.bfloat16 else {"rtol": 1e-2, "atol": 1e-2}

    def joined(name: str, dim: int = 0) -> torch.Tensor:
        return torch.cat([output[name] for output in outputs], dim).double()

    for output in outputs:
        assert torch.equal(output["loss"], outputs[0]["loss"])
        assert torch.allclose(output["loss"].double() - 0.5 * problem.scale.double(), loss, **near)
        if problem.symmetric:
            assert torch.allclose(output["columns"].double(), sums.columns, **near)
    assert torch.allclose(joined("per_row", 1), per_row, **near)
    for view, gradient in enumerate(gradients.views):
        ours = torch.cat([output["views"][view] for output in outputs]).double()
        assert torch.allclose(ours, gradient, **near_gradients)
    if frozen:
        assert all(output["texts"] is None for output in outputs)
    else:
        assert torch.allclose(joined("texts"), gradients.texts, **near_gradients)
    if problem.negatives is not None:
        assert torch.allclose(joined("negatives"), gradients.negatives, **near_gradients)
    assert torch.allclose(sum(output["scale"] for output in outputs).double(), gradients.scale, **near_gradients)
