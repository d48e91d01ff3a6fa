"""Features of texts: every distinct text is encoded once per base model, kept on disk, and found by its content.

The text tower is frozen, so a text's feature depends on the base model and the text alone. Features are kept per
model, each under the hash of its text: a new text costs its own encoding, and a stale hit is impossible.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from figclip_cli.files import sha256_of_json
from figclip_cli.models.clip import Clip
from figclip_cli.models.feature_shards import Shard, content_hashes
from figclip_cli.models.feature_store import FeatureStore, locate
from figclip_cli.models.text_encoding import encode_in_pieces
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.reporting import SILENT, Reporter

CACHE_FOLDER = Path(".figclip") / "text-features"
_KEY_VERSION = 3


class TextFeatures:
    """Unit-length features of n distinct texts, most of them on disk until they are asked for.

    Attributes:
        row_of: Row number of each text: its place in sorted order, whatever file it is in.
        overlong: Texts over the context length, whose end the encoder did not see.
        width: Length D of a feature.
    """

    def __init__(
        self,
        row_of: dict[str, int],
        overlong: tuple[str, ...],
        width: int,
        shards: Sequence[Shard],
        places: npt.NDArray[np.int64],
    ) -> None:
        self.row_of = row_of
        self.overlong = overlong
        self.width = width
        self._shards = tuple(shards)
        self._starts = np.cumsum([0, *map(len, shards)])
        self._places = places  # of each row in the shards laid end to end

    def __len__(self) -> int:
        return len(self.row_of)

    @property
    def features(self) -> Tensor:
        """All features, (n, D) float32, read anew at each use: for small n; else see :meth:`gather`."""
        return self.gather(torch.arange(len(self)))

    def rows(self, texts: Iterable[str]) -> Tensor:
        """Return the row numbers of texts, int64.

        Raises:
            KeyError: A text was not among those encoded.
        """
        return torch.tensor([self.row_of[text] for text in texts], dtype=torch.int64)

    def gather(self, rows: Tensor) -> Tensor:
        """Return the features of rows; a row that repeats is read once.

        Args:
            rows: (...) int64, on any device.

        Returns:
            (..., D) float32 on the CPU.

        Raises:
            IndexError: A row is not in 0..n-1.
            InputError: A file is gone, cut or damaged; the message names it.
        """
        asked, inverse = torch.unique(rows.detach().cpu(), return_inverse=True)
        distinct = asked.numpy()  # ascending
        if len(distinct) and not 0 <= distinct[0] <= distinct[-1] < len(self):
            raise IndexError(f"rows {distinct[0]} to {distinct[-1]} of {len(self)} text features")
        places = self._places[distinct]
        order = np.argsort(places)  # ascending within each file, so that neighbours are read at once
        bounds = np.searchsorted(places[order], self._starts)
        features = torch.empty(len(distinct), self.width)
        for shard, start, first, last in zip(self._shards, self._starts, bounds, bounds[1:], strict=False):
            if first < last:
                part = order[first:last]
                features[torch.from_numpy(part)] = shard.read(places[part] - start)
        return features[inverse]


def encode_distinct(
    clip: Clip, texts: Iterable[str], *, cache_beside: Path | None = None, reporter: Reporter = SILENT
) -> TextFeatures:
    """Encode each distinct text that has not been encoded before with this model.

    A feature that was kept has the bits it was encoded with. Encoded again on the same kind of device it would have
    the same bits, whatever other texts are encoded with it (see :mod:`figclip_cli.models.text_encoding`). A CPU
    and a GPU, whose last bits differ, keep features of their own.

    Args:
        texts: Texts, with repetitions.
        cache_beside: A file; features are kept in ``.figclip/text-features/`` in its folder, for all runs and all
            processes at once. None keeps nothing, and holds all features in memory. A folder that cannot be
            written costs a warning, not the run.

    Raises:
        VerificationError: The model gives a feature that is not finite, or zero.
    """
    distinct = sorted(set(texts))
    overlong = overlong_texts(clip, distinct)
    if overlong:
        reporter.warn(f"{len(overlong)} of {len(distinct)} texts are over the context: their end is unseen")
    key = model_key(clip)
    folder = None if cache_beside is None else cache_beside.parent / CACHE_FOLDER / key
    store = FeatureStore(folder, key, clip.width, reporter)
    shards, places = _found_or_encoded(clip, distinct, store, reporter)
    return TextFeatures({text: row for row, text in enumerate(distinct)}, overlong, clip.width, shards, places)


def _found_or_encoded(
    clip: Clip, distinct: Sequence[str], store: FeatureStore, reporter: Reporter
) -> tuple[list[Shard], npt.NDArray[np.int64]]:
    hashes = content_hashes(distinct)
    shards = store.shards()
    places = locate(shards, hashes)
    missing = np.flatnonzero(places < 0)
    if store.folder is not None:
        reporter.detail(f"features of {len(distinct) - len(missing)} of {len(distinct)} texts are in {store.folder}")
    if not len(missing):
        return shards, places
    begin, end_of_shards = 0, sum(map(len, shards))
    for features in encode_in_pieces(clip, [distinct[row] for row in missing.tolist()], reporter):
        rows = missing[begin : begin + len(features)]
        places[rows] = np.arange(len(rows)) + end_of_shards
        shards.append(store.add(hashes[rows], features))
        begin, end_of_shards = begin + len(rows), end_of_shards + len(rows)
    return shards, places


def model_key(clip: Clip) -> str:
    """Return 32 hex digits of all that a text's feature depends on beside the text.

    That is the weights, what is attached to the text tower, the activation, the text tower's configuration, which
    has its context length, heads and tokenizer, and the kind of device, whose rounding is its own: a CPU never works
    on features that a GPU left.
    """
    quick_gelu, text = clip.model_config.get("quick_gelu"), clip.model_config["text_cfg"]
    about = {"version": _KEY_VERSION, "weights": clip.sha256, "quick_gelu": quick_gelu, "text": text}
    about |= {"adapter": clip.text_adapter, "device": clip.device.type}
    return sha256_of_json(about)[:32]


def overlong_texts(clip: Clip, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts whose tokens, with start and end, do not fit the model's context."""
    context = int(clip.model_config["text_cfg"].get("context_length", 77))
    foreign = getattr(clip.tokenizer, "tokenizer", None)  # open_clip's HFTokenizer wraps a transformers one
    if foreign is not None:
        return tuple(text for text in texts if len(foreign(text)["input_ids"]) > context)
    counter = TokenCounter()
    return tuple(text for text in texts if counter.count(text) > context)
