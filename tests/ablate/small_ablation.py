"""A folder with all that a small specification names: frames, annotation, prompts, captions and choices."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from samples import annotation_record

from figclip_cli.ablate.plan import CELL_VERSION
from figclip_cli.frames.clip import ClipResult
from figclip_cli.frames.sampling import SamplingRecipe
from figclip_cli.frames.store import write_frames
from figclip_cli.prompts import PromptOptions, build

EVENTS, FRAMES, SIZE = 5, 2, 32


def write_world(folder: Path, model: Path | str, *, clips: int = 4) -> Path:
    """Write files of ``train`` and ``valid`` and the specification ``spec.toml``."""
    folder.mkdir(parents=True)
    for split in ("train", "valid"):
        ids = [f"v_{split}{number:06d}_seg_0_10" for number in range(clips)]
        _write_frames(folder / f"{split}-frames.h5", ids)
        annotation = [annotation_record(one, number) for number, one in enumerate(ids)]
        (folder / f"{split}.json").write_text(json.dumps(annotation))
    build([folder / "valid.json"], folder / "valid-prompts.jsonl", options=PromptOptions())
    with (folder / "captions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video_id", "sentence"])
        rows.writerows([one, f"somebody does thing {number}"] for number, one in enumerate(ids))
    naming = [
        {"part": "naming", "clip_id": one, "texts": [f"a man {number}", "a dog"]} for number, one in enumerate(ids)
    ]
    (folder / "naming.json").write_text(json.dumps(naming))
    (folder / "spec.toml").write_text(spec_text(model))
    return folder


def _write_frames(path: Path, ids: list[str]) -> None:
    import numpy as np

    recipe = SamplingRecipe(events=EVENTS, frames_per_event=FRAMES, size=SIZE, storage="raw")
    times = tuple((np.arange(recipe.frames) + 0.5) / recipe.frames * 10.0)
    clips = [ClipResult(one, f"{one}.mp4", "ok", "", 0.0, 10.0, times, ()) for one in ids]

    def pictures(number: int) -> list[bytes]:
        generator = np.random.default_rng([*ids[number].encode()])
        shape = (recipe.frames, SIZE, SIZE, 3)
        return [one.tobytes() for one in generator.integers(0, 256, shape, dtype=np.uint8)]

    write_frames(path, recipe, clips, [[SIZE * SIZE * 3] * recipe.frames for _ in ids], pictures)


DATA = '[data]\nframes = "train-frames.h5"\nannotations = "train.json"\n'
EVALUATE = (
    '[evaluate]\nframes = "valid-frames.h5"\nprompts = "valid-prompts.jsonl"\ncaptions = "captions.csv"\n'
    'naming = "naming.json"\n'
)
OPTIONS = "[options]\nrank = 2\nepochs = 1\nbatch-clips = 2\nlearning-rate = 1e-2\ncontextualizer-layers = 1\n"
QUESTION = '[[question]]\nname = "rank"\nmetric = "compositional"\nvary = { rank = [1, 2] }\n'


def spec_text(model: Path | str = "model", *, questions: str = QUESTION, top: str = "", options: str = OPTIONS) -> str:
    """Return a specification: two ranks, one seed, one epoch of two steps, unless other parts are given."""
    return f'name = "small"\nmodel = "{model}"\n{top}\n{DATA}{EVALUATE}{options}{questions}'


def metric(name: str, value: float, error: float = 1.0, base: float = 40.0, *, delta_error: float = 0.7) -> dict:
    """Return a metric as ``cell.json`` has it; lower is better for ranks alone."""
    return {
        "name": name,
        "higher_is_better": name not in ("t2v MnR", "t2v MdR"),
        "value": value,
        "standard_error": error,
        "base_value": base,
        "base_standard_error": 0.5,
        "delta": value - base,
        "delta_standard_error": delta_error,
    }


def record(tasks: dict[str, list[dict]], *, evaluation: str = "e", sha256: str = "s", features: str = "plain", **cost):
    """Return a whole ``cell.json`` by the metrics of each task, which was asked and evaluated four items."""
    costs = {
        "trainable_parameters": 1000,
        "tower_parameters": 1000,
        "contextualizer_parameters": 0,
        "base_parameters": 9000,
        "clips": 4,
        "steps": 4,
        "seconds": 8.0,
        "train_seconds": 7.0,
        "step_seconds": 0.0215,
        "images_per_second": 10.0,
        "peak_memory_bytes": 3 << 20,
        "process_peak_bytes": 9 << 20,
        "device": "cpu",
        "threads": 2,
        "cells_at_once": 1,
        **cost,
    }
    data = dict.fromkeys(("not_ok", "without_frames", "records_left_out", "events_left_out"), 0)
    made = {
        name: {"asked": {"items": 4}, "evaluated": {"items": 4}, "missing": 0, "metrics": metrics}
        for name, metrics in tasks.items()
    }
    return {
        "format": "figclip-ablation-cell",
        "version": CELL_VERSION,
        "sha256": sha256,
        "cost": costs,
        "data": {"prompts": 4, "used": 4, **data},
        "environment": {},
        "quality": {features: {"evaluation_sha256": evaluation, "seconds": 1.0, "tasks": made}},
    }
