"""``config.json`` of a run: every choice resolved, and what it was made from, by content."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.sources import Coverage, Source
from figclip_cli.files import sha256_of_json
from figclip_cli.models.clip import Clip
from figclip_cli.models.lora import AdaptedModule
from figclip_cli.run_folder import RUN_FORMAT, RUN_FORMAT_VERSION

_IN_LORA = ("rank", "alpha", "lora_dropout", "targets", "blocks", "towers")


def run_config(
    clip: Clip,
    sources: Sequence[Source],
    coverage: Coverage,
    modules: Sequence[AdaptedModule],
    options: AdaptOptions,
    execution: dict[str, Any],
) -> dict[str, Any]:
    """Return the configuration of a run as plain JSON values.

    ``clips.left_out`` counts the clips that a list of those to train on, or ``fraction``, leaves out.

    Args:
        execution: How it is computed; the one part, beside ``epochs``, that may differ when the run is resumed.
    """
    resolved = options.as_dict()
    lora = {name.removeprefix("lora_"): resolved.pop(name) for name in _IN_LORA}
    return {
        **resolved,
        "format": RUN_FORMAT,
        "format_version": RUN_FORMAT_VERSION,
        "lora": {
            **lora,
            "modules": [{"name": m.name, "kind": m.kind, "parameters": m.parameters} for m in modules],
        },
        "model": {
            "name": clip.name,
            "source": _lasting_source(clip),
            "sha256": clip.sha256,
            "model_cfg": clip.model_config,
            "preprocess_cfg": clip.preprocess.as_dict(),
        },
        "sources": [source.describe() for source in sources],
        "clips": {
            "annotated": coverage.prompts,
            "used": coverage.used,
            "not_ok": coverage.not_ok,
            "excluded": coverage.excluded,
            "validation": coverage.validation,
            "left_out": coverage.unused,
            "sha256": sha256_of_json([list(source.clip_ids) for source in sources]),
        },
        "execution": execution,
    }


def _lasting_source(clip: Clip) -> dict[str, str | None]:
    """Return where the model came from, with local paths made absolute."""
    source = clip.source.as_dict()
    if Path(clip.source.model).exists():
        source["model"] = os.fspath(Path(clip.source.model).resolve())
    elif clip.source.pretrained and Path(clip.source.pretrained).is_file():
        source["pretrained"] = os.fspath(Path(clip.source.pretrained).resolve())
    return source
