"""Small frames and prompts files, written without videos: pictures that differ by clip, prompts as asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from figclip_cli.adapt.sources import ClipLists, SourceFiles, open_sources
from figclip_cli.adapt.texts import annotations_by_clip, kinds_of_negatives, texts_of
from figclip_cli.frames.clip import ClipResult
from figclip_cli.frames.preprocess import encode_jpeg
from figclip_cli.frames.sampling import SamplingRecipe
from figclip_cli.frames.store import write_frames
from figclip_cli.prompts import Negative, PromptEvent
from figclip_cli.prompts.store import encoded, write_prompts


def picture(clip_id: str, number: int, size: int) -> np.ndarray:
    """A smooth picture, as photographs are, whose colours depend on the clip and the frame."""
    slopes = np.random.default_rng([*clip_id.encode(), number]).uniform(-1, 1, (3, 2))
    y, x = np.mgrid[0:size, 0:size] / size
    return np.stack([127 + 80 * (a * x + b * y) for a, b in slopes], axis=-1).astype(np.uint8)


def write_small_frames(
    path, clip_ids, *, events=2, per_event=2, size=8, storage="jpeg", status=None, seconds=4.0, start=0.0
):
    """Write a frames file; ``status`` maps some clip ids to another status than ok; clips begin at ``start``."""
    recipe = SamplingRecipe(events=events, frames_per_event=per_event, size=size, storage=storage)
    times = tuple(start + (np.arange(recipe.frames) + 0.5) / recipe.frames * seconds)

    def pictures(clip_id):
        arrays = [picture(clip_id, number, size) for number in range(recipe.frames)]
        return [a.tobytes() if storage == "raw" else encode_jpeg(a, 95) for a in arrays]

    clips = [
        ClipResult(one, f"{one}.mp4", (status or {}).get(one, "ok"), "", start, seconds, times, ()) for one in clip_ids
    ]
    sizes = [list(map(len, pictures(one))) for one in clip_ids]
    write_frames(path, recipe, clips, sizes, lambda number: pictures(clip_ids[number]))
    return path


def event(clip_id, index=0, text=None, negatives=(), *, annotation=0, start=None, end=None):
    """One event; ``negatives`` are (kind, text)."""
    made = tuple(Negative({}, kind, said) for kind, said in negatives)
    text = f"{clip_id} does {index}" if text is None else text
    return PromptEvent(annotation, clip_id, end, index, (), made, (), start, text, "walk", "walk.01")


def write_small_prompts(path, events):
    events = sorted(events, key=lambda one: one.key)
    write_prompts(path, [encoded(events)], lambda: {"counts": {"events": len(events)}, "options": {}})
    return path


def write_small_source(folder: Path, name, clip_ids, *, events=2, prompts=None, weight=1.0, **frames):
    """Write frames and prompts of these clips; every event of each has a prompt unless ``prompts`` says which."""
    folder.mkdir(parents=True, exist_ok=True)
    if prompts is None:
        prompts = [event(clip_id, index) for clip_id in clip_ids for index in range(events)]
    frames_file = write_small_frames(folder / f"{name}.h5", clip_ids, events=events, **frames)
    return SourceFiles((frames_file,), write_small_prompts(folder / f"{name}.jsonl", prompts), weight)


def opened(files, lists=None, *, fraction=1.0, seed=0):
    return open_sources(files, lists or ClipLists(), fraction=fraction, seed=seed)[0]


def annotations_of(sources, options):
    """The annotations of each clip and the texts by row, without a text tower."""
    kinds = kinds_of_negatives(sources, options)
    table = sorted(set(texts_of(sources, kinds)))
    row_of = {text: row for row, text in enumerate(table)}

    def rows(texts):
        import torch

        return torch.tensor([row_of[text] for text in texts])

    return annotations_by_clip(sources, kinds, rows), table
