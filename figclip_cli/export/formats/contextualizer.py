"""The video contextualizer: its weights, its sizes, and the module itself, which needs nothing but torch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.material import Material
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.tensor_file import write_tensors
from figclip_cli.files import write_json, write_text
from figclip_cli.models import contextualizer as module

_USAGE = """import json, sys

from safetensors.torch import load_file

sys.path.insert(0, "FOLDER")
from contextualizer import ContextualizerConfig, VideoContextualizer

sizes = json.load(open("FOLDER/config.json"))["sizes"]
model = VideoContextualizer(ContextualizerConfig(**sizes)).eval()
model.load_state_dict(load_file("FOLDER/contextualizer.safetensors"))
video_tokens, event_tokens = model(frames)  # (B, P, T, D) image features -> (B, D) and (B, P, D)"""


def _check(config: Mapping[str, Any], options: ExportOptions) -> None:
    if not config["contextualizer"]:
        raise InputError("the run was made without a contextualizer", "leave out --to contextualizer")


def _write(folder: Path, material: Material) -> None:
    contextualizer = material.contextualizer
    assert contextualizer is not None, "checked before"
    write_tensors(folder / "contextualizer.safetensors", material.cast(contextualizer.state_dict()))
    config = {
        "format": "figclip-contextualizer",
        "sizes": contextualizer.config.as_dict(),
        "input": "image features (B, P, T, D) of the adapted image tower, as it gives them: not normalised",
        "layout": "[video, event 1, its T frames, ..., event P, its T frames]",
    }
    write_json(folder / "config.json", config)
    write_text(folder / "contextualizer.py", inspect.getsource(module))


FORMAT = Format(
    name="contextualizer",
    library="torch",
    holds="contextualizer",
    write=_write,
    usage=lambda material: _USAGE,
    reload=reload_program("with_contextualizer"),
    check=_check,
)
