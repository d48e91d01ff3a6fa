"""The head as something that the shared loop trains, and how held-out videos are scored."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from figclip_cli.evaluate.datasets.dense_captions import DenseCaptions
from figclip_cli.evaluate.datasets.dense_submissions import Proposals, Submission
from figclip_cli.evaluate.dense_captioning.scores import SubmissionScores, key_of, references_of
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions
from figclip_cli.heads.caption_decoder import caption_loss
from figclip_cli.heads.chance import generator_for
from figclip_cli.heads.dense.head import DenseHead, Encoded, Found, VideoBatch
from figclip_cli.heads.dense.inference import Proposal, describe, propose
from figclip_cli.heads.dense.losses import CAPTION, PARTS, set_losses
from figclip_cli.heads.dense.matching import MatchingWeights
from figclip_cli.heads.dense.options import LOSS, DenseOptions, DensePredictOptions
from figclip_cli.heads.dense.videos import Example, VideoSource, make_batch, pad_segments, to_device
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.training import Validation
from figclip_cli.heads.vocabulary import Vocabulary, padded


@dataclass(frozen=True)
class ExampleSet:
    """Annotated videos with their frames."""

    examples: tuple[Example, ...]
    videos: VideoSource


@dataclass(frozen=True)
class Batch:
    """Some videos: frames, segments of each (n, 2), and the tokens of all captions (events, L)."""

    videos: VideoBatch
    durations_seconds: tuple[float, ...]
    segments: tuple[Tensor, ...]
    tokens: Tensor


class DenseTask:
    """A head with the videos it is trained on, and those it is measured on.

    Args:
        module: The head, on the device where it is trained.
        training: Videos to train on.
        held_out: Videos to measure; None keeps the last epoch.
        vocabulary: Of the captions.
    """

    def __init__(
        self,
        module: DenseHead,
        training: ExampleSet,
        held_out: ExampleSet | None,
        options: DenseOptions,
        how: TrainingOptions,
        vocabulary: Vocabulary,
    ) -> None:
        self.module = module
        self._training, self._held_out = training, held_out
        self._options, self._how, self._vocabulary = options, how, vocabulary
        self._device = module.query.device
        self._matching = MatchingWeights(options.class_weight, options.l1_weight, options.giou_weight)
        weights = (getattr(options, f"{name}_weight") for name in PARTS)
        self._weights: dict[str, float] = dict(zip(PARTS, weights, strict=True))

    def steps(self) -> int:
        """Return the number of batches of an epoch."""
        return math.ceil(len(self._training.examples) / self._how.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the videos in an order that follows from the seed and the epoch."""
        order = torch.randperm(len(self._training.examples), generator=generator_for(self._how.seed, "order", epoch))
        for rows in order.split(self._how.batch_size):
            yield self._batch(self._training, rows.tolist())

    def _batch(self, videos: ExampleSet, rows: Sequence[int]) -> Batch:
        examples = [videos.examples[row] for row in rows]
        taken = [videos.videos.take(example.clip_id) for example in examples]
        sentences = [sentence for example in examples for sentence in example.sentences]
        dtype = torch.float32
        return Batch(
            to_device(make_batch(taken, self._options.positions, dtype), self._device),
            tuple(video.duration_seconds for video in taken),
            tuple(example.segments.to(self._device, dtype) for example in examples),
            padded(self._vocabulary, sentences, self._options.max_tokens).to(self._device),
        )

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted sum of the losses of all layers, and those of the last one without their weights."""
        encoded = self.module.encode(batch.videos)
        if self.module.sizes.is_given:
            loss = self._given_caption_loss(encoded, batch)
            return self._weights[CAPTION] * loss, {CAPTION: float(loss.detach())}
        layers = self.module.find(encoded)
        total = encoded.frames.new_zeros(())
        last: dict[str, Tensor] = {}
        for number, found in enumerate(layers):
            last, matched = set_losses(found, batch.segments, self._matching)
            if number == len(layers) - 1:
                last[CAPTION] = self._caption_loss(encoded, found, matched, batch)
            weighted = sum(self._weights[name] * value for name, value in last.items())
            total = total + weighted * (1.0 if number == len(layers) - 1 else self._options.auxiliary_weight)
        return total, {name: float(value.detach()) for name, value in last.items()}

    def _caption_loss(self, encoded: Encoded, found: Found, matched: Tensor, batch: Batch) -> Tensor:
        """Return the captions' loss, each written by the query that its event is matched with."""
        video, query, event = matched.to(self._device).unbind(1)
        starts = torch.tensor([0, *map(len, batch.segments)], device=self._device).cumsum(0)
        memory = self.module.caption_memory(encoded, video, found.events[video, query], found.segments[video, query])
        return self._written(memory, batch.tokens[starts[video] + event])

    def _given_caption_loss(self, encoded: Encoded, batch: Batch) -> Tensor:
        segments, there = (one.to(self._device) for one in pad_segments(batch.segments, encoded.frames.dtype))
        events = self.module.look_at(encoded, segments, there)
        video, place = there.nonzero(as_tuple=True)
        memory = self.module.caption_memory(encoded, video, events[video, place], segments[video, place])
        return self._written(memory, batch.tokens)

    def _written(self, memory: Tensor, tokens: Tensor) -> Tensor:
        everything = torch.ones(memory.shape[:2], dtype=torch.bool, device=memory.device)
        logits = self.module.captions(memory, everything, tokens[:, :-1])
        return caption_loss(logits, tokens[:, 1:], self._vocabulary.pad_id)

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Score held-out videos: by their captions and segments, or by the loss; see :func:`score_proposals`."""
        if self._held_out is None:
            return None
        examples = self._held_out.examples
        sums: dict[str, float] = {}
        proposals: list[list[Proposal]] = []
        for start in range(0, len(examples), self._how.batch_size):
            rows = range(start, min(start + self._how.batch_size, len(examples)))
            batch = self._batch(self._held_out, rows)
            loss, parts = self.loss(batch)
            for name, value in {"loss": float(loss), **parts}.items():
                sums[name] = sums.get(name, 0.0) + value * len(rows)
            if self._options.best_by != LOSS:
                proposals += self._proposals(batch, [examples[row] for row in rows])
        means = {name: value / len(examples) for name, value in sums.items()}
        if self._options.best_by == LOSS:
            return Validation(means["loss"], False, means)
        scores = score_proposals(examples, proposals)
        return Validation((scores["f1"] + scores["cider"]) / 2, True, {**means, **scores})

    def _proposals(self, batch: Batch, examples: Sequence[Example]) -> list[list[Proposal]]:
        how = DensePredictOptions()
        if not self.module.sizes.is_given:
            return propose(self.module, batch.videos, batch.durations_seconds, self._vocabulary, how)
        segments = [example.annotated.segments_seconds for example in examples]
        return describe(self.module, batch.videos, batch.durations_seconds, segments, self._vocabulary, how)


def score_proposals(examples: Sequence[Example], proposals: Sequence[Sequence[Proposal]]) -> dict[str, float]:
    """Return ``recall``, ``precision``, their ``f1``, and ``cider`` (0 to 10), means over videos and four overlaps.

    They are what ``figclip evaluate dense-captioning`` computes, of held-out annotation.
    """
    names = [str(number) for number in range(len(examples))]
    videos = {name: example.annotated for name, example in zip(names, examples, strict=True)}
    references = references_of([DenseCaptions("held out", "", "activitynet", videos)])
    submitted = {name: as_proposals(own) for name, own in zip(names, proposals, strict=True)}
    options = DenseCaptioningOptions()
    scores = SubmissionScores(Submission("held out", Path(), "", "", None, submitted), references, options)
    scores.add_words()

    def mean(measure: str) -> float:
        return float(np.mean([scores.values[key_of(measure, threshold)].mean() for threshold in options.thresholds]))

    recall, precision = mean("recall"), mean("precision")
    f1 = 2 * recall * precision / (recall + precision) if recall + precision else 0.0
    return {"recall": recall, "precision": precision, "f1": f1, "cider": mean("CIDEr")}


def as_proposals(proposals: Sequence[Proposal]) -> Proposals:
    """Return the proposals of a video as the scorer takes them."""
    times = [(proposal.start_seconds, proposal.end_seconds) for proposal in proposals]
    return Proposals(np.array(times, dtype=np.float64).reshape(-1, 2), tuple(one.sentence for one in proposals))
