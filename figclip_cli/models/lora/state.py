"""What an adaptation has learned: read it, load it in whole or in part, switch it off for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from figclip_cli.errors import InputError
from figclip_cli.models.lora.layers import LoraLayer

TEMPERATURE = "logit_scale"
_MARK = "figclip_tuned"


def mark_tuned(model: nn.Module, names: Sequence[str]) -> None:
    """Note on the model which of its parameters are tuned in full, by name."""
    setattr(model, _MARK, tuple(names))


def tuned_names(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the parameters that are tuned in full; none unless it was attached with rank 0."""
    return getattr(model, _MARK, ())


def lora_layers(model: nn.Module) -> Iterator[tuple[str, LoraLayer]]:
    """Yield (module name, layer) of every adapted layer; q, k, v go by the name of the block's attention."""
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name.removesuffix(".qkv"), module


def _learned(model: nn.Module) -> dict[str, Tensor]:
    """Return the learned tensors by their names in a file; they share the model's memory."""
    tensors = {name: model.get_parameter(name).detach() for name in tuned_names(model)}
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            parent = name.rpartition(".")[0]
            tensors |= {f"{parent}.{key}": tensor for key, tensor in module.projection_tensors().items()}
    return tensors


def _temperature(model: nn.Module) -> nn.Parameter | None:
    found = getattr(model, TEMPERATURE, None)
    return found if isinstance(found, nn.Parameter) else None


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """Return copies, on the CPU, of what was learned.

    Returns:
        A (r, D_in) and B (D_out, r) of each projection, named ``ATTENTION.q.lora_A``, ``MLP.fc.lora_B`` and so on;
        for rank 0 the tuned tensors under their own names; and ``logit_scale``, the log of the inverse
        temperature, if it is trainable.
    """
    tensors = _learned(model)
    temperature = _temperature(model)
    if temperature is not None and temperature.requires_grad:
        tensors[TEMPERATURE] = temperature.detach()
    return {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def load_adapter_state(model: nn.Module, state: Mapping[str, Tensor], *, scale: float = 1.0) -> None:
    """Load what was learned into a model that was attached with the same configuration.

    Args:
        state: As :func:`adapter_state` returns it. ``logit_scale`` is loaded if it is there.
        scale: How far to go from the base model, 0, to the adapted one, 1. For LoRA the update is multiplied by
            it; for rank 0, and for ``logit_scale``, weights are interpolated between those the model holds now,
            which must then be the base model's, and those of the state.

    Raises:
        InputError: A tensor is missing, left over or of another shape; nothing is loaded then.
    """
    targets = _learned(model)
    temperature = _temperature(model)
    if temperature is not None and (temperature.requires_grad or TEMPERATURE in state):
        targets[TEMPERATURE] = temperature.detach()
    _check_fit(targets, state)
    for name, target in targets.items():
        learned = state[name].to(target.device, target.dtype)
        if name.endswith(".lora_B"):
            target.copy_(learned if scale == 1.0 else learned * scale)
        elif name.endswith(".lora_A") or scale == 1.0:
            target.copy_(learned)
        else:
            target.add_(learned - target, alpha=scale)


def _check_fit(targets: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    differing = sorted(set(targets) ^ set(state))
    if differing:
        raise InputError(
            f"the adapter does not fit the model: {len(differing)} tensors differ, the first is {differing[0]}",
            "is this the base model that the run started from?",
        )
    for name, target in targets.items():
        if target.shape != state[name].shape:
            raise InputError(
                f"the adapter does not fit the model: {name} has shape {tuple(state[name].shape)}, "
                f"expected {tuple(target.shape)}",
                "is this the rank that the run was made with?",
            )


@contextmanager
def base_weights(model: nn.Module) -> Iterator[None]:
    """Let the model compute as the base model inside the block; a learned ``logit_scale`` stays.

    Raises:
        ValueError: The weights themselves were tuned, so the base is no longer there.
    """
    if tuned_names(model):
        raise ValueError("the weights are tuned in full; the base model's are not kept")
    layers = [(layer, layer.active) for _, layer in lora_layers(model)]
    try:
        for layer, _ in layers:
            layer.active = False
        yield
    finally:
        for layer, was_active in layers:
            layer.active = was_active
