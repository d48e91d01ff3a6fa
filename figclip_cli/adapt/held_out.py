"""Go through clips without training: for validation, and for the tokens that are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from figclip_cli.adapt.batches import Batch, Batches
from figclip_cli.adapt.frames_on_device import on_device
from figclip_cli.adapt.processes import Processes
from figclip_cli.adapt.step import Model, Step
from figclip_cli.adapt.text_side import TextSide
from figclip_cli.adapt.validation import score_events, validation_metrics
from figclip_cli.models.lora import lora_layers

Validate = Callable[[Callable[[], bool]], dict[str, float]]


@contextmanager
def without_dropout(model: Model) -> Iterator[None]:
    """Put LoRA layers in evaluation mode, and back as they were."""
    layers = [layer for _, layer in lora_layers(model.clip.model)]
    before = [layer.training for layer in layers]
    for layer in layers:
        layer.eval()
    try:
        yield
    finally:
        for layer, was_training in zip(layers, before, strict=True):
            layer.train(was_training)


@torch.no_grad()
def encoded_batches(
    model: Model, step: Step, batches: Batches, texts: TextSide, processes: Processes, frame_size: int
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield each batch of one pass with the raw features (F, D) of all its frames, in every process."""
    with without_dropout(model):
        for batch in on_device(batches.one_pass(), processes.device, frame_size, texts.known):
            yield batch, processes.gather(step.encode_in_parts(batch), batch.frame_counts)


def validator(
    model: Model,
    step: Step,
    batches: Batches,
    texts: TextSide,
    *,
    processes: Processes,
    frame_size: int,
    kinds: Sequence[str],
) -> Validate:
    """Return a function that measures the held-out clips that ``batches`` go through.

    It is given a function that says whether to stop, and then raises ``KeyboardInterrupt``.

    Args:
        kinds: Names of the kinds of negatives, by number.
    """

    @torch.no_grad()
    def validate(should_stop: Callable[[], bool]) -> dict[str, float]:
        parts = []
        for batch, features in encoded_batches(model, step, batches, texts, processes, frame_size):
            found = texts.features(batch, parts=1, seed=None)
            parts.append(score_events(features, batch.layout, found, model.contextualizer))
            if should_stop():
                raise KeyboardInterrupt
        return validation_metrics(parts, kinds)

    return validate
