"""The stage: find, decode, journal, assemble, report."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.files import canonical_json, refuse_existing, replacing
from figclip_cli.frames.clip import STATUSES, ClipResult, Source
from figclip_cli.frames.journal import Journal, JournalEntry, open_journal, remove_journal, source_stamp, times_as_json
from figclip_cli.frames.pool import DEFAULT_TIMEOUT_SECONDS, KILLED, process_clips
from figclip_cli.frames.sampling import SamplingRecipe
from figclip_cli.frames.shards import Shard, ids_sha256
from figclip_cli.frames.sources import find_sources
from figclip_cli.frames.store import write_frames
from figclip_cli.reporting import SILENT, Reporter

MAX_DEFAULT_WORKERS = 8

Executor = Callable[..., Iterator[tuple[Source, ClipResult]]]


@dataclass(frozen=True)
class ExtractionSummary:
    """What an extraction did.

    Attributes:
        output: The frames file.
        report: One JSON line per clip.
        listed: Clips asked for, of this shard.
        found: Clips whose file is there.
        by_status: Clips by ``ok``, ``short``, ``failed``, ``timeout``.
        by_reason: Clips that are not ok, by reason.
        taken_up: Clips taken over from an interrupted run.
        content_sha256: Hash of everything stored.
    """

    output: Path
    report: Path
    listed: int
    found: int
    by_status: dict[str, int]
    by_reason: dict[str, int]
    taken_up: int
    content_sha256: str


@dataclass(frozen=True)
class ExtractionPlan:
    """What an extraction would do: clips listed, those whose file is there, and those done before."""

    listed: int
    found: int
    taken_up: int


def default_workers() -> int:
    """Return the number of processors this process may use, at most eight."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_DEFAULT_WORKERS)


def extract(
    paths: Sequence[Path],
    output: Path,
    *,
    recipe: SamplingRecipe,
    segments: Path | None = None,
    shard: Shard | None = None,
    workers: int | None = None,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    executor: str = "processes",
    report: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> ExtractionSummary:
    """Sample frames of every video into one file.

    A clip that fails costs nobody else; its status and reason are stored and reported. An interrupted run goes on
    where it stopped when it is started again with the same recipe; clips that ran out of time are tried again then.

    Args:
        paths: Folders of videos, and video files.
        output: Frames file to write.
        recipe: What to take of each clip.
        segments: List of parts of files to take instead of whole files.
        shard: Take this share of the clips only.
        workers: Processes; as many as processors, at most eight, by default. Tasks at once under ``ray``.
        timeout_seconds: Wall-clock limit for one clip.
        executor: ``processes`` of this machine, or a ``ray`` cluster.
        report: One JSON line per clip; ``OUTPUT-report.jsonl`` by default.
        overwrite: Replace an existing output.

    Raises:
        UsageError: The output exists, is being written by another program, or was begun with another recipe.
        InputError: There is no video, or not one picture could be stored; then only the report is written.
        MachineError: The disk is full; the same command goes on.
    """
    refuse_existing(output, overwrite=overwrite)
    report = report or output.with_name(f"{output.stem}-report.jsonl")
    everything, sources = _list_clips(paths, segments, shard)
    with open_journal(output, recipe, overwrite=overwrite) as journal:
        todo = [source for source in sources if not _is_done(journal.entries, source)]
        if len(todo) < len(sources):
            reporter.info(f"going on: {len(sources) - len(todo)} of {len(sources)} clips were done before")
        run = _executor(executor)
        count = default_workers() if workers is None else workers
        _process(journal, todo, run(todo, recipe, workers=count, timeout_seconds=timeout_seconds), reporter)
        entries = [journal.entries[source.clip_id] for source in sources]
        _write_report(report, entries)
        if shard is None and not any(any(entry.sizes) for entry in entries):
            first = entries[0].result
            raise InputError(
                f"not one frame could be stored; {first.source_path}: {first.reason}", f"{report} lists every clip"
            )
        content = write_frames(
            output,
            recipe,
            [entry.result for entry in entries],
            [entry.sizes for entry in entries],
            lambda number: journal.pictures(entries[number]),
            shard={} if shard is None else _shard_attributes(shard, everything),
        )
    remove_journal(output)
    return _summary(output, report, entries, len(sources) - len(todo), content)


def plan(
    paths: Sequence[Path],
    output: Path,
    *,
    recipe: SamplingRecipe,
    segments: Path | None = None,
    shard: Shard | None = None,
    overwrite: bool = False,
) -> ExtractionPlan:
    """Return what :func:`extract` would do, writing nothing.

    Raises:
        UsageError: The output exists.
        InputError: There is no video.
    """
    refuse_existing(output, overwrite=overwrite)
    everything, sources = _list_clips(paths, segments, shard)
    entries = Journal.peek(output, recipe)
    done = sum(_is_done(entries, source) for source in sources)
    return ExtractionPlan(len(sources), sum(source.path.exists() for source in sources), done)


def _list_clips(paths: Sequence[Path], segments: Path | None, shard: Shard | None) -> tuple[list[Source], list[Source]]:
    """Return all clips, and those of this shard."""
    everything = find_sources(paths, segments)
    return everything, everything if shard is None else shard.pick(everything)


def _shard_attributes(shard: Shard, everything: Sequence[Source]) -> dict[str, Any]:
    return {
        "shard_index": shard.index,
        "shard_count": shard.count,
        "listed_clips": len(everything),
        "listed_sha256": ids_sha256(everything),
    }


def _is_done(entries: Mapping[str, JournalEntry], source: Source) -> bool:
    entry = entries.get(source.clip_id)
    if entry is None or entry.part != (source.start_seconds, source.end_seconds):
        return False
    if entry.result.status == "timeout" or entry.result.reason == KILLED:  # perhaps the machine's fault, not the clip's
        return False
    return entry.stamp is not None and entry.stamp == source_stamp(source)


def _executor(name: str) -> Executor:
    if name == "ray":
        from figclip_cli.frames.ray_executor import process_clips_on_ray

        return process_clips_on_ray
    return process_clips


def _process(
    journal: Journal, todo: Sequence[Source], results: Iterator[tuple[Source, ClipResult]], reporter: Reporter
) -> None:
    # Taken before decoding: a file that changes meanwhile is then decoded again next time.
    stamps = {source.clip_id: source_stamp(source) for source in todo}
    with reporter.track("extract frames", len(todo), "clips") as progress, closing(results):  # type: ignore[type-var]
        for source, result in results:
            journal.append(source, stamps[source.clip_id], result)
            progress.advance(failed=int(result.status != "ok"))


def _write_report(path: Path, entries: Sequence[JournalEntry]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for entry in entries:
            result = entry.result
            line = {
                "clip_id": result.clip_id,
                "source_path": result.source_path,
                "status": result.status,
                "reason": result.reason,
                "start_seconds": result.start_seconds,
                **times_as_json(result),
            }
            file.write(canonical_json(line) + "\n")


def _summary(
    output: Path, report: Path, entries: Sequence[JournalEntry], taken_up: int, content: str
) -> ExtractionSummary:
    results = [entry.result for entry in entries]
    statuses = Counter(result.status for result in results)
    return ExtractionSummary(
        output=output,
        report=report,
        listed=len(results),
        found=sum(entry.stamp is not None for entry in entries),
        by_status={status: statuses[status] for status in STATUSES},
        by_reason=dict(Counter(_kind(result.reason) for result in results if result.status != "ok").most_common()),
        taken_up=taken_up,
        content_sha256=content,
    )


def _kind(reason: str) -> str:
    """Return a reason without its figures, so that clips with the same fault are counted together."""
    return re.sub(r"\d+(\.\d+)?", "#", reason)
