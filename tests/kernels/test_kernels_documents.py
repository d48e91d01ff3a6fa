"""The examples of the documents run as they are printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parents[2]


def python_blocks(path: str) -> list[str]:
    return [part.split("```")[0] for part in (ROOT / path).read_text().split("```python\n")[1:]]


def test_the_first_example_of_the_document_runs(capsys):
    names: dict = {}
    exec(python_blocks("docs/kernels.md")[0], names)
    assert names["clip"].grad.isfinite().all() and names["log_scale"].grad.isfinite()
    assert names["output"].per_row.shape == (2, 100)
    assert "torch.Size([2, 100])" in capsys.readouterr().out


def test_the_example_of_several_processes_runs_in_one(tmp_path):
    names = {
        "torch": torch,
        "features": F.normalize(torch.randn(6, 8), dim=-1).requires_grad_(),
        "texts": F.normalize(torch.randn(6, 8), dim=-1),
        "scale": 5.0,
    }
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        exec("from figclip_kernels import contrastive_loss\n" + python_blocks("docs/kernels.md")[1], names)
    finally:
        torch.distributed.destroy_process_group()
    assert names["features"].grad.isfinite().all()


def test_the_package_is_imported_without_a_compiler_or_a_kernel():
    code = "import sys, figclip_kernels; print([m for m in ('torch._dynamo', 'triton', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
