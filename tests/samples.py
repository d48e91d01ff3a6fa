"""Small models, clips and annotation that tests are made of: what a fixture makes from them is in ``conftest.py``."""

from __future__ import annotations

import json
from pathlib import Path

import av
import h5py
import numpy as np
import torch
from safetensors.torch import save_file

TINY_MODEL_CFG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    "quick_gelu": True,
}
PREPROCESS_CFG = {"size": [32, 32], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}
CLIP_IDS = [f"v_clip{number:07d}_seg_0_10" for number in range(6)]
QUICK = {"rank": 2, "epochs": 2, "batch_clips": 3, "learning_rate": 1e-2, "contextualizer_layers": 1}
VERBS = {
    "walk.01": ("walk", {"Arg0 (walker)": "man with short hair", "ArgM (direction)": "forward"}),
    "push.01": ("push", {"Arg0 (pusher)": "woman in red", "Arg1 (thing pushed)": "old car"}),
    "hit.01": ("hit", {"Arg0 (hitter)": "boy", "Arg1 (thing hit)": "ball", "ArgM (manner)": "hard"}),
    "look.01": ("look", {"Arg0 (looker)": "girl", "Arg1 (thing looked at)": "dog"}),
    "run.02": ("run", {"Arg0 (runner)": "dog", "ArgM (direction)": "away"}),
}


def save_model(folder: Path, model_cfg: dict, seed: int = 0) -> Path:
    """Create an open_clip folder with random weights."""
    from figclip_cli.models.clip import build_architecture

    torch.manual_seed(seed)
    model = build_architecture(model_cfg)
    folder.mkdir(parents=True, exist_ok=True)
    document = {"model_cfg": model_cfg, "preprocess_cfg": PREPROCESS_CFG}
    (folder / "open_clip_config.json").write_text(json.dumps(document))
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def annotation_record(clip_id: str, shift: int) -> dict:
    """One record in VidSitu's format whose five events use the five verbs, starting at ``shift``."""
    record = {}
    for event in range(5):
        sense = sorted(VERBS)[(event + shift) % 5]
        verb, args = VERBS[sense]
        args = {key: f"{value} {shift}" for key, value in args.items()} | {"Scene of the Event": "street"}
        record[f"Ev{event + 1}"] = {
            "vid_uid": clip_id[2:-9],
            "vid_seg_int": clip_id,
            "Verb": f"{verb} ({sense})",
            "VerbID": sense,
            "Arg_List": {key: position for position, key in enumerate(args)},
            "Args": args,
            **({} if event == 2 else {"EvRel": "NoRel"}),
        }
    return record


def write_video(path: Path, seed: int, seconds: float = 2.0, size: int = 48, rate: int = 10) -> None:
    """Write a small real mp4 whose pictures differ by clip and by time."""
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 256, (size, size, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv420p"
        for index in range(int(seconds * rate)):
            picture = np.roll(base, index * 2, axis=1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def restate(file, name: str, texts: dict[int, str]) -> None:
    """Write other texts into a text column of an open frames file, whose texts have one length."""
    stored = file[name].asstr()[:].tolist()
    for index, text in texts.items():
        stored[index] = text
    encoded = [text.encode() for text in stored]
    del file[name]
    file.create_dataset(name, data=encoded, dtype=h5py.string_dtype("utf-8", max(1, *map(len, encoded))))
