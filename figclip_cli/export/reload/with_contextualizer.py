"""Open an exported contextualizer with torch alone, by the module that lies in the folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(folder: str, samples: str, texts: str, out: str, base: str) -> None:
    """Write ``video`` and ``events`` of the samples' ``frames``; texts and ``base`` are not needed."""
    import torch
    from safetensors.torch import load_file, save_file

    sys.dont_write_bytecode = True  # the folder is finished
    sys.path.insert(0, folder)
    from contextualizer import ContextualizerConfig, VideoContextualizer  # type: ignore[import-not-found]

    sizes = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["sizes"]
    model = VideoContextualizer(ContextualizerConfig(**sizes)).eval()
    model.load_state_dict(load_file(Path(folder) / "contextualizer.safetensors"))
    with torch.no_grad():
        video, events = model(load_file(samples)["frames"])
    save_file({"video": video.contiguous(), "events": events.contiguous()}, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
