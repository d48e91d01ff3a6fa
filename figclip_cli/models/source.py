"""Where a CLIP model comes from: a local folder, one of OpenAI's files, or a name with a named or local checkpoint.

The network is touched only for weights that the user named. Every way in ends with the same facts: the model
configuration with its activation written out, the preprocessing, and the file that holds the weights.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from figclip_cli.errors import InputError, UsageError, nearest
from figclip_cli.files import read_json
from figclip_cli.models.model_config import check_model_config
from figclip_cli.models.model_sizes import shown_key
from figclip_cli.models.preprocess_config import checked_preprocess
from figclip_cli.models.presence import is_folder, is_there

if TYPE_CHECKING:
    from figclip_cli.models.stored_weights import StoredWeights

CONFIG_NAME = "open_clip_config.json"
WEIGHTS_NAME = "open_clip_model.safetensors"
# Spelling of the weights file in folders made by open_clip and by the hub, best first. Pickles among them are
# read by torch with weights_only, which refuses every class. Where a hub folder has both kinds of files,
# model.safetensors is transformers'; its names are translated if it is the only one.
_WEIGHTS_NAMES = (
    WEIGHTS_NAME,
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
)
_WEIGHTS_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
_TRANSFORMERS_CONFIG = "config.json"
_MOST_CONFIG_BYTES = 16 << 20
DEFAULT_FOLDER = Path("base-model")
Activation = Literal["gelu", "quickgelu"]

FOLDER_CONTENTS = f"a model folder holds {CONFIG_NAME} and {WEIGHTS_NAME}"


@dataclass(frozen=True)
class ModelSource:
    """What the user asked for; the part of it that is written to ``config.json``.

    Attributes:
        model: An open_clip architecture name, a local folder, or a file of OpenAI's weights.
        pretrained: A pretrained tag or a local weights file; none unless ``model`` is a name.
        activation: The activation the weights were trained with, where nothing else tells.
    """

    model: str
    pretrained: str | None = None
    activation: str | None = None

    @property
    def short_name(self) -> str:
        """Name for tables and run folders: the architecture, or the folder's or file's own name."""
        if is_folder(self.model):
            return Path(self.model).resolve().name
        is_file = self.pretrained is None and is_there(self.model)
        return Path(self.model).stem if is_file else self.model.replace("/", "-")

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
        stored: The weights, where they had to be opened to know the rest.
        may_fetch: Whether what the configuration names may be looked up on the network: only if the configuration
            is open_clip's own, never if it is a file's.
    """

    name: str
    model_config: dict[str, Any]
    preprocess: dict[str, Any]
    weights: Path
    remarks: tuple[str, ...] = field(default=())
    stored: StoredWeights | None = None
    may_fetch: bool = False


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
    if is_folder(source.model):
        return _resolve_folder(source)
    if source.pretrained is None and is_there(source.model):
        return _resolve_openai_file(source)
    return _resolve_name(source)


def _resolve_folder(source: ModelSource) -> ResolvedSource:
    folder = Path(source.model)
    if source.pretrained:
        raise UsageError(
            f"--pretrained {source.pretrained} does not go with the model folder {folder}",
            "a folder holds its own weights",
        )
    if is_there(folder / CONFIG_NAME):
        return _resolve_open_clip_folder(source, folder)
    if is_there(folder / _TRANSFORMERS_CONFIG):
        return _resolve_transformers_folder(source, folder)
    from figclip_cli.models.transformers_folder import CONTENTS

    raise InputError(f"{folder} is not a model folder: {CONFIG_NAME} is missing", f"{FOLDER_CONTENTS}; or {CONTENTS}")


def _resolve_open_clip_folder(source: ModelSource, folder: Path) -> ResolvedSource:
    from figclip_cli.models.stored_weights import require_ordinary

    config = require_ordinary(
        folder / CONFIG_NAME, "model configuration", FOLDER_CONTENTS, most_bytes=_MOST_CONFIG_BYTES
    )
    weights = next((folder / name for name in _WEIGHTS_NAMES if is_there(folder / name)), None)
    if weights is None:
        raise InputError(f"{folder} has no weights: {WEIGHTS_NAME} is missing", FOLDER_CONTENTS)
    document = read_json(config, "model configuration")
    model_config = document.get("model_cfg") if isinstance(document, dict) else None
    if not isinstance(model_config, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= set(model_config):
        raise InputError(f"{config} has no usable model_cfg", "it needs embed_dim, vision_cfg and text_cfg")
    model_config = copy.deepcopy(model_config)
    model_config.setdefault("quick_gelu", False)  # open_clip's format: absent means GELU
    check_model_config(model_config, str(config))
    _refuse_other_activation(source, model_config, str(config))
    preprocess = checked_preprocess(document.get("preprocess_cfg"), config)
    return ResolvedSource(source.short_name, model_config, preprocess, weights)


def _resolve_transformers_folder(source: ModelSource, folder: Path) -> ResolvedSource:
    from figclip_cli.models.transformers_folder import read_transformers_folder

    model_config, preprocess, stored = read_transformers_folder(folder, source.activation)
    return ResolvedSource(source.short_name, model_config, preprocess, stored.path, stored=stored)


def _resolve_openai_file(source: ModelSource) -> ResolvedSource:
    """Resolve a file in OpenAI's layout, whose architecture is in the shapes of its tensors."""
    from figclip_cli.models.openai_clip import PREPROCESS, openai_model_config, without_stated
    from figclip_cli.models.stored_weights import open_weights

    stored = open_weights(Path(source.model))
    model_config = openai_model_config(stored, source.activation)
    stored = without_stated(stored)
    return ResolvedSource(source.short_name, model_config, PREPROCESS, Path(source.model), stored=stored)


def _resolve_name(source: ModelSource) -> ResolvedSource:
    import open_clip

    known = open_clip.list_models()
    if source.model not in known:
        if is_there(source.model):
            raise UsageError(
                f"--pretrained {source.pretrained} does not go with the weights file {source.model}",
                "leave it out, or name the architecture: --model NAME --pretrained FILE",
            )
        if "/" in source.model or Path(source.model).suffix in _WEIGHTS_SUFFIXES:
            raise InputError(f"the model folder or name '{shown_key(source.model)}' does not exist", FOLDER_CONTENTS)
        near = nearest(source.model[:120], known)
        hint = near if near.endswith("?") else f"open_clip.list_models() lists the names; {FOLDER_CONTENTS}"
        raise InputError(f"the model name '{shown_key(source.model)}' does not exist", hint)
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
    """Resolve a local weights file; unless it is an archive with code, it does not say its activation."""
    from figclip_cli.models.openai_clip import activation_of, without_stated
    from figclip_cli.models.stored_weights import open_weights
    from figclip_cli.models.torchscript_archive import is_zip

    weights = Path(source.pretrained or "")
    stored = without_stated(open_weights(weights)) if is_zip(weights) else None
    remarks: tuple[str, ...] = ()
    if stored is not None and stored.activations:
        quick = activation_of(stored, source.activation) == "quickgelu"
        remarks = _remarks_on_activation(model_config, quick, str(weights), source.model)
        model_config["quick_gelu"] = quick
    elif not model_config["quick_gelu"] and source.activation is None:
        raise UsageError(
            f"{weights} does not say whether it was trained with GELU or QuickGELU",
            "pass --activation quickgelu (OpenAI's weights and those derived from them) or --activation gelu",
        )
    elif source.activation is not None:
        model_config["quick_gelu"] = source.activation == "quickgelu"
    return ResolvedSource(source.short_name, model_config, {}, weights, remarks, stored, may_fetch=True)


def _remarks_on_activation(model_config: dict[str, Any], quick: bool, weights: str, name: str) -> tuple[str, ...]:
    if quick == model_config["quick_gelu"]:
        return ()
    word = "QuickGELU" if quick else "GELU"
    return (f"weights '{weights}' were trained with {word}: building {name} with {word}",)


def _resolve_tag(source: ModelSource, model_config: dict[str, Any], tags: list[str]) -> ResolvedSource:
    import open_clip
    from open_clip.pretrained import download_pretrained

    tag = source.pretrained or ""
    entry = open_clip.get_pretrained_cfg(source.model, tag)
    if not entry:
        raise InputError(
            f"'{tag}' is neither a weights file nor a pretrained tag of {source.model}", nearest(tag, tags)
        )
    quick = bool(entry.get("quick_gelu", False))
    remarks = _remarks_on_activation(model_config, quick, tag, source.model)
    model_config["quick_gelu"] = quick
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
    preprocess = checked_preprocess(dict(entry), f"the tag '{tag}'")
    return ResolvedSource(source.short_name, model_config, preprocess, weights, remarks, may_fetch=True)


def _refuse_other_activation(source: ModelSource, model_config: dict[str, Any], where: str) -> None:
    if source.activation is None:
        return
    stated = "quickgelu" if model_config["quick_gelu"] else "gelu"
    if source.activation != stated:
        raise UsageError(f"--activation {source.activation} contradicts {where}, which says {stated}", "leave it out")
