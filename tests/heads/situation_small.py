"""Small worlds for tests of the head for situation recognition: annotation in memory, features that tell the labels."""

from __future__ import annotations

import numpy as np
import torch

from figclip_cli.evaluate.datasets.vidsitu_annotations import RELATIONS, SituationArgument, SituationEvent
from figclip_cli.heads.situation.head import HeadSizes

SENSES = ("hit.01", "look.01", "push.01", "walk.01")
NOUNS = ("red ball", "Old man", "blue car, parked", "dog")
WIDTH, FRAMES = 24, 3


def event(sense, roles=(), relation=""):
    """An event whose roles are (name, value) pairs."""
    arguments = [SituationArgument(f"{name} (x)", name, value, place) for place, (name, value) in enumerate(roles)]
    return SituationEvent(sense.split(".")[0], sense, tuple(arguments), relation)


def small_world(count=12, seed=0):
    """Clips with one annotation each, and features that say which verb and which noun it is."""
    generator = np.random.default_rng(seed)
    directions = torch.from_numpy(np.random.default_rng(99).normal(size=(3, 4, WIDTH))).float()
    annotated, events, frames = {}, torch.zeros(count, 5, WIDTH), torch.zeros(count, 5, FRAMES, WIDTH)
    for clip in range(count):
        made = []
        for place in range(5):
            verb, agent, patient = generator.integers(0, 4, 3)
            roles = [("Arg0", NOUNS[agent])] + ([("Arg1", NOUNS[patient])] if verb % 2 else []) + [("AScn", "street")]
            made.append(event(SENSES[verb], roles, "" if place == 2 else RELATIONS[verb]))
            signal = directions[0, verb] + directions[1, agent] + directions[2, patient]
            events[clip, place] = signal
            frames[clip, place] = signal + torch.from_numpy(generator.normal(size=(FRAMES, WIDTH))).float() * 0.1
        annotated[f"clip{clip:03d}"] = (tuple(made),)
    return annotated, Features(list(annotated), events.mean(1), events, frames)


class Features:
    """Features in memory."""

    def __init__(self, clip_ids, videos, events, frames):
        self.row_of = {clip_id: row for row, clip_id in enumerate(clip_ids)}
        self.videos, self.events, self.frames = videos, events, frames

    def take(self, clip_ids):
        rows = torch.tensor([self.row_of[clip_id] for clip_id in clip_ids], dtype=torch.int64)
        return self.videos[rows], self.events[rows], self.frames[rows]


def small_sizes(labels, vocabulary, **changes):
    """Sizes of a small head."""
    values = {
        "feature_width": WIDTH,
        "frames_per_event": FRAMES,
        "senses": len(labels.senses),
        "vocabulary_size": vocabulary.size,
        "width": 16,
        "decoder_layers": 1,
        "attention_heads": 2,
        "max_tokens": 8,
        "dropout": 0.0,
    }
    return HeadSizes(**{**values, **changes})
