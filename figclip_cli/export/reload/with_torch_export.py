"""Open exported programs with torch alone, with the folder's own preprocessing and tokenizer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: str, samples: str, texts: str, out: str, base: str) -> None:
    """Write ``image``, ``text`` and ``logits`` of the samples; ``base`` is not needed."""
    import torch
    from safetensors.torch import load_file, save_file
    from tokenizers import Tokenizer

    place = Path(folder)
    config: dict[str, Any] = json.loads((place / "config.json").read_text(encoding="utf-8"))
    mean, std = (torch.tensor(config["preprocess"][key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    pixels = (load_file(samples)["images"].permute(0, 3, 1, 2).float() / 255 - mean) / std
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    lines = tokenizer.encode_batch(json.loads(Path(texts).read_text(encoding="utf-8")))
    given = {"image": pixels, "text": torch.tensor([line.ids for line in lines])}
    found = {}
    with torch.no_grad():
        for name, values in given.items():
            program = torch.export.load(place / config[name]["file"]).module()
            # One row, three, and the rest: the batch must not be fixed.
            parts = [part for part in (values[:1], values[1:4], values[4:]) if len(part)]
            found[name] = torch.cat([program(part.contiguous()) for part in parts])
    image, text = (torch.nn.functional.normalize(values, dim=-1) for values in found.values())
    found["logits"] = config["logit_scale"] * image @ text.T
    save_file({name: values.contiguous() for name, values in found.items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
