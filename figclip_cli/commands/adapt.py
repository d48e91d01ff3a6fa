"""``figclip adapt``: frames + prompts -> run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.adapt.options import AdaptOptions, Execution
from figclip_cli.adapt.recipe import recipe_names
from figclip_cli.commands.config_file import load_recipe_into_context, without_recipe_weights
from figclip_cli.commands.model_flags import (
    ActivationFlag,
    Device,
    DeviceFlag,
    ModelFlag,
    PretrainedFlag,
    model_source,
)
from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.tables import adapted_modules_table
from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError

if TYPE_CHECKING:
    from figclip_cli.adapt import AdaptSummary, SourceFiles

_DATA = "Data"


@with_flags_of(AdaptOptions, Execution)
def adapt(
    terminal: Terminal,
    context: typer.Context,
    frames: Annotated[
        list[Path] | None,
        typer.Option("--frames", help="Frames file, or a pattern; repeat for several.", rich_help_panel=_DATA),
    ] = None,
    prompts: Annotated[
        list[Path] | None,
        typer.Option("--prompts", help="Prompts file; several go with as many --frames.", rich_help_panel=_DATA),
    ] = None,
    mix: Annotated[
        str | None,
        typer.Option(
            "--mix", metavar="N,...", help="How often an epoch shows the clips of each.", rich_help_panel=_DATA
        ),
    ] = None,
    clips: Annotated[
        list[Path] | None, typer.Option("--clips", help="Train on the clips of this list only.", rich_help_panel=_DATA)
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option("--exclude", help="Never train on the clips of this list; repeat.", rich_help_panel=_DATA),
    ] = None,
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation", help="Hold the clips of this list out and measure them.", rich_help_panel="Validation"
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help=f"Settings of a whole run: {', '.join(recipe_names())}.",
            is_eager=True,
            callback=load_recipe_into_context,
        ),
    ] = None,
    model: ModelFlag = None,
    pretrained: PretrainedFlag = None,
    activation: ActivationFlag = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run folder.")] = None,
    runs: Annotated[Path, typer.Option("--runs", help="Folder of run folders.")] = Path("runs"),
    device: DeviceFlag = Device.auto,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing run folder.")] = False,
    **values: Any,
) -> None:
    """Adapt CLIP on clips that have frames and prompts; writes runs/NAME/."""
    from figclip_cli.adapt import ClipLists
    from figclip_cli.adapt import adapt as run_adapt
    from figclip_cli.models.clip import choose_device
    from figclip_cli.run_folder import RunFolder

    if name is not None and (name in (".", "..") or Path(name).name != name):
        raise UsageError(f"--name '{name}' is not the name of a folder", "pass --runs for another place")
    options: AdaptOptions = options_from(AdaptOptions, values)
    weights = without_recipe_weights(context, pretrained=pretrained, activation=activation)
    source = model_source(terminal, model, **weights)
    folder = runs / name if name else None
    default_name = recipe or f"{source.short_name}-{f'rank{options.rank}' if options.rank else 'full'}"
    summary = run_adapt(
        _sources(terminal, frames, prompts, mix),
        RunFolder(terminal.default(folder, runs / default_name, "run folder")),
        source=source,
        options=options,
        lists=ClipLists(tuple(clips or ()), tuple(exclude or ()), validation),
        execution=options_from(Execution, values),
        device=choose_device(device.value),
        resume=resume,
        overwrite=overwrite,
        reporter=terminal,
    )
    if terminal.is_first_process:
        _print(terminal, summary)


def _sources(
    terminal: Terminal, frames: list[Path] | None, prompts: list[Path] | None, mix: str | None
) -> list[SourceFiles]:
    """Pair frames with prompts: one prompts file takes all frames, several take one frames argument each.

    Raises:
        UsageError: They cannot be paired, or ``--mix`` is not a number for each.
    """
    from figclip_cli.adapt import SourceFiles

    frames = frames or [terminal.default(None, Path("frames.h5"), "frames")]
    prompts = prompts or [terminal.default(None, Path("prompts.jsonl"), "prompts")]
    if len(prompts) > 1 and len(frames) != len(prompts):
        raise UsageError(
            f"{len(frames)} --frames do not pair with {len(prompts)} --prompts",
            "give as many of each, in the same order; a pattern in quotes stands for several frames files",
        )
    weights = _weights(mix, len(prompts))
    if len(prompts) == 1:
        return [SourceFiles(tuple(frames), prompts[0], weights[0])]
    return [SourceFiles((one,), text, weight) for one, text, weight in zip(frames, prompts, weights, strict=True)]


def _weights(mix: str | None, count: int) -> list[float]:
    if mix is None:
        return [1.0] * count
    try:
        weights = [float(part) for part in mix.split(",")]
    except ValueError:
        weights = []
    if len(weights) != count:
        raise UsageError(f"--mix {mix} is not a number for each of {count} prompts files", "for example --mix 1,0.5")
    return weights


def _print(terminal: Terminal, summary: AdaptSummary) -> None:
    coverage = summary.coverage
    document: dict[str, Any] = {
        "run": str(summary.run.path),
        "clips_annotated": coverage.prompts,
        "clips_used": coverage.used,
        "clips_excluded": coverage.excluded,
        "clips_validation": coverage.validation,
        "lora_parameters": summary.lora_parameters,
        "contextualizer_parameters": summary.contextualizer_parameters,
        "base_parameters": summary.base_parameters,
        "modules": [module.name for module in summary.modules],
        "steps": summary.steps,
        "train_seconds": round(summary.train_seconds, 3),
        "images_per_second": round(summary.images_per_second, 2),
        "idle_share": round(summary.idle_share, 4),
        "best_score": summary.best_score,
        "best_step": summary.best_step,
        "overlong_texts": summary.overlong_texts,
    }
    terminal.result(document, adapted_modules_table(summary), text=str(summary.run.path))
