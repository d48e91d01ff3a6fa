"""The model whose features a head reads: a base model, or a run's, with its contextualizer where that is wanted."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import sha256_of_file
from figclip_cli.heads.options import PLAIN, TOKENS
from figclip_cli.models.adapted import attach_run, load_contextualizer
from figclip_cli.models.clip import Clip
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.source import Activation
from figclip_cli.run_folder import RunFolder

_SOURCE = {"model", "pretrained", "activation"}


@dataclass(frozen=True)
class SeenModel:
    """A model whose features a head reads.

    Attributes:
        clip: With its adapter, where there is a run.
        contextualizer: Makes event tokens; None pools frames.
        facts: Names and hashes, for ``config.json``.
        precision: Of the towers' arithmetic.
    """

    clip: Clip
    contextualizer: VideoContextualizer | None
    facts: Mapping[str, Any]
    precision: str

    @property
    def features(self) -> str:
        """``tokens`` or ``plain``."""
        return PLAIN if self.contextualizer is None else TOKENS


def seen_model(clip: Clip, run: RunFolder | None, *, features: str | None = None, precision: str = "fp32") -> SeenModel:
    """Attach a run to its base model, in place.

    Args:
        features: ``tokens`` or ``plain``; None is ``tokens`` where the run has a contextualizer.

    Raises:
        UsageError: Tokens are asked for, and there is no contextualizer.
        InputError: The run is not finished, or a file of it is damaged.
    """
    config = None if run is None else run.load_config()
    has_contextualizer = bool(config and config["contextualizer"])
    if features == TOKENS and not has_contextualizer:
        what = "the base model" if run is None else str(run.path)
        raise UsageError(f"--features tokens: {what} has no contextualizer", "pass --features plain")
    uses_tokens = has_contextualizer if features is None else features == TOKENS
    source = clip.source.as_dict()
    if Path(clip.source.model).is_dir():
        source["model"] = os.fspath(Path(clip.source.model).resolve())
    facts: dict[str, Any] = {
        "name": clip.name,
        "source": source,
        "sha256": clip.sha256,
        "preprocess_cfg": clip.preprocess.as_dict(),
        "quick_gelu": clip.model_config["quick_gelu"],
        "run": None,
        "adapter_sha256": None,
        "contextualizer_sha256": None,
    }
    if run is None:
        return SeenModel(clip, None, facts, precision)
    facts |= {"run": os.fspath(run.path.resolve()), "adapter_sha256": sha256_of_file(run.adapter_file)}
    adapted = attach_run(clip, run)
    if not uses_tokens:
        return SeenModel(adapted, None, facts, precision)
    facts["contextualizer_sha256"] = sha256_of_file(run.contextualizer_file)
    return SeenModel(adapted, load_contextualizer(run, device=clip.device), facts, precision)


def is_model(model: Any) -> bool:
    """Return whether a value of ``config.json`` is what :func:`seen_model` wrote there, as far as it is read again."""
    if not isinstance(model, dict) or not isinstance(model.get("run", 0), str | None):
        return False
    source = model.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("model"), str) or set(source) - _SOURCE:
        return False
    activation = source.get("activation")
    known = activation is None or activation in get_args(Activation)
    return known and isinstance(source.get("pretrained"), str | None)


# What must be the same for a head to be of use; names and places may change.
_LASTING = {
    "sha256": "another base model",
    "adapter_sha256": "another run",
    "contextualizer_sha256": "another contextualizer",
    "preprocess_cfg": "another preprocessing",
    "quick_gelu": "another activation",
}


def refuse_other_model(found: Mapping[str, Any], trained_on: Mapping[str, Any], head: Path) -> None:
    """Refuse a model whose features are not those that a head was trained on.

    Raises:
        InputError: Says what differs.
    """
    for key, what in _LASTING.items():
        if found.get(key) != trained_on.get(key):
            where = trained_on.get("run") or trained_on["source"]["model"]
            raise InputError(f"the head {head} was trained on {what}", f"name {where} with --run or --model")
