"""Open an exported folder with open_clip alone, with the folder's own preprocessing and tokenizer."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str, samples: str, texts: str, out: str, base: str) -> None:
    """Write ``image``, ``text`` and ``logits`` of the samples; ``base`` is not needed."""
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import load_file, save_file

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    images = torch.stack([preprocess(Image.fromarray(image.numpy())) for image in load_file(samples)["images"]])
    tokens = tokenizer(json.loads(Path(texts).read_text(encoding="utf-8")))
    with torch.no_grad():
        model.eval()
        found = {"image": model.encode_image(images), "text": model.encode_text(tokens)}
        found["logits"] = model.get_logits(images, tokens)[0]
    save_file({name: value.float().contiguous() for name, value in found.items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
