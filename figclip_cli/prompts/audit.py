"""Can a model that sees no video tell the negatives from the prompts? If so, training rewards that, not looking.

A classifier of texts alone (TF-IDF of words and phrases with logistic regression, or a model's own text features) is
trained on pairs of a prompt and one of its negatives, and asked about pairs of other clips. Half right is chance.
SugarCrepe (Hsieh et al., 2023) shows how far such a classifier gets on benchmarks made without this care.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from figclip_cli.errors import InputError
from figclip_cli.prompts.store import PromptEvent, read_prompts
from figclip_cli.reporting import SILENT, Reporter

WARNING_PERCENT = 60.0
_FEWEST_PAIRS = 20
_WORDS = "words"
_MODEL = "model"
Encode = Callable[[Sequence[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class AuditedKind:
    """How well a classifier of texts tells one kind of negatives.

    Attributes:
        kind: Kind of negative.
        features: ``words`` (TF-IDF) or ``model`` (its text features).
        train_pairs: Pairs of prompt and negative that it learned from.
        held_out_pairs: Pairs of other clips that it was asked about.
        accuracy_percent: Texts of these that it put on the right side.
        accuracy_standard_error: Of that, in percent.
        pairwise_percent: Pairs in which the prompt scored higher; a tie counts half.
    """

    kind: str
    features: str
    train_pairs: int
    held_out_pairs: int
    accuracy_percent: float
    accuracy_standard_error: float
    pairwise_percent: float

    @property
    def suspicious(self) -> bool:
        """Whether it is told by its text more often than it should be."""
        return self.accuracy_percent > WARNING_PERCENT


@dataclass(frozen=True)
class AuditReport:
    """The audit of a prompts file.

    Attributes:
        prompts: The file.
        kinds: One entry per kind and sort of features.
        too_few: Kinds with too few pairs to judge, and how many they have.
    """

    prompts: Path
    kinds: tuple[AuditedKind, ...]
    too_few: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {
            "prompts": str(self.prompts),
            "warning_percent": WARNING_PERCENT,
            "kinds": [{**asdict(kind), "suspicious": kind.suspicious} for kind in self.kinds],
            "too_few": self.too_few,
        }


@dataclass(frozen=True)
class _Pair:
    clip_id: str
    prompt: str
    negative: str


def audit(
    prompts: Path, *, encode: Encode | None = None, limit: int = 20_000, seed: int = 0, reporter: Reporter = SILENT
) -> AuditReport:
    """Measure how well texts alone tell negatives from prompts, kind by kind.

    Args:
        encode: Features of texts, (n, D) float32, to use beside words.
        limit: Most pairs per kind; which, ``seed`` decides.
        seed: Also decides which half of the clips is held out.

    Raises:
        InputError: The file cannot be read or has no negatives.
    """
    pairs = _pairs(read_prompts(prompts).events, seed)
    if not pairs:
        raise InputError(f"prompts file {prompts} has no negatives", "build it with --negatives")
    audited, too_few = [], {}
    sorts = {_WORDS: None} | ({_MODEL: encode} if encode else {})
    with reporter.track("audit negatives", len(pairs) * len(sorts), "kinds") as progress:
        for kind, found in sorted(pairs.items()):
            chosen = found[:limit]
            train = [pair for pair in chosen if _number(seed, "half", pair.clip_id) % 2 == 0]
            held_out = [pair for pair in chosen if _number(seed, "half", pair.clip_id) % 2 == 1]
            if min(len(train), len(held_out)) < _FEWEST_PAIRS:
                too_few[kind] = len(chosen)
                continue
            for sort, encoder in sorts.items():
                audited.append(_audited(kind, sort, train, held_out, encoder))
                progress.advance()
    for one in audited:
        if one.suspicious:
            reporter.warn(
                f"{one.kind}: {one.accuracy_percent:.1f} % are told by their text alone ({one.features}); "
                f"over {WARNING_PERCENT:.0f} % a model can learn to ignore the video"
            )
    return AuditReport(prompts, tuple(audited), too_few)


def _pairs(events: Iterable[PromptEvent], seed: int) -> dict[str, list[_Pair]]:
    """Return one pair per event and kind, in an order that the seed decides."""
    found: dict[str, list[tuple[int, _Pair]]] = defaultdict(list)
    for event in events:
        by_kind: dict[str, list[str]] = defaultdict(list)
        for negative in event.negatives:
            by_kind[negative.kind].append(negative.text)
        for kind, texts in by_kind.items():
            number = _number(seed, kind, *map(str, event.key))
            found[kind].append((number, _Pair(event.clip_id, event.text, texts[number % len(texts)])))
    return {kind: [pair for _, pair in sorted(items, key=lambda item: item[0])] for kind, items in found.items()}


def _audited(
    kind: str, features: str, train: Sequence[_Pair], held_out: Sequence[_Pair], encode: Encode | None
) -> AuditedKind:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    classifier = LogisticRegression(max_iter=2000)
    if encode is None:
        words = TfidfVectorizer(ngram_range=(1, 3), min_df=2, sublinear_tf=True, token_pattern=r"\w+")
        pipeline = make_pipeline(words, classifier)
    else:
        pipeline = make_pipeline(FunctionTransformer(encode), StandardScaler(), classifier)
    pipeline.fit(_texts(train), _labels(train))
    scores = np.asarray(pipeline.decision_function(_texts(held_out)), dtype=np.float64).reshape(2, -1)
    right = np.concatenate([scores[0] > 0, scores[1] <= 0])
    accuracy = float(right.mean())
    pairwise = (scores[0] > scores[1]) + 0.5 * (scores[0] == scores[1])
    return AuditedKind(
        kind,
        features,
        len(train),
        len(held_out),
        round(100 * accuracy, 2),
        round(100 * math.sqrt(accuracy * (1 - accuracy) / len(right)), 2),
        round(100 * float(pairwise.mean()), 2),
    )


def _texts(pairs: Sequence[_Pair]) -> list[str]:
    """Return all prompts, then all negatives."""
    return [pair.prompt for pair in pairs] + [pair.negative for pair in pairs]


def _labels(pairs: Sequence[_Pair]) -> npt.NDArray[np.int64]:
    return np.repeat(np.array([1, 0], dtype=np.int64), len(pairs))


def _number(seed: int, *parts: str) -> int:
    digest = hashlib.sha256("\0".join([str(seed), *parts]).encode()).digest()
    return int.from_bytes(digest[:8], "big")
