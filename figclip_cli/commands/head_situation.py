"""``figclip train-head situation`` and ``figclip predict situation``."""

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
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.situation.options import TASK, PredictOptions, SituationOptions

if TYPE_CHECKING:
    from figclip_cli.heads.situation.predict import PredictSummary
    from figclip_cli.heads.training import TrainSummary

_DATA, _OUTPUT, _VALIDATION = "Data", "Output", "Validation"
_TRAIN_ANNOTATIONS, _FRAMES, _PREDICTIONS = Path("vsann_train_lb.json"), Path("frames.h5"), Path("predictions")


@with_flags_of(ScoredModelOptions, HeadFolderOptions, SituationOptions, TrainingOptions)
def train(
    terminal: Terminal,
    frames: FramesFlag = None,
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", help="Default: vsann_train_lb.json", rich_help_panel=_DATA),
    ] = None,
    valid_annotations: Annotated[
        Path | None,
        typer.Option("--valid-annotations", help="Measure these clips after each epoch.", rich_help_panel=_VALIDATION),
    ] = None,
    valid_frames: Annotated[
        list[Path] | None,
        typer.Option("--valid-frames", help="Their frames. Default: those of --frames", rich_help_panel=_VALIDATION),
    ] = None,
    no_cache: NoCacheFlag = False,
    **values: Any,
) -> None:
    """Train verbs, roles and relations of VidSitu over frozen features; writes heads/NAME/."""
    from figclip_cli.files import require_file
    from figclip_cli.heads.seen_model import seen_model
    from figclip_cli.heads.situation.train import AnnotatedClips, train_situation

    place: HeadFolderOptions = options_from(HeadFolderOptions, values)
    if valid_frames and valid_annotations is None:
        raise UsageError("--valid-frames without --valid-annotations", "name the annotation of these clips")
    scored: ScoredModelOptions = options_from(ScoredModelOptions, values)
    options: SituationOptions = options_from(SituationOptions, values)
    how: TrainingOptions = options_from(TrainingOptions, values)
    annotations = terminal.default(annotations, _TRAIN_ANNOTATIONS, "annotation")
    for path in (annotations, valid_annotations):
        if path is not None:
            require_file(path, "annotation file", "VidSitu's vsann_SPLIT_lb.json")
    opened = open_frames(terminal, frames, None)
    opened_valid = open_frames(terminal, valid_frames, None) if valid_frames else opened
    chosen = choose_run(terminal, scored)
    folder = place.folder(terminal, TASK, chosen)
    clip = load_scored(terminal, chosen, scored)
    training = AnnotatedClips(annotations, stored_clips(terminal, opened, clip))
    validation = None
    if valid_annotations is not None:
        validation = AnnotatedClips(valid_annotations, stored_clips(terminal, opened_valid, clip))
    summary = train_situation(
        training,
        seen_model(clip, chosen, features=options.features, precision=options.precision),
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
    clips = config["clips"]
    held_out = clips["validation"]
    about = {
        "clips_annotated": clips["training"]["annotated"],
        "clips_without_frames": clips["training"]["without_frames"],
        "clips_used": clips["training"]["used"],
        "clips_validation": 0 if held_out is None else held_out["used"],
        **config["examples"],
        "verb_senses": config["sizes"]["senses"],
    }
    print_trained(terminal, "Head for situation recognition", summary, about)


@with_flags_of(HeadModelOptions, PredictOptions)
def predict(
    terminal: Terminal,
    head: Annotated[
        Path | None, typer.Option("--head", help="Head folder. Default: the newest in heads/", rich_help_panel=_DATA)
    ] = None,
    frames: FramesFlag = None,
    split: Annotated[
        Path | None,
        typer.Option("--split", help="VidSitu's list of clips. Default: all of --frames", rich_help_panel=_DATA),
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option("--annotations", help="For what is given: vsann_valid_lb.json", rich_help_panel=_DATA),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder. Default: predictions/", rich_help_panel=_OUTPUT)
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace existing predictions.", rich_help_panel=_OUTPUT)
    ] = False,
    no_cache: NoCacheFlag = False,
    **values: Any,
) -> None:
    """Predict verbs, roles and relations with a head; writes VidSitu's leaderboard files."""
    from figclip_cli.files import named_files
    from figclip_cli.heads.situation.loading import head_config, load_head, parts_to_predict
    from figclip_cli.heads.situation.predict import asked_clips, predict_situation
    from figclip_cli.heads.situation.prediction_files import PredictionFolder

    options: PredictOptions = options_from(PredictOptions, values)
    if options.needs_annotations and annotations is None:
        raise UsageError("what is given is read from an annotation", "name it with --annotations")
    if annotations is not None and not options.needs_annotations:
        raise UsageError("--annotations is for --verbs given and --roles given", "leave it out")
    folder = head_to_use(terminal, head, TASK)
    config = head_config(folder)
    parts_to_predict(tuple(config["sizes"]["parts"]), options)
    place = PredictionFolder(terminal.default(output, _PREDICTIONS, "output"), options.format)
    read = named_files(frames or _FRAMES, split, annotations)
    refuse_inside(place.path, folder.path, *model_folders(config, values))
    place.check(overwrite=overwrite, inputs=read)
    opened = open_frames(terminal, frames, None)
    model = model_of_head(terminal, config, options_from(HeadModelOptions, values), features=config["features"])
    clips = stored_clips(terminal, opened, model.clip)
    summary = predict_situation(
        load_head(folder, device=model.clip.device),
        model,
        clips,
        asked_clips(clips, split, annotations),
        place,
        options=options,
        cache=None if no_cache else Path(),
        reporter=terminal,
    )
    _print_predicted(terminal, summary, place.path)


def _print_predicted(terminal: Terminal, summary: PredictSummary, folder: Path) -> None:
    about = summary.about
    shown = table("Predictions", "what", "value")
    shown.add_row("head", about["head"]["name"])
    shown.add_row("parts", ", ".join(about["options"]["parts"]))
    shown.add_row("clips", f"{about['clips_predicted']:,} of {about['clips_asked']:,}")
    shown.add_row("verbs", about["options"]["verbs"])
    shown.add_row("roles", about["options"]["roles"])
    if "unknown_senses" in about:
        shown.add_row("given senses that the head does not know", f"{about['unknown_senses']:,}")
    shown.add_row("files", ", ".join(about["files"]))
    left_out = not_predicted(summary.missing, "clips", folder / "predictions.json")
    terminal.result({**about, "output": str(folder)}, shown, text=str(folder), then=left_out)
