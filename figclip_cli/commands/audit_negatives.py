"""``figclip audit-negatives``: can negatives be told from prompts without any video?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from figclip_cli.commands.model_flags import (
    Activation,
    ActivationFlag,
    Device,
    DeviceFlag,
    PretrainedFlag,
    model_source,
)
from figclip_cli.console import Terminal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from figclip_cli.prompts.audit import Encode


def audit_negatives(
    terminal: Terminal,
    prompts: Annotated[Path | None, typer.Argument(help="Prompts file. Default: prompts.jsonl")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Also try with this model's text features: open_clip name or folder.")
    ] = None,
    pretrained: PretrainedFlag = None,
    activation: ActivationFlag = None,
    limit: Annotated[int, typer.Option("--limit", help="Most pairs per kind.", min=1)] = 20_000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the choice of pairs and of held-out clips.")] = 0,
    device: DeviceFlag = Device.auto,
) -> None:
    """Train classifiers that see texts alone; say how often they tell negatives from prompts, kind by kind."""
    from figclip_cli.commands.prompt_tables import audit_table
    from figclip_cli.prompts.audit import audit

    prompts = terminal.default(prompts, Path("prompts.jsonl"), "prompts")
    encode = _encoder(terminal, model, pretrained, activation, device) if model or pretrained else None
    report = audit(prompts, encode=encode, limit=limit, seed=seed, reporter=terminal)
    terminal.result(report.as_dict(), audit_table(report))


def _encoder(
    terminal: Terminal, model: str | None, pretrained: str | None, activation: Activation | None, device: Device
) -> Encode:
    import numpy as np

    from figclip_cli.models.clip import choose_device, load_clip
    from figclip_cli.models.text_features import encode_distinct

    source = model_source(terminal, model, pretrained, activation)
    clip = load_clip(source, device=choose_device(device.value), reporter=terminal)

    def encode(texts: Sequence[str]) -> npt.NDArray[np.float32]:
        features = encode_distinct(clip, texts, reporter=terminal)
        return np.asarray(features.gather(features.rows(texts)).numpy(), dtype=np.float32)

    return encode
