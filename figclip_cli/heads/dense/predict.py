"""A head and frames in, a submission of ActivityNet's dense captioning challenge out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from figclip_cli import __version__
from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.files import check_output, sha256_of_file, write_json
from figclip_cli.heads.dense.inference import Proposal, describe, propose
from figclip_cli.heads.dense.inputs import AnnotatedVideos, frames_of_videos, read_annotated, refuse_other_frames
from figclip_cli.heads.dense.loading import LoadedHead
from figclip_cli.heads.dense.options import GIVEN, PROPOSALS, TASK, DensePredictOptions
from figclip_cli.heads.dense.videos import Floats, StoredVideos, make_batch, to_device
from figclip_cli.heads.frame_features import frame_features
from figclip_cli.heads.seen_model import SeenModel, refuse_other_model
from figclip_cli.reporting import SILENT, Reporter

FORMAT, FORMAT_VERSION = "figclip-predictions", 1
_VERSION = "VERSION 1.0"  # as submissions to the challenge have it


@dataclass(frozen=True)
class AskedVideos:
    """Which videos are predicted.

    Attributes:
        clip_of: By the name that the submission gives it, the clip of each video that has frames.
        missing: Videos without frames, with the reason.
        segments_seconds: Where they are given, of each video (n, 2) start and end.
        annotations: Name and hash of the files that were read.
    """

    clip_of: Mapping[str, str]
    missing: Mapping[str, str]
    segments_seconds: Mapping[str, Floats]
    annotations: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class PredictSummary:
    """What was predicted.

    Attributes:
        about: What the document beside the submission says.
        missing: Videos that were asked for and not predicted, with the reason.
    """

    about: Mapping[str, Any]
    missing: Mapping[str, str]


def about_file(output: Path) -> Path:
    """Return where it is said what made a submission: ``dense-captions.predictions.json``."""
    return output.with_name(f"{output.name.removesuffix('.json')}.predictions.json")


def check_places(output: Path, *, overwrite: bool, inputs: list[Path]) -> None:
    """Refuse what must not or cannot be written.

    Raises:
        UsageError: A file is there, is an input, or is no ordinary file.
        MachineError: The folder cannot be written.
    """
    for path in (output, about_file(output)):
        check_output(path, overwrite=overwrite, inputs=inputs)


def asked_videos(source: AnnotatedVideos | None, clips: StoredClips) -> AskedVideos:
    """Return the videos of an annotation with their segments, or without one all of the frames file.

    Segments of several annotators are joined; one that both give is captioned once.

    Raises:
        InputError: A file is missing or breaks its format, or not one video has frames.
    """
    if source is None:
        names = sorted(row.clip_id for row in clips.reader.clips)
        if not names:
            raise InputError(f"{clips.reader.paths[0]} has no videos", "see the extraction report")
        clip_of, missing = frames_of_videos(clips, names, str(clips.reader.paths[0]))
        return AskedVideos(clip_of, missing, {})
    sets = read_annotated(source)
    times: dict[str, dict[tuple[float, float], None]] = {}
    for captions in sets:
        for name, video in captions.videos.items():
            times.setdefault(name, {}).update(dict.fromkeys(map(tuple, video.segments_seconds.tolist())))
    clip_of, missing = frames_of_videos(clips, list(times), " and ".join(map(str, source.annotations)))
    segments = {name: np.array(list(times[name]), dtype=np.float64).reshape(-1, 2) for name in clip_of}
    files = tuple({"name": one.dataset_id, "sha256": one.sha256, "split": one.split} for one in sets)
    return AskedVideos(clip_of, missing, segments, files)


def predict_dense_captioning(
    head: LoadedHead,
    model: SeenModel,
    clips: StoredClips,
    asked: AskedVideos,
    output: Path,
    *,
    options: DensePredictOptions,
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> PredictSummary:
    """Predict what is asked and write it; videos that cannot be read are left out and named.

    Raises:
        UsageError: The head needs given segments, and there are none.
        InputError: Model or frames are not those of the head's training, or not one video could be read.
    """
    if head.module.sizes.is_given and not asked.segments_seconds:
        raise UsageError("the head was trained with --mode given", "name the --annotations whose segments it captions")
    refuse_other_model(model.facts, head.config["model"], head.folder.path)
    refuse_other_frames(clips, head.config["frames"], f"the head {head.folder.path} was trained on")
    frames = frame_features(
        model.clip, clips, list(asked.clip_of.values()), precision=model.precision, cache=cache, reporter=reporter
    )
    unread = {name: frames.failed[clip] for name, clip in asked.clip_of.items() if clip in frames.failed}
    names = [name for name in asked.clip_of if name not in unread]
    made = _predicted(head, StoredVideos(frames, clips), asked, names, options, reporter)
    missing = {**asked.missing, **unread}
    write_json(output, _submission(made, model, head))
    about = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "figclip": __version__,
        "task": TASK,
        "mode": GIVEN if head.module.sizes.is_given else PROPOSALS,
        "head": head.folder.facts(),
        "model": dict(model.facts),
        "frames_sha256": clips.reader.content_sha256,
        "annotations": [dict(one) for one in asked.annotations],
        "options": options.as_dict(),
        "videos_asked": len(asked.clip_of) + len(asked.missing),
        "videos_predicted": len(made),
        "proposals": sum(map(len, made.values())),
        "missing": dict(sorted(missing.items())),
        "files": {output.name: sha256_of_file(output)},
    }
    write_json(about_file(output), about)
    return PredictSummary(about, missing)


def _predicted(
    head: LoadedHead,
    videos: StoredVideos,
    asked: AskedVideos,
    names: list[str],
    options: DensePredictOptions,
    reporter: Reporter,
) -> dict[str, list[Proposal]]:
    module, vocabulary = head.module, head.vocabulary
    device = module.query.device
    made: dict[str, list[Proposal]] = {}
    with reporter.track("predict", len(names), "videos") as progress:
        for start in range(0, len(names), options.batch_size):
            part = names[start : start + options.batch_size]
            taken = [videos.take(asked.clip_of[name]) for name in part]
            batch = to_device(make_batch(taken, module.sizes.positions, torch.float64), device)
            durations = [video.duration_seconds for video in taken]
            if module.sizes.is_given:
                segments = [asked.segments_seconds[name] for name in part]
                found = describe(module, batch, durations, segments, vocabulary, options)
            else:
                found = propose(module, batch, durations, vocabulary, options)
            made |= dict(zip(part, found, strict=True))
            progress.advance(len(part))
    return made


def _submission(made: Mapping[str, list[Proposal]], model: SeenModel, head: LoadedHead) -> dict[str, Any]:
    """Return what the challenge asks for; given segments are in order of time too."""
    results = {
        name: [one.as_dict() for one in sorted(own, key=lambda one: (one.start_seconds, one.end_seconds))]
        for name, own in made.items()
    }
    details = f"frozen CLIP features of {model.facts['name']}; head {head.folder.name}, figclip {__version__}"
    return {"version": _VERSION, "results": results, "external_data": {"used": True, "details": details}}
