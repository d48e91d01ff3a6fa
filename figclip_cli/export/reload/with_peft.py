"""Put an exported adapter on the base model with PEFT and transformers alone, and merge it there too."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

# Of features at unit length: merging rounds, and no more.
MAX_MERGING_DIFFERENCE = 1e-5


def main(folder: str, samples: str, texts: str, out: str, base: str) -> None:
    """Write ``image``, ``text`` and ``logits`` of the samples, unmerged; ``base`` is a transformers folder.

    Raises:
        SystemExit: PEFT's own merging gives other features.
    """
    import torch
    from peft import PeftModel
    from PIL import Image
    from safetensors.torch import load_file, save_file
    from transformers import CLIPModel, CLIPProcessor

    processor, model = CLIPProcessor.from_pretrained(base), CLIPModel.from_pretrained(base)
    temperature = Path(folder) / "logit_scale.safetensors"
    if temperature.is_file():
        model.load_state_dict(load_file(temperature), strict=False)
    pictures = [Image.fromarray(image.numpy()) for image in load_file(samples)["images"]]
    sentences = json.loads(Path(texts).read_text(encoding="utf-8"))
    inputs = processor(text=sentences, images=pictures, padding="max_length", truncation=True, return_tensors="pt")
    adapted = PeftModel.from_pretrained(model, folder).float().eval()
    with torch.no_grad():
        found = outputs(adapted, inputs)
        merged = outputs(adapted.merge_and_unload(), inputs)
    for kind in ("image", "text"):
        there, here = (torch.nn.functional.normalize(each[kind], dim=-1) for each in (merged, found))
        difference = float((there - here).abs().max())
        if not difference <= MAX_MERGING_DIFFERENCE:
            raise SystemExit(f"merging the adapter moves the {kind} features by {difference:.1e}")
    save_file({name: value.float().contiguous() for name, value in found.items()}, out)


def outputs(model: Any, inputs: Any) -> dict[str, Any]:
    """Return what a ``CLIPModel``, adapted or not, makes of a processor's output."""
    return {
        "image": features(model.get_image_features(pixel_values=inputs["pixel_values"])),
        "text": features(model.get_text_features(inputs["input_ids"], inputs["attention_mask"])),
        "logits": model(**inputs).logits_per_image,
    }


def features(output: Any) -> Any:
    """Return projected features: transformers 4 returns the tensor, transformers 5 an object that holds it."""
    return output if hasattr(output, "shape") else output.pooler_output


if __name__ == "__main__":
    main(*sys.argv[1:])
