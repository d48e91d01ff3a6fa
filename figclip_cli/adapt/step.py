"""One training step: a batch's frames in, gradients and numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from figclip_cli.adapt.anchors import anchor_loss
from figclip_cli.adapt.batches import Batch
from figclip_cli.adapt.chance import stable_integer
from figclip_cli.adapt.encoding import PartwiseFeatures
from figclip_cli.adapt.objective import Terms, objective
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.processes import Processes
from figclip_cli.adapt.text_side import TextSide
from figclip_cli.errors import VerificationError
from figclip_cli.models.clip import Clip, autocast
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.lora import base_weights


@dataclass
class Model:
    """What a run computes with.

    Attributes:
        clip: The CLIP model, adapted.
        contextualizer: The VC, or None.
        base: The model before training, where turning LoRA off does not give it back: under full fine-tuning.
    """

    clip: Clip
    contextualizer: VideoContextualizer | None
    base: Clip | None = None

    def __post_init__(self) -> None:
        scale = self.clip.model.logit_scale
        assert isinstance(scale, Tensor)
        self._fixed_logit_scale = None if scale.requires_grad else self.clip.logit_scale

    def encode_frames(self, frames: Tensor, precision: str) -> Tensor:
        """Encode (F, S, S, 3) uint8 frames into raw float32 features (F, D)."""
        return _encoded(self.clip, frames, precision)

    @torch.no_grad()
    def encode_frames_by_base(self, frames: Tensor, precision: str) -> Tensor:
        """Encode frames as the base model does."""
        if self.base is not None:
            return _encoded(self.base, frames, precision)
        with base_weights(self.clip.model):
            return _encoded(self.clip, frames, precision)

    def parameters(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Return the trained weights of the towers, and those that every process has the whole gradient of."""
        scale = self.clip.model.logit_scale
        towers = [p for p in self.clip.model.parameters() if p.requires_grad and p is not scale]
        heads = list(self.contextualizer.parameters()) if self.contextualizer is not None else []
        if isinstance(scale, nn.Parameter) and scale.requires_grad:
            heads.append(scale)
        return towers, heads

    def logit_scale(self) -> Tensor | float:
        """Return the inverse temperature, with a gradient where it is trained."""
        if self._fixed_logit_scale is not None:
            return self._fixed_logit_scale
        return cast(Tensor, self.clip.model.logit_scale).exp()

    def logit_scale_value(self) -> float:
        """Return the inverse temperature as a number."""
        scale = self.logit_scale()
        return float(scale.detach()) if isinstance(scale, Tensor) else scale

    def all_weights(self) -> list[Tensor]:
        """Return all weights and buffers, trained or not."""
        modules: list[nn.Module] = [self.clip.model]
        if self.contextualizer is not None:
            modules.append(self.contextualizer)
        return [tensor for module in modules for tensor in (*module.parameters(), *module.buffers())]


def _encoded(clip: Clip, frames: Tensor, precision: str) -> Tensor:
    if not len(frames):
        return torch.zeros(0, clip.width, device=clip.device)
    with autocast(clip.device, precision):
        return clip.encode_frames(frames).float()


class Step:
    """Computes losses and gradients of batches, over all processes of a run.

    Args:
        model: What is trained.
        texts: Where features of texts come from.
        options: The objective.
        processes: Share each batch.
        micro_batch_clips: Clips whose activations are in memory at once, per process; None means all.
    """

    def __init__(
        self,
        model: Model,
        texts: TextSide,
        options: AdaptOptions,
        processes: Processes,
        micro_batch_clips: int | None = None,
    ) -> None:
        self._model, self._texts, self._options, self._processes = model, texts, options, processes
        self._micro_batch_clips = micro_batch_clips
        self._weights = options.term_weights()
        self._anchors = {kind: weight for kind, weight in options.anchor.items() if weight}
        self._towers, self._heads = model.parameters()
        self._images_are_trained = options.towers != "text"
        self._is_proven = False

    def gradients(self, batch: Batch, step: int, scale_loss: Callable[[Tensor], Tensor] = lambda loss: loss) -> Terms:
        """Add the gradients of a batch to the weights; return its loss, the same in every process.

        Args:
            batch: On the device.
            step: Finished steps; gives dropout its seed.
            scale_loss: What is differentiated in place of the loss, under fp16.
        """
        parts = self._parts(batch)
        assert isinstance(batch.frames, Tensor)
        seed, trained = self._seed(step, "frames"), self._images_are_trained
        frames = PartwiseFeatures(self.encode, batch.frames, parts=parts, seed=seed, trained=trained)
        features = self._processes.gather(frames.features, batch.frame_counts)  # (F, D)
        texts = self._texts.features(batch, parts=parts, seed=self._seed(step, "texts"))  # (U, D)
        terms = objective(
            features,
            self._model.contextualizer,
            layout=batch.layout,
            texts=texts,
            logit_scale=self._model.logit_scale(),
            weights=self._weights,
            natural_negatives=self._options.natural_negatives,
        )
        if self._anchors:
            terms = self._anchored(terms, features, batch)
        if terms.total.requires_grad:  # not in a process without frames of its own, where no head is trained either
            scale_loss(terms.total).backward()
        frames.backward()
        self._texts.backward()
        if not self._is_proven and len(batch.frames):
            self._prove_all_trained()
        self._processes.sum_gradients(self._towers)
        self._processes.sum_gradients(self._heads, mean=True)
        return terms

    def _prove_all_trained(self) -> None:
        """Refuse towers that leave a trained weight without a gradient: it would never move, and nothing would show.

        Checkpointing of the reentrant kind does that to a first block whose input needs no gradient.
        """
        self._is_proven = True
        missing = sum(weight.grad is None for weight in self._towers)
        if missing and self._options.rank:
            raise VerificationError(
                f"{missing} of {len(self._towers)} trained weights of the towers get no gradient",
                "leave out --gradient-checkpointing or --compile; update timm and open_clip_torch",
            )

    def _anchored(self, terms: Terms, features: Tensor, batch: Batch) -> Terms:
        assert isinstance(batch.frames, Tensor)
        own = torch.cat([self._by_base(part) for part in batch.frames.chunk(self._parts(batch))])
        base = self._processes.gather(own, batch.frame_counts)
        loss, parts = anchor_loss(features, base, self._anchors, batch.layout)
        return replace(terms, total=terms.total + loss, parts=terms.parts | parts)

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames with gradients, at the precision of the run."""
        return self._model.encode_frames(frames, self._options.precision)

    @torch.no_grad()
    def encode_in_parts(self, batch: Batch) -> Tensor:
        """Encode a batch's frames without gradients, as many at once as in training."""
        assert isinstance(batch.frames, Tensor)
        return torch.cat([self.encode(part) for part in batch.frames.chunk(self._parts(batch))])

    def _by_base(self, frames: Tensor) -> Tensor:
        return self._model.encode_frames_by_base(frames, self._options.precision)

    def _parts(self, batch: Batch) -> int:
        clips = math.ceil(len(batch.layout.clip_ids) / self._processes.count)
        return math.ceil(clips / (self._micro_batch_clips or clips))

    def _seed(self, step: int, what: str) -> Callable[[int], int] | None:
        """Return what seeds dropout in each part; nothing else draws numbers in a step."""
        if not self._options.lora_dropout:
            return None
        return lambda part: stable_integer(self._options.seed, "dropout", step, what, self._processes.rank, part)


# The largest float32 whose exponential is at most 100; that of log(100) itself is a little more.
_LARGEST_LOG_SCALE = 4.60516977


def clamp_temperature(model: nn.Module) -> None:
    """Keep a trained inverse temperature at most 100."""
    scale = model.logit_scale
    if isinstance(scale, nn.Parameter) and scale.requires_grad:
        with torch.no_grad():
            scale.clamp_(max=_LARGEST_LOG_SCALE)
