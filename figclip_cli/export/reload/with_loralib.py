"""Put an exported loralib state dict into the base model: loralib's own layers, merged by loralib itself."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str, samples: str, texts: str, out: str, base: str) -> None:
    """Write ``image``, ``text`` and ``logits`` of the samples; ``base`` is an open_clip folder."""
    import loralib
    import open_clip
    import torch
    from PIL import Image
    from safetensors.torch import load_file, save_file

    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{base}")
    model.requires_grad_(False).eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{base}")
    config = json.loads((Path(folder) / "loralib_config.json").read_text(encoding="utf-8"))
    state = load_file(Path(folder) / "loralib_state.safetensors")
    used = set()
    for row in config["modules"]:
        layer = getattr(loralib, row["kind"])(**row["arguments"])
        weight = model.get_parameter(row["weight"])
        layer.weight = torch.nn.Parameter(weight.clone(), requires_grad=False)
        keys = {f"{row['name']}.{key}": key for key in ("lora_A", "lora_B")}
        lacking = layer.load_state_dict({key: state[name] for name, key in keys.items()}, strict=False).missing_keys
        if not set(lacking) <= {"weight", "bias"}:
            raise SystemExit(f"{row['name']} lacks {lacking}")
        layer.eval()  # merges
        weight.copy_(layer.weight)
        used |= set(keys)
    rest = {name: tensor for name, tensor in state.items() if name not in used}
    if unexpected := model.load_state_dict(rest, strict=False).unexpected_keys:
        raise SystemExit(f"the model has no {unexpected[0]}")
    images = torch.stack([preprocess(Image.fromarray(image.numpy())) for image in load_file(samples)["images"]])
    tokens = tokenizer(json.loads(Path(texts).read_text(encoding="utf-8")))
    with torch.no_grad():
        found = {"image": model.encode_image(images), "text": model.encode_text(tokens)}
        found["logits"] = model.get_logits(images, tokens)[0]
    save_file({name: value.float().contiguous() for name, value in found.items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
