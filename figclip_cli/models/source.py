"""Where a CLIP model comes from: a local open_clip folder, or a name with a named or local checkpoint.

The network is touched only for weights that the user named. Every way in ends with the same facts: the model
configuration with its activation written out, the preprocessing, and the file that holds the weights.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.files import read_json

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"
# Spelling of the weights file in folders made by open_clip and by the hub, best first. Pickles among them are
# read by torch with weights_only, which refuses every class.
_WEIGHTS_NAMES = (
    WEIGHTS_NAME,
    "model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
DEFAULT_FOLDER = Path("base-model")
Activation = Literal["gelu", "quickgelu"]

FOLDER_CONTENTS = f"a model folder holds {CONFIG_NAME} and {WEIGHTS_NAME}"


@dataclass(frozen=True)
class ModelSource:
    """What the user asked for; the part of it that is written to ``config.json``.

    Attributes:
        model: An open_clip architecture name or a local folder.
        pretrained: A pretrained tag or a local weights file; none when ``model`` is a folder.
        activation: The activation the weights were trained with, where nothing else tells.
    """

    model: str
    pretrained: str | None = None
    activation: str | None = None

    @property
    def short_name(self) -> str:
        """Name for tables and run folders: the architecture, or the folder's own name."""
        return Path(self.model).resolve().name if Path(self.model).is_dir() else self.model.replace("/", "-")

    def as_dict(self) -> dict[str, str | None]:
        """Return the source as plain JSON values."""
        return {"model": self.model, "pretrained": self.pretrained, "activation": self.activation}


@dataclass(frozen=True)
class ResolvedSource:
    """Everything needed to build the model; nothing in it is guessed.

    Attributes:
        name: Short name for tables and run folders.
        model_config: open_clip's ``model_cfg`` with ``quick_gelu`` always present.
        preprocess: open_clip's preprocessing values that differ from its defaults.
        weights: The file with the weights.
        remarks: What the user should be told about how this was resolved.
    """

    name: str
    model_config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    remarks: tuple[str, ...] = field(default=())


def default_source() -> ModelSource:
    """Return the source used when the user names none: the folder ``base-model`` in the current folder.

    Raises:
        UsageError: There is no such folder. Weights are never fetched unless the user named them.
    """
    if DEFAULT_FOLDER.is_dir():
        return ModelSource(str(DEFAULT_FOLDER))
    raise UsageError(
        f"no model was named and there is no folder {DEFAULT_FOLDER}/ here",
        "pass --model FOLDER, or name weights to fetch: --model ViT-B-32-quickgelu --pretrained openai",
    )


def resolve(source: ModelSource) -> ResolvedSource:
    """Find the configuration and the weights of a model.

    Raises:
        InputError: The name, the tag or a file does not exist, or weights cannot be had offline.
        UsageError: The activation cannot be known.
    """
    if Path(source.model).is_dir():
        return _resolve_folder(source)
    return _resolve_name(source)


def _resolve_folder(source: ModelSource) -> ResolvedSource:
    folder = Path(source.model)
    if source.pretrained:
        raise UsageError(
            f"--pretrained {source.pretrained} does not go with the model folder {folder}",
            "a folder holds its own weights",
        )
    config = folder / CONFIG_NAME
    if not config.is_file():
        raise InputError(f"{folder} is not a model folder: {CONFIG_NAME} is missing", FOLDER_CONTENTS)
    weights = next((folder / name for name in _WEIGHTS_NAMES if (folder / name).is_file()), None)
    if weights is None:
        raise InputError(f"{folder} has no weights: {WEIGHTS_NAME} is missing", FOLDER_CONTENTS)
    document = read_json(config, "model configuration")
    model_config = document.get("model_cfg") if isinstance(document, dict) else None
    if not isinstance(model_config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model_config):
        raise InputError(f"{config} has no usable model_cfg", "it needs embed_dim, vision_cfg and text_cfg")
    model_config = copy.deepcopy(model_config)
    model_config.setdefault("quick_gelu", False)  # open_clip's format: absent means GELU
    _refuse_other_activation(source, model_config, str(config))
    return ResolvedSource(source.short_name, model_config, dict(document.get("preprocess_cfg") or {}), weights)


def _resolve_name(source: ModelSource) -> ResolvedSource:
    import open_clip

    known = open_clip.list_models()
    if source.model not in known:
        kind = "model folder or name" if "/" in source.model else "model name"
        raise InputError(f"the {kind} '{source.model}' does not exist", nearest(source.model, known))
    tags = open_clip.list_pretrained_tags_by_model(source.model)
    if not source.pretrained:
        listed = f"--pretrained {tags[0]} (or {', '.join(tags[1:4])})" if len(tags) > 1 else "--pretrained FILE"
        raise UsageError(f"model {source.model} needs weights", f"pass {listed}, or a local weights file")
    model_config = copy.deepcopy(open_clip.get_model_config(source.model))
    model_config.setdefault("quick_gelu", False)
    if Path(source.pretrained).is_file():
        return _resolve_file(source, model_config)
    return _resolve_tag(source, model_config, tags)


def _resolve_file(source: ModelSource, model_config: dict[str, Any]) -> ResolvedSource:
    """Resolve a bare weights file, which does not say which activation it was trained with."""
    weights = Path(source.pretrained or "")
    if not model_config["quick_gelu"] and source.activation is None:
        raise UsageError(
            f"{weights} does not say whether it was trained with GELU or QuickGELU",
            "pass --activation quickgelu (OpenAI's weights and those derived from them) or --activation gelu",
        )
    if source.activation is not None:
        model_config["quick_gelu"] = source.activation == "quickgelu"
    return ResolvedSource(source.short_name, model_config, {}, weights)


def _resolve_tag(source: ModelSource, model_config: dict[str, Any], tags: list[str]) -> ResolvedSource:
    import open_clip
    from open_clip.pretrained import download_pretrained

    tag = source.pretrained or ""
    entry = open_clip.get_pretrained_cfg(source.model, tag)
    if not entry:
        raise InputError(
            f"'{tag}' is neither a weights file nor a pretrained tag of {source.model}", nearest(tag, tags)
        )
    remarks: tuple[str, ...] = ()
    if bool(entry.get("quick_gelu", False)) != model_config["quick_gelu"]:
        model_config["quick_gelu"] = bool(entry.get("quick_gelu", False))
        word = "QuickGELU" if model_config["quick_gelu"] else "GELU"
        remarks = (f"weights '{tag}' were trained with {word}: building {source.model} with {word}",)
    _refuse_other_activation(source, model_config, f"the tag '{tag}'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = Path(download_pretrained(entry))
    except Exception as error:
        place = entry.get("hf_hub") or entry.get("url") or tag
        raise InputError(
            f"the weights '{tag}' of {source.model} are not on this machine and could not be fetched ({place})",
            f"on a machine with network, save them as a folder and pass --model FOLDER here: {FOLDER_CONTENTS}; "
            "or bring the bare weights file and pass --pretrained FILE",
        ) from error
    return ResolvedSource(source.short_name, model_config, dict(entry), weights, remarks)


def _refuse_other_activation(source: ModelSource, model_config: dict[str, Any], where: str) -> None:
    if source.activation is None:
        return
    stated = "quickgelu" if model_config["quick_gelu"] else "gelu"
    if source.activation != stated:
        raise UsageError(f"--activation {source.activation} contradicts {where}, which says {stated}", "leave it out")
