"""The demo: all five stages on the synthetic world, offline, on a CPU, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from figclip_cli.adapt import AdaptSummary
from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.curves import write_curves
from figclip_cli.demo.effect import EffectRow, effect, write_effect
from figclip_cli.demo.effect_drawing import effect_svg
from figclip_cli.demo.folders import new_folder
from figclip_cli.demo.stages import DemoFolder, adapt_base, make_inputs, recipe_options, score
from figclip_cli.evaluate.results import Results
from figclip_cli.export import ExportOptions, ExportSummary, export, planned_folders
from figclip_cli.files import write_text
from figclip_cli.report import ReportMaterial, write_report
from figclip_cli.reporting import SILENT, Reporter

CLIPS = {"train": 1000, "valid": 120, "test": 150}


@dataclass(frozen=True)
class DemoSummary:
    """What the demo made.

    Attributes:
        files: What it wrote that a person looks for, by what it is.
        adapted: Summary of the adaptation.
        results: On test clips, by name.
        effect: What changed.
        exported: Summary of the export.
    """

    files: dict[str, Path]
    adapted: AdaptSummary
    results: Mapping[str, Results]
    effect: list[EffectRow]
    exported: ExportSummary


def run_demo(
    path: Path, *, seed: int = 0, workers: int = 2, overwrite: bool = False, reporter: Reporter = SILENT
) -> DemoSummary:
    """Draw the world, extract frames, build prompts, adapt the shipped base model, evaluate, export and report.

    Args:
        path: Folder where everything goes; must be new, or a demo folder with ``overwrite``.
        seed: Seed of the world and of the adaptation.
        workers: Processes that decode video.

    Raises:
        UsageError: The folder exists; it is replaced only with ``overwrite`` and only if the demo made it.
    """
    options = recipe_options(seed)  # first, so that a seed that is refused costs no earlier demo
    new_folder(path, overwrite=overwrite)
    folder = DemoFolder(path)
    reporter.info("1/5  a small world of annotated clips, its frames and prompts")
    make_inputs(folder, seed=seed, counts=CLIPS, workers=workers, reporter=reporter)
    reporter.info("2/5  adapt")
    adapted = adapt_base(folder, options, reporter=reporter)
    reporter.info("3/5  evaluate on clips that were never trained on")
    results = score(folder, reporter=reporter)
    rows = effect([results])
    write_effect(path / "effect.json", rows, {"seeds": [seed], "clips": dict(CLIPS)})
    write_text(path / "effect.svg", effect_svg(rows))
    write_curves(folder, reporter)
    reporter.info("4/5  export")
    exported = _export(folder, reporter)
    reporter.info("5/5  report")
    files = _files(folder, exported)
    curves = sorted(files["curves"].glob("*/curve.json"))
    material = ReportMaterial((path / "results",), curves, (folder.frames("test"),))
    write_report([folder.run], files["report"], material, reporter=reporter)
    return DemoSummary(files, adapted, results, rows, exported)


def _files(folder: DemoFolder, exported: ExportSummary) -> dict[str, Path]:
    return {
        "world": folder.world,
        "base model": base_model_folder(),
        **{f"{split} frames": folder.frames(split) for split in CLIPS},
        **{f"{split} prompts": folder.prompts(split) for split in CLIPS},
        "run": folder.run.path,
        "results": folder.path / "results",
        "effect": folder.path / "effect.json",
        "curves": folder.path / "curves",
        "exported model": exported.folder,
        "report": folder.path / "report.html",
    }


def _export(folder: DemoFolder, reporter: Reporter) -> ExportSummary:
    """Export for open_clip, compared on frames and prompts of clips that were never trained on."""
    results = tuple(folder.results(name) for name in ("compositional", "retrieval-dense", "retrieval-coarse"))
    options = ExportOptions(results=results, frames=(folder.frames("test"),), prompts=folder.prompts("test"))
    folders = planned_folders(folder.run, options, folder.path / "export" / "open-clip")
    (exported,) = export(folder.run, folders, options, reporter=reporter)
    if exported.error is not None:
        raise exported.error
    return exported
