"""A loralib state dict: what ``loralib.lora_state_dict`` returns of a model of loralib's layers, and what these are.

loralib (microsoft/LoRA) keeps such a dict with ``torch.save``; here it is a safetensors file, which holds no code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figclip_cli.errors import VerificationError
from figclip_cli.export.formats.adapters import check_has_adapter, low_rank_tensors, temperature_tensors
from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.material import Material
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.tensor_file import write_tensors
from figclip_cli.files import write_json
from figclip_cli.markdown import one_line
from figclip_cli.models.lora.config import ATTENTION_PARTS

CONFIG_NAME = "loralib_config.json"
WEIGHTS_NAME = "loralib_state.safetensors"
_MERGED_LINEAR, _LINEAR = "MergedLinear", "Linear"
# What the linear layers of a projection are called: in open_clip's own blocks, in timm's, in the pool of a ResNet.
_LINEARS = {
    **{part: (f"{part}_proj",) for part in ATTENTION_PARTS},
    "o": ("out_proj", "proj", "c_proj"),
    "fc": ("c_fc", "fc1"),
    "proj": ("c_proj", "fc2"),
}
# Modules of q, k and v together, with the name of their weight; the first is no module in open_clip.
_FUSED = (("in_proj", "in_proj_weight", "in_proj_bias"), ("qkv", "qkv.weight", "qkv.bias"))

_USAGE = """import json, loralib, open_clip
from safetensors.torch import load_file

# BASE: {base} as an open_clip folder; figclip export RUN --to open-clip --scale 0 writes it
model, _, preprocess = open_clip.create_model_and_transforms("local-dir:BASE")
model = model.eval()
config, state = json.load(open("FOLDER/{config}")), load_file("FOLDER/{weights}")
for row in config["modules"]:
    layer = getattr(loralib, row["kind"])(**row["arguments"])
    layer.weight = model.get_parameter(row["weight"]).requires_grad_(False)
    layer.load_state_dict({{key: state[f"{{row['name']}}.{{key}}"] for key in ("lora_A", "lora_B")}}, strict=False)
    layer.eval()  # loralib adds the update to the weight, which is the model's own"""
_TEMPERATURE_USAGE = """
model.load_state_dict({"logit_scale": state["logit_scale"]}, strict=False)  # the learned temperature"""


def _check(config: Mapping[str, Any], options: ExportOptions) -> None:
    check_has_adapter(config, "loralib", instead="open-clip")


def loralib_layers(material: Material) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Return the adapter as loralib's layers keep it.

    Returns:
        Tensors: ``MODULE.lora_A`` and ``MODULE.lora_B``. Of a ``MergedLinear`` (D, 3 D) of which n parts are adapted
        they are (n r, D) and (n D, r), the parts stacked in the order q, k, v.
        Modules: for each its name, class and arguments, and the names of the weight and the bias in the base model.
    """
    by_parent: dict[str, dict[str, tuple[Tensor, Tensor]]] = {}
    for (parent, target), pair in low_rank_tensors(material).items():
        by_parent.setdefault(parent, {})[target] = pair
    tensors: dict[str, Tensor] = {}
    rows = []
    for parent, pairs in by_parent.items():
        for name, kind, weight, bias, targets in _modules(parent, pairs, material.state):
            a, b = (torch.cat(parts) for parts in zip(*(pairs[target] for target in targets), strict=True))
            tensors |= {f"{name}.lora_A": a, f"{name}.lora_B": b}
            rows.append(_row(material, name, kind, weight, bias, targets))
    return tensors, rows


def _modules(
    parent: str, pairs: Mapping[str, Any], state: Mapping[str, Tensor]
) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    """Return name, class, weight, bias and targets of the linear layers that the projections belong to."""
    modules = []
    remaining = dict.fromkeys(pairs)
    parts = tuple(part for part in ATTENTION_PARTS if part in pairs)
    for name, weight, bias in _FUSED:
        if parts and f"{parent}.{weight}" in state:
            modules.append((f"{parent}.{name}", _MERGED_LINEAR, f"{parent}.{weight}", f"{parent}.{bias}", parts))
            remaining = {target: None for target in pairs if target not in parts}
            break
    for target in remaining:
        name = next((f"{parent}.{name}" for name in _LINEARS[target] if f"{parent}.{name}.weight" in state), "")
        if not name:
            raise VerificationError(f"no layer of the model is the '{target}' of {parent}", "please report this")
        modules.append((name, _LINEAR, f"{name}.weight", f"{name}.bias", (target,)))
    return modules


def _row(material: Material, name: str, kind: str, weight: str, bias: str, targets: tuple[str, ...]) -> dict[str, Any]:
    out_features, in_features = material.state[weight].shape
    has_bias = bias in material.state
    arguments: dict[str, Any] = {
        "in_features": in_features,
        "out_features": out_features,
        "r": material.lora["rank"],
        "lora_alpha": material.lora["alpha"],
        "fan_in_fan_out": False,
        "merge_weights": True,
        "bias": has_bias,
    }
    if kind == _MERGED_LINEAR:
        arguments["enable_lora"] = [part in targets for part in ATTENTION_PARTS]
    return {
        "name": name,
        "kind": kind,
        "arguments": arguments,
        "weight": weight,
        "bias": bias if has_bias else None,
        "targets": list(targets),
    }


def _write(folder: Path, material: Material) -> None:
    tensors, rows = loralib_layers(material)
    cast = material.cast(tensors)
    for row in rows:
        row["shapes"] = {key: list(cast[f"{row['name']}.{key}"].shape) for key in ("lora_A", "lora_B")}
    model = material.config["model"]
    config = {
        "format": "figclip-loralib",
        "base_model": {"name": material.options.base_name or model["name"], "sha256": model["sha256"]},
        "rank": material.lora["rank"],
        "alpha": material.lora["alpha"],
        "modules": rows,
    }
    write_tensors(folder / WEIGHTS_NAME, {**cast, **temperature_tensors(material)})
    write_json(folder / CONFIG_NAME, config)


def _usage(material: Material) -> str:
    base = material.options.base_name or material.config["model"]["name"]
    usage = _USAGE.format(base=one_line(base), config=CONFIG_NAME, weights=WEIGHTS_NAME)
    return usage + (_TEMPERATURE_USAGE if temperature_tensors(material) else "")


FORMAT = Format(
    name="loralib",
    library="loralib",
    holds="adapter",
    write=_write,
    usage=_usage,
    reload=reload_program("with_loralib"),
    check=_check,
)
