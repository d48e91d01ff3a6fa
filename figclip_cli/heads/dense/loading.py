"""Load a finished head, in float64: what it predicts does not depend on what it is computed together with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from figclip_cli.errors import InputError
from figclip_cli.evaluate.protocols import PRECISIONS
from figclip_cli.heads.dense.head import DenseHead
from figclip_cli.heads.dense.options import TASK
from figclip_cli.heads.dense.sizes import DenseSizes
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.seen_model import is_model
from figclip_cli.heads.vocabulary import Vocabulary, load_vocabulary
from figclip_cli.models.tensors import load_tensors

_AGAIN = "train the head again"


@dataclass(frozen=True)
class LoadedHead:
    """A head that predicts.

    Attributes:
        folder: Where it was.
        config: Its ``config.json``.
        module: In float64 and evaluation mode.
        vocabulary: Of its captions.
    """

    folder: HeadFolder
    config: Mapping[str, Any]
    module: DenseHead
    vocabulary: Vocabulary


def head_config(folder: HeadFolder) -> dict[str, Any]:
    """Return the configuration of a finished head for dense captioning.

    Raises:
        InputError: The head is not finished, is for another task, or its configuration is damaged.
    """
    config = folder.load_config_for(TASK)
    model, frames, options = (config.get(key) for key in ("model", "frames", "options"))
    sound = {
        "model": is_model(model),
        "frames": isinstance(frames, dict) and _is_recipe(frames.get("recipe")),
        "options": isinstance(options, dict) and options.get("precision") in PRECISIONS,
    }
    wrong = next((key for key, is_sound in sound.items() if not is_sound), None)
    if wrong is not None:
        raise InputError(f"{folder.config_file}: '{wrong}' is missing or damaged", _AGAIN)
    try:
        DenseSizes.from_dict(config.get("sizes"))
    except ValueError as error:
        raise InputError(f"{folder.config_file}: 'sizes': {error}", _AGAIN) from error
    return config


def _is_recipe(recipe: Any) -> bool:
    if not isinstance(recipe, dict) or not isinstance(recipe.get("policy"), str):
        return False
    return recipe["policy"] != "fps" or type(recipe.get("fps")) in (int, float)


def load_head(folder: HeadFolder, *, device: torch.device | str = "cpu") -> LoadedHead:
    """Load a finished head.

    Raises:
        InputError: The head is not finished, is for another task, or a file of it is missing or damaged.
    """
    config = head_config(folder)
    folder.require_companions(config)
    vocabulary = load_vocabulary(folder.vocabulary_file)
    state, _ = load_tensors(folder.weights_file, "weights of the head")
    try:
        sizes = DenseSizes.from_dict(config["sizes"])
        module = DenseHead(sizes)
        module.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{folder.path}: weights and config.json do not fit each other: {said}", _AGAIN) from error
    if sizes.vocabulary_size != vocabulary.size:
        raise InputError(f"{folder.path}: the vocabulary is not the one that it was trained with", _AGAIN)
    return LoadedHead(folder, config, module.to(device).double().eval(), vocabulary)
