"""prompts.jsonl: one header line, then one line per event. The layout is described in docs/file-formats.md."""

from __future__ import annotations

import gc
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import msgspec

from figclip_cli.errors import InputError
from figclip_cli.files import canonical_json, replacing, require_file
from figclip_cli.prompts.roles import Role

FORMAT = "figclip-prompts"
FORMAT_VERSION = 2
_BUFFER_BYTES = 1 << 20
_ENCODER = msgspec.json.Encoder(order="deterministic")
_REBUILD = "build it again with `figclip build-prompts`"


class Negative(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A text that is almost the prompt, and is false.

    Attributes:
        change: What was changed, enough to undo it (docs/file-formats.md).
        kind: For example ``verb-role``; :data:`~figclip_cli.prompts.kinds.KINDS` has all.
        text: The text.
    """

    change: dict[str, Any]
    kind: str
    text: str


class PromptEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One event of one annotation of a clip.

    Attributes:
        annotation_index: Which of the clip's annotations, from 0.
        clip_id: The clip.
        end_seconds: Where the event ends, from the clip's start; None where the annotation does not say.
        event_index: Which event of the clip, from 0.
        lost_roles: Roles left out because the text was over the model's context.
        negatives: Hard negatives of the prompt.
        roles: The roles in ``text``, in order.
        start_seconds: Where the event begins.
        text: The prompt.
        verb: The verb in words.
        verb_sense: Its sense, for example ``walk.01``.
    """

    # In the order of the alphabet, which is the order of the keys in a line.
    annotation_index: int
    clip_id: str
    end_seconds: float | None
    event_index: int
    lost_roles: tuple[Role, ...]
    negatives: tuple[Negative, ...]
    roles: tuple[Role, ...]
    start_seconds: float | None
    text: str
    verb: str
    verb_sense: str

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the event, and what lines are sorted by."""
        return self.clip_id, self.annotation_index, self.event_index


@dataclass(frozen=True)
class PromptsFile:
    """A prompts file as read.

    Attributes:
        header: The first line: options, seed, sources and counts.
        events: In file order.
        sha256: Hash of the file's bytes.
    """

    header: dict[str, Any]
    events: tuple[PromptEvent, ...]
    sha256: str

    @property
    def events_per_clip(self) -> int:
        """Into how many events the annotation cuts a clip: one more than the last index there is; 0 without events."""
        return 1 + max((event.event_index for event in self.events), default=-1)


def encoded(lines: Iterable[msgspec.Struct]) -> bytes:
    """Return a line of JSON for each struct, keys sorted."""
    return b"".join([_ENCODER.encode(line) + b"\n" for line in lines])


def write_prompts(path: Path, blocks: Iterable[bytes], header: Callable[[], dict[str, Any]]) -> None:
    """Write a prompts file, whole or not at all.

    Args:
        blocks: Events as :func:`encoded` makes them, in the order of the file.
        header: Called after the last event, because the counts are only known then.
    """
    write_lines(path, blocks, lambda: {**header(), "format": FORMAT, "format_version": FORMAT_VERSION})


def write_lines(path: Path, blocks: Iterable[bytes], header: Callable[[], dict[str, Any]]) -> None:
    """Write a header and encoded lines, whole or not at all."""
    with replacing(path) as temporary, tempfile.TemporaryFile(dir=path.parent, buffering=_BUFFER_BYTES) as body:
        body.writelines(blocks)
        body.seek(0)
        with temporary.open("wb") as file:
            file.write(f"{canonical_json(header())}\n".encode())
            shutil.copyfileobj(cast(BinaryIO, body), file, _BUFFER_BYTES)


def read_prompts(path: Path) -> PromptsFile:
    """Read and check a prompts file.

    Raises:
        InputError: The file is missing, empty, of another format or version, has a broken or repeated line, or
            has fewer or more events than its header counts.
    """
    require_file(path, "prompts file", "build it with `figclip build-prompts`")
    digest = hashlib.sha256()
    decoder = msgspec.json.Decoder(PromptEvent)
    events: dict[tuple[str, int, int], PromptEvent] = {}
    with collector_paused(), path.open("rb") as file:
        first = file.readline()
        digest.update(first)
        header, expected = _read_header(first, path)
        for number, line in enumerate(file, start=2):
            digest.update(line)
            event = _read_event(line, decoder, f"prompts file {path}, line {number}")
            if events.setdefault(event.key, event) is not event:
                name = f"clip {event.clip_id}, annotation {event.annotation_index}, event {event.event_index}"
                raise InputError(f"prompts file {path}, line {number}: {name} is there already", _REBUILD)
    if len(events) != expected:
        why = "the file is cut off" if len(events) < expected else "lines were added"
        raise InputError(f"prompts file {path} has {len(events)} events, its header says {expected}: {why}", _REBUILD)
    return PromptsFile(header, tuple(events.values()), digest.hexdigest())


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause the cyclic garbage collector: events form no cycles, and visiting them over and over costs much time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read_header(line: bytes, path: Path) -> tuple[dict[str, Any], int]:
    """Return the header and the number of events it promises."""
    if not line.strip():
        raise InputError(f"prompts file {path} is empty", _REBUILD)
    try:
        header = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"prompts file {path}, line 1: no header ({error})", "is it a prompts.jsonl?") from error
    if header.get("format") != FORMAT:
        raise InputError(f"prompts file {path}, line 1: the format is not '{FORMAT}'", "is it a prompts.jsonl?")
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        which = f"format version {version}, this figclip reads {FORMAT_VERSION}"
        raise InputError(f"prompts file {path} has {which}", _REBUILD)
    for key in ("counts", "options"):
        if not isinstance(header.get(key), dict):
            raise InputError(f"prompts file {path}, line 1: the header has no {key}", _REBUILD)
    expected = header["counts"].get("events")
    if not isinstance(expected, int) or isinstance(expected, bool):
        raise InputError(f"prompts file {path}, line 1: the header does not count the events", _REBUILD)
    return header, expected


def _read_event(line: bytes, decoder: msgspec.json.Decoder[PromptEvent], where: str) -> PromptEvent:
    try:
        event = decoder.decode(line)
    except RecursionError as error:
        raise InputError(f"{where}: nested too deep", _REBUILD) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # ValidationError is a DecodeError: a wrong type or a missing key reads like a line that is no JSON.
        raise InputError(f"{where}: {error}", _REBUILD) from error
    if min(event.annotation_index, event.event_index) < 0:
        raise InputError(f"{where}: a negative index", _REBUILD)
    return event
