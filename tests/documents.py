"""The command lines that the pages show, and what they need to be run: nothing here knows a page by name."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    name
    for name in ("README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md")))
    if (ROOT / name).is_file()
]
_FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.M | re.S)
_PROGRAMS = (
    "figclip make torchrun python python3 pip srun sbatch jq curl wget unzip git yt-dlp export mkdir cp cat head tail "
    "sha256sum for while cd"
).split()
_COMMAND = re.compile(rf"^(\$ +)?([A-Z_0-9]+=\S+ +)*({'|'.join(_PROGRAMS)})( |$)", re.M)
_COMPOUND = re.compile(r"^(#!|for |while |if |export )", re.M)
# What a test changes in a line, and nothing else: size, epochs, weights that would be fetched, the number of shards and
# of settings.
SMALL = """
[extract-frames]
size = 32
workers = 1
overwrite = true
[merge-frames]
overwrite = true
[build-prompts]
overwrite = true
[adapt]
model = "base-model"
epochs = 1
batch-clips = 2
contextualizer-layers = 1
[train-head.situation]
epochs = 1
width = 16
attention-heads = 2
[train-head.dense-captioning]
epochs = 1
width = 16
[evaluate]
overwrite = true
[evaluate.dense-captioning]
meteor = "off"
[export]
overwrite = true
[report]
overwrite = true
"""
_CONFIGURED = "extract-frames|merge-frames|build-prompts|adapt|export|report|evaluate [a-z-]+|train-head [a-z-]+"
_CHANGES = (
    (rf"\b(figclip|figclip_cli) ({_CONFIGURED})(?= |$)", r"\1 \2 --config small.toml"),
    (r"--model ViT-\S+ --pretrained \S+", "--model base-model"),
    (r"--shard 3/8", "--shard 1/2"),
    (r"--shard 0/8", "--shard 0/2"),
    (r"--workers 16", "--workers 1"),
    (r"\bablate demo\b", "ablate my-grid.toml"),
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, without its indentation; ``line`` counts from 1."""

    page: str
    line: int
    kind: str
    text: str

    @property
    def is_commands(self) -> bool:
        return self.kind in ("", "bash", "sh") and _COMMAND.search(self.text) is not None

    @property
    def is_script(self) -> bool:
        return self.text.startswith("#!")

    def commands(self) -> list[str]:
        """What is run at once: a line with those that continue it, or a block that only makes sense as a whole."""
        if _COMPOUND.search(self.text):
            return [self.text]
        joined = re.sub(r" *\\\n\s*", " ", self.text)
        joined = re.sub(r"\|\n\s*", "| ", joined)
        lines = [line.strip() for line in joined.splitlines()]
        return [line for line in lines if line and not line.startswith("#")]


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text()
    found = []
    for match in _FENCE.finditer(text):
        indent = len(match["indent"])
        body = "\n".join(line[indent:] for line in match["text"].splitlines())
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, match["kind"], body))
    return found


def bare(command: str) -> str:
    """A line without its comment and without repeated spaces."""
    return " ".join(re.sub(r"\s+# .*", "", command).split())


def small(command: str) -> str:
    """The command as it is run on stand-ins."""
    for pattern, instead in _CHANGES:
        command = re.sub(pattern, instead, command)
    return command


def array_tasks(script: str) -> list[dict[str, str]]:
    """Slurm's variables for each task of a job: two of an array that shares its work, else one."""
    count = 2 if "#SBATCH --array=" in script and "--shard slurm" in script else 1
    names = ("MIN", "0"), ("MAX", str(count - 1)), ("COUNT", str(count))
    common = {f"SLURM_ARRAY_TASK_{name}": value for name, value in names}
    return [common | {"SLURM_ARRAY_TASK_ID": str(number)} for number in range(count)]


def run(command: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "FALSE", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
