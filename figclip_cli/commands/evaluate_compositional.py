"""``figclip evaluate compositional``: images or frames + a benchmark [+ run] -> table and results JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.evaluate_output import FramesFlag, OutputOptions, finish
from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.scales import ScaleOptions
from figclip_cli.commands.scored_model import (
    ScoredModelOptions,
    VideosFlag,
    choose_run,
    frames_source,
    load_scored,
    open_frames,
)
from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError
from figclip_cli.evaluate.protocols import ProtocolOptions
from figclip_cli.evaluate.task_options import CompositionalOptions

if TYPE_CHECKING:
    from figclip_cli.evaluate.protocols import Protocol
    from figclip_cli.evaluate.visuals import ImageFiles
    from figclip_cli.models.clip import Clip

_DATA = "Benchmark"


@with_flags_of(ScoredModelOptions, ProtocolOptions, CompositionalOptions, ScaleOptions, OutputOptions)
def compositional(
    terminal: Terminal,
    benchmark: Annotated[
        str,
        typer.Option(
            "--benchmark",
            help="sugarcrepe, aro-vg-relation, aro-vg-attribution, aro-coco-order, aro-flickr-order, vl-checklist, "
            "winoground, valse, velociti; prompts: the negatives of your prompts; choices: tests of your own.",
            rich_help_panel=_DATA,
        ),
    ] = "prompts",
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            "--annotations", help="Its files, or the folder that has them; repeat for several.", rich_help_panel=_DATA
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option("--images", help="Folder of its images; repeat for several.", rich_help_panel=_DATA),
    ] = None,
    frames: FramesFlag = None,
    videos: VideosFlag = None,
    **values: Any,
) -> None:
    """Right text against wrong ones: accuracy by part, relation and kind of base, adapted and the difference."""
    from figclip_cli.evaluate.compositional import TASK, evaluate_compositional_at
    from figclip_cli.evaluate.compositional_numbers import metric_names
    from figclip_cli.evaluate.contextual_reading import refuse_misfit
    from figclip_cli.evaluate.datasets.compositional import read_compositional, require_benchmark
    from figclip_cli.evaluate.encoders import Encoding

    scored: ScoredModelOptions = options_from(ScoredModelOptions, values)
    output_options: OutputOptions = options_from(OutputOptions, values)
    options: CompositionalOptions = options_from(CompositionalOptions, values)
    require_benchmark(benchmark)
    chosen = choose_run(terminal, scored)
    plan = options_from(ScaleOptions, values).plan(chosen, base_only=scored.base_only)
    if annotations is None:
        if benchmark != "prompts":
            raise UsageError(f"--benchmark {benchmark} needs --annotations", "its files, or the folder that has them")
        annotations = [terminal.default(None, Path("prompts.jsonl"), "annotations")]
    inputs = (annotations, images, frames or Path("frames.h5"), videos, scored.model, scored.pretrained)
    named = options.named(annotations[0].resolve().stem)
    output = output_options.choose(terminal, benchmark, named, chosen, inputs, plan)
    items = read_compositional(benchmark, annotations, seed=options.order_seed)
    plan.check(TASK, items.sha256, metric_names(items))
    _check_pixels(items.uses, benchmark, images, frames or videos)
    protocol = options_from(ProtocolOptions, values).resolve()
    refuse_misfit(options.features, chosen, protocol, scales=plan.scales, uses_images=items.uses == "images")
    if items.uses == "images" and "num_frames" in protocol.changed:
        raise UsageError(f"--num-frames is for clips, --benchmark {benchmark} is about images", "leave it out")
    opened = open_frames(terminal, frames, videos) if items.uses == "clips" else None
    clip = load_scored(terminal, chosen, scored)
    if items.uses == "images":
        source: Any = _image_files(images or [], protocol, clip)
    else:
        source = frames_source(terminal, opened, videos, protocol=protocol, clip=clip)
    evaluations = evaluate_compositional_at(
        plan.scales,
        clip,
        source,
        items,
        encoding=Encoding(protocol, output_options.cache_folder(), terminal),
        run=chosen,
        options=options,
    )
    finish(terminal, evaluations, output, output_options, plan)


def _check_pixels(uses: str, benchmark: str, images: list[Path] | None, clips: list[Path] | None) -> None:
    if uses == "images" and not images:
        raise UsageError(f"--benchmark {benchmark} is about images", "pass --images FOLDER")
    if uses == "images" and clips:
        raise UsageError(f"--benchmark {benchmark} is about images, not clips", "leave --frames and --videos out")
    if uses == "clips" and images:
        raise UsageError(f"--benchmark {benchmark} is about clips", "pass --frames or --videos instead of --images")


def _image_files(roots: list[Path], protocol: Protocol, clip: Clip) -> ImageFiles:
    from figclip_cli.evaluate.visuals import ImageFiles

    preprocess = clip.preprocess
    crop = protocol.crop or preprocess.crop
    return ImageFiles(roots, size=preprocess.size, crop=crop, interpolation=preprocess.interpolation)
