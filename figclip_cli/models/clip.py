"""A loaded CLIP model with everything that must travel with it: activation, preprocessing, context length."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from figclip_cli.errors import InputError
from figclip_cli.models.architecture import build_architecture, load_weights
from figclip_cli.models.model_config import with_cached_names
from figclip_cli.models.openai_clip import without_stated
from figclip_cli.models.source import ModelSource, ResolvedSource, resolve
from figclip_cli.models.stored_weights import first_line, open_weights
from figclip_cli.reporting import SILENT, Reporter

__all__ = [
    "Clip",
    "Preprocess",
    "autocast",
    "build_architecture",
    "choose_device",
    "load_clip",
    "sha256_of_weights",
]

_CROPS = {"shortest": "center", "squash": "squash", "longest": "letterbox"}
_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Preprocess:
    """How pixels become the tower's input.

    Attributes:
        size: Side of the square input in pixels.
        mean: Per-channel mean of pixels in [0, 1].
        std: Per-channel standard deviation.
        interpolation: Resize filter the weights were trained with.
        resize_mode: ``shortest`` (short side, then centre crop), ``squash`` or ``longest``.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    resize_mode: str

    @property
    def crop(self) -> str:
        """What ``extract-frames --crop`` calls the resize mode."""
        return _CROPS.get(self.resize_mode, self.resize_mode)

    def as_dict(self) -> dict[str, Any]:
        """Return open_clip's ``preprocess_cfg``."""
        return {
            "size": [self.size, self.size],
            "mode": "RGB",
            "mean": list(self.mean),
            "std": list(self.std),
            "interpolation": self.interpolation,
            "resize_mode": self.resize_mode,
        }


@dataclass
class Clip:
    """A CLIP model ready to encode.

    Attributes:
        model: The open_clip module, in evaluation mode.
        name: Short name for tables.
        source: What the user asked for.
        model_config: open_clip's ``model_cfg``, with ``quick_gelu`` written out.
        preprocess: How frames become input.
        tokenizer: Texts to (n, context) int64.
        sha256: Hash of all weights as loaded; identifies the base model in every result.
        image_adapter: Hash of what was attached to the image tower since; empty for the base.
        text_adapter: The same of the text tower.
    """

    model: nn.Module
    name: str
    source: ModelSource
    model_config: dict[str, Any]
    preprocess: Preprocess
    tokenizer: Callable[[Sequence[str]], Tensor]
    sha256: str
    image_adapter: str = ""
    text_adapter: str = ""

    @property
    def width(self) -> int:
        """Embedding width D."""
        return int(self.model_config["embed_dim"])

    @property
    def context_length(self) -> int:
        """Tokens of a text, start and end included."""
        return int(self.model_config["text_cfg"].get("context_length", 77))

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def logit_scale(self) -> float:
        """Inverse temperature learned in pre-training, already exponentiated."""
        return float(self.model.logit_scale.detach().exp())  # type: ignore[operator]

    def check_frames(self, *, size: int, crop: str, interpolation: str, reporter: Reporter = SILENT) -> None:
        """Refuse stored frames that were not prepared for this model.

        Args:
            size: Side of the stored frames in pixels.
            crop: How they were cropped.
            interpolation: How they were resized.

        Raises:
            InputError: The frames have another size than the model's input; resizing them again would blur.
        """
        if size != self.preprocess.size:
            raise InputError(
                f"the frames are {size} x {size} pixels, {self.name} takes {self.preprocess.size}",
                f"extract them again with --size {self.preprocess.size}",
            )
        wanted = {"crop": self.preprocess.crop, "interpolation": self.preprocess.interpolation}
        for what, found in (("crop", crop), ("interpolation", interpolation)):
            if found != wanted[what] and not (found == "center-0.875" and wanted[what] == "center"):
                reporter.warn(f"{self.name} was trained with the {what} '{wanted[what]}', the frames have '{found}'")

    def encode_frames(self, frames: Tensor) -> Tensor:
        """Encode frames into raw features.

        Args:
            frames: (N, size, size, 3) uint8 RGB on any device.

        Returns:
            (N, D) features, not normalised, with gradients where the tower asks for them.
        """
        pixels = frames.to(self.device, non_blocking=True).permute(0, 3, 1, 2).float().div_(255.0)
        mean, std = _channels(self.preprocess.mean, self.device), _channels(self.preprocess.std, self.device)
        features: Tensor = self.model.encode_image((pixels - mean) / std)  # type: ignore[operator]
        return features

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """Encode texts into raw features (n, D); texts over the context are cut before the end token."""
        tokens = self.tokenizer(list(texts)).to(self.device)
        features: Tensor = self.model.encode_text(tokens)  # type: ignore[operator]
        return features.float()

    def text_similarity_features(self, texts: Sequence[str]) -> Tensor:
        """Encode texts into unit-length features (n, D)."""
        return F.normalize(self.encode_texts(texts), dim=-1)


@lru_cache(maxsize=16)
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return (1, 3, 1, 1) float32 on a device; copied there once, since a copy makes a GPU's queue wait."""
    return torch.tensor(values, device=device).view(1, 3, 1, 1)


def load_clip(source: ModelSource, *, device: torch.device | str = "cpu", reporter: Reporter = SILENT) -> Clip:
    """Build a model and load its weights, in float32 and evaluation mode.

    Raises:
        InputError: The model or its weights are missing, damaged or do not fit each other.
        UsageError: The activation of the weights cannot be known.
    """
    resolved = resolve(source)
    for remark in resolved.remarks:
        reporter.info(remark)
    model = _build(resolved)
    preprocess = _preprocess(model, resolved)
    return Clip(
        model=model.to(device).eval(),
        name=resolved.name,
        source=source,
        model_config=resolved.model_config,
        preprocess=preprocess,
        tokenizer=_tokenizer(resolved),
        sha256=sha256_of_weights(model.state_dict()),
    )


def _build(resolved: ResolvedSource) -> nn.Module:
    stored = resolved.stored or without_stated(open_weights(resolved.weights))
    return load_weights(resolved.model_config, stored, name=resolved.name, may_fetch=resolved.may_fetch)


def _preprocess(model: nn.Module, resolved: ResolvedSource) -> Preprocess:
    from open_clip.transform import PreprocessCfg

    known = PreprocessCfg.__dataclass_fields__
    values = PreprocessCfg(**{key: value for key, value in resolved.preprocess.items() if key in known})
    size: Any = cast(Any, model.visual).image_size
    sides = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    if sides[0] != sides[1]:
        raise InputError(f"{resolved.name} takes images of {sides[0]} x {sides[1]} pixels", "choose a square one")
    mean, std = tuple(values.mean), tuple(values.std)
    return Preprocess(int(sides[0]), mean, std, values.interpolation, values.resize_mode)


def _tokenizer(resolved: ResolvedSource) -> Callable[[Sequence[str]], Tensor]:
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    text = resolved.model_config["text_cfg"]
    if not resolved.may_fetch:
        text = with_cached_names(resolved.model_config)["text_cfg"]
    context = int(text.get("context_length", 77))
    if text.get("hf_tokenizer_name") is None:
        plain: Callable[[Sequence[str]], Tensor] = SimpleTokenizer(context_length=context)
        return plain
    try:
        foreign: Callable[[Sequence[str]], Tensor] = HFTokenizer(
            text["hf_tokenizer_name"], context_length=context, **(text.get("tokenizer_kwargs") or {})
        )
    except Exception as error:
        raise InputError(
            f"the tokenizer {text['hf_tokenizer_name']} of {resolved.name} cannot be loaded: {first_line(error)}",
            "it needs the transformers package and the tokenizer's files in the local hub cache",
        ) from error
    return foreign


def sha256_of_weights(state: Mapping[str, Tensor]) -> str:
    """Hash names, shapes, dtypes and bytes of all tensors, in name order."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tuple(tensor.shape)}|{tensor.dtype}|".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which towers compute: autocast under ``bf16`` and ``fp16``, nothing under ``fp32``."""
    return torch.autocast(device.type, _HALVES[precision]) if precision in _HALVES else nullcontext()


def choose_device(name: str) -> torch.device:
    """Return the device for ``auto``, ``cpu`` or ``cuda``.

    Raises:
        InputError: A GPU was asked for and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: no CUDA device is available", "use --device cpu")
    return torch.device(name)
