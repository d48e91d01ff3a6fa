"""A folder for transformers' ``CLIPModel``, ``CLIPProcessor`` and ``CLIPTokenizer``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from figclip_cli.errors import UsageError
from figclip_cli.export.clip_tokenizer_files import write_tokenizer_files
from figclip_cli.export.formats.format import Format, reload_program
from figclip_cli.export.material import Material
from figclip_cli.export.options import ExportOptions
from figclip_cli.export.tensor_file import write_tensors
from figclip_cli.files import write_json
from figclip_cli.models.clip import Preprocess
from figclip_cli.models.model_sizes import shown
from figclip_cli.models.transformers_clip import to_transformers, transformers_config

_USAGE = """from transformers import CLIPModel, CLIPProcessor

model, processor = CLIPModel.from_pretrained("FOLDER").eval(), CLIPProcessor.from_pretrained("FOLDER")
texts = ["a photo of a dog"]
inputs = processor(text=texts, images=picture, padding="max_length", truncation=True, return_tensors="pt")
outputs = model(**inputs)
outputs.image_embeds, outputs.text_embeds  # unit length
outputs.logits_per_image"""

_PIL_RESAMPLING = {"bilinear": 2, "bicubic": 3}
_TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def check_transformers(config: Mapping[str, Any], options: ExportOptions) -> None:
    """Refuse a model that ``CLIPModel``, or preprocessing that ``CLIPImageProcessor``, does not compute.

    Raises:
        UsageError: In one line, what it is.
    """
    transformers_config(config["model"]["model_cfg"])
    preprocess = config["model"]["preprocess_cfg"]
    for key, known in (("resize_mode", ("shortest", "squash")), ("interpolation", tuple(_PIL_RESAMPLING))):
        if preprocess.get(key) not in known:
            raise UsageError(
                f"transformers' CLIPImageProcessor has no counterpart of {key} {shown(preprocess.get(key))}",
                "--to open-clip holds it",
            )


def processor_config(preprocess: Preprocess) -> dict[str, Any]:
    """Return ``preprocessor_config.json``: open_clip's preprocessing in the terms of ``CLIPImageProcessor``."""
    square = {"height": preprocess.size, "width": preprocess.size}
    crops = preprocess.resize_mode == "shortest"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "CLIPProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": preprocess.size} if crops else square,
        "resample": _PIL_RESAMPLING[preprocess.interpolation],
        "do_center_crop": crops,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def write_transformers_folder(folder: Path, material: Material) -> None:
    """Write a folder that ``CLIPModel.from_pretrained(FOLDER)`` and ``CLIPProcessor.from_pretrained(FOLDER)`` open.

    The activation is written out: transformers takes a model that does not say it for QuickGELU. The type of the
    weights is under ``torch_dtype``, which transformers 4 and 5 both read.
    """
    clip = material.clip
    config = {**transformers_config(clip.model_config), "torch_dtype": _TORCH_NAMES[material.options.dtype]}
    write_json(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", material.cast(to_transformers(material.state, clip.model_config)))
    write_json(folder / "preprocessor_config.json", processor_config(clip.preprocess))
    write_tokenizer_files(folder, clip.context_length)


FORMAT = Format(
    name="transformers",
    library="transformers",
    holds="weights",
    write=write_transformers_folder,
    usage=lambda material: _USAGE,
    reload=reload_program("with_transformers"),
    packages=("transformers",),
    check=check_transformers,
)
