"""Captions to retrieve with: each benchmark's own file, a plain csv or JSONL, or our own prompts.jsonl.

The format is recognised by the file's content and named in the result, with what was chosen while reading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.captions_formats import FORMATS, PARAGRAPH_FORMATS, WHAT, load
from figclip_cli.evaluate.datasets.captions_json import activitynet_captions, didemo_captions, msvd_captions
from figclip_cli.evaluate.datasets.captions_msrvtt import msrvtt_captions
from figclip_cli.evaluate.datasets.captions_rows import Row, checked_pairs, first_of_each, joined, repeated_rows
from figclip_cli.evaluate.datasets.captions_text import (
    csv_captions,
    jsonl_captions,
    lsmdc_captions,
    msrvtt_1ka_captions,
)
from figclip_cli.evaluate.datasets.common import quoted, read_id_list
from figclip_cli.files import sha256_of_file
from figclip_cli.prompts import PromptEvent, PromptsFile, read_prompts

__all__ = ["FORMATS", "CaptionChoice", "Captions", "Level", "Query", "read_captions"]

Level = Literal["video", "event"]
CaptionChoice = Literal["all", "first"]

_READERS: dict[str, Callable[[Any, str], Iterator[Row]]] = {
    "msrvtt-1ka": msrvtt_1ka_captions,
    "msvd": msvd_captions,
    "didemo": didemo_captions,
    "lsmdc": lsmdc_captions,
    "activitynet": activitynet_captions,
    "csv": csv_captions,
    "jsonl": jsonl_captions,
}


@dataclass(frozen=True)
class Query:
    """One text query and the item it belongs to.

    Attributes:
        clip_id: The clip.
        event_index: The event of the clip, or None for the whole clip.
        texts: One caption; or several, whose features are averaged (the event prompts of a clip).
    """

    clip_id: str
    event_index: int | None
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Captions:
    """A captions file.

    Attributes:
        dataset_id: The file's name, for tables.
        sha256: Hash of the file.
        format: One of :data:`FORMATS`.
        queries: In file order.
        is_paragraph: Whether a query is all captions of its clip in one text, often longer than the model's context.
        split: The split that was read, where the format has splits; ``all`` if the file was read whole.
        choices: What was chosen while reading, as plain JSON values: ``split``, ``ids`` (file, sha256, clips),
            ``caption_choice``, ``captions`` (rows read), ``repeated_rows`` (rows that give a clip a caption it has
            already; they are kept) and ``duplicate_texts``.
        events_per_clip: Into how many events the annotation cuts a clip, where queries are events.
    """

    dataset_id: str
    sha256: str
    format: str
    queries: tuple[Query, ...]
    is_paragraph: bool = False
    split: str | None = None
    choices: dict[str, Any] = field(default_factory=dict)
    events_per_clip: int | None = None

    @property
    def duplicate_texts(self) -> int:
        """How many queries ask what an earlier query asks: such queries tie whatever the model."""
        return _duplicates(self.queries)


def read_captions(
    path: Path,
    *,
    level: Level = "video",
    format: str | None = None,
    split: str | None = None,
    ids: Path | None = None,
    caption_choice: CaptionChoice = "all",
) -> Captions:
    """Read a captions file.

    Args:
        level: With prompts.jsonl, whether a query is a clip (the mean of its event prompts) or a single event.
        format: One of :data:`FORMATS`, to read the file as that and as nothing else.
        split: With MSR-VTT's own JSON: ``test`` (the default where the file has splits), another one, or ``all``.
        ids: A list of the clips to read; see :func:`~figclip_cli.evaluate.datasets.common.read_id_list`. Without
            ``split`` it takes the place of the default split.
        caption_choice: ``first`` keeps the first caption of each clip in file order, as bryant1410/fitclip does.

    Raises:
        InputError: The file is missing, empty, of no known format, or has a broken row; a clip of ``ids`` has no
            captions; or the format has no splits, no events, or no captions to choose from.
        UsageError: There is no format of that name.
    """
    name, content = load(path, format)
    where = f"{WHAT} {path}"
    _refuse_unfit(name, where, level, split, caption_choice)
    listed = read_id_list(ids) if ids else None
    events_per_clip: int | None = None
    if name == "prompts":
        prompts = _read_prompts(path)
        events_per_clip = prompts.events_per_clip if level == "event" else None
        queries = _from_prompts(prompts.events, level, listed)
        rows, repeated = len(queries), len(queries) - len(set(queries))
    else:
        if name == "msrvtt-json":
            split, read = msrvtt_captions(content, where, split, has_ids=listed is not None)
        else:
            read = _READERS[name](content, where)
        pairs = checked_pairs(read, where, None if listed is None else frozenset(listed))
        rows, repeated = len(pairs), repeated_rows(pairs)
        pairs = joined(pairs) if name in PARAGRAPH_FORMATS else pairs
        pairs = first_of_each(pairs) if caption_choice == "first" else pairs
        queries = tuple(Query(clip_id, None, (caption,)) for clip_id, caption in pairs)
    if listed is not None:
        _refuse_uncaptioned(listed, queries, f"list of clips {ids}", where, split)
    if not queries:
        raise InputError(f"{where} has no captions", "is it the right file?")
    choices = {
        "split": split,
        "ids": {"file": ids.name, "sha256": sha256_of_file(ids), "clips": len(listed)} if ids and listed else None,
        "caption_choice": caption_choice,
        "captions": rows,
        "repeated_rows": repeated,
        "duplicate_texts": _duplicates(queries),
    }
    return Captions(
        path.name, sha256_of_file(path), name, queries, name in PARAGRAPH_FORMATS, split, choices, events_per_clip
    )


def _duplicates(queries: Sequence[Query]) -> int:
    return len(queries) - len({query.texts for query in queries})


def _refuse_unfit(name: str, where: str, level: Level, split: str | None, caption_choice: CaptionChoice) -> None:
    """Refuse what the format cannot give."""
    if level == "event" and name != "prompts":
        raise InputError(f"{where} has captions of whole clips, not of events", "leave out --level event")
    if split is not None and name != "msrvtt-json":
        raise InputError(
            f"{where} has no splits: it is {name}", "leave out --split; name the clips in a list (--ids FILE)"
        )
    if caption_choice == "first" and (name == "prompts" or name in PARAGRAPH_FORMATS):
        use = "averages the prompts" if name == "prompts" else "joins the captions"
        raise InputError(f"{where} is {name}, which {use} of a clip: there is no first one", "take all captions")


def _refuse_uncaptioned(
    listed: Sequence[str], queries: Sequence[Query], ids_where: str, where: str, split: str | None
) -> None:
    captioned = {query.clip_id for query in queries}
    lacking = [clip_id for clip_id in listed if clip_id not in captioned]
    if lacking:
        part = f" in split {split}" if split not in (None, "all") else ""
        raise InputError(
            f"{ids_where}: {len(lacking)} of {len(listed)} clips have no captions{part} in {where}, "
            f"the first is {quoted(lacking[0])}",
            "are the list and the captions of one dataset?",
        )


def _read_prompts(path: Path) -> PromptsFile:
    prompts = read_prompts(path)
    for event in prompts.events:
        if not event.clip_id.strip() or not event.text.strip():
            at = f"annotation {event.annotation_index}, event {event.event_index} of clip {quoted(event.clip_id)}"
            raise InputError(f"{WHAT} {path}, {at}: empty clip id or text", "build it again")
    return prompts


def _from_prompts(events: Sequence[PromptEvent], level: Level, listed: Sequence[str] | None) -> tuple[Query, ...]:
    if listed is not None:
        wanted = frozenset(listed)
        events = tuple(event for event in events if event.clip_id in wanted)
    if level == "event":
        return tuple(Query(event.clip_id, event.event_index, (event.text,)) for event in events)
    grouped: dict[tuple[str, int], list[str]] = defaultdict(list)
    for event in events:
        grouped[event.clip_id, event.annotation_index].append(event.text)
    return tuple(Query(clip_id, None, tuple(texts)) for (clip_id, _), texts in grouped.items())
