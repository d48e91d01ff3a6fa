"""Weights of open_clip's ``CLIP`` under the names of transformers' ``CLIPModel``, and back, bit for bit.

Both libraries compute the same function of the same numbers. They name them differently, keep the two projections
transposed, and q, k and v of an attention as one tensor (open_clip) or as three.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.model_sizes import shown_key
from figclip_cli.models.transformers_config import (
    VOCABULARY_SIZE,
    ClipSizes,
    TowerSizes,
    clip_sizes,
    transformers_config,
)
from figclip_cli.models.transformers_config_reader import model_config_of

__all__ = ["from_transformers", "model_config_of", "to_transformers", "transformers_config", "transformers_name"]

_IMAGE, _TEXT = "vision_model", "text_model"
_IN_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}
_ATTENTION_PARTS = {"q": "q_proj", "k": "k_proj", "v": "v_proj"}
_PARTS = {
    **{part: f"self_attn.{name}" for part, name in _ATTENTION_PARTS.items()},
    "o": "self_attn.out_proj",
    "fc": "mlp.fc1",
    "proj": "mlp.fc2",
}
_BLOCK = re.compile(r"(visual\.)?transformer\.resblocks\.(0|[1-9]\d*)(?:\.(.+))?")
# What the modules of an adapted block are called, and which of its projections each holds.
_HOLDS = {
    None: tuple(_PARTS),
    "attn": (*_ATTENTION_PARTS, "o"),
    "attn.qkv": tuple(_ATTENTION_PARTS),
    "attn.out_proj": ("o",),
    "mlp": ("fc", "proj"),
    "mlp.c_fc": ("fc",),
    "mlp.c_proj": ("proj",),
}
# Counters that old files hold; they are no weights.
_POSITION_IDS = (f"{_IMAGE}.embeddings.position_ids", f"{_TEXT}.embeddings.position_ids")


class _Row(NamedTuple):
    """One tensor of open_clip and what it is in transformers: one tensor, its transpose, or three stacked ones."""

    open_clip: str
    transformers: tuple[str, ...]
    shape: tuple[int, ...]
    transposed: bool = False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """The shape of each tensor in transformers."""
        if self.transposed:
            return self.shape[::-1]
        return (self.shape[0] // len(self.transformers), *self.shape[1:]) if self.shape else ()


def to_transformers(state: Mapping[str, Tensor], model_config: Mapping[str, object]) -> dict[str, Tensor]:
    """Return weights under the names of ``CLIPModel``.

    Args:
        state: open_clip's names; every tensor of the model and no other.
        model_config: open_clip's ``model_cfg``.

    Returns:
        Contiguous tensors on the CPU that own their memory, of the same types; safetensors writes them as they are.

    Raises:
        UsageError: ``CLIPModel`` cannot hold the model.
        InputError: A tensor is missing, left over, or of another shape than the configuration says.
    """
    rows = list(_rows(clip_sizes(model_config)))
    _check({row.open_clip: row.shape for row in rows}, state, "open_clip")
    tensors: dict[str, Tensor] = {}
    for row in rows:
        whole = state[row.open_clip].detach().cpu()
        parts = (whole.t(),) if row.transposed else whole.chunk(len(row.transformers)) if whole.dim() else (whole,)
        for name, part in zip(row.transformers, parts, strict=True):
            tensors[name] = part.clone(memory_format=torch.contiguous_format)
    return tensors


def from_transformers(state: Mapping[str, Tensor], model_config: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the weights of a ``CLIPModel`` under open_clip's names; the inverse of :func:`to_transformers`.

    Args:
        state: Names of ``CLIPModel``; the ``position_ids`` of old files may be among them. Tensors on the ``meta``
            device are checked and renamed like any other.
        model_config: open_clip's ``model_cfg``.

    Raises:
        UsageError: ``CLIPModel`` cannot hold the model.
        InputError: A tensor is missing, left over, or of another shape than the configuration says.
    """
    rows = list(_rows(clip_sizes(model_config)))
    weights = {name: tensor for name, tensor in state.items() if name not in _POSITION_IDS}
    _check({name: row.stored_shape for row in rows for name in row.transformers}, weights, "transformers")
    tensors: dict[str, Tensor] = {}
    for row in rows:
        parts = [weights[name].detach() for name in row.transformers]
        whole = torch.cat(parts) if len(parts) > 1 else parts[0]
        tensors[row.open_clip] = whole.t().contiguous() if row.transposed else whole
    return tensors


def transformers_name(open_clip_module: str, part: str) -> str:
    """Return the name in ``CLIPModel`` of a projection of an open_clip block.

    Args:
        open_clip_module: The module that was adapted (``visual.transformer.resblocks.3.attn``,
            ``transformer.resblocks.0.mlp.c_fc``), its parent as in the names of an adapter file
            (``transformer.resblocks.0.mlp``), or the block.
        part: ``q``, ``k``, ``v``, ``o``, ``fc`` or ``proj``.

    Raises:
        UsageError: ``CLIPModel`` has no such projection.
    """
    match = _BLOCK.fullmatch(open_clip_module)
    if match is None or part not in _HOLDS.get(match[3], ()):
        raise UsageError(
            f"transformers' CLIPModel has no counterpart of '{shown_key(part)}' in {shown_key(open_clip_module)}",
            "only plain ViT and text towers have one; the open_clip format holds any",
        )
    return f"{_IMAGE if match[1] else _TEXT}.encoder.layers.{match[2]}.{_PARTS[part]}"


def _rows(sizes: ClipSizes) -> Iterator[_Row]:
    """Yield every tensor of a CLIP with two plain transformer towers."""
    image, text, embed = sizes.vision.width, sizes.text.width, sizes.embed_dim
    pixels = (image, 3, sizes.patch_size, sizes.patch_size)
    yield _Row("logit_scale", ("logit_scale",), ())
    yield _Row("visual.class_embedding", (f"{_IMAGE}.embeddings.class_embedding",), (image,))
    yield _Row("visual.conv1.weight", (f"{_IMAGE}.embeddings.patch_embedding.weight",), pixels)
    positions = f"{_IMAGE}.embeddings.position_embedding.weight"
    yield _Row("visual.positional_embedding", (positions,), (sizes.positions, image))
    yield from _norm("visual.ln_pre", f"{_IMAGE}.pre_layrnorm", image)  # spelt so in transformers
    yield from _blocks("visual.transformer", _IMAGE, sizes.vision)
    yield from _norm("visual.ln_post", f"{_IMAGE}.post_layernorm", image)
    yield _Row("visual.proj", ("visual_projection.weight",), (image, embed), transposed=True)
    yield _Row("token_embedding.weight", (f"{_TEXT}.embeddings.token_embedding.weight",), (VOCABULARY_SIZE, text))
    positions = f"{_TEXT}.embeddings.position_embedding.weight"
    yield _Row("positional_embedding", (positions,), (sizes.context_length, text))
    yield from _blocks("transformer", _TEXT, sizes.text)
    yield from _norm("ln_final", f"{_TEXT}.final_layer_norm", text)
    yield _Row("text_projection", ("text_projection.weight",), (text, embed), transposed=True)


def _blocks(source: str, target: str, tower: TowerSizes) -> Iterator[_Row]:
    width, mlp = tower.width, tower.mlp_width
    for number in range(tower.layers):
        here, there = f"{source}.resblocks.{number}", f"{target}.encoder.layers.{number}"
        for name, their_name in _IN_BLOCK.items():
            yield from _norm(f"{here}.{name}", f"{there}.{their_name}", width)
        for kind, shape in (("weight", (3 * width, width)), ("bias", (3 * width,))):
            names = tuple(f"{there}.self_attn.{name}.{kind}" for name in _ATTENTION_PARTS.values())
            yield _Row(f"{here}.attn.in_proj_{kind}", names, shape)
        yield from _linear(f"{here}.attn.out_proj", f"{there}.{_PARTS['o']}", width, width)
        yield from _linear(f"{here}.mlp.c_fc", f"{there}.{_PARTS['fc']}", mlp, width)
        yield from _linear(f"{here}.mlp.c_proj", f"{there}.{_PARTS['proj']}", width, mlp)


def _norm(source: str, target: str, width: int) -> Iterator[_Row]:
    for kind in ("weight", "bias"):
        yield _Row(f"{source}.{kind}", (f"{target}.{kind}",), (width,))


def _linear(source: str, target: str, outputs: int, inputs: int) -> Iterator[_Row]:
    yield _Row(f"{source}.weight", (f"{target}.weight",), (outputs, inputs))
    yield _Row(f"{source}.bias", (f"{target}.bias",), (outputs,))


def _check(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, Tensor], whose: str) -> None:
    for name, shape in expected.items():
        if name not in state:
            raise InputError(f"the {whose} weights lack the tensor {name}", "are they complete, and of this model?")
        if tuple(state[name].shape) != shape:
            raise InputError(
                f"the tensor {name} has shape {tuple(state[name].shape)}, the configuration says {shape}",
                "do weights and configuration belong together?",
            )
    left_over = sorted(set(state) - set(expected))
    if left_over:
        raise InputError(
            f"the {whose} weights have {len(left_over)} tensors that the model does not have, "
            f"the first is {shown_key(left_over[0])}",
            "do weights and configuration belong together?",
        )
