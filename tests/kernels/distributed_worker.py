"""One process of a batch that is spread over several; run by test_kernels_distributed.py."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from figclip_kernels import contrastive_loss


def main(cases_path: str, store: str, rank: int, count: int) -> None:
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    cases = torch.load(cases_path, weights_only=True)
    outputs = [compute(case, rank) for case in cases] + [refusal(cases[0], rank)]
    torch.save(outputs, Path(cases_path).with_name(f"out-{rank}.pt"))
    dist.destroy_process_group()


def refusal(case: dict, rank: int) -> str:
    """Return what a process is told where the last one passes other weights."""
    views, texts = [view[:2] for view in case["views"]], case["texts"][:2]
    weights = [float(rank + 1)] * len(views)
    try:
        contrastive_loss(views, texts, logit_scale=1.0, weights=weights, group=dist.group.WORLD)
    except ValueError as error:
        return str(error)
    return ""


def compute(case: dict, rank: int) -> dict:
    start, rows = sum(case["counts"][:rank]), case["counts"][rank]
    own = slice(start, start + rows)
    views = [view[own].clone().requires_grad_() for view in case["views"]]
    texts = case["texts"][own].clone().requires_grad_(case["train_texts"])
    negatives = None if case["negatives"] is None else case["negatives"][own].clone().requires_grad_()
    scale = case["scale"].clone().requires_grad_()

    def pick(name: str) -> torch.Tensor | None:
        return None if case[name] is None else case[name][own]

    output = contrastive_loss(
        views,
        texts,
        negatives=negatives,
        negatives_mask=pick("negatives_mask"),
        ids=pick("ids"),
        row_mask=pick("row_mask"),
        weights=case["weights"],
        symmetric=case["symmetric"],
        logit_scale=scale,
        plus=scale * 0.5,
        details=True,
        group=dist.group.WORLD,
        backend=case["backend"],
    )
    (output.loss * 1.7).backward()
    return {
        "loss": output.loss.detach(),
        "per_view": output.per_view,
        "per_row": output.per_row,
        "columns": output.column_log_sum_exp,
        "views": [view.grad for view in views],
        "texts": texts.grad,
        "negatives": None if negatives is None else negatives.grad,
        "scale": scale.grad,
    }


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
