"""A LoRA adapter for PEFT, over transformers' ``CLIPModel``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from figclip_cli.export.formats.adapters import check_has_adapter, low_rank_tensors, temperature_tensors
from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.formats.transformers import check_transformers, write_transformers_folder
from figclip_cli.export.material import Material
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.tensor_file import write_tensors
from figclip_cli.files import write_json
from figclip_cli.markdown import one_line
from figclip_cli.models.source import CONFIG_NAME as OPEN_CLIP_CONFIG_NAME
from figclip_cli.models.transformers_clip import transformers_name

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
TEMPERATURE_NAME = "logit_scale.safetensors"
_PREFIX = "base_model.model."

_USAGE = """from peft import PeftModel
from transformers import CLIPModel, CLIPProcessor
{imports}
{remark}model, processor = CLIPModel.from_pretrained({base}), CLIPProcessor.from_pretrained({base})
{temperature}model = PeftModel.from_pretrained(model, "FOLDER").eval()
texts = ["a photo of a dog"]
inputs = processor(text=texts, images=picture, padding="max_length", truncation=True, return_tensors="pt")
outputs = model(**inputs)
outputs.image_embeds, outputs.text_embeds  # unit length
outputs.logits_per_image"""
_BASE_REMARK = "# BASE: {name} as a transformers folder; figclip export RUN --to transformers --scale 0 writes it\n"
_TEMPERATURE_USAGE = (
    f'model.load_state_dict(load_file("FOLDER/{TEMPERATURE_NAME}"), strict=False)  # the learned temperature\n'
)


def _check(config: Mapping[str, Any], options: ExportOptions) -> None:
    check_has_adapter(config, "peft", instead="transformers")
    check_transformers(config, options)


def adapter_config(material: Material) -> dict[str, Any]:
    """Return ``adapter_config.json``, of keys that every version of PEFT knows.

    Modules go by their whole names, so that none of the other tower matches. ``auto_mapping`` is what
    ``AutoPeftModel`` finds the class of the base by.
    """
    alpha = float(material.lora["alpha"])
    return {
        "peft_type": "LORA",
        "task_type": None,
        "auto_mapping": {"base_model_class": "CLIPModel", "parent_library": "transformers.models.clip.modeling_clip"},
        "base_model_name_or_path": base_name(material),
        "r": material.lora["rank"],
        "lora_alpha": int(alpha) if alpha.is_integer() else alpha,
        "lora_dropout": 0.0,
        "target_modules": sorted(transformers_name(*place) for place in low_rank_tensors(material)),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
    }


def base_name(material: Material) -> str | None:
    """Return where the base model is for transformers: as the user says, or the folder the run started from."""
    if material.options.base_name:
        return material.options.base_name
    folder = Path(material.clip.source.model).absolute()
    is_transformers = (folder / "config.json").is_file() and not (folder / OPEN_CLIP_CONFIG_NAME).exists()
    return str(folder) if is_transformers else None


def adapter_tensors(material: Material) -> dict[str, Tensor]:
    """Return A (r, D_in) and B (D_out, r) of every module under PEFT's names."""
    tensors: dict[str, Tensor] = {}
    for place, (a, b) in low_rank_tensors(material).items():
        module = _PREFIX + transformers_name(*place)
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    return tensors


def _write(folder: Path, material: Material) -> None:
    write_json(folder / CONFIG_NAME, adapter_config(material))
    write_tensors(folder / WEIGHTS_NAME, material.cast(adapter_tensors(material)))
    if temperature := temperature_tensors(material):
        write_tensors(folder / TEMPERATURE_NAME, temperature)


def _usage(material: Material) -> str:
    learned = bool(temperature_tensors(material))
    base = material.options.base_name  # a path of this machine means nothing on a card
    return _USAGE.format(
        imports="from safetensors.torch import load_file\n" if learned else "",
        remark="" if base else _BASE_REMARK.format(name=one_line(material.config["model"]["name"])),
        base=json.dumps(base or "BASE"),
        temperature=_TEMPERATURE_USAGE if learned else "",
    )


FORMAT = Format(
    name="peft",
    library="peft",
    holds="adapter",
    write=_write,
    usage=_usage,
    reload=reload_program("with_peft"),
    packages=("transformers", "peft"),
    check=_check,
    base_writer=write_transformers_folder,
)
