"""Prove an export: what its library makes of it in a fresh process, against the unmerged model in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from figclip_cli.errors import VerificationError
from figclip_cli.export.formats import Format
from figclip_cli.export.references import Outputs, Reference, largest_differences
from figclip_cli.export.samples import Samples

# float32 rounds at 6e-8 of a value; a tower of 24 blocks accumulates to some 1e-6 on unit-length features.
MAX_DIFFERENCE = 1e-5
# Rounding to a half type moves the adapted model about as far as it moves the base: the largest of a few thousand
# differences is not four times as large in one as in the other unless something else went wrong.
CAST_FACTOR = 4.0
_LONGEST_COMPLAINT = 300


@dataclass(frozen=True)
class Comparison:
    """How close an export came: largest absolute differences by kind of output.

    Features are compared at unit length, logits as they are.

    Attributes:
        differences: From the unmerged model in float32.
        bounds: What is allowed of them.
        cast_alone: What the same cast does to the base model; empty for float32.
        from_cast: From the merged model, rounded alike: what merging and writing add to casting. None for float32, and
            for programs, which compute in the half type.
        tight_bounds: What is allowed of those.
    """

    differences: Mapping[str, float]
    bounds: Mapping[str, float]
    cast_alone: Mapping[str, float]
    from_cast: Mapping[str, float] | None
    tight_bounds: Mapping[str, float]

    @property
    def problem(self) -> str | None:
        """What is over its bound, or None."""
        for found, bounds, other in (
            (self.from_cast or {}, self.tight_bounds, "the merged model cast alike"),
            (self.differences, self.bounds, "the unmerged model"),
        ):
            for kind, difference in found.items():
                if not difference <= bounds[kind]:  # also true for NaN
                    said = f"differ from {other}'s by {difference:.2e}, more than {bounds[kind]:.1e}"
                    return f"the re-loaded export's {_PLURALS[kind]} {said}"
        return None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what is not a finite number is null."""
        return {
            "largest_difference": _finite(self.differences),
            "bound": dict(self.bounds),
            "largest_difference_of_base_cast_alike": _finite(self.cast_alone) or None,
            "largest_difference_from_merged_cast_alike": _finite(self.from_cast) if self.from_cast else None,
        }


_PLURALS = {
    "image": "image features",
    "text": "text features",
    "logits": "logits",
    "video": "video tokens",
    "events": "event tokens",
}


def _finite(numbers: Mapping[str, float]) -> dict[str, float | None]:
    return {kind: value if abs(value) < float("inf") else None for kind, value in numbers.items()}


def compare(reference: Reference, found: Mapping[str, Tensor]) -> Comparison:
    """Compare what a library made of an export with what it should be."""
    tight = {
        kind: MAX_DIFFERENCE * (max(1.0, reference.logit_scale) if kind == "logits" else 1.0)
        for kind in reference.adapted
    }
    cast = dict(reference.cast_alone)
    # A base that was stored in the half type loses nothing by the cast; what was added to it does.
    roundoff = reference.roundoff / MAX_DIFFERENCE
    bounds = {k: max(CAST_FACTOR * cast[k], roundoff * bound) + bound if cast else bound for k, bound in tight.items()}
    from_cast = None if reference.expected is None else largest_differences(reference.expected, found)
    return Comparison(largest_differences(reference.adapted, found), bounds, cast, from_cast, tight)


def reloaded(
    made: Format, folder: Path, samples: Samples, *, frames: Tensor | None = None, base: Path | None = None
) -> Outputs:
    """Return what the format's library makes of the samples, in a fresh process.

    Args:
        folder: The export.
        frames: (n, P, T, D) image features, for a contextualizer.
        base: The base model as an open_clip folder, for an adapter.

    Raises:
        VerificationError: The library cannot open the folder.
    """
    with tempfile.TemporaryDirectory() as scratch:
        inputs, sentences, out = (Path(scratch) / name for name in ("in.safetensors", "texts.json", "out.safetensors"))
        tensors = {"images": samples.images.contiguous()}
        save_file(tensors if frames is None else {**tensors, "frames": frames.contiguous()}, inputs)
        sentences.write_text(json.dumps(list(samples.texts)), encoding="utf-8")
        command = [sys.executable, str(made.reload), str(folder.resolve()), *map(str, (inputs, sentences, out))]
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [*command, str(base or "")], capture_output=True, text=True, check=False, env={**os.environ, **offline}
        )
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1][:_LONGEST_COMPLAINT]
            raise VerificationError(f"{made.library} cannot open {folder.name}: {last}", "the export is not usable")
        return load_file(out)
