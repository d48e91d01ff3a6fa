"""A batch spread over processes: loss and gradients are those of one process that holds it all."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kernel_cases import expected, random_problem

WORKER = Path(__file__).with_name("distributed_worker.py")
EXACT = torch.float64
pytest.importorskip("triton")
# By name: rows of each process, and the switches of the whole batch.
CASES = {
    "even": ([6, 6], {"views": 2, "negatives": 3, "missing_negatives": True, "kinds": 2, "dtype": EXACT}),
    "one-way": ([7, 4], {"symmetric": False, "negatives": 1, "dtype": EXACT}),
    "bfloat16": ([6, 3], {"views": 2, "negatives": 4, "dtype": torch.bfloat16}),
    "triton": ([6, 5], {"views": 2, "negatives": 2, "kinds": 1, "padding": True, "backend": "triton_tiles"}),
    "frozen": ([4, 5], {"frozen": True, "dtype": EXACT}),
    "uneven": ([5, 5, 2], {"views": 2, "padding": True, "kinds": 1, "dtype": EXACT}),
    "empty": ([5, 6, 0], {"negatives": 2, "scale": 400.0, "normalize": False, "dtype": EXACT}),
    "empty with ids": ([0, 6, 5], {"kinds": 2, "padding": True, "views": 2, "dtype": EXACT}),
    "nothing": ([0, 0, 0], {"kinds": 1, "dtype": EXACT}),
    "padding alone": ([3, 3, 3], {"padding": True, "kinds": 2, "negatives": 1, "seed": 4, "dtype": EXACT}),
}


def problem_of(name):
    counts, switches = CASES[name]
    return random_problem(sum(counts), 9, **{k: v for k, v in switches.items() if k not in ("backend", "frozen")})


def case_of(name):
    counts, switches = CASES[name]
    problem = problem_of(name)
    names = ("texts", "negatives", "negatives_mask", "row_mask", "scale", "symmetric")
    return {
        **{each: getattr(problem, each) for each in names},
        "views": list(problem.views),
        "weights": list(problem.weights),
        "ids": problem.row_ids,
        "counts": counts,
        "backend": switches.get("backend", "auto"),
        "train_texts": not switches.get("frozen", False),
    }


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What every process returned, by name of the case; processes are started once for each count."""
    results = {}
    for count in (2, 3):
        folder = tmp_path_factory.mktemp(f"processes-{count}")
        names = [name for name, (counts, _) in CASES.items() if len(counts) == count]
        torch.save([case_of(name) for name in names], folder / "cases.pt")
        arguments = [sys.executable, str(WORKER), str(folder / "cases.pt"), str(folder / "store")]
        processes = [
            subprocess.Popen(
                [*arguments, str(rank), str(count)],
                stderr=subprocess.PIPE,
                text=True,
                env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
            )
            for rank in range(count)
        ]
        for process in processes:
            errors = process.communicate(timeout=180)[1]
            assert process.returncode == 0, errors
        by_rank = [torch.load(folder / f"out-{rank}.pt", weights_only=True) for rank in range(count)]
        results |= {name: [each[number] for each in by_rank] for number, name in enumerate(names)}
        results[f"refused by {count}"] = [each[-1] for each in by_rank]
    return results


@pytest.mark.parametrize("name", CASES)
def test_shards_equal_the_whole(outputs, name):
    ours, problem = outputs[name], problem_of(name)
    if not len(problem.texts):
        assert all(output["loss"] == 0.5 * problem.scale and output["scale"] == 1.7 * 0.5 for output in ours)
        return
    loss, per_row, sums, gradients = expected(problem, 1.7)
    near = {"rtol": 1e-9, "atol": 1e-9} if problem.texts.dtype == EXACT else {"rtol": 2e-4, "atol": 2e-5}
    near_gradients = {"rtol": 1e-2, "atol": 1e-2} if problem.texts.dtype == torch.bfloat16 else near

    def joined(what, dim=0):
        return torch.cat([output[what] for output in ours], dim).double()

    for output in ours:
        assert torch.equal(output["loss"], ours[0]["loss"])
        assert torch.allclose(output["loss"].double() - 0.5 * problem.scale.double(), loss, **near)
        if problem.symmetric:
            assert torch.allclose(output["columns"].double(), sums.columns, **near)
    assert torch.allclose(joined("per_row", 1), per_row, **near)
    for view, gradient in enumerate(gradients.views):
        of_view = torch.cat([output["views"][view] for output in ours]).double()
        assert torch.allclose(of_view, gradient, **near_gradients)
    if CASES[name][1].get("frozen"):
        assert all(output["texts"] is None for output in ours)
    else:
        assert torch.allclose(joined("texts"), gradients.texts, **near_gradients)
    if problem.negatives is not None:
        assert torch.allclose(joined("negatives"), gradients.negatives, **near_gradients)
    of_plus = 1.7 * 0.5 * len(ours)
    assert torch.allclose(sum(output["scale"] for output in ours).double() - of_plus, gradients.scale, **near_gradients)


def test_calls_that_differ_are_refused_in_every_process(outputs):
    for count in (2, 3):
        for told in outputs[f"refused by {count}"]:
            assert told.startswith("all processes of a group must pass the same weights")
