"""Load the model of a finished run: the base it started from, with the run's adapter attached."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import torch

from figclip_cli.errors import InputError
from figclip_cli.files import sha256_of_file, sha256_of_json
from figclip_cli.models.clip import Clip, load_clip
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import LoraConfig, attach_lora, load_adapter_state
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tensors import load_tensors
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder


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
    """
    config = run.load_config()
    lora = config["lora"]
    attach_lora(
        clip.model,
        LoraConfig(
            lora["rank"], lora["alpha"], lora["dropout"], tuple(lora["targets"]), lora["blocks"], lora["towers"]
        ),
        seed=config["seed"],
        image_size=clip.preprocess.size,
        context_length=clip.context_length,
    )
    state, _ = load_tensors(run.adapter_file, "adapter")
    load_adapter_state(clip.model, state, scale=scale)
    clip.model.eval()
    adapter = sha256_of_json([sha256_of_file(run.adapter_file), scale])
    return dataclasses.replace(
        clip,
        name=run.name,
        image_adapter=adapter if lora["towers"] != "text" else "",
        text_adapter=adapter if lora["towers"] != "image" else "",
    )


def load_contextualizer(run: RunFolder, *, device: torch.device | str = "cpu") -> VideoContextualizer:
    """Load a run's video contextualizer, in evaluation mode.

    Raises:
        InputError: The run has none, or its file is damaged.
    """
    if not run.load_config()["contextualizer"]:
        raise InputError(f"{run.path} was made without a contextualizer", "run figclip adapt with --contextualizer")
    state, metadata = load_tensors(run.contextualizer_file, "contextualizer")
    sizes: dict[str, Any] = metadata["config"]
    contextualizer = VideoContextualizer(ContextualizerConfig(**sizes))
    contextualizer.load_state_dict(state)
    return contextualizer.to(device).eval()
