"""All five stages on the synthetic world, offline, on a CPU: the files are ordinary ones, the calls the real ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from figclip_cli.adapt import AdaptSummary, SourceFiles, adapt, options_of_recipe
from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.world import write_world
from figclip_cli.errors import UsageError
from figclip_cli.evaluate.datasets.captions import read_captions
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.results import Results
from figclip_cli.evaluate.retrieval import evaluate_retrieval
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.export import ExportOptions, ExportSummary, export, planned_folders
from figclip_cli.files import clear
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.models.adapted import load_base
from figclip_cli.models.source import ModelSource
from figclip_cli.prompts import PromptOptions, build
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

_MARKER = "figclip-demo.json"
CLIPS = {"train": 160, "valid": 20, "test": 100}


@dataclass(frozen=True)
class DemoSummary:
    """What the demo made.

    Attributes:
        files: Everything it wrote, by what it is.
        adapted: Summary of the adaptation.
        results: Retrieval on test clips: by event prompts, and by coarse captions.
        exported: Summary of the export.
    """

    files: dict[str, Path]
    adapted: AdaptSummary
    results: tuple[Results, ...]
    exported: ExportSummary


def run_demo(
    folder: Path, *, seed: int = 0, workers: int = 2, overwrite: bool = False, reporter: Reporter = SILENT
) -> DemoSummary:
    """Draw the world, extract frames, build prompts, adapt the shipped base model, evaluate, and export.

    Args:
        folder: Where everything goes; must be new, or a demo folder with ``overwrite``.
        seed: Seed of the world and of the adaptation.
        workers: Processes that decode video.

    Raises:
        UsageError: The folder exists; it is replaced only with ``overwrite`` and only if the demo made it.
    """
    _prepare(folder, overwrite=overwrite)
    reporter.info("1/6  draw a small world of annotated clips")
    world = write_world(folder / "world", seed=seed, counts=CLIPS, reporter=reporter)
    recipe = SamplingRecipe(size=64)
    files: dict[str, Path] = {"world": folder / "world", "base model": base_model_folder()}
    for split in ("train", "test"):
        reporter.info(f"2/6  extract-frames: {split}")
        files[f"{split} frames"] = folder / f"{split}-frames.h5"
        extract([world.videos[split]], files[f"{split} frames"], recipe=recipe, workers=workers, reporter=reporter)
        reporter.info(f"3/6  build-prompts: {split}")
        files[f"{split} prompts"] = folder / f"{split}-prompts.jsonl"
        build(
            [world.annotations[split]], files[f"{split} prompts"], options=PromptOptions(seed=seed), reporter=reporter
        )
    reporter.info("4/6  adapt")
    run = RunFolder(folder / "runs" / "demo")
    files["run"] = run.path
    adapted = adapt(
        [SourceFiles((files["train frames"],), files["train prompts"])],
        run,
        source=_source(),
        options=options_of_recipe("tiny", seed=seed),
        reporter=reporter,
    )
    reporter.info("5/6  evaluate retrieval on clips that were never trained on")
    evaluations = _evaluate(files, world.captions, run, reporter)
    results = {}
    for name, evaluation in evaluations.items():
        files[f"results, {name}"] = folder / "results" / f"retrieval-{name}.json"
        results[name] = evaluation.write(files[f"results, {name}"])
    reporter.info("6/6  export")
    exported = _export(run, folder / "export" / "open-clip", files, reporter)
    files["exported model"] = exported.folder
    return DemoSummary(files, adapted, tuple(results.values()), exported)


def _prepare(folder: Path, *, overwrite: bool) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        if not overwrite:
            raise UsageError(f"{folder} already exists", "pass --overwrite, or name another folder")
        if not (folder / _MARKER).is_file():
            raise UsageError(f"{folder} was not made by the demo and is not replaced", "name another folder")
        clear(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARKER).write_text("{}\n", encoding="utf-8")


def _export(run: RunFolder, output: Path, files: Mapping[str, Path], reporter: Reporter) -> ExportSummary:
    """Export for open_clip, compared on frames and prompts of clips that were never trained on."""
    results = tuple(path for what, path in files.items() if what.startswith("results"))
    options = ExportOptions(results=results, frames=(files["test frames"],), prompts=files["test prompts"])
    folders = planned_folders(run, options, output)
    (exported,) = export(run, folders, options, reporter=reporter)
    if exported.error is not None:
        raise exported.error
    return exported


def _source() -> ModelSource:
    return ModelSource(str(base_model_folder()))


def _evaluate(files: dict[str, Path], captions: Path, run: RunFolder, reporter: Reporter) -> dict[str, Evaluation]:
    """Score base and adapted by dense prompts of single events, and by coarse captions of whole clips."""
    encoding = Encoding(PROTOCOLS["figclip"], reporter=reporter)
    clips = StoredClips(FramesReader(files["test frames"]), encoding.protocol)
    asked = {
        "dense": read_captions(files["test prompts"], level="event"),
        "coarse": read_captions(captions),
    }
    return {
        name: evaluate_retrieval(load_base(run, reporter=reporter), clips, queries, encoding=encoding, run=run)
        for name, queries in asked.items()
    }
