"""Load the model of a finished run: the base it started from, with the run's adapter attached."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import require_file, sha256_of_file, sha256_of_json
from figclip_cli.models.clip import Clip, load_clip
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import LoraConfig, attach_lora, load_adapter_state
from figclip_cli.models.lora.state import TEMPERATURE
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tensors import load_tensors
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

_DAMAGED = "is the run folder as figclip adapt left it?"
_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]


class _Sizes(msgspec.Struct, forbid_unknown_fields=True):
    """Of a contextualizer, as its file says them: none may be large enough to fill the memory."""

    width: _Size
    layers: Annotated[int, msgspec.Meta(ge=1, le=256)]
    max_events: _Size
    max_frames_per_event: _Size


def load_base(
    run: RunFolder,
    *,
    source: ModelSource | None = None,
    device: torch.device | str = "cpu",
    reporter: Reporter = SILENT,
) -> Clip:
    """Load the base model of a run.

    Args:
        source: Where the base is now, if it moved since the run was made.

    Raises:
        InputError: The run is not finished, or these are not the weights that it started from.
    """
    config = run.load_config()
    stored = ModelSource(**config["model"]["source"])
    if source is None and _is_path(stored.model) and not Path(stored.model).exists():
        raise InputError(f"{run.path} started from {stored.model}, which is not there", "pass --model")
    clip = load_clip(source or stored, device=device, reporter=reporter)
    if clip.sha256 != config["model"]["sha256"]:
        raise InputError(
            f"{(source or stored).model} is not the base model of {run.path}: its weights differ "
            f"(SHA-256 {clip.sha256[:12]}, the run started from {config['model']['sha256'][:12]})",
            "pass the right one with --model; evaluate takes --base-only for another model",
        )
    return clip


def _is_path(model: str) -> bool:
    return "/" in model or os.sep in model


def attach_run(clip: Clip, run: RunFolder, *, scale: float = 1.0) -> Clip:
    """Attach a run's adapter to its base model, in place; return the clip under the run's name.

    Args:
        scale: How far to go from the base (0) to the adapted weights (1), in weight space (arXiv 2109.01903).

    Raises:
        InputError: The run or its adapter is damaged, or the two do not belong together.
    """
    config = run.load_config()
    lora = config["lora"]
    state = _adapter(run, config)
    attach_lora(
        clip.model,
        _lora_config(run, lora),
        seed=config["seed"],
        image_size=clip.preprocess.size,
        context_length=clip.context_length,
    )
    load_adapter_state(clip.model, state, scale=scale)
    clip.model.eval()
    adapter = sha256_of_json([sha256_of_file(run.adapter_file), scale])
    return dataclasses.replace(
        clip,
        name=run.name,
        image_adapter=adapter if lora["towers"] != "text" else "",
        text_adapter=adapter if lora["towers"] != "image" else "",
    )


def _adapter(run: RunFolder, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Read a run's adapter, and refuse one that is not what the run's configuration says."""
    state, stated = load_tensors(run.adapter_file, "adapter")
    lora = {key: value for key, value in config["lora"].items() if key != "modules"}
    if stated.get("lora") != lora or stated.get("base_sha256") != config["model"]["sha256"]:
        raise InputError(f"{run.adapter_file} was made by another run than {run.config_file} says", _DAMAGED)
    if (TEMPERATURE in state) != bool(config["learn_temperature"]) and lora["rank"] > 0:
        raise InputError(
            f"{run.adapter_file} and {run.config_file} differ in whether {TEMPERATURE} was learned", _DAMAGED
        )
    for name, tensor in state.items():
        if not bool(torch.isfinite(tensor).all()):
            raise InputError(f"{run.adapter_file}: {name} has a value that is not finite", _DAMAGED)
        if name.endswith(".lora_A") and tensor.shape[0] != lora["rank"]:
            raise InputError(f"{run.adapter_file}: {name} has rank {tensor.shape[0]}, not {lora['rank']}", _DAMAGED)
    return state


def _lora_config(run: RunFolder, lora: Mapping[str, Any]) -> LoraConfig:
    try:
        return LoraConfig(
            lora["rank"], lora["alpha"], lora["dropout"], tuple(lora["targets"]), lora["blocks"], lora["towers"]
        )
    except UsageError as error:
        raise InputError(f"{run.config_file} is damaged: {error.message}", _DAMAGED) from error


def require_contextualizer(run: RunFolder) -> None:
    """Refuse a run without a video contextualizer.

    Raises:
        InputError: It was made without one, its file is not there, or the run is not finished.
    """
    if not run.load_config()["contextualizer"]:
        raise InputError(f"{run.path} was made without a contextualizer", "run figclip adapt with --contextualizer")
    require_file(run.contextualizer_file, "contextualizer", "is the run folder complete?")


def load_contextualizer(run: RunFolder, *, device: torch.device | str = "cpu") -> VideoContextualizer:
    """Load a run's video contextualizer, in evaluation mode.

    Raises:
        InputError: The run has none, or its file is damaged.
    """
    require_contextualizer(run)
    path = run.contextualizer_file
    state, metadata = load_tensors(path, "contextualizer")
    try:
        sizes = msgspec.convert(metadata.get("config"), _Sizes)
        with torch.device("meta"):
            contextualizer = VideoContextualizer(ContextualizerConfig(**msgspec.structs.asdict(sizes)))
        contextualizer.load_state_dict(state, assign=True)
    except (msgspec.ValidationError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"contextualizer {path} does not hold what it says: {said}", _DAMAGED) from error
    return contextualizer.requires_grad_(True).to(device).eval()
