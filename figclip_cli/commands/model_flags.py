"""Flags of every verb that loads a model."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from figclip_cli.models.source import ModelSource


class Activation(str, Enum):
    """Activation of the towers."""

    gelu = "gelu"
    quickgelu = "quickgelu"


class Device(str, Enum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


MODEL_HELP = "open_clip name, an open_clip or transformers folder, or a file of OpenAI's weights. Default: base-model/"
PRETRAINED_HELP = "Pretrained tag or weights file, with a model name."
ACTIVATION_HELP = "What weights were trained with, where the files do not say."
DEVICE_HELP = "Where to compute."

ModelFlag = Annotated[str | None, typer.Option("--model", help=MODEL_HELP)]
PretrainedFlag = Annotated[str | None, typer.Option("--pretrained", help=PRETRAINED_HELP)]
ActivationFlag = Annotated[Activation | None, typer.Option("--activation", help=ACTIVATION_HELP)]
DeviceFlag = Annotated[Device, typer.Option("--device", help=DEVICE_HELP)]


def model_source(
    terminal: Terminal, model: str | None, pretrained: str | None, activation: Activation | None
) -> ModelSource:
    """Return what the flags ask for; without ``--model``, the default folder, which is said.

    Raises:
        UsageError: The flags contradict each other, or nothing was named and there is no default.
    """
    from figclip_cli.errors import UsageError
    from figclip_cli.models.source import ModelSource, default_source

    if model is None:
        if pretrained is not None:
            raise UsageError("--pretrained needs --model", "for example --model ViT-B-32-quickgelu --pretrained openai")
        if activation is not None:
            raise UsageError("--activation needs --model", "it is for files that do not say their own activation")
        source = default_source()
        terminal.info(f"base model: {source.model}/ (default)")
        return source
    return ModelSource(model, pretrained, activation.value if activation else None)
