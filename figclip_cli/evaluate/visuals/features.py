"""Features of looks, each encoded once per model and kept by its content.

A feature depends on the model, the pixels and the precision alone. The pooling is applied when it is read, so the
three conventions share what is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.visuals.encoding import encode_looks
from figclip_cli.evaluate.visuals.packing import Packing, columns, unpack
from figclip_cli.evaluate.visuals.source import LookSource
from figclip_cli.files import sha256_of_json
from figclip_cli.models.clip import Clip
from figclip_cli.models.feature_shards import Hashes, Shard, content_hashes, rows_not_unit
from figclip_cli.models.feature_store import FeatureStore, locate
from figclip_cli.models.pooling import Pooling
from figclip_cli.reporting import SILENT, Reporter

CACHE_FOLDER = Path(".figclip") / "visual-features"
_KEY_VERSION = 1
_PIECE_LOOKS, _PIECE_SECONDS = 20_000, 60.0  # what a run that is killed loses at most
# Looks in, the number of each out with the row that is kept of it, or with why it cannot be read.
Encode = Callable[[Sequence[Any]], Iterator[tuple[int, Tensor | InputError]]]


@dataclass(frozen=True)
class VisualFeatures:
    """Pooled features of n looks; they are read from where they are kept when asked for.

    Attributes:
        looks: The looks that have a feature, in the order asked.
        failed: The others, with the reason.
        width: D.
        packing: How frames became one feature: by a pooling, or as a contextual token; None where a look is one frame,
            whose raw feature it is.
        contents: (n, 2) uint64, hash of each look's content.
    """

    looks: tuple[Any, ...]
    failed: Mapping[Any, str]
    width: int
    packing: Packing
    contents: Hashes
    _shards: Sequence[Shard]
    _places: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.looks)

    def rows(self, start: int, stop: int) -> Tensor:
        """Return features ``start`` to ``stop``, (stop - start, D) float32 on the CPU."""
        return self.take(torch.arange(start, stop))

    def take(self, index: Tensor) -> Tensor:
        """Return the features at ``index`` (n,) int64, (n, D) float32 on the CPU."""
        places = self._places[index.cpu().numpy()]
        packed = torch.empty(len(places), columns(self.width, self.packing))
        start = 0
        for shard in self._shards:
            here = np.flatnonzero((places >= start) & (places < start + len(shard)))
            if len(here):
                packed[torch.from_numpy(here)] = shard.read(places[here] - start)
            start += len(shard)
        return unpack(packed, self.packing)

    @property
    def sha256(self) -> str:
        """Hash of what was looked at: of the looks with their contents, whatever their order."""
        named = sorted(zip(map(str, self.looks), self.contents.tolist(), strict=True))
        return sha256_of_json(named)

    def all(self) -> Tensor:
        """Return all features, (n, D) float32."""
        return self.rows(0, len(self))


def visual_key(clip: Clip, precision: str, *, raw: bool = False) -> str:
    """Return 32 hex digits of all that a kept row depends on beside the pixels."""
    about = {
        "version": _KEY_VERSION,
        "weights": clip.sha256,
        "adapter": clip.image_adapter,
        "quick_gelu": clip.model_config.get("quick_gelu"),
        "vision": clip.model_config["vision_cfg"],
        "mean": clip.preprocess.mean,
        "std": clip.preprocess.std,
        "precision": precision,
        "device": clip.device.type,
    }
    return sha256_of_json({**about, "raw": True} if raw else about)[:32]


def visual_features(
    clip: Clip,
    source: LookSource,
    looks: Sequence[Any],
    *,
    pooling: Pooling | None,
    precision: str = "fp32",
    cache: Path | None = None,
    reporter: Reporter = SILENT,
) -> VisualFeatures:
    """Encode the looks that were not encoded before with this model.

    Args:
        looks: Distinct looks that ``source`` reads.
        pooling: How frames become one feature; None for the raw features of looks that are one frame each.
        cache: Features are kept in ``.figclip/visual-features/`` in this folder, for all runs; None keeps nothing.

    Returns:
        The features of all looks that could be read; the others are named with the reason.

    Raises:
        VerificationError: The model gives a feature that is not finite, or zero.
    """

    def encode(wanted: Sequence[Any]) -> Iterator[tuple[int, Tensor | InputError]]:
        return encode_looks(clip, source, wanted, precision=precision, pooling=pooling)

    key = visual_key(clip, precision, raw=pooling is None)
    return kept_features(clip, source, looks, encode, key=key, packing=pooling, cache=cache, reporter=reporter)


def kept_features(
    clip: Clip,
    source: LookSource,
    looks: Sequence[Any],
    encode: Encode,
    *,
    key: str,
    packing: Packing,
    cache: Path | None,
    reporter: Reporter,
) -> VisualFeatures:
    """Return what is kept of looks under ``key``; the others are encoded, and kept.

    Args:
        encode: Makes the rows of looks.
        key: 32 hex digits of all that a row depends on beside the pixels.

    Raises:
        VerificationError: A row is not finite, or zero.
    """
    kept_in = None if cache is None else cache / CACHE_FOLDER / key
    store = FeatureStore(kept_in, key, columns(clip.width, packing), reporter)
    known, failed = _identified(source, looks, reporter)
    hashes = content_hashes(list(known.values()))
    shards = store.shards()
    places = locate(shards, hashes)
    if cache is not None:
        reporter.detail(f"features of {int((places >= 0).sum())} of {len(known)} {source.unit} are in {store.folder}")
    names = list(known)
    missing = np.flatnonzero(places < 0)
    _, first = np.unique(hashes[missing], axis=0, return_index=True)  # equal pixels under two names: encoded once
    todo = missing[np.sort(first)]
    for rows, features in _pieces(clip, source, names, todo, encode, failed, reporter):
        shards.append(store.add(np.ascontiguousarray(hashes[rows]), features))
    places[missing] = locate(shards, hashes[missing])
    kept = np.flatnonzero(places >= 0)
    unread = {known[look]: why for look, why in failed.items() if look in known}
    failed |= {names[row]: unread[known[names[row]]] for row in np.flatnonzero(places < 0)}
    there = tuple(names[row] for row in kept)
    return VisualFeatures(there, failed, clip.width, packing, hashes[kept], shards, places[kept])


def _identified(source: LookSource, looks: Sequence[Any], reporter: Reporter) -> tuple[dict[Any, str], dict[Any, str]]:
    """Return what names each look by its content, and why the others have no such name."""
    known: dict[Any, str] = {}
    failed: dict[Any, str] = {}
    teller = reporter if source.reads_to_identify else SILENT
    with teller.track(f"read {source.unit}", len(looks), source.unit) as progress:
        for look in looks:
            try:
                known[look] = source.identity(look)
            except InputError as error:
                failed[look] = error.message
            progress.advance()
    return known, failed


def _pieces(
    clip: Clip,
    source: LookSource,
    names: Sequence[Any],
    missing: npt.NDArray[np.int64],
    encode: Encode,
    failed: dict[Any, str],
    reporter: Reporter,
) -> Iterator[tuple[npt.NDArray[np.int64], Tensor]]:
    """Yield row numbers with their packed features; looks that cannot be read go to ``failed``."""
    if not len(missing):
        return
    piece = _Piece(clip, [], [])
    begun = time.monotonic()
    with reporter.track(f"encode {source.unit} with {clip.name}", len(missing), source.unit) as progress:
        try:
            wanted = [names[row] for row in missing]
            for number, found in encode(wanted):
                progress.advance(failed=int(isinstance(found, InputError)))
                if isinstance(found, InputError):
                    failed[names[missing[number]]] = found.message
                    continue
                piece.add(int(missing[number]), found)
                if len(piece.rows) >= _PIECE_LOOKS or time.monotonic() - begun > _PIECE_SECONDS:
                    yield piece.finished()
                    piece, begun = _Piece(clip, [], []), time.monotonic()
        except (KeyboardInterrupt, Exception):
            if piece.rows:  # what is done is kept, also when the user stops it here
                yield piece.finished()
            raise
    if piece.rows:
        yield piece.finished()


@dataclass
class _Piece:
    """Features that are not kept yet."""

    clip: Clip
    rows: list[int]
    features: list[Tensor]

    def add(self, row: int, feature: Tensor) -> None:
        """Add one."""
        self.rows.append(row)
        self.features.append(feature)

    def finished(self) -> tuple[npt.NDArray[np.int64], Tensor]:
        """Return row numbers with the packed features."""
        return np.array(self.rows), _checked(self.clip, self.features)


def _checked(clip: Clip, features: Sequence[Tensor]) -> Tensor:
    joined = torch.stack(list(features))
    wrong = rows_not_unit(joined)
    if wrong:
        raise VerificationError(
            f"{clip.name} gives {wrong} of {len(joined)} features that are not finite or are zero",
            "its weights are damaged",
        )
    return joined
