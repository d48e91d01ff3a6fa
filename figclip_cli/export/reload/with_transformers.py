"""Open an exported folder with transformers alone, with the folder's own processor and tokenizer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: str, samples: str, texts: str, out: str, base: str) -> None:
    """Write ``image``, ``text`` and ``logits`` of the samples, computed in float32; ``base`` is not needed."""
    import torch
    from PIL import Image
    from safetensors.torch import load_file, save_file
    from transformers import CLIPModel, CLIPProcessor

    # transformers 4 calls the argument for the type torch_dtype, transformers 5 dtype.
    model = CLIPModel.from_pretrained(folder).float().eval()
    processor = CLIPProcessor.from_pretrained(folder)
    pictures = [Image.fromarray(image.numpy()) for image in load_file(samples)["images"]]
    sentences = json.loads(Path(texts).read_text(encoding="utf-8"))
    inputs = processor(text=sentences, images=pictures, padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        found = {
            "image": features(model.get_image_features(pixel_values=inputs["pixel_values"])),
            "text": features(model.get_text_features(inputs["input_ids"], inputs["attention_mask"])),
            "logits": model(**inputs).logits_per_image,
        }
    save_file({name: value.float().contiguous() for name, value in found.items()}, out)


def features(output: Any) -> Any:
    """Return projected features: transformers 4 returns the tensor, transformers 5 an object that holds it."""
    return output if hasattr(output, "shape") else output.pooler_output


if __name__ == "__main__":
    main(*sys.argv[1:])
