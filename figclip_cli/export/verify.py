"""Prove an export: the features of a fresh process against those of the unmerged model."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from figclip_cli.errors import VerificationError
from figclip_cli.models.clip import Clip

# float32 rounds at 6e-8 of a value; a tower of 24 blocks accumulates to some 1e-6 on unit-length features.
MAX_DIFFERENCE = 1e-5


@torch.no_grad()
def reference_features(clip: Clip, images: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return ``image`` and ``text`` features (n, D) of a model in this process, not normalised, on the CPU."""
    return {"image": clip.encode_frames(images).float().cpu(), "text": clip.encode_texts(texts).cpu()}


def reloaded_features(folder: Path, images: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
    """Return the same features from the exported folder, computed by open_clip in a fresh process.

    Raises:
        VerificationError: open_clip cannot open the folder.
    """
    with tempfile.TemporaryDirectory() as scratch:
        samples, sentences, out = (Path(scratch) / name for name in ("in.safetensors", "texts.json", "out.safetensors"))
        save_file({"images": images.contiguous()}, samples)
        sentences.write_text(json.dumps(list(texts)), encoding="utf-8")
        command = [sys.executable, str(Path(__file__).with_name("reload.py"))]
        command += [str(folder.resolve()), str(samples), str(sentences), str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise VerificationError(f"open_clip cannot open {folder}: {last}", "the export is not usable")
        return load_file(out)


def largest_differences(reference: dict[str, Tensor], reloaded: dict[str, Tensor]) -> dict[str, float]:
    """Return, for ``image`` and ``text``, the largest absolute difference of unit-length features."""
    return {
        kind: float((F.normalize(features, dim=-1) - F.normalize(reloaded[kind], dim=-1)).abs().max())
        for kind, features in reference.items()
    }


def check_differences(differences: dict[str, float], folder: Path) -> None:
    """Refuse an export that differs.

    Raises:
        VerificationError: A difference is over the bound, or not a number.
    """
    for kind, difference in differences.items():
        if not difference <= MAX_DIFFERENCE:  # also true for NaN
            raise VerificationError(
                f"{kind} features of the re-loaded export differ by {difference:.2e}, more than {MAX_DIFFERENCE:.0e}",
                f"do not use {folder}",
            )
