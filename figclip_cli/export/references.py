"""What an export is compared with: the unmerged model, and what a cast alone does, all in this process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from figclip_cli.export.material import Material, is_cast
from figclip_cli.export.samples import Samples
from figclip_cli.models.clip import Clip
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.lora import adapter_state, load_adapter_state

Outputs = dict[str, Tensor]
_CLIPS = 2


@dataclass(frozen=True)
class Reference:
    """What one kind of folder is compared with.

    Attributes:
        adapted: Of the unmerged model in float32.
        cast_alone: Differences that the cast makes where nothing was merged: in the base model, or in a
            contextualizer, which has no base. Empty for float32.
        expected: Of the merged model rounded alike and computed in float32; None for float32, and for programs, which
            compute in the half type.
        logit_scale: Inverse temperature.
        roundoff: Largest relative error of rounding to the type.
    """

    adapted: Outputs
    cast_alone: Mapping[str, float]
    expected: Outputs | None
    logit_scale: float
    roundoff: float


@torch.no_grad()
def clip_outputs(clip: Clip, samples: Samples) -> Outputs:
    """Return ``image`` (n, D), ``text`` (m, D), not normalised, and ``logits`` (n, m), float32, on the CPU."""
    image, text = clip.encode_frames(samples.images).float().cpu(), clip.encode_texts(samples.texts).cpu()
    logits = clip.logit_scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    return {"image": image, "text": text, "logits": logits}


@torch.no_grad()
def contextualizer_outputs(contextualizer: VideoContextualizer, frames: Tensor) -> Outputs:
    """Return ``video`` (n, D) and ``events`` (n, P, D) of frames (n, P, T, D)."""
    video, events = contextualizer(frames)
    return {"video": video, "events": events}


def clips_of_frames(features: Tensor, contextualizer: VideoContextualizer) -> Tensor:
    """Return image features (n, D) as frames of clips, (2, P, T, D), as many of each as it was built for."""
    config = contextualizer.config
    count = _CLIPS * config.max_events * config.max_frames_per_event
    rows = torch.arange(count) % len(features)
    return features[rows].view(_CLIPS, config.max_events, config.max_frames_per_event, -1)


def largest_differences(reference: Outputs, found: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the largest absolute difference by kind, of features at unit length and of logits as they are."""
    return {kind: _largest(_comparable(kind, one), _comparable(kind, found[kind])) for kind, one in reference.items()}


def _largest(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max()) if one.shape == other.shape else math.inf


def _comparable(kind: str, values: Tensor) -> Tensor:
    return values if kind == "logits" else F.normalize(values, dim=-1)


class BaseCast:
    """What a cast does to the base model, computed once for all exports of a run.

    Args:
        base: The base model, not adapted.
        state: Copies of its tensors.
        dtype: The type that is cast to.
    """

    def __init__(self, base: Clip, state: Mapping[str, Tensor], samples: Samples, dtype: torch.dtype) -> None:
        self._base, self._state, self._samples, self._dtype = base, state, samples, dtype
        self._outputs: dict[str, Outputs] = {}
        if dtype != torch.float32:
            self._outputs["base"] = clip_outputs(base, samples)
            self._outputs["weights"] = rounded_outputs(base, state, samples, dtype)
            self._outputs["program"] = self._in_half()

    def differences(self, holds: str) -> dict[str, float]:
        """Return differences between base and cast base, computing as what is exported does; none for float32."""
        if not self._outputs:
            return {}
        cast = self._outputs["program" if holds == "program" else "weights"]
        return largest_differences(self._outputs["base"], cast)

    @torch.no_grad()
    def _in_half(self) -> Outputs:
        """Compute in the half type itself, and put the float32 weights back."""
        clip, samples = self._base, self._samples
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (clip.preprocess.mean, clip.preprocess.std))
        pixels = (samples.images.permute(0, 3, 1, 2).float() / 255 - mean) / std
        model = clip.model.to(self._dtype)
        try:
            image = model.encode_image(pixels.to(self._dtype)).float()  # type: ignore[operator]
            text = model.encode_text(clip.tokenizer(list(samples.texts))).float()  # type: ignore[operator]
        finally:
            clip.model.float()
            clip.model.load_state_dict(self._state)
        logits = clip.logit_scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
        return {"image": image, "text": text, "logits": logits}


def rounded_outputs(clip: Clip, state: Mapping[str, Tensor], samples: Samples, dtype: torch.dtype) -> Outputs:
    """Return a model's outputs with its weights rounded to a type, computed in float32; its weights are put back."""
    kept = {name: tensor.clone() for name, tensor in state.items()}
    try:
        clip.model.load_state_dict(rounded(kept, dtype))
        return clip_outputs(clip, samples)
    finally:
        clip.model.load_state_dict(kept)


def rounded_adapter_outputs(adapted: Clip, samples: Samples, dtype: torch.dtype) -> Outputs:
    """Return an unmerged model's outputs with its adapter alone rounded; the adapter is put back."""
    kept = adapter_state(adapted.model)
    try:
        load_adapter_state(adapted.model, rounded(kept, dtype))
        return clip_outputs(adapted, samples)
    finally:
        load_adapter_state(adapted.model, kept)


def rounded(tensors: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return tensors with the numbers that they have after a cast, in their own types."""
    return {name: one.to(dtype).to(one.dtype) if is_cast(name, one) else one for name, one in tensors.items()}


def roundoff(dtype: torch.dtype) -> float:
    """Return the largest relative error of rounding to a type."""
    return torch.finfo(dtype).eps / 2


def contextualizer_reference(material: Material, frames: Tensor) -> Reference:
    """Return what an exported contextualizer is compared with.

    Args:
        frames: (n, P, T, D) image features.
    """
    contextualizer = material.contextualizer
    assert contextualizer is not None, "checked before"
    outputs = contextualizer_outputs(contextualizer, frames)
    if material.dtype == torch.float32:
        return Reference(outputs, {}, None, 1.0, roundoff(material.dtype))
    twin = VideoContextualizer(contextualizer.config).eval()
    state = contextualizer.state_dict()
    twin.load_state_dict(rounded(state, material.dtype))
    expected = contextualizer_outputs(twin, frames)
    cast = largest_differences(outputs, expected)
    return Reference(outputs, cast, expected, 1.0, roundoff(material.dtype))
