"""``figclip train-head dense-captioning`` and ``figclip predict dense-captioning``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from figclip_cli.commands.head_model import (
    FramesFlag,
    HeadFolderOptions,
    HeadModelOptions,
    head_to_use,
    model_folders,
    model_of_head,
    not_predicted,
    print_trained,
    refuse_inside,
    stored_clips,
)
from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.scored_model import (
    NoCacheFlag,
    ScoredModelOptions,
    choose_run,
    load_scored,
    open_frames,
)
from figclip_cli.commands.tables import table
from figclip_cli.console import Terminal
from figclip_cli.errors import UsageError
from figclip_cli.heads.dense.options import GIVEN, TASK, DenseOptions, DensePredictOptions
from figclip_cli.heads.options import TrainingOptions

if TYPE_CHECKING:
    from figclip_cli.heads.dense.predict import PredictSummary
    from figclip_cli.heads.training import TrainSummary

_DATA, _OUTPUT, _VALIDATION = "Data", "Output", "Validation"
_ANNOTATIONS, _FRAMES = Path("train.json"), Path("frames.h5")
_SUBMISSION = Path("predictions") / "dense-captions.json"
_ANNOTATION_HINT = "ActivityNet Captions' train.json, or YouCook2's own file"
TrainAnnotationsFlag = Annotated[
    list[Path] | None,
    typer.Option(
        "--annotations",
        help="ActivityNet Captions' file, or YouCook2's own; repeat for several. Default: train.json",
        rich_help_panel=_DATA,
    ),
]
TrainSplitFlag = Annotated[
    str | None,
    typer.Option("--split", help="With YouCook2's own file. Default: training", rich_help_panel=_DATA),
]
ValidAnnotationsFlag = Annotated[
    list[Path] | None,
    typer.Option("--valid-annotations", help="Measure these videos after each epoch.", rich_help_panel=_VALIDATION),
]
ValidSplitFlag = Annotated[
    str | None,
    typer.Option("--valid-split", help="With YouCook2's own file. Default: validation", rich_help_panel=_VALIDATION),
]
ValidFramesFlag = Annotated[
    list[Path] | None,
    typer.Option("--valid-frames", help="Their frames. Default: those of --frames", rich_help_panel=_VALIDATION),
]


@with_flags_of(ScoredModelOptions, HeadFolderOptions, DenseOptions, TrainingOptions)
def train(
    terminal: Terminal,
    frames: FramesFlag = None,
    annotations: TrainAnnotationsFlag = None,
    split: TrainSplitFlag = None,
    valid_annotations: ValidAnnotationsFlag = None,
    valid_split: ValidSplitFlag = None,
    valid_frames: ValidFramesFlag = None,
    no_cache: NoCacheFlag = False,
    **values: Any,
) -> None:
    """Train event proposals and captions over frozen features of frames; writes heads/NAME/."""
    from figclip_cli.files import require_file
    from figclip_cli.heads.dense.inputs import AnnotatedVideos
    from figclip_cli.heads.dense.train import train_dense_captioning
    from figclip_cli.heads.seen_model import seen_model

    place: HeadFolderOptions = options_from(HeadFolderOptions, values)
    if (valid_frames or valid_split) and not valid_annotations:
        flag = "--valid-frames" if valid_frames else "--valid-split"
        raise UsageError(f"{flag} without --valid-annotations", "name the annotation of these videos")
    scored: ScoredModelOptions = options_from(ScoredModelOptions, values)
    options: DenseOptions = options_from(DenseOptions, values)
    how: TrainingOptions = options_from(TrainingOptions, values)
    annotations = annotations or [terminal.default(None, _ANNOTATIONS, "annotation")]
    for path in (*annotations, *(valid_annotations or ())):
        require_file(path, "annotation file", _ANNOTATION_HINT)
    opened = open_frames(terminal, frames, None)
    opened_valid = open_frames(terminal, valid_frames, None) if valid_frames else opened
    chosen = choose_run(terminal, scored)
    folder = place.folder(terminal, TASK, chosen)
    clip = load_scored(terminal, chosen, scored)
    validation = None
    if valid_annotations:
        validation = AnnotatedVideos(tuple(valid_annotations), stored_clips(terminal, opened_valid, clip), valid_split)
    summary = train_dense_captioning(
        AnnotatedVideos(tuple(annotations), stored_clips(terminal, opened, clip), split),
        seen_model(clip, chosen, features="plain", precision=options.precision),
        folder,
        options=options,
        how=how,
        validation=validation,
        cache=None if no_cache else Path(),
        resume=place.resume,
        overwrite=place.overwrite,
        reporter=terminal,
    )
    _print_trained(terminal, summary)


def _print_trained(terminal: Terminal, summary: TrainSummary) -> None:
    config = summary.config
    training, held_out = config["videos"]["training"], config["videos"]["validation"]
    about = {
        "videos_annotated": training["annotated"],
        "videos_without_frames": training["without_frames"],
        "videos_used": training["used"],
        "videos_validation": 0 if held_out is None else held_out["used"],
        "events": training["events"],
        "vocabulary_size": config["sizes"]["vocabulary_size"],
    }
    print_trained(terminal, "Head for dense captioning", summary, about)


@with_flags_of(HeadModelOptions, DensePredictOptions)
def predict(
    terminal: Terminal,
    head: Annotated[
        Path | None, typer.Option("--head", help="Head folder. Default: the newest in heads/", rich_help_panel=_DATA)
    ] = None,
    frames: FramesFlag = None,
    annotations: Annotated[
        list[Path] | None,
        typer.Option(
            "--annotations",
            help="Its videos alone, and for --mode given their segments. Default: all of --frames",
            rich_help_panel=_DATA,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="With YouCook2's own file. Default: validation", rich_help_panel=_DATA),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Submission. Default: predictions/dense-captions.json", rich_help_panel=_OUTPUT
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing predictions.", rich_help_panel=_OUTPUT)
    ] = False,
    no_cache: NoCacheFlag = False,
    **values: Any,
) -> None:
    """Find events in videos and caption them with a head; writes a submission for the ActivityNet challenge."""
    from figclip_cli.files import named_files
    from figclip_cli.heads.dense.inputs import AnnotatedVideos
    from figclip_cli.heads.dense.loading import head_config, load_head
    from figclip_cli.heads.dense.predict import asked_videos, check_places, predict_dense_captioning

    if split is not None and not annotations:
        raise UsageError("--split is for --annotations", "name the file that has splits")
    options: DensePredictOptions = options_from(DensePredictOptions, values)
    folder = head_to_use(terminal, head, TASK)
    config = head_config(folder)
    _refuse_contradictions(config["sizes"]["mode"], annotations, options)
    output = terminal.default(output, _SUBMISSION, "output")
    refuse_inside(output, folder.path, *model_folders(config, values))
    check_places(output, overwrite=overwrite, inputs=named_files(frames or _FRAMES, annotations))
    opened = open_frames(terminal, frames, None)
    model = model_of_head(terminal, config, options_from(HeadModelOptions, values))
    clips = stored_clips(terminal, opened, model.clip)
    source = AnnotatedVideos(tuple(annotations), clips, split) if annotations else None
    summary = predict_dense_captioning(
        load_head(folder, device=model.clip.device),
        model,
        clips,
        asked_videos(source, clips),
        output,
        options=options,
        cache=None if no_cache else Path(),
        reporter=terminal,
    )
    _print_predicted(terminal, summary, output)


def _refuse_contradictions(mode: str, annotations: list[Path] | None, options: DensePredictOptions) -> None:
    if mode != GIVEN:
        return
    if not annotations:
        raise UsageError("the head was trained with --mode given", "name the --annotations whose segments it captions")
    if options.count is not None:
        raise UsageError("--count is for heads that find segments", "leave it out: each given segment has a caption")


def _print_predicted(terminal: Terminal, summary: PredictSummary, output: Path) -> None:
    from figclip_cli.heads.dense.predict import about_file

    about = summary.about
    shown = table("Predictions", "what", "value")
    shown.add_row("head", about["head"]["name"])
    shown.add_row("segments", "given" if about["mode"] == GIVEN else "found")
    shown.add_row("videos", f"{about['videos_predicted']:,} of {about['videos_asked']:,}")
    shown.add_row("events", f"{about['proposals']:,}")
    left_out = not_predicted(summary.missing, "videos", about_file(output))
    terminal.result({**about, "output": str(output)}, shown, text=str(output), then=left_out)
