"""``figclip adapt``: frames + prompts -> run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.model_flags import (
    ActivationFlag,
    Device,
    DeviceFlag,
    ModelFlag,
    Precision,
    PretrainedFlag,
    model_source,
)
from figclip_cli.commands.tables import adapted_modules_table
from figclip_cli.console import Terminal

if TYPE_CHECKING:
    from figclip_cli.adapt import AdaptSummary


def adapt(
    terminal: Terminal,
    frames: Annotated[list[Path] | None, typer.Option("--frames", help="Frames file; repeat for several.")] = None,
    prompts: Annotated[Path | None, typer.Option("--prompts", help="Prompts file.")] = None,
    model: ModelFlag = None,
    pretrained: PretrainedFlag = None,
    activation: ActivationFlag = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run folder.")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of run folders.")] = Path("runs"),
    rank: Annotated[int, typer.Option("--rank", help="LoRA rank.", min=1)] = 64,
    alpha: Annotated[float | None, typer.Option("--alpha", help="LoRA alpha; the rank by default.")] = None,
    lora_dropout: Annotated[float, typer.Option("--lora-dropout", help="Dropout on the low-rank path.")] = 0.0,
    targets: Annotated[str, typer.Option("--targets", help="Projections to adapt, among q, k, v.")] = "q,k,v",
    epochs: Annotated[int, typer.Option("--epochs", help="Passes over the clips.")] = 40,
    batch_clips: Annotated[int, typer.Option("--batch-clips", help="Clips per step.")] = 20,
    learning_rate: Annotated[float, typer.Option("--learning-rate", "--lr", help="AdamW's learning rate.")] = 1e-6,
    weight_decay: Annotated[float, typer.Option("--weight-decay", help="AdamW's weight decay.")] = 0.01,
    video_weight: Annotated[float, typer.Option("--video-weight", help="Weight of the two video terms.")] = 0.25,
    contextualizer: Annotated[
        bool, typer.Option("--contextualizer/--no-contextualizer", help="Train the video contextualizer.")
    ] = True,
    contextualizer_layers: Annotated[int, typer.Option("--contextualizer-layers", help="Its depth.")] = 6,
    hard_negatives: Annotated[
        bool,
        typer.Option("--hard-negatives/--no-hard-negatives", help="Use the negatives in the prompts file."),
    ] = True,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    precision: Annotated[Precision, typer.Option("--precision", help="Of the image tower.")] = Precision.fp32,
    device: DeviceFlag = Device.auto,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Processes that read frames; 0 on a CPU, 4 on a GPU.", min=0),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run folder.")] = False,
) -> None:
    """Adapt CLIP's image tower on clips that have frames and prompts; writes runs/NAME/."""
    from figclip_cli.adapt import AdaptOptions
    from figclip_cli.adapt import adapt as run_adapt
    from figclip_cli.models.clip import choose_device
    from figclip_cli.run_folder import RunFolder

    source = model_source(terminal, model, pretrained, activation)
    options = AdaptOptions(
        rank=rank,
        alpha=alpha,
        lora_dropout=lora_dropout,
        targets=tuple(part.strip() for part in targets.split(",") if part.strip()),
        epochs=epochs,
        batch_clips=batch_clips,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        video_weight=video_weight,
        contextualizer=contextualizer,
        contextualizer_layers=contextualizer_layers,
        hard_negatives=hard_negatives,
        seed=seed,
        precision=precision.value,
    )
    folder = terminal.default(runs / name if name else None, runs / f"{source.short_name}-rank{rank}", "run folder")
    chosen = choose_device(device.value)
    summary = run_adapt(
        frames or [terminal.default(None, Path("frames.h5"), "frames")],
        terminal.default(prompts, Path("prompts.jsonl"), "prompts"),
        RunFolder(folder),
        source=source,
        options=options,
        device=chosen,
        workers=(4 if chosen.type == "cuda" else 0) if workers is None else workers,
        resume=resume,
        overwrite=overwrite,
        reporter=terminal,
    )
    _print(terminal, summary)


def _print(terminal: Terminal, summary: AdaptSummary) -> None:
    document: dict[str, Any] = {
        "run": str(summary.run.path),
        "clips_annotated": summary.coverage.prompts,
        "clips_used": summary.coverage.used,
        "lora_parameters": summary.lora_parameters,
        "contextualizer_parameters": summary.contextualizer_parameters,
        "base_parameters": summary.base_parameters,
        "modules": [module.name for module in summary.modules],
        "steps": summary.steps,
        "train_seconds": round(summary.train_seconds, 3),
        "overlong_texts": summary.overlong_texts,
    }
    terminal.result(document, adapted_modules_table(summary), text=str(summary.run.path))
