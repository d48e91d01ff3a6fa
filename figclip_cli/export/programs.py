"""A CLIP model as two programs, pixels to features and token ids to features, traced for any batch size."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from figclip_cli.errors import InputError
from figclip_cli.export.material import Material
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.tokenizer_file import PAD_ID, write_tokenizer_file
from figclip_cli.files import write_json

END_OF_TEXT_ID = 49407
_NOT_FOR_TEXTS = ("visual", "text_decoder")
_KEPT_OF_NODES = ("val", "tensor_meta")


@dataclass(frozen=True)
class Program:
    """One tower, traced.

    Attributes:
        name: ``image`` or ``text``; its file's name without the ending.
        input_name: ``pixels`` (batch, 3, S, S) float32, or ``ids`` (batch, context) int64.
        output_name: ``image_features`` or ``text_features``, (batch, D) float32, not normalised.
        example: An input of two rows.
        exported: The traced tower.
    """

    name: str
    input_name: str
    output_name: str
    example: Tensor
    exported: torch.export.ExportedProgram


class _ImageTower(nn.Module):
    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    def forward(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.model.encode_image(pixels.to(self.dtype))  # type: ignore[operator]
        return features.float()


class _TextTower(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        features: Tensor = self.model.encode_text(ids)  # type: ignore[operator]
        return features.float()


def check_programs(config: Mapping[str, Any], options: ExportOptions) -> None:
    """Refuse a run whose texts are not tokenized as CLIP's are.

    Raises:
        InputError: The text tower has a tokenizer of its own, which ``tokenizer.json`` would not be.
    """
    text = config["model"]["model_cfg"]["text_cfg"]
    if "hf_tokenizer_name" in text or "hf_model_name" in text:
        raise InputError("the text tower has a tokenizer of its own, not CLIP's", "export with --to open-clip")


def programs(material: Material, dtype: torch.dtype) -> Iterator[Program]:
    """Yield the image tower and the text tower with the cast weights.

    Args:
        dtype: What they compute in.

    Raises:
        InputError: torch cannot trace the model.
        VerificationError: A weight does not fit the type.
    """
    clip, size = material.clip, material.clip.preprocess.size
    cast_weights = material.cast(material.state)
    weights = {name: value.to(dtype) if value.is_floating_point() else value for name, value in cast_weights.items()}
    for name in ("image", "text"):
        model = _part(clip.model, name, weights, dtype)
        if name == "image":
            example, inputs, tower = (
                torch.zeros(2, 3, size, size),
                "pixels",
                cast(nn.Module, _ImageTower(model, dtype)),
            )
        else:
            example, inputs, tower = torch.zeros(2, clip.context_length, dtype=torch.int64), "ids", _TextTower(model)
        yield Program(name, inputs, f"{name}_features", example, _traced(name, tower.eval(), example))


def _part(model: nn.Module, name: str, weights: Mapping[str, Tensor], dtype: torch.dtype) -> nn.Module:
    """Return a copy of what one tower needs of the model, with the cast weights."""
    part = copy.copy(model)
    unwanted = [
        child
        for child, _ in model.named_children()
        if (child != "visual" if name == "image" else child in _NOT_FOR_TEXTS)
    ]
    part._modules = {key: value for key, value in model._modules.items() if key not in unwanted}
    lost = ("logit_scale", "logit_bias")
    part._parameters = {key: value for key, value in model._parameters.items() if name == "text" and key not in lost}
    part._buffers = dict(model._buffers) if name == "text" else {}
    part = copy.deepcopy(part).to(dtype).requires_grad_(False)
    part.load_state_dict({key: weights[key] for key in part.state_dict()}, assign=True)
    return part.requires_grad_(False)


def _traced(name: str, tower: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch", min=1, max=2**31 - 1)  # torch 2.6 wants an end
    # The fast path of nn.MultiheadAttention is one fused operator that no other library knows.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), quiet():
            exported = torch.export.export(tower, (example,), dynamic_shapes=({0: batch},), strict=False)
    except Exception as error:
        said = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise InputError(f"torch cannot trace the {name} tower: {said}", "export with --to open-clip") from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    for node in exported.graph.nodes:  # stack traces hold local paths
        for key in set(node.meta) - set(_KEPT_OF_NODES):
            del node.meta[key]
    return exported


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what torch's exporters warn, log and print off our streams."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)


def write_beside(
    folder: Path, material: Material, ending: str, about: Mapping[str, Any], computes_in: torch.dtype
) -> None:
    """Write ``config.json`` and ``tokenizer.json``.

    Args:
        ending: Of the programs' files: ``.onnx`` or ``.pt2``.
        about: What this format has to say besides.
    """
    clip, size = material.clip, material.clip.preprocess.size
    inputs: dict[str, dict[str, Any]] = {
        "image": {"name": "pixels", "type": "float32", "shape": ["batch", 3, size, size]},
        "text": {"name": "ids", "type": "int64", "shape": ["batch", clip.context_length]},
    }
    towers = {
        name: {
            "file": f"{name}{ending}",
            "input": given,
            "output": {"name": f"{name}_features", "type": "float32", "shape": ["batch", clip.width]},
        }
        for name, given in inputs.items()
    }
    config = {
        **about,
        **towers,
        "weights_in": str(material.dtype).removeprefix("torch."),
        "computes_in": str(computes_in).removeprefix("torch."),
        "preprocess": clip.preprocess.as_dict(),
        "activation": "quickgelu" if clip.model_config.get("quick_gelu") else "gelu",
        "logit_scale": material.logit_scale,
        "context_length": clip.context_length,
        "end_of_text_id": END_OF_TEXT_ID,
        "pad_id": PAD_ID,
    }
    write_json(folder / "config.json", config)
    write_tokenizer_file(folder, clip.context_length)
