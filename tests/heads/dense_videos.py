"""Videos of made-up features in which something happens now and then, and what it is."""

from __future__ import annotations

import numpy as np
import torch

from figclip_cli.evaluate.datasets.dense_captions import DenseVideo
from figclip_cli.heads.dense.options import DenseOptions
from figclip_cli.heads.dense.sizes import DenseSizes
from figclip_cli.heads.dense.task import ExampleSet
from figclip_cli.heads.dense.train import make_head
from figclip_cli.heads.dense.videos import LeftOut, VideoFrames, make_example
from figclip_cli.heads.vocabulary import train_bpe

WIDTH = 12
KINDS = ("a red ball rolls away", "a dog runs", "somebody opens a door slowly", "it rains")
SMALL = {
    "width": 32,
    "queries": 5,
    "encoder_layers": 1,
    "caption_layers": 1,
    "attention_heads": 2,
    "positions": 40,
    "caption_points": 4,
    "max_tokens": 10,
    "vocabulary_size": 300,
}


class MadeVideos:
    """Videos with one to three events; each kind has a direction in the space of features."""

    def __init__(self, count, seed, *, shuffled=False):
        generator = np.random.default_rng(seed)
        directions = np.random.default_rng(99).normal(size=(len(KINDS), WIDTH)) * 2
        self.videos, examples = {}, []
        for number in range(count):
            duration = float(generator.uniform(8, 16))
            seconds = np.arange(int(2 * duration)) / 2
            features = generator.normal(size=(len(seconds), WIDTH)) * 0.3
            times, sentences, now = [], [], float(generator.uniform(0, 2))
            while now < duration - 2 and len(times) < 3:
                end, kind = min(duration, now + float(generator.uniform(2, 5))), int(generator.integers(len(KINDS)))
                features[(seconds >= now) & (seconds < end)] += directions[kind]
                times.append((now, end))
                sentences.append(KINDS[kind])
                now = end + float(generator.uniform(1, 3))
            name = f"video{seed}_{number:03d}"
            self.videos[name] = VideoFrames(
                torch.from_numpy(features).float(), torch.from_numpy(seconds / duration), duration
            )
            annotated = DenseVideo(duration, np.array(times), tuple(sentences))
            examples.append(make_example(name, annotated, duration, LeftOut()))
        self.examples = tuple(examples)
        if shuffled:  # every video has the features of another
            names = list(self.videos)
            turned = [self.videos[name] for name in names[1:] + names[:1]]
            self.videos = dict(zip(names, turned, strict=True))

    def take(self, clip_id):
        return self.videos[clip_id]

    def as_set(self):
        return ExampleSet(self.examples, self)


def small_head(videos, *, seed=0, **changed):
    """Return options, vocabulary and a head with random weights for videos."""
    options = DenseOptions(**{**SMALL, **changed})
    vocabulary = train_bpe([text for example in videos.examples for text in example.sentences], size=300)
    sizes = DenseSizes.of(options, feature_width=WIDTH, vocabulary_size=vocabulary.size, max_events=3, dropout=0.0)
    return options, vocabulary, make_head(sizes, seed=seed)
