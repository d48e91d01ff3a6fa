"""Finished runs with random adapters, made without training, and what formats are written from and compared with."""

from __future__ import annotations

import json

import torch
from exporting import outputs_here
from samples import TINY_MODEL_CFG, save_model

from figclip_cli.export import ExportOptions
from figclip_cli.export.material import attach, merged
from figclip_cli.export.references import Reference, clip_outputs, roundoff
from figclip_cli.export.samples import draw_samples
from figclip_cli.models.adapted import load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.lora import LoraConfig, adapter_state, attach_lora
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tensors import save_tensors
from figclip_cli.run_folder import RunFolder

__all__ = ["ALL_TARGETS", "GELU_MODEL_CFG", "TINY_MODEL_CFG", "craft_run", "material_of", "outputs_here", "save_model"]

# transformers takes a model that does not say its activation for QuickGELU.
GELU_MODEL_CFG = {**TINY_MODEL_CFG, "quick_gelu": False}
ALL_TARGETS = ("q", "k", "v", "o", "fc", "proj")


def craft_run(template, folder, model, *, rank=2, alpha=6.0, targets=ALL_TARGETS, towers="both", temperature=3.0):
    """Make a run like the template but for its model, its random A and B, and a learned ``logit_scale``, if any."""
    clip = load_clip(ModelSource(str(model)))
    lora = LoraConfig(rank, alpha, 0.0, targets, "all", towers)
    attach_lora(clip.model, lora, seed=0, image_size=clip.preprocess.size)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(tensor.shape, generator=generator) * 0.1 for name, tensor in adapter_state(clip.model).items()
    }
    if temperature is not None:
        state["logit_scale"] = torch.tensor(temperature)
    config = json.loads(template.config_file.read_text())
    config["contextualizer"] = False
    config["lora"] |= {"rank": rank, "alpha": alpha, "targets": targets, "blocks": "all", "towers": towers}
    config["model"] |= {
        "name": "tiny",
        "model_cfg": clip.model_config,
        "preprocess_cfg": clip.preprocess.as_dict(),
        "sha256": clip.sha256,
        "source": {"model": str(model), "pretrained": None, "activation": None},
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    stated = {key: value for key, value in config["lora"].items() if key != "modules"}
    config["learn_temperature"] = temperature is not None
    (folder / "config.json").write_text(json.dumps(config))
    metadata = {"lora": stated, "base_sha256": clip.sha256}
    save_tensors(folder / "adapter.safetensors", state, metadata)
    (folder / "DONE").touch()
    return RunFolder(folder)


def material_of(run, *, options=None, compared=True):
    """Return a material, the samples, and the reference that a float32 export is compared with."""
    base = load_base(run)
    state = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    adapted = attach(base, state, run, 1.0)
    samples = draw_samples(base.preprocess.size)
    outputs = clip_outputs(adapted, samples) if compared else {}
    material = merged(run, options or ExportOptions(), 1.0, adapted, state, None)
    reference = Reference(outputs, {}, None, material.logit_scale, roundoff(material.dtype))
    return material, samples, reference
