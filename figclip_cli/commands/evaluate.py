"""``figclip evaluate retrieval``: frames + captions [+ run] -> table and results JSON."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from figclip_cli.commands.evaluate_action import action
from figclip_cli.commands.evaluate_compositional import compositional
from figclip_cli.commands.evaluate_dense_captioning import dense_captioning
from figclip_cli.commands.evaluate_output import FramesFlag, OutputOptions, finish
from figclip_cli.commands.evaluate_situation import situation
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
from figclip_cli.commands.verb import verb
from figclip_cli.console import Terminal
from figclip_cli.evaluate.protocols import ProtocolOptions
from figclip_cli.evaluate.task_options import RetrievalOptions

app = typer.Typer(help="Score base and adapted models.", no_args_is_help=True, add_completion=False)
_CAPTIONS = "Captions"


class LevelChoice(str, Enum):
    """What a query is, with prompts.jsonl."""

    video = "video"
    event = "event"


class CaptionChoice(str, Enum):
    """Which captions of a clip are queries."""

    all = "all"
    first = "first"


@with_flags_of(ScoredModelOptions, ProtocolOptions, RetrievalOptions, ScaleOptions, OutputOptions)
def retrieval(
    terminal: Terminal,
    captions: Annotated[
        Path | None,
        typer.Option(
            "--captions",
            help="MSR-VTT, MSVD, DiDeMo, LSMDC or ActivityNet as published, csv, JSONL, or prompts.jsonl.",
            rich_help_panel=_CAPTIONS,
        ),
    ] = None,
    captions_format: Annotated[
        str | None,
        typer.Option("--captions-format", help="Read the file as this format.", rich_help_panel=_CAPTIONS),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="With MSRVTT_data.json. Default: test", rich_help_panel=_CAPTIONS)
    ] = None,
    ids: Annotated[
        Path | None, typer.Option("--ids", help="Only the clips of this list.", rich_help_panel=_CAPTIONS)
    ] = None,
    caption_choice: Annotated[
        CaptionChoice, typer.Option("--caption-choice", help="Captions of a clip.", rich_help_panel=_CAPTIONS)
    ] = CaptionChoice.all,
    level: Annotated[
        LevelChoice, typer.Option("--level", help="What a query is, with prompts.", rich_help_panel=_CAPTIONS)
    ] = LevelChoice.video,
    frames: FramesFlag = None,
    videos: VideosFlag = None,
    zero_shot: Annotated[
        bool,
        typer.Option("--zero-shot", help="Train nothing on the target data; the only mode, and the default."),
    ] = True,
    **values: Any,
) -> None:
    """Text-to-video and video-to-text retrieval: R@1/5/10, MdR, MnR and more of base, adapted and the difference."""
    from figclip_cli.evaluate.contextual_reading import refuse_misfit
    from figclip_cli.evaluate.datasets.captions import read_captions
    from figclip_cli.evaluate.encoders import Encoding
    from figclip_cli.evaluate.retrieval import TASK, evaluate_retrieval_at, level_of
    from figclip_cli.evaluate.retrieval_numbers import METRIC_NAMES

    scored: ScoredModelOptions = options_from(ScoredModelOptions, values)
    output_options: OutputOptions = options_from(OutputOptions, values)
    options: RetrievalOptions = options_from(RetrievalOptions, values)
    chosen = choose_run(terminal, scored)
    plan = options_from(ScaleOptions, values).plan(chosen, base_only=scored.base_only)
    captions = terminal.default(captions, _default_captions(), "captions")
    inputs = (captions, ids, frames or Path("frames.h5"), videos, scored.model, scored.pretrained)
    output = output_options.choose(terminal, "retrieval", options.named(captions.stem), chosen, inputs, plan)
    asked = read_captions(
        captions,
        level=level.value,
        format=captions_format,
        split=split,
        ids=ids,
        caption_choice=caption_choice.value,
    )
    plan.check(TASK, asked.sha256, METRIC_NAMES, level=level_of(asked))
    protocol = options_from(ProtocolOptions, values).resolve(paragraphs=asked.is_paragraph)
    refuse_misfit(options.features, chosen, protocol, scales=plan.scales)
    opened = open_frames(terminal, frames, videos)
    clip = load_scored(terminal, chosen, scored)
    evaluations = evaluate_retrieval_at(
        plan.scales,
        clip,
        frames_source(terminal, opened, videos, protocol=protocol, clip=clip),
        asked,
        encoding=Encoding(protocol, output_options.cache_folder(), terminal),
        run=chosen,
        options=options,
    )
    finish(terminal, evaluations, output, output_options, plan)


def _default_captions() -> Path:
    """Return ``captions.csv`` where there is one, else ``prompts.jsonl``."""
    captions = Path("captions.csv")
    return captions if captions.is_file() else Path("prompts.jsonl")


app.command("retrieval")(verb(retrieval))
app.command("action")(verb(action))
app.command("compositional")(verb(compositional))
app.command("dense-captioning")(verb(dense_captioning))
app.command("situation")(verb(situation))
