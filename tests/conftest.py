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

import pytest
import torch
from samples import CLIP_IDS, QUICK, TINY_MODEL_CFG, annotation_record, save_model, write_video

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
    call = f'"{sys.executable}" -S -E "{here / "warm_figclip.py"}" "{path}"'
    program, python = folder / "figclip", folder / "python-of-figclip"
    program.write_text(f'#!/bin/sh\nexec {call} "" "$@"\n')
    reload = f'case "$1" in */figclip_cli/export/reload/*.py) exec {call} "$@" ;; esac'
    python.write_text(f'#!/bin/sh\n{reload}\nexec "{sys.executable}" "$@"\n')
    for file in (program, python):
        file.chmod(0o755)
    server = subprocess.Popen(
        [sys.executable, here / "warm_start.py", path, python],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
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
