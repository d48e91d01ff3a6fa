"""The stage: find, decode, journal, assemble, report."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from figclip_cli.errors import InputError
from figclip_cli.files import canonical_json, refuse_existing, replacing
from figclip_cli.frames.clip import ClipResult, Source
from figclip_cli.frames.journal import Journal, JournalEntry, open_journal, remove_journal, source_stamp
from figclip_cli.frames.pool import process_clips
from figclip_cli.frames.sampling import SamplingRecipe
from figclip_cli.frames.sources import find_sources
from figclip_cli.frames.store import write_frames
from figclip_cli.reporting import SILENT, Reporter

MAX_DEFAULT_WORKERS = 8


@dataclass(frozen=True)
class ExtractionSummary:
    """What an extraction did.

    Attributes:
        output: The frames file.
        report: One JSON line per clip.
        found: Clips found.
        by_status: Clips by ``ok``, ``short``, ``failed``.
        by_reason: Clips that are not ok, by reason.
        taken_up: Clips taken over from an interrupted run.
        content_sha256: Hash of everything stored.
    """

    output: Path
    report: Path
    found: int
    by_status: dict[str, int]
    by_reason: dict[str, int]
    taken_up: int
    content_sha256: str


def default_workers() -> int:
    """Return the number of processors this process may use, at most eight."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MAX_DEFAULT_WORKERS)


def extract(
    paths: Sequence[Path],
    output: Path,
    *,
    recipe: SamplingRecipe,
    workers: int | None = None,
    report: Path | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> ExtractionSummary:
    """Sample frames of every video into one file.

    A clip that fails costs nobody else; its status and reason are stored and reported. An interrupted run goes on
    where it stopped when it is started again with the same recipe.

    Args:
        paths: Folders of videos, and video files.
        output: Frames file to write.
        workers: Processes; as many as processors, at most eight, by default.
        report: One JSON line per clip; ``OUTPUT-report.jsonl`` by default.

    Raises:
        UsageError: The output exists, is being written by another program, or was begun with another recipe.
        InputError: There is no video, or not one picture could be stored; then only the report is written.
        MachineError: The disk is full; the same command goes on.
    """
    refuse_existing(output, overwrite=overwrite)
    report = report or output.with_name(f"{output.stem}-report.jsonl")
    sources = find_sources(paths)
    with open_journal(output, recipe, overwrite=overwrite) as journal:
        todo = [source for source in sources if not _is_done(journal, source)]
        if len(todo) < len(sources):
            reporter.info(f"going on: {len(sources) - len(todo)} of {len(sources)} clips were done before")
        _process(journal, todo, recipe, default_workers() if workers is None else workers, reporter)
        entries = [journal.entries[source.clip_id] for source in sources]
        _write_report(report, entries)
        if not any(any(entry.sizes) for entry in entries):
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
        )
    remove_journal(output)
    return _summary(output, report, entries, len(sources) - len(todo), content)


def _is_done(journal: Journal, source: Source) -> bool:
    entry = journal.entries.get(source.clip_id)
    return entry is not None and entry.stamp is not None and entry.stamp == source_stamp(source)


def _process(
    journal: Journal, todo: Sequence[Source], recipe: SamplingRecipe, workers: int, reporter: Reporter
) -> None:
    # Taken before decoding: a file that changes meanwhile is then decoded again next time.
    stamps = {source.clip_id: source_stamp(source) for source in todo}
    results: Iterator[ClipResult] = process_clips(todo, recipe, workers=workers)
    with reporter.track("extract frames", len(todo), "clips") as progress, closing(results):  # type: ignore[type-var]
        for source, result in zip(todo, results, strict=True):
            journal.append(source, stamps[source.clip_id], result)
            progress.advance(failed=int(result.status != "ok"))


def _write_report(path: Path, entries: Sequence[JournalEntry]) -> None:
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for entry in entries:
            result = entry.result
            duration = result.duration_seconds
            line = {
                "clip_id": result.clip_id,
                "source_path": result.source_path,
                "status": result.status,
                "reason": result.reason,
                "duration_seconds": None if duration != duration else duration,
                "pts_seconds": [None if time != time else time for time in result.pts_seconds],
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
        found=len(results),
        by_status={status: statuses[status] for status in ("ok", "short", "failed")},
        by_reason=dict(sorted(Counter(result.reason for result in results if result.status != "ok").items())),
        taken_up=taken_up,
        content_sha256=content,
    )
