"""Made-up inputs for the benchmark of adapt: a model with random weights, stored frames, and prompts."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from figclip_cli.frames import SamplingRecipe
from figclip_cli.frames.clip import ClipResult
from figclip_cli.frames.preprocess import encode_jpeg
from figclip_cli.frames.store import write_frames
from figclip_cli.models.clip import build_architecture
from figclip_cli.prompts import PromptOptions, build

EVENTS, FRAMES = 5, 4
SENSES = ("walk.01", "push.01", "hit.01", "look.01", "run.02", "give.01", "open.01", "carry.01")
PEOPLE = "man woman boy girl soldier waiter doctor pilot".split()
THINGS = "car ball door box dog bike hat rope".split()


def write_inputs(folder: Path, model: str, size: int, clips: int) -> None:
    """Write ``model/``, ``frames.h5`` and ``prompts.jsonl`` into a folder."""
    _write_model(folder / "model", model)
    clip_ids = [f"v_clip{number:05d}_seg_0_10" for number in range(clips)]
    _write_frames(folder / "frames.h5", clip_ids, size)
    _write_prompts(folder, clip_ids)


def _write_model(folder: Path, name: str) -> None:
    import open_clip

    torch.manual_seed(0)
    config = open_clip.get_model_config(name)
    config.setdefault("quick_gelu", False)
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    state = build_architecture(config).state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "open_clip_model.safetensors")


def _write_frames(path: Path, clip_ids: list[str], size: int) -> None:
    """Write pictures with coarse shapes under fine noise, whose JPEGs are about as large as those of photographs."""
    recipe = SamplingRecipe(events=EVENTS, frames_per_event=FRAMES, size=size)
    generator = np.random.default_rng(0)

    def picture() -> bytes:
        coarse = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = smooth + generator.integers(-12, 13, smooth.shape, dtype=np.int16)
        return encode_jpeg(noisy.clip(0, 255).astype(np.uint8), recipe.jpeg_quality)

    count = EVENTS * FRAMES
    stored = [[picture() for _ in range(count)] for _ in clip_ids]
    times = tuple(0.25 + 0.5 * number for number in range(count))
    rows = [ClipResult(one, f"{one}.mp4", "ok", "", 0.0, 10.0, times, ()) for one in clip_ids]
    write_frames(path, recipe, rows, [list(map(len, clip)) for clip in stored], lambda number: stored[number])


def _write_prompts(folder: Path, clip_ids: list[str]) -> None:
    choose = random.Random(0)
    events = [
        {
            "clip": clip_id,
            "event": event,
            "verb": choose.choice(SENSES),
            "roles": {
                "Arg0": f"{choose.choice(PEOPLE)} number {choose.randrange(1000)}",
                "Arg1": f"{choose.choice(THINGS)} number {choose.randrange(1000)}",
                "manner": choose.choice(("slowly", "quickly", "happily")),
                "scene": choose.choice(("street", "kitchen", "beach")),
            },
        }
        for clip_id in clip_ids
        for event in range(EVENTS)
    ]
    (folder / "annotations.json").write_text(json.dumps(events))
    build([folder / "annotations.json"], folder / "prompts.jsonl", options=PromptOptions())
