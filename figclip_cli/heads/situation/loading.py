"""Load a finished head, in float64: what it predicts does not depend on what it is computed together with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.protocols import PRECISIONS
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.options import FEATURES
from figclip_cli.heads.seen_model import is_model
from figclip_cli.heads.situation.head import HeadSizes, SituationHead
from figclip_cli.heads.situation.labels import SituationLabels, load_labels
from figclip_cli.heads.situation.options import PARTS, PREDICTED, TASK, PredictOptions
from figclip_cli.heads.vocabulary import Vocabulary, load_vocabulary
from figclip_cli.models.tensors import load_tensors

_AGAIN = "train the head again"
_NEEDED = ("sizes", "options", "model", "frames", "features")


@dataclass(frozen=True)
class LoadedHead:
    """A head that predicts.

    Attributes:
        folder: Where it was.
        config: Its ``config.json``.
        module: In float64 and evaluation mode.
    """

    folder: HeadFolder
    config: Mapping[str, Any]
    module: SituationHead
    labels: SituationLabels
    vocabulary: Vocabulary

    @property
    def parts(self) -> tuple[str, ...]:
        """What it was trained for."""
        return self.module.sizes.parts


def head_config(folder: HeadFolder) -> dict[str, Any]:
    """Return the configuration of a finished head for situation recognition.

    Raises:
        InputError: The head is not finished, is for another task, or its configuration is damaged.
    """
    config = folder.load_config_for(TASK)
    wrong = [key for key in _NEEDED if key not in config]
    model, frames = config.get("model"), config.get("frames")
    if not is_model(model):
        wrong.append("model")
    if not isinstance(frames, dict) or not isinstance(frames.get("recipe"), dict) or "recipe_sha256" not in frames:
        wrong.append("frames")
    options, sizes = config.get("options"), config.get("sizes")
    if (
        not isinstance(options, dict)
        or options.get("precision") not in PRECISIONS
        or not _is_count(options, "max_roles")
    ):
        wrong.append("options")
    parts = sizes.get("parts") if isinstance(sizes, dict) else None
    if not isinstance(parts, list) or not parts or any(part not in PARTS for part in parts):
        wrong.append("sizes")
    if config.get("features") not in FEATURES:
        wrong.append("features")
    if wrong:
        raise InputError(f"{folder.config_file}: {wrong[0]} is missing or damaged", _AGAIN)
    return config


def _is_count(values: dict[str, Any], key: str) -> bool:
    return type(values.get(key)) is int and values[key] >= 1


def load_head(folder: HeadFolder, *, device: torch.device | str = "cpu") -> LoadedHead:
    """Load a finished head.

    Raises:
        InputError: The head is not finished, is for another task, or a file of it is missing or damaged.
    """
    config = head_config(folder)
    folder.require_companions(config)
    labels, vocabulary = load_labels(folder.labels_file), load_vocabulary(folder.vocabulary_file)
    state, _ = load_tensors(folder.weights_file, "weights of the head")
    try:
        sizes = HeadSizes.from_dict(config["sizes"])
        module = SituationHead(sizes, labels.role_log_odds())
        module.load_state_dict(state)
    except (KeyError, TypeError, ValueError, RuntimeError, AssertionError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(
            f"{folder.path}: weights, labels and config.json do not fit each other: {said}", _AGAIN
        ) from error
    if (sizes.senses, sizes.vocabulary_size) != (len(labels.senses), vocabulary.size):
        raise InputError(f"{folder.path}: labels or vocabulary are not those that it was trained with", _AGAIN)
    return LoadedHead(folder, config, module.to(device).double().eval(), labels, vocabulary)


def parts_to_predict(trained: tuple[str, ...], options: PredictOptions) -> tuple[str, ...]:
    """Return what is predicted of what a head was trained for.

    Raises:
        UsageError: It was not trained for a part, or for the verbs that are needed for one.
    """
    parts = options.parts or trained
    lacking = [part for part in parts if part not in trained]
    if lacking:
        raise UsageError(f"the head was not trained for {lacking[0]}", f"it has {', '.join(trained)}")
    if options.verbs == PREDICTED and "verbs" not in trained and set(parts) - {"verbs"}:
        raise UsageError("the head was not trained for verbs, which roles and relations need", "pass --verbs given")
    return tuple(part for part in trained if part in parts)
