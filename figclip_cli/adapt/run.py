"""The stage: join frames and prompts, adapt, and write the run folder."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from figclip_cli.adapt.card import model_card
from figclip_cli.adapt.data import (
    ClipBatches,
    ClipDataset,
    Coverage,
    annotations_by_clip,
    check_event_times,
    clips_in_common,
    texts_of,
)
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.trainer import Trainer
from figclip_cli.files import explaining_disk_errors, sha256_of_json, write_json
from figclip_cli.frames import FramesReader
from figclip_cli.models.clip import Clip, load_clip
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import AdaptedModule, adapter_state, attach_lora
from figclip_cli.models.source import ModelSource
from figclip_cli.models.tensors import save_tensors
from figclip_cli.models.text_features import TextFeatures, encode_distinct
from figclip_cli.prompts import PromptsFile, read_prompts
from figclip_cli.reporting import SILENT, Reporter
from figclip_cli.run_folder import RUN_FORMAT, RUN_FORMAT_VERSION, RunFolder, environment


@dataclass(frozen=True)
class AdaptSummary:
    """What a run did.

    Attributes:
        run: The run folder.
        coverage: Clips annotated, found and used.
        modules: The table of adapted modules.
        lora_parameters: Trainable LoRA parameters.
        contextualizer_parameters: Trainable contextualizer parameters.
        base_parameters: All parameters of the base model.
        steps: Training steps in all.
        train_seconds: Wall-clock time of this call's training.
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
    overlong_texts: int


def adapt(
    frames_paths: Sequence[Path],
    prompts_path: Path,
    run: RunFolder,
    *,
    source: ModelSource,
    options: AdaptOptions,
    device: torch.device | str = "cpu",
    workers: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> AdaptSummary:
    """Adapt a CLIP model on the clips that have frames and prompts (FiGCLIP, section 3).

    Args:
        frames_paths: One or more frames files of one recipe.
        prompts_path: Prompts file.
        run: Folder to write; must be new unless ``resume`` or ``overwrite``.
        workers: Processes that read frames; none reads them in this process.

    Raises:
        FigclipError: See each step; nothing is written before the inputs are known to fit.
    """
    frames = FramesReader(list(frames_paths))
    frames.require_equal_lengths()
    prompts = read_prompts(prompts_path)
    clip_ids, coverage = clips_in_common(frames, prompts)
    check_event_times(frames, prompts.events, clip_ids)
    reporter.info(coverage.describe())
    clip = load_clip(source, device=device, reporter=reporter)
    clip.check_frames(size=frames.recipe.size, crop=frames.recipe.crop, reporter=reporter)
    modules = attach_lora(clip.model, options.lora(), seed=options.seed, image_size=clip.preprocess.size)
    contextualizer = _contextualizer(clip, frames, options)
    counts = _parameter_counts(clip, contextualizer, modules)
    reporter.info(describe_modules(modules, counts["lora_parameters"], counts["base_parameters"]))

    config = _config(clip, frames, prompts, coverage, clip_ids, modules, options)
    resuming = run.prepare(config, resume=resume, overwrite=overwrite)
    write_json(run.environment_file, environment())
    texts, batches = _training_data(clip, frames, prompts, prompts_path, clip_ids, options, workers, reporter)
    trainer = Trainer(
        clip,
        contextualizer,
        text_table=texts.features,
        batches=batches,
        options=options,
        run=run,
        reporter=reporter,
    )
    # Dropout is the only draw from the global generator; seeded here, restored by a checkpoint.
    torch.manual_seed(options.seed)
    if resuming:
        trainer.resume()
    started = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - started
    _finish(run, clip, contextualizer, config)
    return AdaptSummary(
        run=run,
        coverage=coverage,
        modules=tuple(modules),
        steps=trainer.step,
        train_seconds=seconds,
        overlong_texts=len(texts.overlong),
        **counts,
    )


def _training_data(
    clip: Clip,
    frames: FramesReader,
    prompts: PromptsFile,
    prompts_path: Path,
    clip_ids: Sequence[str],
    options: AdaptOptions,
    workers: int,
    reporter: Reporter,
) -> tuple[TextFeatures, ClipBatches]:
    """Encode every text of the used clips once, and make the batches that refer to them."""
    used = set(clip_ids)
    events = [event for event in prompts.events if event.clip_id in used]
    wanted = texts_of(events, hard_negatives=options.hard_negatives)
    texts = encode_distinct(clip, wanted, cache_beside=prompts_path, reporter=reporter)
    annotations = annotations_by_clip(
        events, texts, events_per_clip=frames.recipe.events, hard_negatives=options.hard_negatives
    )
    dataset = ClipDataset(frames, annotations, options.seed)
    batches = ClipBatches(dataset, clip_ids, size=options.batch_clips, seed=options.seed, workers=workers)
    return texts, batches


def _contextualizer(clip: Clip, frames: FramesReader, options: AdaptOptions) -> VideoContextualizer | None:
    if not options.contextualizer:
        return None
    config = ContextualizerConfig(
        width=clip.width,
        layers=options.contextualizer_layers,
        max_events=frames.recipe.events,
        max_frames_per_event=frames.recipe.frames_per_event,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        return VideoContextualizer(config).to(clip.device)


def _parameter_counts(
    clip: Clip, contextualizer: VideoContextualizer | None, modules: Sequence[AdaptedModule]
) -> dict[str, int]:
    lora = sum(module.parameters for module in modules)
    return {
        "lora_parameters": lora,
        "contextualizer_parameters": sum(p.numel() for p in contextualizer.parameters()) if contextualizer else 0,
        "base_parameters": sum(p.numel() for p in clip.model.parameters()) - lora,
    }


def describe_modules(modules: Sequence[AdaptedModule], lora_parameters: int, base_parameters: int) -> str:
    """Return one line that says what LoRA reached."""
    targets = ", ".join(modules[0].targets)
    share = 100 * lora_parameters / base_parameters
    return (
        f"LoRA on {targets} of {len(modules)} attention blocks: {lora_parameters:,} trainable parameters "
        f"beside {base_parameters:,} frozen ones ({share:.2f} %)"
    )


def _config(
    clip: Clip,
    frames: FramesReader,
    prompts: PromptsFile,
    coverage: Coverage,
    clip_ids: Sequence[str],
    modules: Sequence[AdaptedModule],
    options: AdaptOptions,
) -> dict[str, Any]:
    resolved = options.as_dict()
    lora = {"rank": options.rank, "alpha": resolved["alpha"], "dropout": options.lora_dropout}
    source = clip.source.as_dict()
    if Path(clip.source.model).is_dir():
        source["model"] = os.fspath(Path(clip.source.model).resolve())
    elif clip.source.pretrained and Path(clip.source.pretrained).is_file():
        source["pretrained"] = os.fspath(Path(clip.source.pretrained).resolve())
    return {
        **{key: value for key, value in resolved.items() if key not in ("rank", "alpha", "lora_dropout", "targets")},
        "format": RUN_FORMAT,
        "format_version": RUN_FORMAT_VERSION,
        "lora": {
            **lora,
            "targets": resolved["targets"],
            "modules": [{"name": m.name, "kind": m.kind, "parameters": m.parameters} for m in modules],
        },
        "model": {
            "name": clip.name,
            "source": source,
            "sha256": clip.sha256,
            "model_cfg": clip.model_config,
            "preprocess_cfg": clip.preprocess.as_dict(),
        },
        "frames": {"content_sha256": frames.content_sha256, "recipe": frames.recipe.as_dict()},
        "prompts": {"sha256": prompts.sha256, "options": prompts.header["options"]},
        "clips": {
            "annotated": coverage.prompts,
            "used": coverage.used,
            "not_ok": coverage.not_ok,
            "sha256": sha256_of_json(list(clip_ids)),
        },
    }


def _finish(run: RunFolder, clip: Clip, contextualizer: VideoContextualizer | None, config: dict[str, Any]) -> None:
    lora = {key: value for key, value in config["lora"].items() if key != "modules"}
    save_tensors(run.adapter_file, adapter_state(clip.model), {"lora": lora, "base_sha256": clip.sha256})
    if contextualizer is not None:
        state = dict(contextualizer.state_dict())
        save_tensors(run.contextualizer_file, state, {"config": contextualizer.config.as_dict()})
    with explaining_disk_errors(run.path):
        run.card_file.write_text(model_card(run.name, config), encoding="utf-8")
        run.done_file.touch()
