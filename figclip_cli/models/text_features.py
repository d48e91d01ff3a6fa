"""Features of texts: every distinct text is encoded once, kept on disk, and found again by content.

The text tower is frozen, so a text's feature depends on the base weights and the text alone. The file's name
is a hash of both, which makes a stale or foreign cache impossible to hit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from figclip_cli.errors import FigclipError
from figclip_cli.files import replacing
from figclip_cli.models.clip import Clip
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.reporting import SILENT, Reporter

_BATCH = 256
CACHE_FOLDER = Path(".figclip") / "text-features"


@dataclass(frozen=True)
class TextFeatures:
    """Unit-length features of distinct texts.

    Attributes:
        features: (n, D) float32 on the CPU, one row per distinct text.
        row_of: Row number of each text.
        overlong: Texts over the context length, whose end the encoder did not see.
    """

    features: Tensor
    row_of: dict[str, int]
    overlong: tuple[str, ...]

    def rows(self, texts: Iterable[str]) -> Tensor:
        """Return the row numbers of texts, int64."""
        return torch.tensor([self.row_of[text] for text in texts], dtype=torch.int64)


def encode_distinct(
    clip: Clip, texts: Iterable[str], *, cache_beside: Path | None = None, reporter: Reporter = SILENT
) -> TextFeatures:
    """Encode each distinct text once.

    Args:
        texts: Texts, with repetitions.
        cache_beside: A file; the features are kept in ``.figclip/text-features/`` in its folder. None keeps
            nothing. A folder that cannot be written costs a warning, not the run.
    """
    distinct = sorted(set(texts))
    overlong = overlong_texts(clip, distinct)
    if overlong:
        reporter.warn(f"{len(overlong)} of {len(distinct)} texts are over the context: their end is unseen")
    row_of = {text: row for row, text in enumerate(distinct)}
    if cache_beside is None:
        return TextFeatures(_encode(clip, distinct, reporter), row_of, overlong)
    file = cache_beside.parent / CACHE_FOLDER / f"{_key(clip, distinct)}.safetensors"
    features = _read(file, (len(distinct), clip.width))
    if features is None:
        features = _encode(clip, distinct, reporter)
        _write(file, features, reporter)
    else:
        reporter.detail(f"features of {len(distinct)} texts read from {file}")
    return TextFeatures(features, row_of, overlong)


def overlong_texts(clip: Clip, texts: Sequence[str]) -> tuple[str, ...]:
    """Return the texts whose tokens, with start and end, do not fit the model's context."""
    context = int(clip.model_config["text_cfg"].get("context_length", 77))
    foreign = getattr(clip.tokenizer, "tokenizer", None)  # open_clip's HFTokenizer wraps a transformers one
    if foreign is not None:
        return tuple(text for text in texts if len(foreign(text)["input_ids"]) > context)
    counter = TokenCounter()
    return tuple(text for text in texts if counter.count(text) > context)


def _encode(clip: Clip, texts: Sequence[str], reporter: Reporter) -> Tensor:
    features = torch.empty(len(texts), clip.width)
    with reporter.track("encode texts", len(texts), "texts") as progress:
        for start in range(0, len(texts), _BATCH):
            part = texts[start : start + _BATCH]
            features[start : start + len(part)] = F.normalize(clip.encode_texts(part), dim=-1).cpu()
            progress.advance(len(part))
    return features


def _key(clip: Clip, distinct: Sequence[str]) -> str:
    digest = hashlib.sha256(f"1|{clip.sha256}|{clip.model_config.get('quick_gelu')}|".encode())
    for text in distinct:
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:32]


def _read(file: Path, shape: tuple[int, int]) -> Tensor | None:
    """Return the cached features, or None where there are none worth trusting."""
    try:
        features = load_file(file)["features"]
    except (OSError, KeyError, SafetensorError):
        return None
    return features if tuple(features.shape) == shape and bool(features.isfinite().all()) else None


def _write(file: Path, features: Tensor, reporter: Reporter) -> None:
    try:
        with replacing(file) as temporary:
            save_file({"features": features}, temporary)
    except (FigclipError, OSError) as error:
        reporter.warn(f"text features are not kept for next time: {error}")
