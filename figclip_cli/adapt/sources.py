"""What a run trains on: frames and prompts joined, clips held out, left out and drawn by share.

A source is frames with the prompts that go with them. A run may mix several (VidSitu and K-SRL), each with a weight:
how many times an epoch shows each of its clips.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.adapt.chance import stable_integer
from figclip_cli.adapt.clip_lists import read_clip_list, read_clip_lists
from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import sha256_of_json
from figclip_cli.frames import FramesReader
from figclip_cli.prompts import PromptEvent, PromptsFile, read_prompts
from figclip_cli.reporting import SILENT, Reporter

_TIME_TOLERANCE_SECONDS = 0.5


@dataclass(frozen=True)
class SourceFiles:
    """Files of one source.

    Attributes:
        frames: Frames files of one recipe; patterns are expanded.
        prompts: The prompts file.
        weight: How many times an epoch shows each clip; 0.5 shows half of them, and the other half in the next epoch.
    """

    frames: tuple[Path, ...]
    prompts: Path
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.weight <= 1000:
            raise UsageError(
                f"the weight of {self.prompts} must be above 0 and at most 1000, got {self.weight}", "see --mix"
            )


@dataclass(frozen=True)
class ClipLists:
    """Lists of clips that say which to use.

    Attributes:
        only: The clips to train on; none means all.
        exclude: Clips that are never trained on.
        validation: The clips held out for validation.
    """

    only: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()
    validation: Path | None = None


@dataclass(frozen=True)
class Coverage:
    """How much of the annotation is used, over all sources.

    Attributes:
        prompts: Clips with prompts.
        frames: Clips with frames whose status is ok.
        not_ok: Clips with both whose frames are short or failed.
        excluded: Clips with both that an exclusion list names.
        validation: Clips with both that are held out.
        unused: Clips with both that the list of clips or the fraction leaves out.
        used: Clips that are trained on.
        without_frames: Clips with prompts that are in no frames file.
    """

    prompts: int
    frames: int
    not_ok: int
    excluded: int
    validation: int
    unused: int
    used: int
    without_frames: int

    def describe(self) -> str:
        """Return one line for a person."""
        line = f"training on {self.used} of {self.prompts} annotated clips ({100 * self.used / self.prompts:.1f} %)"
        rest = {
            "without frames": self.without_frames,
            "short or failed": self.not_ok,
            "excluded": self.excluded,
            "held out for validation": self.validation,
            "left out by --clips or --fraction": self.unused,
        }
        parts = [f"{count} {what}" for what, count in rest.items() if count]
        return "; ".join([line, *parts])


@dataclass(frozen=True)
class Source:
    """An opened source.

    Attributes:
        frames: Its frames.
        prompts: Its prompts file's header and hash.
        events: Prompts of the clips that are trained on or held out.
        clip_ids: Clips to train on, sorted.
        validation_ids: Clips held out, sorted.
        weight: How many times an epoch shows each clip.
    """

    frames: FramesReader
    prompts: PromptsFile
    events: tuple[PromptEvent, ...]
    clip_ids: tuple[str, ...]
    validation_ids: tuple[str, ...]
    weight: float

    def describe(self) -> dict[str, Any]:
        """Return what identifies the source, as plain JSON values; no paths, so that files may move."""
        return {
            "frames": {"content_sha256": self.frames.content_sha256, "recipe": self.frames.recipe.as_dict()},
            "prompts": {"sha256": self.prompts.sha256, "options": self.prompts.header["options"]},
            "weight": self.weight,
            "clips": len(self.clip_ids),
            "clips_sha256": sha256_of_json(list(self.clip_ids)),
            "validation_sha256": sha256_of_json(list(self.validation_ids)),
        }


def open_sources(
    files: Sequence[SourceFiles], lists: ClipLists, *, fraction: float, seed: int, reporter: Reporter = SILENT
) -> tuple[list[Source], Coverage]:
    """Open all sources, join frames and prompts, and choose clips.

    Args:
        fraction: Share of the clips that are left; with the same seed a smaller share is a part of a larger one.
        seed: Decides the share.

    Raises:
        InputError: A file is missing or damaged, frames and prompts have no clip in common, nothing is left to train
            on, or prompts are of other times than their frames.
    """
    only = read_clip_lists(lists.only) if lists.only else None
    exclude = read_clip_lists(lists.exclude)
    validation = read_clip_list(lists.validation) if lists.validation else frozenset()

    def used(clip_ids: frozenset[str]) -> frozenset[str]:
        asked = clip_ids - exclude - validation
        return _share(asked if only is None else asked & only, fraction, seed)

    opened, counts = [], []
    for one in files:
        source, coverage = _open(one, exclude, validation, used)
        opened.append(source)
        counts.append(coverage)
    total = Coverage(*(sum(values) for values in zip(*(vars(one).values() for one in counts), strict=True)))
    _say(total, lists, exclude, validation, reporter)
    empty = next((one.prompts for one, source in zip(files, opened, strict=True) if not source.clip_ids), None)
    if empty is not None:
        raise InputError(f"no clip of {empty} is left to train on", "see --clips, --exclude, --validation, --fraction")
    return opened, total


def _open(
    files: SourceFiles,
    exclude: frozenset[str],
    validation: frozenset[str],
    choose: Callable[[frozenset[str]], frozenset[str]],
) -> tuple[Source, Coverage]:
    frames = FramesReader(list(files.frames))
    frames.require_equal_lengths()
    prompts = read_prompts(files.prompts)
    common, annotated, not_ok = _in_common(frames, prompts)
    held_out = common & validation
    used = choose(common)
    wanted = used | held_out
    events = tuple(event for event in prompts.events if event.clip_id in wanted)
    _check_event_times(frames, events)
    source = Source(frames, prompts, events, tuple(sorted(used)), tuple(sorted(held_out)), files.weight)
    coverage = Coverage(
        prompts=len(annotated),
        frames=len(frames.clip_ids),
        not_ok=not_ok,
        excluded=len(common & exclude),
        validation=len(held_out),
        unused=len(common - exclude - validation - used),
        used=len(used),
        without_frames=len(annotated) - len(common) - not_ok,
    )
    return source, coverage


def _say(
    coverage: Coverage, lists: ClipLists, exclude: frozenset[str], validation: frozenset[str], reporter: Reporter
) -> None:
    if lists.exclude:
        reporter.info(f"excluded: {coverage.excluded} clips dropped, of {len(exclude)} on the lists")
        if not coverage.excluded:
            reporter.warn(f"no clip on the lists of --exclude, such as '{min(exclude)}', is in the frames and prompts")
    if lists.validation:
        if not coverage.validation:
            raise InputError(
                f"none of the {len(validation)} clips of {lists.validation} has frames and prompts",
                "validation clips must be in the frames and prompts files given",
            )
        reporter.info(f"held out: {coverage.validation} clips, of {len(validation)} on the list")
    reporter.info(coverage.describe())


def _in_common(frames: FramesReader, prompts: PromptsFile) -> tuple[frozenset[str], frozenset[str], int]:
    """Return the clips with ok frames and prompts, those with prompts, and how many have frames that are not ok."""
    annotated = frozenset(event.clip_id for event in prompts.events)
    usable = frozenset(frames.clip_ids)
    common = annotated & usable
    if not common:
        raise InputError(
            f"frames and prompts have no clip in common: {_example(usable)} in the frames, "
            f"{_example(annotated)} in the prompts",
            "clip ids are the video files' names without ending; both files must speak of the same clips",
        )
    not_ok = sum(clip.clip_id in annotated and clip.status != "ok" for clip in frames.clips)
    return common, annotated, not_ok


def _example(clip_ids: frozenset[str]) -> str:
    return f"'{min(clip_ids)}' and {len(clip_ids) - 1} more" if clip_ids else "no usable clip"


def _share(clip_ids: frozenset[str], fraction: float, seed: int) -> frozenset[str]:
    """Return a share of the clips, at least one; which ones depends on seed and id alone."""
    if fraction == 1 or not clip_ids:
        return clip_ids
    count = max(1, round(fraction * len(clip_ids)))
    return frozenset(sorted(clip_ids, key=lambda clip_id: stable_integer(seed, "share", clip_id))[:count])


def _check_event_times(frames: FramesReader, events: Sequence[PromptEvent]) -> None:
    """Refuse prompts of times at which their frames were not taken.

    Event e of a clip is trained on the frames of its part e, as in VidSitu, whose events are the five parts of a clip.
    Annotation that names other times would be trained on other frames than it speaks of.
    """
    outside: list[str] = []
    timed = [event for event in events if event.start_seconds is not None and event.end_seconds is not None]
    for event in timed:
        pts = frames.pts_seconds(event.clip_id)
        if event.event_index < len(pts):
            taken = pts[event.event_index] - frames.row(event.clip_id).start_seconds
            assert event.start_seconds is not None and event.end_seconds is not None
            early, late = event.start_seconds - _TIME_TOLERANCE_SECONDS, event.end_seconds + _TIME_TOLERANCE_SECONDS
            if taken.min() < early or taken.max() > late:
                outside.append(
                    f"event {event.event_index} of clip {event.clip_id} is {event.start_seconds:g} to "
                    f"{event.end_seconds:g} s, its frames are of {taken.min():.2f} to {taken.max():.2f} s"
                )
    if outside:
        raise InputError(
            f"{len(outside)} of {len(timed)} events have frames of other times: {outside[0]}",
            "extract each event's part with --segments, or the clip with as many equal --events as the annotation has",
        )
