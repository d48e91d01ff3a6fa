"""A head and frames in, VidSitu's leaderboard files out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.vidsitu import SituationTruth, read_split
from figclip_cli.evaluate.datasets.vidsitu_annotations import SituationAnnotation, read_annotations
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.files import sha256_of_file
from figclip_cli.heads.seen_model import SeenModel, refuse_other_model
from figclip_cli.heads.situation.inputs import features_of, refuse_other_frames
from figclip_cli.heads.situation.loading import LoadedHead, parts_to_predict
from figclip_cli.heads.situation.options import GIVEN, TASK, PredictOptions
from figclip_cli.heads.situation.predicting import predict_clips
from figclip_cli.heads.situation.prediction_files import PredictionFolder
from figclip_cli.reporting import SILENT, Reporter


@dataclass(frozen=True)
class PredictSummary:
    """What was predicted.

    Attributes:
        about: What ``predictions.json`` says.
        missing: Clips that were asked for and not predicted, with the reason.
    """

    about: Mapping[str, Any]
    missing: Mapping[str, str]


@dataclass(frozen=True)
class AskedClips:
    """Which clips are predicted.

    Attributes:
        clip_ids: In the order in which ``ann_idx`` counts them.
        references: Of each, the annotations that are scored against; empty without annotation.
        sources: Name and hash of ``split`` and ``annotations``, where there are such files.
    """

    clip_ids: tuple[str, ...]
    references: tuple[tuple[SituationAnnotation, ...], ...]
    sources: Mapping[str, Mapping[str, str]]


def asked_clips(clips: StoredClips, split: Path | None, annotations: Path | None) -> AskedClips:
    """Return the clips of a split, or all ok clips of the frames file in sorted order.

    Raises:
        InputError: A file is missing or breaks its format, or a clip has no annotation.
    """
    clip_ids = tuple(sorted(clips.reader.clip_ids)) if split is None else read_split(split)
    if not clip_ids:
        raise InputError(f"{clips.reader.paths[0]} has no clip that could be predicted", "see the extraction report")
    files = {"split": split, "annotations": annotations}
    sources = {
        name: {"name": path.name, "sha256": sha256_of_file(path)} for name, path in files.items() if path is not None
    }
    if annotations is None:
        return AskedClips(clip_ids, (), sources)
    annotated = read_annotations(annotations)
    absent = [clip_id for clip_id in clip_ids if clip_id not in annotated]
    if absent:
        raise InputError(
            f"{annotations} has no record of {len(absent)} of {len(clip_ids)} clips, such as {absent[0]}",
            "is it of this split?" if split else "name the split's clips with --split",
        )
    truth = SituationTruth(clip_ids, tuple(annotated[clip_id] for clip_id in clip_ids), (), sources)
    return AskedClips(clip_ids, truth.references(), sources)


def predict_situation(
    head: LoadedHead,
    model: SeenModel,
    clips: StoredClips,
    asked: AskedClips,
    output: PredictionFolder,
    *,
    options: PredictOptions,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> PredictSummary:
    """Predict what is asked and write it; clips that cannot be read are left out and named.

    Raises:
        UsageError: The head was not trained for what is asked, or what is given is not there.
        InputError: Model or frames are not those of the head's training, or not one clip could be read.
    """
    parts = parts_to_predict(head.parts, options)
    if options.needs_annotations and not asked.references:
        raise UsageError("what is given is read from an annotation", "name it with --annotations")
    refuse_other_model(model.facts, head.config["model"], head.folder.path)
    refuse_other_frames(clips, head.config["frames"], head.folder.path)
    features, frames = features_of(model, clips, asked.clip_ids, cache=cache, reporter=reporter)
    reference_of = dict(zip(asked.clip_ids, asked.references, strict=True)) if asked.references else {}
    references = [reference_of[clip_id] for clip_id in frames.clip_ids] if reference_of else []
    predictions = predict_clips(head, features, frames.clip_ids, options, parts, references, reporter)
    about = {
        "task": TASK,
        "head": head.folder.facts(),
        "model": dict(model.facts),
        "frames_sha256": clips.reader.content_sha256,
        "sources": {name: dict(source) for name, source in asked.sources.items()},
        "options": {**options.as_dict(), "parts": list(parts)},
        "clips_asked": len(asked.clip_ids),
        "clips_predicted": len(predictions),
        "missing": dict(sorted(frames.failed.items())),
    }
    if options.verbs == GIVEN:
        about["unknown_senses"] = _unknown(head, references)
    made = dict(zip(frames.clip_ids, predictions, strict=True))
    document = output.write(asked.clip_ids, made, parts, about, split="split" not in asked.sources)
    return PredictSummary(document, frames.failed)


def _unknown(head: LoadedHead, references: Sequence[Sequence[SituationAnnotation]]) -> int:
    """Return how many events of first references have a sense that the head was not trained on."""
    senses = (event.sense for of_clip in references for event in of_clip[0])
    return sum(head.labels.number(sense) == head.labels.unknown for sense in senses)
