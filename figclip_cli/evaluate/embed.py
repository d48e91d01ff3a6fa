"""Features of clips, events, frames, images and texts, for other programs to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from figclip_cli import __version__
from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.common import quoted
from figclip_cli.evaluate.embed_inputs import ImagesOfFolder, Texts, image_names
from figclip_cli.evaluate.embedding_files import Embeddings
from figclip_cli.evaluate.encoders import Encoder
from figclip_cli.evaluate.visuals import StoredClips, VisualFeatures
from figclip_cli.evaluate.visuals.clips import ClipLook
from figclip_cli.evaluate.visuals.single_frames import SingleFrames
from figclip_cli.files import sha256_of_json
from figclip_cli.frames.clip import printable

Level = Literal["clip", "event", "frame"]
_BLOCK_ROWS = 8192


def usable_clips(source: StoredClips) -> tuple[list[str], dict[str, str]]:
    """Return the ok clips in stored order, and the others with the reason."""
    reasons = {row.clip_id: source.why_missing(row.clip_id) for row in source.reader.clips}
    return list(source.reader.clip_ids), {clip_id: why for clip_id, why in reasons.items() if why is not None}


def clip_looks(source: StoredClips, level: Literal["clip", "event"]) -> list[ClipLook]:
    """Return the looks of all ok clips in stored order: one for each clip, or for each event of it.

    Raises:
        InputError: Events are asked for, of which the protocol does not take all frames.
    """
    clip_ids = source.reader.clip_ids
    if level == "clip":
        return [(clip_id, None) for clip_id in clip_ids]
    looks: list[ClipLook] = [(clip_id, event) for clip_id in clip_ids for event in range(source.reader.recipe.events)]
    source.check(looks)
    return looks


def look_name(look: tuple[str, int | None], level: str) -> str:
    """Return a look's name for lists of what is missing."""
    return look[0] if look[1] is None else f"{look[0]}, {level} {look[1]}"


def embed_clips(encoder: Encoder, source: StoredClips, *, level: Level = "clip") -> Embeddings:
    """Return features of all ok clips, of their events, or of their frames that the protocol takes, in stored order.

    Raises:
        InputError: Nothing could be read, or events are asked for, of which the protocol does not take all frames.
    """
    clip_ids, missing = usable_clips(source)
    if level == "frame":
        frames = SingleFrames(source)
        found = encoder.looks(frames, [(clip_id, number) for clip_id in clip_ids for number in frames.numbers(clip_id)])
    else:
        found = encoder.looks(source, clip_looks(source, level))
    _refuse_nothing(found, missing, "clip")
    columns: dict[str, npt.NDArray[Any]] = {}
    if level != "clip":
        columns[f"{level}_index"] = np.array([number for _, number in found.looks], dtype=np.int64)
    if level == "frame":
        columns["pts_seconds"] = _pts_seconds(source, found.looks)
    failed_clips = {clip_id for clip_id, _ in found.failed}
    missing |= {look_name(look, level): why for look, why in found.failed.items()}
    about = _about(
        encoder,
        level,
        {
            "kind": "frames",
            "content_sha256": source.reader.content_sha256,
            "recipe": source.reader.recipe.as_dict(),
            "unit": "clips",
        },
        asked=len(source.reader.clips),
        written=len(clip_ids) - len(failed_clips),
        missing=missing,
    )
    return Embeddings(_all_rows(found), tuple(clip_id for clip_id, _ in found.looks), columns, about)


def _pts_seconds(source: StoredClips, looks: Sequence[tuple[str, int]]) -> npt.NDArray[np.float64]:
    """Return (n,) presentation times in seconds of frames, which come clip after clip."""
    times: dict[str, npt.NDArray[np.float64]] = {}
    found = np.empty(len(looks))
    for row, (clip_id, number) in enumerate(looks):
        if clip_id not in times:
            times = {clip_id: source.reader.pts_seconds(clip_id).ravel()}
        found[row] = times[clip_id][number]
    return found


def embed_images(encoder: Encoder, folder: Path) -> Embeddings:
    """Return features of all images of a folder and those below it, in the order of their names.

    Raises:
        InputError: The folder is missing, or no image in it can be read.
    """
    preprocess, protocol = encoder.clip.preprocess, encoder.encoding.protocol
    crop, interpolation = protocol.crop or preprocess.crop, preprocess.interpolation
    source = ImagesOfFolder(folder, size=preprocess.size, crop=crop, interpolation=interpolation)
    names, missing = image_names(folder), dict[str, str]()
    unwritable = [name for name in names if printable(Path(name)) != name]
    missing |= {printable(Path(name)): "its name is not UTF-8" for name in unwritable}
    found = encoder.looks(source, [(name, None) for name in names if name not in set(unwritable)])
    _refuse_nothing(found, missing, "image")
    missing |= {name: why for (name, _), why in found.failed.items()}
    ids = tuple(name for name, _ in found.looks)
    content = sha256_of_json([[name, source.contents[name]] for name in ids])
    about = _about(
        encoder,
        "image",
        {
            "kind": "images",
            "content_sha256": content,
            "size": preprocess.size,
            "crop": crop,
            "interpolation": interpolation,
            "unit": "images",
        },
        asked=len(names),
        written=len(ids),
        missing=missing,
    )
    return Embeddings(_all_rows(found), ids, {}, about)


def embed_texts(encoder: Encoder, texts: Texts) -> Embeddings:
    """Return features of texts, in the order of the file."""
    encoded = encoder.texts(texts.texts)
    features = encoded.gather(encoded.rows(texts.texts)).numpy()
    overlong = set(encoded.overlong)
    source = {
        "kind": "texts",
        "sha256": texts.sha256,
        "overlong_texts": sum(text in overlong for text in texts.texts),
        "unit": "texts",
    }
    about = _about(encoder, "text", source, asked=len(texts.ids), written=len(texts.ids), missing={})
    return Embeddings(features, texts.ids, {}, about)


def model_facts(encoder: Encoder) -> dict[str, Any]:
    """Return names and hashes of the model that encodes; ``adapter_sha256`` is None for the base."""
    clip = encoder.clip
    return {
        "label": encoder.label,
        "name": encoder.about["name"],
        "base_name": clip.source.short_name,
        "base_sha256": clip.sha256,
        "adapter_sha256": encoder.about.get("adapter_sha256"),
    }


def _about(
    encoder: Encoder, level: str, source: dict[str, Any], *, asked: int, written: int, missing: Mapping[str, str]
) -> dict[str, Any]:
    protocol = encoder.encoding.protocol
    # The mean of unit vectors is left as it is under l2-mean; one vector is its own mean.
    pooled = level in ("clip", "event")
    return {
        "figclip": __version__,
        "level": level,
        "unit_length": not (pooled and protocol.pooling == "l2-mean"),
        "model": model_facts(encoder),
        "protocol": protocol.as_dict(),
        "device": encoder.clip.device.type,
        "source": source,
        "n_asked": asked,
        "n_written": written,
        "missing": dict(sorted(missing.items())),
    }


def _refuse_nothing(found: VisualFeatures, missing: Mapping[str, str], what: str) -> None:
    if len(found):
        return
    failed = ((str(look[0]), why) for look, why in found.failed.items())
    name, why = next(iter([*missing.items(), *failed]), ("", "there is none"))
    raise InputError(f"no {what} has features; the first is {quoted(name)}: {why}", "extract or fetch them again")


def _all_rows(found: VisualFeatures) -> npt.NDArray[np.float32]:
    """Return (n, D) float32, read in blocks: what is kept is twice as wide."""
    features = np.empty((len(found), found.width), dtype=np.float32)
    for start in range(0, len(found), _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, len(found))
        features[start:stop] = found.rows(start, stop).numpy()
    return features
