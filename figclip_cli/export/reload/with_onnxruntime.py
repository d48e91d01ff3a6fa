"""Open exported ONNX graphs with onnxruntime alone, with the folder's own preprocessing and tokenizer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: str, samples: str, texts: str, out: str, base: str) -> None:
    """Write ``image``, ``text`` and ``logits`` of the samples; ``base`` is not needed."""
    import numpy as np
    import onnxruntime
    from PIL import Image
    from safetensors.numpy import load_file, save_file
    from tokenizers import Tokenizer

    place = Path(folder)
    config: dict[str, Any] = json.loads((place / "config.json").read_text(encoding="utf-8"))
    mean, std = (np.array(config["preprocess"][key], np.float32) for key in ("mean", "std"))
    pictures = [Image.fromarray(image).convert("RGB") for image in load_file(samples)["images"]]
    pixels = np.stack([(np.asarray(picture, np.float32) / 255 - mean) / std for picture in pictures])
    tokenizer = Tokenizer.from_file(str(place / "tokenizer.json"))
    lines = tokenizer.encode_batch(json.loads(Path(texts).read_text(encoding="utf-8")))
    given = {"image": pixels.transpose(0, 3, 1, 2), "text": np.array([line.ids for line in lines], np.int64)}
    found = {}
    for name, values in given.items():
        session = onnxruntime.InferenceSession(str(place / config[name]["file"]), providers=["CPUExecutionProvider"])
        # One row, three, and the rest: the batch must not be fixed.
        parts = [part for part in np.split(np.ascontiguousarray(values), (1, 4)) if len(part)]
        told = config[name]["input"]["name"]
        found[name] = np.concatenate([session.run([config[name]["output"]["name"]], {told: part})[0] for part in parts])
    image, text = (values / np.linalg.norm(values, axis=-1, keepdims=True) for values in found.values())
    found["logits"] = np.float32(config["logit_scale"]) * image @ text.T
    save_file({name: np.ascontiguousarray(values, np.float32) for name, values in found.items()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
