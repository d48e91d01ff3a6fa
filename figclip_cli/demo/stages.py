"""The stages on one world: ordinary files, the real calls, and nothing that is there is made again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.adapt import AdaptOptions, AdaptSummary, ClipLists, SourceFiles, adapt, options_of_recipe
from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.world import write_world
from figclip_cli.evaluate.compositional import evaluate_compositional
from figclip_cli.evaluate.datasets.captions import read_captions
from figclip_cli.evaluate.datasets.compositional import read_compositional
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.results import Results
from figclip_cli.evaluate.retrieval import evaluate_retrieval
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.models.adapted import load_base
from figclip_cli.models.source import ModelSource
from figclip_cli.prompts import PromptOptions, build
from figclip_cli.reporting import Reporter
from figclip_cli.run_folder import RunFolder

RECIPE = "tiny"
# Half of the paper's frames of an event: so twice as many events are seen in the same time.
_SAMPLING = SamplingRecipe(size=64, frames_per_event=2)
# What training tells apart: verbs, roles, and the two modifiers that differ by little else in this world.
_TRAINED_KINDS = {"verb-role": 2, "role-noun-swap": 1, "manner-replace": 1, "direction-replace": 1}
# Each kind is asked for on its own, and balanced, so that no words alone tell which text is the negative.
_EVERY_KIND = {
    "verb-role": 2,
    "role-noun-swap": 1,
    "role-noun-replace": 1,
    "manner-replace": 1,
    "direction-replace": 1,
    "scene-replace": 1,
}


@dataclass(frozen=True)
class DemoFolder:
    """Where the files of one world are."""

    path: Path

    @property
    def world(self) -> Path:
        """Videos and annotation."""
        return self.path / "world"

    def annotations(self, split: str) -> Path:
        """Annotation of a split."""
        return self.world / f"vsann_{split}_lb.json"

    @property
    def run(self) -> RunFolder:
        """The adaptation."""
        return RunFolder(self.path / "runs" / "demo")

    def frames(self, split: str) -> Path:
        """Frames of a split."""
        return self.path / f"{split}-frames.h5"

    def prompts(self, split: str) -> Path:
        """Prompts of a split."""
        return self.path / f"{split}-prompts.jsonl"

    @property
    def watched_prompts(self) -> Path:
        """Prompts of the training clips and of those that training is watched by, with the same kinds of negatives."""
        return self.path / "watched-prompts.jsonl"

    def results(self, name: str) -> Path:
        """Results on the test split."""
        return self.path / "results" / f"{name}.json"

    def clips(self, split: str, reporter: Reporter) -> tuple[StoredClips, Encoding]:
        """Return the clips of a split for evaluation, and how they are encoded."""
        encoding = Encoding(PROTOCOLS["figclip"], self.path, reporter)
        return StoredClips(FramesReader(self.frames(split)), encoding.protocol), encoding


def make_inputs(folder: DemoFolder, *, seed: int, counts: Mapping[str, int], workers: int, reporter: Reporter) -> None:
    """Draw the world, extract frames and build prompts of every split."""
    drawn = folder.world / "complete"
    if not drawn.is_file():
        write_world(folder.world, seed=seed, counts=counts, reporter=reporter)
        drawn.touch()
    for split in counts:
        if not folder.frames(split).is_file():
            reporter.info(f"extract-frames: {split}")
            videos = [folder.world / "videos" / split]
            extract(videos, folder.frames(split), recipe=_SAMPLING, workers=workers, reporter=reporter)
        if not folder.prompts(split).is_file():
            reporter.info(f"build-prompts: {split}")
            trained = split == "train"
            options = PromptOptions(
                seed=seed, negatives=_TRAINED_KINDS if trained else _EVERY_KIND, balance=not trained
            )
            build([folder.annotations(split)], folder.prompts(split), options=options, reporter=reporter)
    if not folder.watched_prompts.is_file():
        both = [folder.annotations(split) for split in ("train", "valid")]
        options = PromptOptions(seed=seed, negatives=_TRAINED_KINDS)
        build(both, folder.watched_prompts, options=options, reporter=reporter)


def recipe_options(seed: int, **changes: Any) -> AdaptOptions:
    """Return the options that the demo adapts with: the recipe's, and the changes."""
    return options_of_recipe(RECIPE, seed=seed, **changes)


def adapt_base(folder: DemoFolder, options: AdaptOptions, *, reporter: Reporter) -> AdaptSummary:
    """Adapt the shipped base model, watching the validation clips; an old run goes on."""
    frames = (folder.frames("train"), folder.frames("valid"))
    return adapt(
        [SourceFiles(frames, folder.watched_prompts)],
        folder.run,
        source=ModelSource(str(base_model_folder())),
        options=options,
        lists=ClipLists(validation=folder.world / "vseg_split_valid_lb.json"),
        resume=folder.run.path.is_dir(),
        reporter=reporter,
    )


def score(folder: DemoFolder, *, split: str = "test", reporter: Reporter) -> dict[str, Results]:
    """Score base and run on clips that were never trained on; write the results and return them by name."""
    clips, encoding = folder.clips(split, reporter)
    run = folder.run

    def retrieval(captions: Path, level: str) -> Evaluation:
        queries = read_captions(captions, level=level)  # type: ignore[arg-type]
        return evaluate_retrieval(load_base(run, reporter=reporter), clips, queries, encoding=encoding, run=run)

    def choices(benchmark: str, file: Path) -> Evaluation:
        items = read_compositional(benchmark, [file])
        return evaluate_compositional(load_base(run, reporter=reporter), clips, items, encoding=encoding, run=run)

    made = {
        "compositional": lambda: choices("prompts", folder.prompts(split)),
        "retrieval-dense": lambda: retrieval(folder.prompts(split), "event"),
        "retrieval-coarse": lambda: retrieval(folder.world / f"captions_{split}.csv", "video"),
        "naming": lambda: choices("choices", folder.world / f"naming_{split}.jsonl"),
    }
    return {name: evaluate().write(folder.results(name)) for name, evaluate in made.items()}
