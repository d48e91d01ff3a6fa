"""The head as something that the shared loop trains."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from figclip_cli.heads.chance import generator_for
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.situation.examples import ClipFeatures, Examples, Rows
from figclip_cli.heads.situation.head import Encoded, SituationHead
from figclip_cli.heads.situation.losses import PHRASES, RELATIONS, ROLE_NAMES, VERBS, Counts, accuracies, losses
from figclip_cli.heads.situation.options import SituationOptions
from figclip_cli.heads.training import Validation


@dataclass(frozen=True)
class ClipSet:
    """Annotated clips with their features."""

    examples: Examples
    features: ClipFeatures


@dataclass(frozen=True)
class Batch:
    """Some clips."""

    videos: Tensor
    events: Tensor
    frames: Tensor
    rows: Rows


class SituationTask:
    """A head with the clips it is trained on, and those it is measured on.

    Args:
        module: The head, on the device where it is trained.
        training: Clips to train on.
        held_out: Clips to measure; None keeps the last epoch.
        pad_id: Of the vocabulary.
    """

    def __init__(
        self,
        module: SituationHead,
        training: ClipSet,
        held_out: ClipSet | None,
        options: SituationOptions,
        how: TrainingOptions,
        pad_id: int,
    ) -> None:
        self.module: nn.Module = module
        self._head = module
        self._training, self._held_out = training, held_out
        self._options, self._how, self._pad_id = options, how, pad_id
        self._device = module.sense.weight.device
        self._weights = {
            VERBS: options.verbs_weight,
            PHRASES: options.roles_weight,
            ROLE_NAMES: options.role_names_weight,
            RELATIONS: options.relations_weight,
        }

    def steps(self) -> int:
        """Return the number of batches of an epoch."""
        return math.ceil(len(self._training.examples) / self._how.batch_size)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Yield the clips in an order that follows from the seed and the epoch."""
        order = torch.randperm(len(self._training.examples), generator=generator_for(self._how.seed, "order", epoch))
        for clips in order.split(self._how.batch_size):
            yield self._batch(self._training, clips)

    def _batch(self, clips: ClipSet, which: Tensor) -> Batch:
        ids = [clips.examples.clip_ids[row] for row in which.tolist()]
        videos, events, frames = (tensor.to(self._device) for tensor in clips.features.take(ids))
        return Batch(videos, events, frames, clips.examples.take(which).to(self._device))

    def _encode(self, batch: Batch) -> Encoded:
        return self._head.encode(batch.videos, batch.events, batch.frames)

    def loss(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """Return the weighted sum of the losses of all parts, and each without its weight."""
        found = losses(
            self._head,
            self._encode(batch),
            batch.rows,
            unknown_verbs=self._options.unknown_verbs,
            pad_id=self._pad_id,
        )
        # A head that is trained for relations alone meets batches without one.
        nothing = self._head.sense.weight.sum() * 0.0
        total = sum((self._weights[name] * loss for name, loss in found.items()), nothing)
        return total, {name: float(loss.detach()) for name, loss in found.items()}

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Score held-out clips: the mean of verb accuracy and phrase token accuracy, of what is trained."""
        if self._held_out is None:
            return None
        found: dict[str, Counts] = {}
        for which in torch.arange(len(self._held_out.examples)).split(self._how.batch_size):
            batch = self._batch(self._held_out, which)
            for name, counts in accuracies(self._head, self._encode(batch), batch.rows, self._pad_id).items():
                found[name] = found.get(name, Counts(0.0, 0.0)).plus(counts)
        if not any(counts.of for counts in found.values()):
            return None  # nothing of what is trained can be measured on these clips: the last epoch is kept
        shares = {f"{name}_accuracy": counts.share for name, counts in found.items()}
        return Validation(score_of(found), True, shares)


def score_of(found: dict[str, Counts]) -> float:
    """Return what decides which epoch is kept: verbs and phrases, or relations where nothing else is trained."""
    deciding = [name for name in (VERBS, PHRASES) if name in found] or list(found)
    return sum(found[name].share for name in deciding) / max(1, len(deciding))
