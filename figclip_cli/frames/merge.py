"""Put the shards of one extraction together, into the file that one program would have written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from figclip_cli.errors import InputError, UsageError
from figclip_cli.files import refuse_existing
from figclip_cli.frames.clip import STATUSES, ClipResult, Source
from figclip_cli.frames.reader import ClipRow, FramesReader
from figclip_cli.frames.shards import ids_sha256
from figclip_cli.frames.store import write_frames
from figclip_cli.reporting import SILENT, Reporter


@dataclass(frozen=True)
class MergeSummary:
    """What was merged: files, clips by status, and the hash of everything stored."""

    output: Path
    files: int
    by_status: dict[str, int]
    content_sha256: str


def merge(paths: Sequence[Path], output: Path, *, overwrite: bool = False, reporter: Reporter = SILENT) -> MergeSummary:
    """Merge frames files of one recipe, clips in order of their ids.

    Files that were made as shards must be all the shards of one listing. The content hash is the one that a single
    extraction of all clips gives.

    Raises:
        UsageError: The output exists or is one of the files.
        InputError: A shard is missing, files have different recipes or listings, or a clip occurs twice.
    """
    refuse_existing(output, overwrite=overwrite)
    reader = FramesReader(list(paths))
    if output.resolve() in {path.resolve() for path in reader.paths}:
        raise UsageError(f"{output} is one of the files to merge", "choose another --output")
    _check_shards(reader)
    rows = sorted(reader.clips, key=lambda row: row.clip_id)
    results, sizes = [], []
    for row in rows:
        results.append(_result(reader, row))
        sizes.append(reader.stored_sizes(row.clip_id))
    with reporter.track("merge frames", len(rows), "clips") as progress:

        def pictures(number: int) -> list[bytes]:
            progress.advance()
            return reader.stored(rows[number].clip_id)

        content = write_frames(output, reader.recipe, results, sizes, pictures)
    reader.close()
    by_status = {status: sum(row.status == status for row in rows) for status in STATUSES}
    return MergeSummary(output, len(reader.paths), by_status, content)


def _check_shards(reader: FramesReader) -> None:
    shards = reader.shards
    sharded = {path: shard for path, shard in shards.items() if shard is not None}
    if not sharded:
        return
    if len(sharded) < len(shards):
        whole = next(path for path in shards if path not in sharded)
        raise InputError(f"{whole} is no shard, {next(iter(sharded))} is one", "merge the shards of one extraction")
    first = next(iter(sharded.values()))
    for path, shard in sharded.items():
        if (shard.count, shard.listed_sha256) != (first.count, first.listed_sha256):
            raise InputError(
                f"{path} is a shard of another list of clips than {next(iter(sharded))}",
                "extract all shards from the same videos with the same --shard I/N",
            )
    missing = sorted(set(range(first.count)) - {shard.index for shard in sharded.values()})
    if missing:
        named = ", ".join(f"{index}/{first.count}" for index in missing[:10])
        raise InputError(f"{len(missing)} of {first.count} shards are missing: {named}", "extract them, or name them")
    if ids_sha256([Source(row.clip_id, Path()) for row in reader.clips]) != first.listed_sha256:
        raise InputError("the shards do not hold the clips that were listed", "extract them again")


def _result(reader: FramesReader, row: ClipRow) -> ClipResult:
    times = np.asarray(reader.pts_seconds(row.clip_id)).ravel()
    return ClipResult(**{**row.__dict__, "pts_seconds": tuple(times.tolist()), "pictures": ()})
