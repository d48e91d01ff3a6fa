"""Attach an adaptation to a model, prove that it has an effect, and undo it all if it has none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from figclip_cli.errors import InputError
from figclip_cli.models.lora.config import TOWERS, LoraConfig
from figclip_cli.models.lora.layers import LoraLayer
from figclip_cli.models.lora.places import Place, find_places, tower_root
from figclip_cli.models.lora.replacement import set_submodule
from figclip_cli.models.lora.state import lora_layers, mark_tuned, tuned_names

# Of a CLIP whose text tower is spread over the model itself.
_TEXT_PARTS = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection", "cls_emb")


@dataclass(frozen=True)
class AdaptedModule:
    """One row of the table of adapted modules.

    Attributes:
        name: Dotted name in the model.
        kind: Class of the module that was replaced, or of the whole tower for rank 0.
        targets: Projections adapted in it; ``all`` for a whole tower.
        shape: (D_out, D_in) of its weight; (0, 0) for a whole tower.
        parameters: Trainable parameters.
    """

    name: str
    kind: str
    targets: tuple[str, ...]
    shape: tuple[int, int]
    parameters: int


def attach_lora(
    model: nn.Module, config: LoraConfig, *, seed: int, image_size: int, context_length: int = 77
) -> list[AdaptedModule]:
    """Freeze ``model`` and adapt the configured projections of its towers; for rank 0, free its towers.

    Args:
        model: An open_clip model that is not adapted yet.
        seed: A's initial values depend on this and on the module's name alone. B starts at zero, so the
            adapted model starts as the base model.
        image_size: Side in pixels of the image used to prove that each adapted projection is reached.
        context_length: Tokens of the text used to prove it in the text tower.

    Returns:
        The table of adapted modules, in tower order.

    Raises:
        InputError: A tower has no block that can be adapted, or one that bypasses the adaptation. The model is
            left as it was.
        UsageError: A block or target is asked for that a tower does not have; likewise.
        ValueError: The model is adapted already.
    """
    if tuned_names(model) or any(True for _ in lora_layers(model)):
        raise ValueError("the model is adapted already")
    towers = TOWERS[config.towers]
    if config.rank == 0:
        return _free(model, towers)
    places = [place for tower in towers for place in find_places(model, config, tower)]
    with _all_or_nothing(model, places):
        model.requires_grad_(False)
        rows = [row for place in places for row in _adapt(model, place, config, seed)]
        _prove_reached(model, towers, image_size, context_length)
    return rows


@contextmanager
def _all_or_nothing(model: nn.Module, places: list[Place]) -> Iterator[None]:
    """Undo every change if the body fails."""
    trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        yield
    except BaseException:
        for place in places:
            set_submodule(model, place.name, place.module)
        for parameter, required in trainable:
            parameter.requires_grad_(required)
        raise


def _adapt(model: nn.Module, place: Place, config: LoraConfig, seed: int) -> list[AdaptedModule]:
    replacement = place.adapted(config).train(place.module.training)
    set_submodule(model, place.name, replacement)
    rows = []
    for inner, layer in replacement.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        # q, k and v of one attention are one row under the attention's own name.
        name = place.name if inner in ("", "qkv") else f"{place.name}.{inner}"
        _initialise(layer, name, seed)
        shape = (layer.out_features, layer.in_features)
        parameters = layer.lora_A.numel() + layer.lora_B.numel()
        rows.append(AdaptedModule(name, place.kind, layer.targets, shape, parameters))
    return rows


def _initialise(layer: LoraLayer, name: str, seed: int) -> None:
    """Give A the values of ``nn.Linear``'s default, uniform in +-1/sqrt(D_in), from (seed, name); B is zero."""
    digest = hashlib.sha256(f"lora/{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    bound = 1.0 / math.sqrt(layer.in_features)
    values = torch.rand(layer.lora_A.shape, generator=generator) * (2 * bound) - bound
    with torch.no_grad():
        layer.lora_A.copy_(values)


def _prove_reached(model: nn.Module, towers: tuple[str, ...], image_size: int, context_length: int) -> None:
    """Send one image or one text, or both, through the model and check that every adapted layer was called."""
    reached: set[str] = set()
    any_model: Any = model
    with _recording_calls(model, reached), torch.no_grad():
        first = next(model.parameters())
        if "image" in towers:
            any_model.visual(torch.zeros(1, 3, image_size, image_size, device=first.device, dtype=first.dtype))
        if "text" in towers:
            any_model.encode_text(_probe_text(model, context_length).to(first.device))
    missed = sorted({name for name, _ in lora_layers(model)} - reached)
    if missed:
        others = f" and {len(missed) - 1} more" if len(missed) > 1 else ""
        raise InputError(
            f"LoRA on {missed[0]}{others} would have no effect: the tower bypasses the layer",
            "this kind of tower cannot be adapted; --rank 0 tunes every weight of any tower",
        )


def _probe_text(model: nn.Module, context_length: int) -> Tensor:
    """Return (1, context_length) int64 ids; the end of text is the highest id, where open_clip looks for it."""
    _, root = tower_root(model, "text")
    highest = int(root.token_embedding.num_embeddings) - 1  # type: ignore[union-attr, arg-type]
    text = torch.zeros(1, context_length, dtype=torch.int64)
    text[0, :3] = torch.tensor([max(highest - 1, 0), min(1, highest), highest])
    return text


@contextmanager
def _recording_calls(model: nn.Module, reached: set[str]) -> Iterator[None]:
    training = {module: module.training for module in model.modules()}
    model.eval()
    handles = [
        layer.register_forward_hook(lambda *_, name=name: reached.add(name)) for name, layer in lora_layers(model)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for module, was_training in training.items():
            module.training = was_training


def _free(model: nn.Module, towers: tuple[str, ...]) -> list[AdaptedModule]:
    """Freeze the model but for whole towers, and note which parameters are tuned."""
    rows, tuned = [], []
    for tower in towers:
        root_name, root = tower_root(model, tower)
        prefixes = (f"{root_name}.",) if root_name else _TEXT_PARTS
        names = [name for name, _ in model.named_parameters() if name.startswith(prefixes)]
        count = sum(model.get_parameter(name).numel() for name in names)
        kind = type(root if root_name else model.get_submodule("transformer")).__name__
        rows.append(AdaptedModule(root_name or "text", kind, ("all",), (0, 0), count))
        tuned += names
    model.requires_grad_(False)
    for name in tuned:
        model.get_parameter(name).requires_grad_(True)
    mark_tuned(model, tuned)
    return rows
