"""Score one finished run by every task, with the library's own evaluations; results are ordinary files."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from figclip_cli.ablate.folder import CellFolder
from figclip_cli.ablate.tasks import COMPOSITIONAL, Task, read_task
from figclip_cli.evaluate.compositional import evaluate_compositional
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.protocols import PROTOCOLS, Protocol
from figclip_cli.evaluate.retrieval import evaluate_retrieval
from figclip_cli.evaluate.task_options import CompositionalOptions, RetrievalOptions
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.frames import FramesReader
from figclip_cli.models.clip import Clip, load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import Reporter
from figclip_cli.run_folder import RunFolder


@dataclass(frozen=True)
class Scoring:
    """What all runs are scored by.

    Attributes:
        root: Folder below which the tasks' files are.
        protocol: Name of the protocol.
        cache: Folder in which features are kept, so that the base is encoded once for all cells.
    """

    root: Path
    protocol: str
    tasks: tuple[Task, ...]
    cache: Path

    def score(
        self, folder: CellFolder, features: str, source: ModelSource, device: torch.device, reporter: Reporter
    ) -> dict[str, dict[str, Any]]:
        """Return every task's metrics and how much of it was evaluated, as plain JSON values, after its results.

        Args:
            folder: The cell, whose run is finished.
            features: How clips are read.
            source: The base model.

        Raises:
            FigclipError: See the evaluations.
        """
        protocol = PROTOCOLS[self.protocol]
        encoding = Encoding(protocol, self.cache, reporter)
        base = load_clip(source, device=device, reporter=reporter)
        opened: dict[Sequence[str], StoredClips] = {}
        quality = {}
        for task in self.tasks:
            if task.frames not in opened:
                opened[task.frames] = self._clips(task, protocol, base, reporter)
            # Adapters are attached in place, to a copy of the base that was loaded once.
            clip = replace(base, model=copy.deepcopy(base.model))
            evaluation = self._evaluated(task, clip, opened[task.frames], encoding, folder.run, features)
            results = evaluation.write(folder.results_file(features, task.name))
            quality[task.name] = {
                "asked": dict(results.asked),
                "evaluated": dict(results.evaluated),
                "missing": len(results.missing),
                "metrics": [asdict(metric) for metric in results.metrics],
            }
        return quality

    def _clips(self, task: Task, protocol: Protocol, clip: Clip, reporter: Reporter) -> StoredClips:
        reader = FramesReader([self.root / name for name in task.frames])
        recipe = reader.recipe
        clip.check_frames(size=recipe.size, crop=recipe.crop, interpolation=recipe.interpolation, reporter=reporter)
        return StoredClips(reader, protocol)

    def _evaluated(
        self, task: Task, clip: Clip, clips: StoredClips, encoding: Encoding, run: RunFolder, features: str
    ) -> Evaluation:
        asked = read_task(task, self.root)
        if task.kind == COMPOSITIONAL:
            choices = CompositionalOptions(features=features)
            return evaluate_compositional(clip, clips, asked, encoding=encoding, run=run, options=choices)
        return evaluate_retrieval(
            clip, clips, asked, encoding=encoding, run=run, options=RetrievalOptions(features=features)
        )
