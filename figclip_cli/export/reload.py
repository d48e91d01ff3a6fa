"""Open an exported folder with open_clip alone, as its user would; run as a program in a fresh process.

    python -m figclip_cli.export.reload FOLDER SAMPLES.safetensors TEXTS.json OUT.safetensors

Nothing of figclip is imported, so nothing it patched or cached can make a broken folder look right. The
folder's own preprocessing and tokenizer are used.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str, samples: str, texts: str, out: str) -> None:
    """Write ``image`` and ``text`` features (n, D), not normalised, of the samples."""
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import load_file, save_file

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    images = torch.stack([preprocess(Image.fromarray(image.numpy())) for image in load_file(samples)["images"]])
    with torch.no_grad():
        features = {
            "image": model.eval().encode_image(images),
            "text": model.encode_text(tokenizer(json.loads(Path(texts).read_text(encoding="utf-8")))),
        }
    save_file({name: value.float().contiguous() for name, value in features.items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
