"""The benchmark of the contrastive objective runs, and what it measures the error of is right."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).parents[2] / "examples" / "bench_contrastive.py"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the script in this process; each figure of memory takes one of its own."""
    monkeypatch.syspath_prepend(SCRIPT.parent)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")  # which the script sets

    def said(*arguments: str) -> str:
        words = ["--sizes", "16", "--repeats", "1", "--without-compile", *arguments]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return said


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_table_has_errors_and_memory(run):
    said = run("--tables", "frozen-negatives", "--contenders", "plain", "memeff", "ours").splitlines()
    rows = [cells(line) for line in said if line.startswith("| ")]
    header, (plain, ours, products) = rows[0], rows[2:]
    assert [plain[1], ours[1], products[1]] == ["plain", "ours", "products alone"]
    for row in (plain, ours):
        assert len(row) == len(header)
        assert float(row[header.index("loss error")]) < 1e-4
        assert float(row[header.index("gradient error")]) < 1e-4
        assert 0 <= float(row[header.index("extra MiB")]) < 100
        assert float(row[header.index("ms")]) > 0
    assert "memeff left out: needs CUDA" in said


def test_json_is_one_document(run):
    said = run("--json", "--no-memory", "--tables", "trained", "terms", "--contenders", "plain", "open_clip", "ours")
    document = json.loads(said)
    trained, terms = document["results"]
    assert [one["name"] for one in trained["contenders"]] == ["plain", "open_clip", "ours", "products alone"]
    assert [one["name"] for one in terms["contenders"]] == ["plain", "ours", "products alone"]
    assert terms["left_out"] == {"open_clip": "its ClipLoss has no private negatives"}
    for result in document["results"]:
        for one in result["contenders"][:-1]:
            assert 0 <= one["loss_error"] < 1e-4 and 0 <= one["gradient_error"] < 1e-4
