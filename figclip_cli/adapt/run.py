"""The stage: join frames and prompts, adapt, and write the run folder."""

from __future__ import annotations

import math
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from figclip_cli.adapt.batches import Batches
from figclip_cli.adapt.card import model_card
from figclip_cli.adapt.checkpoint import Progress
from figclip_cli.adapt.contextual_tokens import write_tokens
from figclip_cli.adapt.held_out import encoded_batches, validator
from figclip_cli.adapt.memory import MemoryNeed, memory_need, warn_of_memory
from figclip_cli.adapt.options import AdaptOptions, Execution
from figclip_cli.adapt.prepare import Prepared, prepare
from figclip_cli.adapt.processes import Processes, joined_processes
from figclip_cli.adapt.run_config import run_config
from figclip_cli.adapt.sources import ClipLists, Coverage, Source, SourceFiles
from figclip_cli.adapt.step import Step
from figclip_cli.adapt.text_side import RunTexts, texts_of_run
from figclip_cli.adapt.trainer import Trainer
from figclip_cli.models.contextualizer import VideoContextualizer
from figclip_cli.models.lora import AdaptedModule, adapter_state
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tensors import save_tensors
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RunFolder

# Under nvjpeg workers only read bytes. Decoding on the CPU, a core does some 2,000 frames of 224 pixels a second, and a
# large GPU takes ten times that.
_READING_WORKERS, _DECODING_WORKERS = 4, 16
# Under a schedule that depends on the number of epochs, more of them would not continue the run but change it.
_MAY_CHANGE = {"constant": frozenset({"epochs", "execution"}), "cosine": frozenset({"execution"})}


@dataclass(frozen=True)
class AdaptSummary:
    """What a run did.

    Attributes:
        run: The run folder.
        coverage: Clips annotated, found and used.
        modules: The table of adapted modules.
        lora_parameters: Trained parameters of the towers.
        contextualizer_parameters: Trained parameters of the contextualizer.
        base_parameters: All parameters of the base model.
        steps: Training steps in all.
        train_seconds: Wall-clock time of this call's training.
        images_per_second: Frames of all processes a second, in this call.
        idle_share: Share of this call's training in which no frames were there.
        best_score: Best validation score; None without validation.
        best_step: The step after which it was measured.
        overlong_texts: Texts whose end the text tower did not see.
    """

    run: RunFolder
    coverage: Coverage
    modules: tuple[AdaptedModule, ...]
    lora_parameters: int
    contextualizer_parameters: int
    base_parameters: int
    steps: int
    train_seconds: float
    images_per_second: float
    idle_share: float
    best_score: float | None
    best_step: int
    overlong_texts: int


def adapt(
    files: Sequence[SourceFiles],
    run: RunFolder,
    *,
    source: ModelSource,
    options: AdaptOptions,
    lists: ClipLists | None = None,
    execution: Execution | None = None,
    device: torch.device | str = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> AdaptSummary:
    """Adapt a CLIP model on the clips that have frames and prompts (FiGCLIP, section 3).

    Under torchrun every process calls this; the first one writes the run folder and reports.

    Args:
        files: Frames with their prompts; several are mixed.
        run: Folder to write; must be new unless ``resume`` or ``overwrite``.
        source: The base model.
        lists: Clips to use, to leave out and to validate on.
        execution: How to compute it.

    Raises:
        FigclipError: See each step; nothing is written before the inputs are known to fit.
        KeyboardInterrupt: Stopped by a signal, after a checkpoint.
    """
    execution, lists = execution or Execution(), lists or ClipLists()
    with joined_processes(torch.device(device)) as processes:
        reporter = reporter if processes.is_first else SILENT
        prepared = processes.in_turn(
            lambda: prepare(files, source, lists, options, execution, processes.device, reporter)
        )
        stage = _Stage(prepared, run, options, execution, processes, reporter)
        resuming = stage.check_folder(resume=resume, overwrite=overwrite)
        return stage.train(beside=files[0].prompts, resuming=resuming)


class _Stage:
    """One run, in one of its processes, once its inputs are known to fit."""

    def __init__(
        self,
        prepared: Prepared,
        run: RunFolder,
        options: AdaptOptions,
        execution: Execution,
        processes: Processes,
        reporter: Reporter,
    ) -> None:
        self._prepared, self._model, self._run = prepared, prepared.model, run
        self._options, self._execution, self._processes = options, execution, processes
        self._reporter = reporter
        self._kinds = prepared.kinds
        settings = {**execution.as_dict(), "jpeg_decoder": prepared.jpeg_decoder, "processes": processes.count}
        self._config = run_config(
            prepared.model.clip, prepared.sources, prepared.coverage, prepared.modules, options, settings
        )

    def check_folder(self, *, resume: bool, overwrite: bool) -> bool:
        """Return whether an earlier run goes on; nothing is touched yet."""
        may_change = _MAY_CHANGE[self._options.schedule]
        return self._processes.on_first(
            lambda: self._run.check(self._config, may_change=may_change, resume=resume, overwrite=overwrite)
        )

    def train(self, *, beside: Path, resuming: bool) -> AdaptSummary:
        """Train to the end and write what comes out; text features are kept beside the file ``beside``."""
        sources, processes, options = self._prepared.sources, self._processes, self._options
        texts = processes.in_turn(
            lambda: texts_of_run(
                self._model.clip, sources, self._kinds, options, processes, beside=beside, reporter=self._reporter
            )
        )
        step = Step(self._model, texts.side, options, processes, self._execution.micro_batch_clips)
        trainer = self._trainer(step, texts)
        if resuming:
            trainer.resume()
        processes.on_first(lambda: self._run.begin(self._config, resuming=resuming))
        if not self._execution.compile:
            warn_of_memory(self._memory_need(step), processes.device, self._reporter)
        started = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - started
        is_best = trainer.select_weights()
        if self._execution.save_tokens and self._model.contextualizer is not None:
            self._save_tokens(step, texts, self._model.contextualizer)
        processes.on_first(lambda: self._finish(trainer.progress, is_best=is_best))
        return self._summary(trainer, seconds, texts.overlong)

    def _trainer(self, step: Step, texts: RunTexts) -> Trainer:
        validate = None
        if self._prepared.coverage.validation:
            held_out = [replace(one, clip_ids=one.validation_ids, weight=1.0) for one in self._prepared.sources]
            validate = validator(
                self._model,
                step,
                self._batches(held_out, texts),
                texts.side,
                processes=self._processes,
                frame_size=self._prepared.frame_size,
                kinds=self._kinds,
            )
        return Trainer(
            self._model,
            step,
            self._batches(self._prepared.sources, texts),
            options=self._options,
            execution=self._execution,
            processes=self._processes,
            run=self._run,
            frame_size=self._prepared.frame_size,
            known_texts=texts.side.known,
            memory_need=lambda: self._memory_need(step),
            clips_at_once=self._clips_at_once,
            validate=validate,
            reporter=self._reporter,
        )

    def _batches(self, sources: Sequence[Source], texts: RunTexts) -> Batches:
        return Batches(
            sources,
            texts.annotations,
            size=self._options.batch_clips,
            seed=self._options.seed,
            rank=self._processes.rank,
            processes=self._processes.count,
            workers=self._workers,
            as_jpeg=self._prepared.jpeg_decoder == "nvjpeg",
            pin_memory=self._processes.device.type == "cuda",
        )

    @property
    def _workers(self) -> int:
        if self._execution.workers is not None:
            return self._execution.workers
        if self._processes.device.type != "cuda":
            return 0
        if self._prepared.jpeg_decoder == "nvjpeg":
            return _READING_WORKERS
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, min(_DECODING_WORKERS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))

    @property
    def _clips_at_once(self) -> int:
        clips = math.ceil(self._options.batch_clips / self._processes.count)
        return min(self._execution.micro_batch_clips or clips, clips)

    def _memory_need(self, step: Step) -> MemoryNeed:
        device, size = self._processes.device, self._prepared.frame_size
        frames = self._clips_at_once * max(source.frames.recipe.frames for source in self._prepared.sources)
        blank = torch.zeros(1, size, size, 3, dtype=torch.uint8, device=device)
        return memory_need(step.encode, blank, self._model.all_weights(), frames)

    def _save_tokens(self, step: Step, texts: RunTexts, contextualizer: VideoContextualizer) -> None:
        clips = [replace(s, clip_ids=(*s.clip_ids, *s.validation_ids), weight=1.0) for s in self._prepared.sources]
        batches, size = self._batches(clips, texts), self._prepared.frame_size
        passed = encoded_batches(self._model, step, batches, texts.side, self._processes, size)
        layouts = ((batch.layout, features) for batch, features in passed)
        if self._processes.is_first:
            write_tokens(self._run.tokens_file, contextualizer.eval(), layouts)
        else:
            deque(layouts, maxlen=0)  # encodes its share of the frames for the first process

    def _finish(self, progress: Progress, *, is_best: bool) -> None:
        run, model = self._run, self._model
        result = {
            "steps": progress.step,
            "epochs": progress.epoch,
            "selected": "best" if is_best else "last",
            "selected_step": progress.best_step if is_best else progress.step,
            "best_by": self._options.best_by if progress.best_score is not None else None,
            "best_score": progress.best_score,
            "best_step": progress.best_step if progress.best_score is not None else None,
        }
        lora = {key: value for key, value in self._config["lora"].items() if key != "modules"}
        metadata = {"lora": lora, "base_sha256": model.clip.sha256, "result": result}
        save_tensors(run.adapter_file, adapter_state(model.clip.model), metadata)
        if model.contextualizer is not None:
            state = dict(model.contextualizer.state_dict())
            save_tensors(run.contextualizer_file, state, {"config": model.contextualizer.config.as_dict()})
        run.finish(self._config, result, model_card(run.name, self._config, result))

    def _summary(self, trainer: Trainer, seconds: float, overlong: int) -> AdaptSummary:
        return AdaptSummary(
            run=self._run,
            coverage=self._prepared.coverage,
            modules=tuple(self._prepared.modules),
            steps=trainer.progress.step,
            train_seconds=seconds,
            images_per_second=trainer.speed.images_per_second,
            idle_share=trainer.speed.idle_share,
            best_score=trainer.progress.best_score,
            best_step=trainer.progress.best_step,
            overlong_texts=overlong,
            **self._prepared.counts,
        )
