"""A run, its base, and what all of its exports are compared with: each folder written, opened, compared and named."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from figclip_cli.errors import VerificationError
from figclip_cli.export.card import export_card
from figclip_cli.export.card_results import results_of_run
from figclip_cli.export.folder import (
    REPORT_NAME,
    folder_in_the_making,
    give_name,
    unfit,
    write_sums,
)
from figclip_cli.export.formats import Format
from figclip_cli.export.formats.open_clip import write_open_clip_folder
from figclip_cli.export.material import Material, attach, merged
from figclip_cli.export.options import ExportOptions, Target
from figclip_cli.export.references import (
    BaseCast,
    Outputs,
    Reference,
    clip_outputs,
    clips_of_frames,
    contextualizer_reference,
    rounded_adapter_outputs,
    rounded_outputs,
    roundoff,
)
from figclip_cli.export.samples import Samples
from figclip_cli.export.verify import Comparison, compare, reloaded
from figclip_cli.files import clear, write_json, write_text
from figclip_cli.models.adapted import load_contextualizer
from figclip_cli.models.clip import Clip
from figclip_cli.run_folder import RunFolder

EXPORT_FORMAT = "figclip-export"
EXPORT_FORMAT_VERSION = 1
CARD_NAME = "README.md"


@dataclass(frozen=True)
class ExportSummary:
    """One folder that was written, and how close it came.

    Attributes:
        target: What it is.
        folder: Where it is; called ``NAME.unfit`` when it is not usable.
        comparison: The differences.
        changed_tensors: Names of the tensors that differ from the base model's.
        tensors: Number of tensors of the model.
    """

    target: Target
    folder: Path
    comparison: Comparison
    changed_tensors: tuple[str, ...]
    tensors: int

    @property
    def error(self) -> VerificationError | None:
        """What to raise when everything is written and said: that it is not usable."""
        problem = self.comparison.problem
        return (
            None
            if problem is None
            else VerificationError(f"{self.target.name}: {problem}", f"do not use {self.folder}")
        )

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "folder": str(self.folder),
            "for": self.target.format,
            "scale": self.target.scale,
            "dtype": self.target.dtype,
            "fit": self.comparison.problem is None,
            "changed_tensors": list(self.changed_tensors),
            "tensors": self.tensors,
            **self.comparison.as_dict(),
        }


class Session:
    """A run, its base and what they are compared on, for as many exports as are asked for."""

    def __init__(
        self, run: RunFolder, options: ExportOptions, base: Clip, samples: Samples, formats: Mapping[str, Format]
    ) -> None:
        self._run, self._options, self._base, self._samples = run, options, base, samples
        self._state = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
        self._holds = {made.holds for made in formats.values()}
        dtype = Material.dtype_of(options)
        self._cast = BaseCast(base, self._state, samples, dtype)
        self._dtype = dtype
        self._contextualizer = load_contextualizer(run) if "contextualizer" in self._holds else None

    @contextmanager
    def at(self, scale: float) -> Iterator[tuple[Material, dict[str, Reference]]]:
        """Yield the model at a scale, merged, and what each kind of folder is compared with."""
        adapted = attach(self._base, self._state, self._run, scale)
        outputs, in_half = clip_outputs(adapted, self._samples), self._dtype != torch.float32
        expected: dict[str, Outputs] = {}
        if in_half and "adapter" in self._holds:
            expected["adapter"] = rounded_adapter_outputs(adapted, self._samples, self._dtype)
        material = merged(self._run, self._options, scale, adapted, self._state, self._contextualizer)
        if in_half and "weights" in self._holds:
            expected["weights"] = rounded_outputs(adapted, material.state, self._samples, self._dtype)
        references: dict[str, Reference] = {
            holds: Reference(
                outputs,
                self._cast.differences(holds),
                expected.get(holds),
                material.logit_scale,
                roundoff(self._dtype),
            )
            for holds in self._holds - {"contextualizer"}
        }
        if self._contextualizer is not None:
            self._frames: Tensor = clips_of_frames(outputs["image"], self._contextualizer)
            references["contextualizer"] = contextualizer_reference(material, self._frames)
        yield material, references

    def make(
        self, target: Target, made: Format, folder: Path, material: Material, reference: Reference
    ) -> ExportSummary:
        """Write a folder, compare it, and give it its name."""
        with folder_in_the_making(folder) as partial, self._base_folder(made, material) as base:
            made.write(partial, material)
            frames = self._frames if made.holds == "contextualizer" else None
            comparison = compare(reference, reloaded(made, partial, self._samples, frames=frames, base=base))
            problem, changed = comparison.problem, material.changed
            about = self._samples.describe()
            write_json(partial / REPORT_NAME, _report(target, made, material, comparison, about, changed))
            results = [found for _, found in results_of_run(self._run, target.scale, self._options.results)]
            write_text(partial / CARD_NAME, export_card(material, target, made, comparison, about, results))
            if problem is not None:
                write_text(partial / "UNFIT", f"Do not use this: {problem}.\n")
            write_sums(partial)
            place = folder if problem is None else unfit(folder)
            give_name(partial, place)
            if problem is None:
                clear(unfit(folder))  # of an earlier export, and checked to be one
        return ExportSummary(target, place, comparison, changed, len(material.state))

    @contextmanager
    def _base_folder(self, made: Format, material: Material) -> Iterator[Path | None]:
        """Yield a folder with the unadapted model, for a format that needs it."""
        if made.holds != "adapter":
            yield None
            return
        with tempfile.TemporaryDirectory() as scratch:
            options = replace(material.options, dtype="fp32")
            write_base = made.base_writer or write_open_clip_folder
            write_base(Path(scratch), replace(material, state=self._state, options=options))
            yield Path(scratch)


def _report(
    target: Target,
    made: Format,
    material: Material,
    comparison: Comparison,
    samples: Mapping[str, Any],
    changed: Sequence[str],
) -> dict[str, Any]:
    model, lora = material.config["model"], material.lora
    return {
        "format": EXPORT_FORMAT,
        "format_version": EXPORT_FORMAT_VERSION,
        "for": target.format,
        "run": material.run.name,
        "base": {"name": model["name"], "sha256": model["sha256"]},
        "lora": {key: lora[key] for key in ("rank", "alpha", "targets", "blocks", "towers", "modules")},
        "learned_temperature": material.config["learn_temperature"],
        "scale": target.scale,
        "dtype": target.dtype,
        "activation": "quickgelu" if model["model_cfg"]["quick_gelu"] else "gelu",
        "logit_scale": material.logit_scale,
        "preprocess": material.clip.preprocess.as_dict(),
        "changed_tensors": list(changed),
        "compared": {**samples, "library": made.library, "version": metadata.version(made.library)},
        **comparison.as_dict(),
    }
