"""``figclip search "a man pushes a woman"``: the clips that are nearest to a text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from figclip_cli.commands.option_flags import options_from, with_flags_of
from figclip_cli.commands.scored_model import (
    NoCacheFlag,
    ScoredModelOptions,
    VideosFlag,
    frames_source,
    open_frames,
    scored_model,
)
from figclip_cli.commands.tables import one_line, table
from figclip_cli.console import Terminal
from figclip_cli.errors import InputError, PartialError, UsageError
from figclip_cli.evaluate.protocols import ProtocolOptions

if TYPE_CHECKING:
    from figclip_cli.evaluate.search import Found, Hit, SearchResult
    from figclip_cli.frames import FramesReader

_TIMES_SHOWN = 8
_LONGEST_TITLE = 200


class SearchLevelChoice(str, Enum):
    """What is found."""

    clip = "clip"
    event = "event"


@with_flags_of(ScoredModelOptions, ProtocolOptions)
def search(
    terminal: Terminal,
    query: Annotated[
        str | None, typer.Argument(help="What to look for. Left out with --texts.", show_default=False)
    ] = None,
    frames: Annotated[
        list[Path] | None, typer.Argument(help="Frames files. Default: frames.h5", show_default=False)
    ] = None,
    texts: Annotated[
        Path | None, typer.Option("--texts", help="Many queries: a .txt with one a line, or a .jsonl.")
    ] = None,
    videos: VideosFlag = None,
    top: Annotated[int, typer.Option("--top", help="Hits to show.", min=1)] = 10,
    level: Annotated[SearchLevelChoice, typer.Option("--level", help="What is found.")] = SearchLevelChoice.clip,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Write a picture of the clips found (.png, .jpg).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing sheet.")] = False,
    compare_base: Annotated[
        bool, typer.Option("--compare-base", help="Also show the rank under the base model.")
    ] = False,
    no_cache: NoCacheFlag = False,
    **values: Any,
) -> None:
    """Find the clips or events that are nearest to a text."""
    from figclip_cli.evaluate.encoders import Encoding
    from figclip_cli.evaluate.search import search as run_search
    from figclip_cli.files import named_files

    scored: ScoredModelOptions = options_from(ScoredModelOptions, values)
    if compare_base and scored.base_only:
        raise UsageError("--compare-base and --base-only contradict each other", "leave one of them out")
    protocol = options_from(ProtocolOptions, values).resolve()
    queries, paths = _queries(query, frames, texts)
    inputs = named_files(paths or Path("frames.h5"), videos, texts, scored.model, scored.pretrained)
    _check_sheet(sheet, overwrite=overwrite, inputs=inputs)
    opened = open_frames(terminal, paths, videos)
    clip, chosen = scored_model(terminal, scored)
    if compare_base and chosen is None:
        raise UsageError("--compare-base needs a run", "pass --run, or make one with figclip adapt")
    source = frames_source(terminal, opened, videos, protocol=protocol, clip=clip)
    _check_sheet_size(sheet, top * len(queries), source.reader)
    found = run_search(
        clip,
        chosen,
        source,
        queries,
        encoding=Encoding(protocol, None if no_cache else Path(), terminal),
        level=level.value,
        top=top,
        compare_base=compare_base,
    )
    _finish(terminal, found, source.reader, sheet, protocol.as_dict())


def _queries(
    query: str | None, frames: Sequence[Path] | None, texts: Path | None
) -> tuple[tuple[str, ...], list[Path]]:
    """Return the queries and the frames files; with ``--texts`` all arguments are files, as with grep's ``-f``."""
    from figclip_cli.evaluate.datasets.common import check_text
    from figclip_cli.evaluate.embed_inputs import read_texts
    from figclip_cli.files import named_files

    paths = list(frames or ())
    if texts is not None:
        # os.path and not Path: a query may be longer than a name can be.
        if query is not None and not any(os.path.exists(path) for path in named_files(query)):  # noqa: PTH110
            raise UsageError(
                f"with --texts all arguments are frames files, and there is no '{query}'",
                "add the query to the file of --texts, or leave --texts out",
            )
        return read_texts(texts).texts, [*([Path(query)] if query is not None else []), *paths]
    if query is None or not query.strip():
        said = "no text to look for" if query is None else "the text to look for is empty"
        raise UsageError(said, 'for example figclip search "a man pushes a woman"')
    try:
        check_text(query, "the text to look for")
    except InputError as error:
        raise UsageError(error.message, "write it otherwise") from None
    return (query.strip(),), paths


def _check_sheet(sheet: Path | None, *, overwrite: bool, inputs: Sequence[Path]) -> None:
    from figclip_cli.files import check_output

    if sheet is None:
        return
    if sheet.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"--sheet {sheet} is no .png or .jpg", "the name's ending says how it is written")
    check_output(sheet, overwrite=overwrite, inputs=inputs)


def _check_sheet_size(sheet: Path | None, hits: int, reader: FramesReader) -> None:
    from figclip_cli.frames.contact_sheet import MAX_SHEET_CLIPS

    most = min(hits, len(reader.clip_ids))
    if sheet is not None and most > MAX_SHEET_CLIPS:
        raise UsageError(f"a sheet shows at most {MAX_SHEET_CLIPS} clips, these may be {most}", "lower --top")


def _finish(
    terminal: Terminal, found: SearchResult, reader: FramesReader, sheet: Path | None, protocol: dict[str, Any]
) -> None:
    from figclip_cli.frames.contact_sheet import write_contact_sheet

    if sheet is not None:
        write_contact_sheet(reader, list(dict.fromkeys(hit.clip_id for one in found.found for hit in one.hits)), sheet)
        terminal.info(f"sheet: {sheet}")
    document = {
        "level": found.level,
        "model": found.model,
        "protocol": protocol,
        "frames_content_sha256": reader.content_sha256,
        "n_asked": found.asked,
        "n_searched": found.searched,
        "missing": dict(found.missing),
        "sheet": None if sheet is None else str(sheet),
        "queries": [{"text": one.query, "hits": [_hit_document(hit) for hit in one.hits]} for one in found.found],
    }
    terminal.result(document, *(_table(one, found) for one in found.found), then=_left_out(found))


def _left_out(found: SearchResult) -> PartialError | None:
    if not found.missing:
        return None
    first = next(iter(found.missing))
    return PartialError(
        f"{found.asked - found.searched} of {found.asked} clips are not complete, the first is {first}: "
        f"{found.missing[first]}",
        "the hits are those of the others; see figclip inspect, or extract the frames again",
    )


def _hit_document(hit: Hit) -> dict[str, Any]:
    return {
        "rank": hit.rank,
        "score": hit.score,
        "is_tied": hit.is_tied,
        "clip_id": hit.clip_id,
        "event_index": hit.event_index,
        "pts_seconds": list(hit.pts_seconds),
        "source_path": hit.source_path,
        "base_rank": hit.base_rank,
    }


def _table(one: Found, found: SearchResult) -> Table:
    named = f"{found.model['name']} ({found.model['label']})"
    title = f"'{one_line(one.query, longest=_LONGEST_TITLE)}': {named}, {found.searched} of {found.asked} clips"
    events = ["event"] if found.level == "event" else []
    compared = ["base rank"] if any(hit.base_rank is not None for hit in one.hits) else []
    numbers = ["rank", *compared, "score"]
    made = table(title, *numbers, "clip", *events, "seconds", "source", numbers_from=0)
    for column in made.columns[len(numbers) :]:
        column.justify = "left"
    for hit in one.hits:
        ranks = [str(hit.rank), *([str(hit.base_rank or "")] if compared else [])]
        event = [str(hit.event_index)] if events else []
        made.add_row(*ranks, f"{hit.score:.4f}", one_line(hit.clip_id), *event, _times(hit), one_line(hit.source_path))
    return made


def _times(hit: Hit) -> str:
    """Return the times of an event's frames, or the first and the last of many."""
    shown = [f"{time:.2f}" for time in hit.pts_seconds if time is not None]
    if hit.event_index is not None and len(shown) <= _TIMES_SHOWN:
        return ", ".join(shown)
    return f"{shown[0]} to {shown[-1]}" if shown else ""
