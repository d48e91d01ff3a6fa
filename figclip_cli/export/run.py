"""The stage: merge, write, re-load, compare, and only then give each folder its name."""

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

from figclip_cli.errors import FigclipError, UsageError, VerificationError
from figclip_cli.export.card import export_card
from figclip_cli.export.card_results import results_of_run
from figclip_cli.export.folder import (
    REPORT_NAME,
    check_folder,
    folder_in_the_making,
    give_name,
    unfit,
    write_sums,
)
from figclip_cli.export.formats import Format, format_named
from figclip_cli.export.formats.open_clip import write_open_clip_folder
from figclip_cli.export.material import Material, attach, merged
from figclip_cli.export.options import FORMATS, ExportOptions, Target
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
from figclip_cli.export.samples import Samples, draw_samples
from figclip_cli.export.verify import Comparison, compare, reloaded
from figclip_cli.files import replacing, write_json
from figclip_cli.models.adapted import load_base, load_contextualizer
from figclip_cli.models.clip import Clip
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SILENT, Reporter
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


def planned_folders(run: RunFolder, options: ExportOptions, output: Path | None) -> dict[Target, Path]:
    """Return where each export goes: to ``output`` itself if there is but one, else into it by name.

    Args:
        output: ``export/RUN`` by default, with every export in it by name.
    """
    if output is not None and len(options.targets) == 1:
        return {options.targets[0]: output}
    parent = output if output is not None else Path("export") / run.name
    return {target: parent / target.name for target in options.targets}


def export(
    run: RunFolder,
    folders: Mapping[Target, Path],
    options: ExportOptions,
    *,
    source: ModelSource | None = None,
    frames: Sequence[Path] = (),
    prompts: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> Iterator[ExportSummary]:
    """Write, open and compare one folder after another.

    Args:
        run: A finished run.
        folders: As :func:`planned_folders` returns them. Each gets its name only once it is whole and compared.
        source: Where the base model is now, if it moved.
        frames: Frames files to compare on; seeded pictures otherwise.
        prompts: A prompts file with texts to compare on, beside the built-in ones.

    Yields:
        A summary of each. One that is over its bound is called ``NAME.unfit``, and the next ones are made all the same.

    Raises:
        UsageError: A folder exists, or the run cannot be had in a format; nothing is written then.
        InputError: The run, its base, the frames or the prompts are not usable; likewise.
        VerificationError: A library cannot open what was written for it.
    """
    formats = check(run, folders, options, overwrite=overwrite)
    base = load_base(run, source=source, reporter=reporter)
    session = _Session(run, options, base, draw_samples(base.preprocess.size, frames=frames, prompts=prompts), formats)
    for scale in options.scales:
        wanted = [target for target in folders if target.scale == scale]
        with session.at(scale) as (material, references):
            for target in wanted:
                made = formats[target.format]
                reporter.info(f"{target.name}: writing, and re-loading with {made.library} in a fresh process")
                yield session.make(target, made, folders[target], material, references[made.holds])


def check(
    run: RunFolder, folders: Mapping[Target, Path], options: ExportOptions, *, overwrite: bool
) -> dict[str, Format]:
    """Refuse what cannot be done, before anything is loaded; return the formats by name.

    Raises:
        UsageError: As :func:`export` says.
        InputError: The run is not usable, or results for the card are not its own.
    """
    config = run.load_config()
    if not run.name.isprintable():
        raise UsageError(f"the name of {run.path} has characters that cannot be printed", "rename the run folder")
    formats = {target.format: format_named(target.format) for target in folders}
    for made in formats.values():
        made.check(config, options)
    results_of_run(run, options.scales[0], options.results)
    for folder in folders.values():
        check_folder(folder, overwrite=overwrite)
        check_folder(unfit(folder), overwrite=True)
        if run.path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{folder} holds the run {run.path}", "choose another folder")
    return formats


def possible_formats(run: RunFolder, *, reporter: Reporter = SILENT) -> tuple[str, ...]:
    """Return the formats that a run can be had in on this machine; say which are left out, and why."""
    config, possible = run.load_config(), []
    for name in FORMATS:
        try:
            format_named(name).check(config, ExportOptions((name,)))
            possible.append(name)
        except FigclipError as error:
            reporter.warn(f"{name} is left out: {error.message}")
    return tuple(possible)


class _Session:
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
            results = results_of_run(self._run, target.scale, self._options.results)
            _write_text(partial / CARD_NAME, export_card(material, target, made, comparison, about, results))
            if problem is not None:
                _write_text(partial / "UNFIT", f"Do not use this: {problem}.\n")
            write_sums(partial)
            place = folder if problem is None else unfit(folder)
            give_name(partial, place)
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


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


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
