"""``figclip evaluate TASK``: frames + captions [+ run] -> table and results JSON."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from figclip_cli.commands.model_flags import (
    ActivationFlag,
    Device,
    DeviceFlag,
    ModelFlag,
    PretrainedFlag,
    model_source,
)
from figclip_cli.commands.tables import results_table
from figclip_cli.commands.verb import verb
from figclip_cli.console import Terminal

app = typer.Typer(help="Score base and adapted models.", no_args_is_help=True)


class LevelChoice(str, Enum):
    """What a query is, with prompts.jsonl."""

    video = "video"
    event = "event"


class PoolingChoice(str, Enum):
    """How frame features become a clip's."""

    mean_l2 = "mean-l2"
    l2_mean_l2 = "l2-mean-l2"
    l2_mean = "l2-mean"


class TiesChoice(str, Enum):
    """What a tie counts."""

    average = "average"
    optimistic = "optimistic"
    pessimistic = "pessimistic"


class MultiCaptionChoice(str, Enum):
    """Video to text where a clip has several texts."""

    max_per_video = "max-per-video"
    min_rank = "min-rank"


def retrieval(
    terminal: Terminal,
    frames: Annotated[list[Path] | None, typer.Option("--frames", help="Frames file; repeat for several.")] = None,
    captions: Annotated[
        Path | None, typer.Option("--captions", help="MSR-VTT 1k-A csv, a plain csv, or prompts.jsonl.")
    ] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Run folder. Default: the newest in runs/.")] = None,
    base_only: Annotated[bool, typer.Option("--base-only", help="Score the base model alone.")] = False,
    model: ModelFlag = None,
    pretrained: PretrainedFlag = None,
    activation: ActivationFlag = None,
    zero_shot: Annotated[
        bool,
        typer.Option("--zero-shot", help="Train nothing on the target data; the only mode, and the default."),
    ] = True,
    level: Annotated[LevelChoice, typer.Option("--level", help="What a query is, with prompts.")] = LevelChoice.video,
    pooling: Annotated[
        PoolingChoice, typer.Option("--pooling", help="How frames become a clip.")
    ] = PoolingChoice.mean_l2,
    ties: Annotated[TiesChoice, typer.Option("--ties", help="What a tie counts.")] = TiesChoice.average,
    multi_caption: Annotated[
        MultiCaptionChoice, typer.Option("--multi-caption", help="Video to text with several texts a clip.")
    ] = MultiCaptionChoice.max_per_video,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Results JSON.")] = None,
    device: DeviceFlag = Device.auto,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing results file.")] = False,
) -> None:
    """Text-to-video and video-to-text retrieval: R@1/5/10, MdR, MnR of base, adapted and the difference."""
    from figclip_cli.errors import PartialError, UsageError
    from figclip_cli.evaluate.captions import read_captions
    from figclip_cli.evaluate.retrieval import RetrievalOptions, evaluate_retrieval
    from figclip_cli.files import refuse_existing
    from figclip_cli.frames import FramesReader
    from figclip_cli.models.adapted import load_base
    from figclip_cli.models.clip import choose_device, load_clip
    from figclip_cli.run_folder import RunFolder, newest_finished_run

    if base_only and run is not None:
        raise UsageError("--base-only and --run contradict each other", "leave one of them out")
    chosen_run = RunFolder(run) if run is not None else None
    if chosen_run is None and not base_only:
        chosen_run = newest_finished_run()
        found = f"{chosen_run.path} (default: the newest finished one)" if chosen_run else "none in runs/, base alone"
        terminal.info(f"run: {found}")
    frames = frames or [terminal.default(None, Path("frames.h5"), "frames")]
    captions = terminal.default(captions, _default_captions(), "captions")
    default_output = Path("results") / f"retrieval-{captions.stem}-{chosen_run.name if chosen_run else 'base'}.json"
    output = terminal.default(output, default_output, "results")
    refuse_existing(output, overwrite=overwrite)

    asked = read_captions(captions, level=level.value)
    reader = FramesReader(frames)
    reader.require_equal_lengths()
    where = choose_device(device.value)
    if chosen_run is not None:
        source = model_source(terminal, model, pretrained, activation) if model else None
        clip = load_base(chosen_run, source=source, device=where, reporter=terminal)
    else:
        clip = load_clip(model_source(terminal, model, pretrained, activation), device=where, reporter=terminal)
    clip.check_frames(size=reader.recipe.size, crop=reader.recipe.crop, reporter=terminal)
    results = evaluate_retrieval(
        clip,
        reader,
        asked,
        run=chosen_run,
        options=RetrievalOptions(pooling.value, ties.value, multi_caption.value),
        reporter=terminal,
    )
    results.write(output)
    terminal.result(results.as_document(), results_table(results), text=str(output))
    if results.missing:
        first = next(iter(results.missing))
        raise PartialError(
            f"{len(results.missing)} clips were not evaluated, the first is {first}: {results.missing[first]}",
            f'all of them are listed under "missing" in {output}; the gallery is smaller than asked for',
        )


def _default_captions() -> Path:
    """Return ``captions.csv`` where there is one, else ``prompts.jsonl``."""
    captions = Path("captions.csv")
    return captions if captions.is_file() else Path("prompts.jsonl")


app.command("retrieval")(verb(retrieval))
