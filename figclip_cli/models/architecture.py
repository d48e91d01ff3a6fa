"""Open_clip modules from a ``model_cfg``: with random weights, without memory, or with weights that fit.

Weights are compared with the configuration by name and shape before anything large is made: the module is first built
on torch's ``meta`` device, where tensors have shapes and no memory.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from figclip_cli.errors import FigclipError, InputError
from figclip_cli.models.model_config import check_model_config, is_foreign, with_cached_names
from figclip_cli.models.model_sizes import shown_key
from figclip_cli.models.stored_weights import StoredWeights, first_line, unusable
from figclip_cli.models.transformers_clip import from_transformers

_SAMPLING = ("uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_")
_TRANSFORMERS_MARK = "vision_model.embeddings.class_embedding"
_TOGETHER = "do weights and configuration belong together?"


def build_architecture(model_config: Mapping[str, Any]) -> nn.Module:
    """Build an open_clip module with random weights from a ``model_cfg``; no weights are fetched."""
    import open_clip
    from open_clip.model import CLIP, CustomTextCLIP

    values = {key: value for key, value in model_config.items() if key != "custom_text"}
    if "multimodal_cfg" in values:
        return open_clip.CoCa(**values)
    vision = {**values["vision_cfg"], "timm_model_pretrained": False}
    text = {**values["text_cfg"], "hf_model_pretrained": False}
    uses_custom_text = model_config.get("custom_text", False) or "hf_model_name" in text
    build = CustomTextCLIP if uses_custom_text else CLIP
    return build(**{**values, "vision_cfg": vision, "text_cfg": text})


def load_weights(model_config: Mapping[str, Any], stored: StoredWeights, *, name: str, may_fetch: bool) -> nn.Module:
    """Build a module and give it stored weights, in float32.

    Args:
        model_config: open_clip's ``model_cfg``.
        name: What the model is to the user.
        may_fetch: Whether a text tower that the configuration names may be looked up on the network, as one that
            open_clip's own registry names may. Otherwise it must be in the local cache.

    Raises:
        InputError: The configuration cannot be built, or the weights do not fit it or are not finite.
    """
    check_model_config(model_config, f"the model configuration of {name}")
    buildable = model_config if may_fetch else with_cached_names(model_config)
    with quiet_open_clip():
        skeleton = _skeleton(buildable, name)
        try:
            _compare(skeleton, _conformed(_without_memory(stored), model_config, skeleton, stored.path), stored.path)
            with _NoSampling():
                model = build_architecture(buildable)
            weights = _conformed(stored.read(), model_config, skeleton, stored.path)
            _check_finite(weights, stored.path)
            model.load_state_dict(weights, strict=True)
        except FigclipError:
            raise
        except Exception as error:
            unusable(stored.path, first_line(error), error)
    return model


def _skeleton(model_config: Mapping[str, Any], name: str) -> nn.Module:
    """Build the module without memory.

    Trunks of other libraries may compute with their first values and then cannot be built so. Their sizes come from
    those libraries, not from the file; they are built with memory that nothing is written to.
    """
    try:
        try:
            with torch.device("meta"):
                return build_architecture(model_config)
        except Exception:
            if not is_foreign(model_config):
                raise
            with _NoSampling():
                return build_architecture(model_config)
    except Exception as error:
        raise InputError(
            f"the model configuration of {name} cannot be built: {first_line(error)}", "check open_clip_config.json"
        ) from error


class _NoSampling(TorchFunctionMode):
    """Leaves out the random first values of parameters, which would be drawn only to be overwritten."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in _SAMPLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _without_memory(stored: StoredWeights) -> dict[str, Tensor]:
    return {
        name: torch.empty(header.shape, dtype=header.dtype, device="meta") for name, header in stored.headers.items()
    }


def _conformed(
    state: dict[str, Tensor], model_config: Mapping[str, Any], model: nn.Module, path: Path
) -> dict[str, Tensor]:
    """Return the state under the names of ``model``: transformers' names and older ones of open_clip are translated.

    Unlike open_clip, this never resizes position embeddings: weights for another image size are refused.
    """
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    if _TRANSFORMERS_MARK in state:
        try:
            return from_transformers(state, model_config)
        except FigclipError as error:
            unusable(path, error.message, error, _TOGETHER)
    state = convert_state_dict(model, dict(state))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    expected = model.state_dict()
    for name in ("logit_scale", "logit_bias"):  # a number, or a list of one
        if name in state and name in expected and state[name].numel() == expected[name].numel() == 1:
            state[name] = state[name].reshape(expected[name].shape)
    if "text.transformer.embeddings.position_ids" not in expected:  # of transformers before 4.31
        state.pop("text.transformer.embeddings.position_ids", None)
    return state


def _compare(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    for name, tensor in expected.items():
        found = state.get(name)
        if found is None:
            unusable(path, f"the tensor {name} is missing", hint=_TOGETHER)
        if found.shape != tensor.shape:
            shapes = f"has shape {tuple(found.shape)}, the configuration says {tuple(tensor.shape)}"
            unusable(path, f"the tensor {name} {shapes}", hint=_TOGETHER)
        if found.is_floating_point() != tensor.is_floating_point() or found.is_complex():
            unusable(path, f"the tensor {name} is of type {str(found.dtype).removeprefix('torch.')}", hint=_TOGETHER)
    left_over = sorted(set(state) - set(expected))
    if left_over:
        others = f" and {len(left_over) - 1} more" if len(left_over) > 1 else ""
        unusable(path, f"the model has no tensor {shown_key(left_over[0])}{others}", hint=_TOGETHER)


def _check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.numel():
            lowest, highest = torch.aminmax(tensor)  # one pass, no copy; NaN wins
            if not (torch.isfinite(lowest) and torch.isfinite(highest)):
                unusable(path, f"the tensor {name} has a value that is not finite", hint="is the file complete?")


@contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip's remarks, which go to the root logger, off our stderr."""
    previous = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
