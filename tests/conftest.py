"""What every test stands on: no network, a fixed number of threads, and a tiny CLIP model on disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import pytest
import torch

# Started as python -m pytest, Python would find the folder kernels/ of this repository under that name, which
# transformers takes for a package of another maker.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path(__file__).resolve().parents[1]]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_OFFLINE"] = "1"
# Triton reads this when it is first imported, which torch does not do. Without a GPU its kernels run interpreted, on
# CPU tensors; with one they never do.
if torch.cuda.is_available():
    os.environ.pop("TRITON_INTERPRET", None)
else:
    os.environ["TRITON_INTERPRET"] = "1"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked ``gpu`` without a CUDA device, or fail them if one is required."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        if os.environ.get("FIGCLIP_REQUIRE_GPU") == "1":
            pytest.fail("needs a CUDA device", pytrace=False)
        pytest.skip("needs a CUDA device")


TINY_MODEL_CFG = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    "quick_gelu": True,
}
PREPROCESS_CFG = {"size": [32, 32], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]}


def save_model(folder: Path, model_cfg: dict, seed: int = 0) -> Path:
    """Create an open_clip folder with random weights."""
    import torch
    from safetensors.torch import save_file

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


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A folder with a tiny ViT CLIP of open_clip's own kind, 32 pixels, QuickGELU."""
    return save_model(tmp_path_factory.mktemp("models") / "tiny", TINY_MODEL_CFG)


@pytest.fixture(scope="session")
def tiny_timm_model(tmp_path_factory) -> Path:
    """A folder with a tiny timm image tower, whose attention has one ``qkv`` linear."""
    model_cfg = {
        "embed_dim": 32,
        "vision_cfg": {
            "timm_model_name": "vit_tiny_patch16_224",
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": 224,
        },
        "text_cfg": TINY_MODEL_CFG["text_cfg"],
    }
    return save_model(tmp_path_factory.mktemp("models") / "tiny-timm", model_cfg)


@pytest.fixture(scope="session")
def warm_figclip(tmp_path_factory) -> Path:
    """The real program, ``figclip``, first on the PATH: forked from a process that has imported torch already."""
    folder, here = tmp_path_factory.mktemp("bin"), Path(__file__).parent
    path = Path(tempfile.mkdtemp(prefix="figclip-")) / "socket"  # a socket's path must be short
    server = subprocess.Popen(
        [sys.executable, here / "warm_start.py", path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    program = folder / "figclip"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{here / "warm_figclip.py"}" "{path}" "$@"\n')
    program.chmod(0o755)
    while not path.exists():
        assert server.poll() is None, "the server that starts programs ended"
        time.sleep(0.02)
    with pytest.MonkeyPatch.context() as patch:  # shells find it, and python3 and torchrun of this interpreter
        found = (str(folder), str(Path(sys.executable).parent), os.environ["PATH"])
        patch.setenv("PATH", os.pathsep.join(found))
        yield program
    server.kill()
    server.wait()
    shutil.rmtree(path.parent)


@pytest.fixture
def figclip(warm_figclip):
    """Run the real program in a process of its own: ``figclip("adapt", "--rank", "8", cwd=...)``.

    One that is given an environment is started from nothing, since that may decide what is imported.
    """

    def run(*arguments: str | Path, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "figclip_cli"] if environment else [warm_figclip]
        return subprocess.run(
            [*program, *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            check=False,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        )

    return run


@pytest.fixture
def shared_data() -> Path:
    """Real annotation files beside the checkout; tests that need them skip where they are absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/data with real annotation files is absent")
    return folder


VERBS = {
    "walk.01": ("walk", {"Arg0 (walker)": "man with short hair", "ArgM (direction)": "forward"}),
    "push.01": ("push", {"Arg0 (pusher)": "woman in red", "Arg1 (thing pushed)": "old car"}),
    "hit.01": ("hit", {"Arg0 (hitter)": "boy", "Arg1 (thing hit)": "ball", "ArgM (manner)": "hard"}),
    "look.01": ("look", {"Arg0 (looker)": "girl", "Arg1 (thing looked at)": "dog"}),
    "run.02": ("run", {"Arg0 (runner)": "dog", "ArgM (direction)": "away"}),
}


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
    import av
    import numpy as np

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


CLIP_IDS = [f"v_clip{number:07d}_seg_0_10" for number in range(6)]


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, tiny_model) -> Path:
    """A folder that holds what the pipeline needs: ``vidsitu/`` with videos and annotation, and ``base-model/``."""
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "vidsitu").mkdir()
    for number, clip_id in enumerate(CLIP_IDS):
        write_video(folder / "vidsitu" / f"{clip_id}.mp4", seed=number, seconds=10.0, rate=5)
    annotation = [annotation_record(clip_id, number) for number, clip_id in enumerate(CLIP_IDS)]
    (folder / "vidsitu" / "vsann_train_lb.json").write_text(json.dumps(annotation))
    shutil.copytree(tiny_model, folder / "base-model")
    return folder


@pytest.fixture(scope="session")
def prepared(inputs) -> Path:
    """The same folder after stages 1 and 2, run through the library."""
    from figclip_cli.frames import SamplingRecipe, extract
    from figclip_cli.prompts import PromptOptions, build

    extract([inputs / "vidsitu"], inputs / "frames.h5", recipe=SamplingRecipe(size=32), workers=1)
    build([inputs / "vidsitu" / "vsann_train_lb.json"], inputs / "prompts.jsonl", options=PromptOptions())
    return inputs


QUICK = {"rank": 2, "epochs": 2, "batch_clips": 3, "learning_rate": 1e-2, "contextualizer_layers": 1}


@pytest.fixture(scope="session")
def finished_run(prepared):
    """A finished quick run on the prepared folder."""
    from figclip_cli.adapt import AdaptOptions, SourceFiles, adapt
    from figclip_cli.models.source import ModelSource
    from figclip_cli.run_folder import RunFolder

    run = RunFolder(prepared / "runs" / "quick")
    source = ModelSource(str(prepared / "base-model"))
    files = [SourceFiles((prepared / "frames.h5",), prepared / "prompts.jsonl")]
    adapt(files, run, source=source, options=AdaptOptions(**QUICK))
    return run
