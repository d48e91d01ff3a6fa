"""Which videos there are to learn from: annotation and frames brought together, some of them held out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.dense_captions import DenseCaptions, DenseVideo, read_reference_sets
from figclip_cli.evaluate.datasets.dense_events import aligned_ids
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.files import sha256_of_json
from figclip_cli.heads.dense.videos import Example, LeftOut, make_example, other_durations
from figclip_cli.heads.seen_frames import frames_that_differ
from figclip_cli.reporting import Reporter

TRAINING_SPLIT = "training"


@dataclass(frozen=True)
class AnnotatedVideos:
    """Videos to learn from or to be measured on.

    Attributes:
        annotations: Timed sentences; several files where videos have several annotators.
        clips: Frames.
        split: Of YouCook2's own file.
    """

    annotations: tuple[Path, ...]
    clips: StoredClips
    split: str | None = None


@dataclass(frozen=True)
class UsableVideos:
    """What annotation and frames have in common.

    Attributes:
        examples: One for each video and annotator.
        facts: Files, hashes and counts, for ``config.json``.
    """

    examples: tuple[Example, ...]
    facts: Mapping[str, Any]


def read_annotated(source: AnnotatedVideos, *, for_training: bool = False) -> tuple[DenseCaptions, ...]:
    """Read the annotation.

    Args:
        for_training: YouCook2's own file is read for its training videos, where no split is named.

    Raises:
        InputError: A file is missing or breaks its format.
        UsageError: It has no such split.
    """
    sets = read_reference_sets(source.annotations, split=source.split)
    if for_training and source.split is None and any(one.format == "youcook2" for one in sets):
        return read_reference_sets(source.annotations, split=TRAINING_SPLIT)
    return sets


def frames_of_videos(clips: StoredClips, names: Sequence[str], where: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the clip of each video that has frames, and why the others have none.

    Args:
        names: As the annotation has them, with ``v_`` or without.
        where: For messages.

    Raises:
        InputError: Not one has frames.
    """
    called = aligned_ids(names, {row.clip_id: None for row in clips.reader.clips}, where)
    clip_of, missing = {}, {}
    for name, clip_id in called.items():
        why = clips.why_missing(clip_id) or _why_no_duration(clips, clip_id)
        if why is None:
            clip_of[name] = clip_id
        else:
            missing[name] = why
    if not clip_of:
        first, why = next(iter(missing.items()))
        raise InputError(
            f"not one of the {len(missing)} videos of {where} has frames; '{first}': {why}",
            f"{clips.example()}: are the ids written alike?",
        )
    return clip_of, missing


def _why_no_duration(clips: StoredClips, clip_id: str) -> str | None:
    duration = clips.reader.row(clip_id).duration_seconds
    return None if math.isfinite(duration) and duration > 0 else f"its duration is {duration:g} s"


def usable_videos(
    source: AnnotatedVideos, what: str, reporter: Reporter, *, for_training: bool = False
) -> UsableVideos:
    """Bring annotation and frames together; says what is left out.

    Args:
        what: ``training`` or ``validation``, for messages.

    Raises:
        InputError: A file is missing or breaks its format, or nothing is left.
        UsageError: There is no such split.
    """
    sets = read_annotated(source, for_training=for_training)
    names = list(dict.fromkeys(name for one in sets for name in one.videos))
    where = " and ".join(map(str, source.annotations))
    clip_of, missing = frames_of_videos(source.clips, names, where)
    durations = {name: source.clips.reader.row(clip_id).duration_seconds for name, clip_id in clip_of.items()}
    left_out, examples, differing = LeftOut(), [], set()
    for captions in sets:
        own = {name: video for name, video in captions.videos.items() if name in clip_of}
        differing |= set(other_durations(own, durations))
        made = (make_example(clip_of[name], video, durations[name], left_out) for name, video in own.items())
        examples += [example for example in made if example is not None]
    if not examples:
        raise InputError(f"no {what} video of {where} has an event that can be learned", "are times in seconds?")
    _tell(what, len(names), missing, left_out, _shown(differing, durations, sets), reporter)
    facts = {
        "annotations": [{"name": one.dataset_id, "sha256": one.sha256, "split": one.split} for one in sets],
        "annotated": len(names),
        "without_frames": len(missing),
        "events_left_out": left_out.as_dict(),
        "other_durations": len(differing),
        "frames_sha256": source.clips.reader.content_sha256,
    }
    return UsableVideos(tuple(sorted(examples, key=lambda example: example.clip_id)), facts)


def _shown(differing: set[str], durations: Mapping[str, float], sets: Sequence[DenseCaptions]) -> list[str]:
    """Return for each video of another duration what is to be said of it."""
    annotated: dict[str, DenseVideo] = {name: video for one in sets for name, video in one.videos.items()}
    return [
        f"{name}: {annotated[name].duration_seconds:g} s annotated, {durations[name]:g} s of frames"
        for name in sorted(differing)
    ]


def _tell(
    what: str, annotated: int, missing: Mapping[str, str], left_out: LeftOut, differing: list[str], reporter: Reporter
) -> None:
    if missing:
        first, why = next(iter(missing.items()))
        reporter.warn(f"{len(missing)} of {annotated} {what} videos are left out, the first is {first}: {why}")
    if left_out.total:
        reasons = ", ".join(f"{count} {why.replace('_', ' ')}" for why, count in left_out.as_dict().items() if count)
        reporter.warn(f"{left_out.total} {what} events are left out: {reasons}")
    if differing:
        reporter.warn(
            f"{len(differing)} {what} videos are not as long as annotated: is it the same cut? {differing[0]}"
        )


def described(examples: Sequence[Example]) -> dict[str, Any]:
    """Return counts and hash of what is learned, for ``config.json``."""
    clip_ids = [example.clip_id for example in examples]
    return {
        "used": len(set(clip_ids)),
        "examples": len(examples),
        "events": sum(len(example.sentences) for example in examples),
        "sha256": sha256_of_json(clip_ids),
    }


def refuse_other_frames(clips: StoredClips, trained_on: Mapping[str, Any], who: str) -> None:
    """Refuse frames that were chosen or cut in another way than those that a head was trained on.

    Args:
        trained_on: What :func:`~figclip_cli.heads.seen_frames.frames_facts` gave.
        who: For the message, such as ``the head heads/dense was trained on``.

    Raises:
        InputError: Names what differs.
    """
    differing, there = frames_that_differ(clips, trained_on), trained_on["recipe"]
    if not differing:
        return
    flags = f"--fps {there.get('fps'):g}" if there.get("policy") == "fps" else f"--policy {there.get('policy')}"
    raise InputError(
        f"{clips.reader.paths[0]} has other frames than {who}: {differing}",
        f"extract with {flags} --size {there.get('size')}, and all else as then",
    )
