"""What both models looked at: features of the same pixels, who was there, who is missing, and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from figclip_cli.errors import InputError
from figclip_cli.evaluate.encoders import ADAPTED, WHOLE, Encoder, Encoding, encoders
from figclip_cli.evaluate.evaluation import BOOTSTRAP_SEED
from figclip_cli.evaluate.visuals import VisualFeatures
from figclip_cli.evaluate.visuals.contextual import Contextualizer
from figclip_cli.evaluate.visuals.source import LookSource
from figclip_cli.models.clip import Clip
from figclip_cli.run_folder import RunFolder

_NAMES = {
    "clips": "clip ids are the video files' names without ending",
    "images": "images are looked for below --images, with and without their leading folders",
}
_CHANGED = "did a file change meanwhile? run it again"
Made = TypeVar("Made")
SCORES = "exact dot products of float32 features, rounded to float32"


def require_same_looks(first: VisualFeatures | None, now: VisualFeatures, encoder: Encoder) -> None:
    """Refuse two models that did not see the same.

    Raises:
        InputError: A picture changed or went away between the two.
    """
    if first is not None and now.looks != first.looks:
        differing = set(first.looks) ^ set(now.looks)
        raise InputError(
            f"{len(differing)} looks were read for one model and not for {encoder.clip.name}, such as "
            f"{min(map(str, differing))}",
            _CHANGED,
        )
    if first is not None and not np.array_equal(now.contents, first.contents):
        row = int((now.contents != first.contents).any(axis=1).argmax())
        raise InputError(f"{name_of(now.looks[row])} is not what it was for the first model", _CHANGED)


@dataclass(frozen=True)
class Tested(Generic[Made]):
    """One model after its test; it holds no weights.

    Attributes:
        label: ``base`` or ``adapted``.
        about: Name and hashes, for the result.
        seeds: Seeds that its weights depend on.
        made: What it made of everything.
    """

    label: str
    about: Mapping[str, Any]
    seeds: Mapping[str, int]
    made: Made


@dataclass(frozen=True)
class ModelScores(Generic[Made]):
    """What all models made of the same looks.

    Attributes:
        first: Features of the base model.
        base: The base model.
        adapted: The run at each scale; empty without a run.
    """

    first: VisualFeatures
    base: Tested[Made]
    adapted: tuple[Tested[Made], ...]

    def evaluations(self) -> Iterator[list[Tested[Made]]]:
        """Yield the models of each evaluation: base and adapted once for each scale, the base alone without a run."""
        for one in self.adapted:
            yield [self.base, one]
        if not self.adapted:
            yield [self.base]


def score_models(
    clip: Clip,
    run: RunFolder | None,
    encoding: Encoding,
    source: LookSource,
    looks: Sequence[Any],
    score: Callable[[Encoder, VisualFeatures], Made],
    scales: Sequence[float] = WHOLE,
    contextualizer: Contextualizer | None = None,
) -> ModelScores[Made]:
    """Let the base and then, with a run, the adapted model at each scale look and be scored.

    The base is scored once. At scale 0 the adapted model is the base, so it has the base's scores, to the bit.

    Args:
        score: Turns a model and its features of the looks into what it made of the items; it keeps neither.
        contextualizer: The run's, where it is to read the clips of the adapted model.

    Raises:
        InputError: Not one look could be read, or two models did not see the same.
    """
    first: VisualFeatures | None = None
    tested: list[Tested[Made]] = []
    for encoder in encoders(clip, run, encoding, scales, contextualizer):
        if first is not None and encoder.label == ADAPTED and encoder.scale == 0.0:
            made = tested[0].made
        else:
            found = _looked_at(encoder, source, looks, first)
            first = first or found
            made = score(encoder, found)
            del found
        tested.append(Tested(encoder.label, encoder.about, encoder.seeds, made))
        del encoder  # its weights go before the next model is made
    assert first is not None  # the base comes always
    return ModelScores(first, tested[0], tuple(tested[1:]))


def _looked_at(
    encoder: Encoder, source: LookSource, looks: Sequence[Any], first: VisualFeatures | None
) -> VisualFeatures:
    found = encoder.looks(source, looks)
    if not len(found):
        message = next(iter(found.failed.values()))
        raise InputError(f"not one of {len(found.failed)} could be read, the first: {message}", "see to that first")
    require_same_looks(first, found, encoder)
    return found


def split_present(source: LookSource, wanted: Sequence[Any]) -> tuple[list[Any], dict[str, str]]:
    """Return the looks that are there, and the clips or images of the others with the reason.

    Raises:
        InputError: Not one is there, or the source can never have one.
    """
    source.check(wanted)
    reasons = {name: source.why_missing(name) for name in dict.fromkeys(map(name_of, wanted))}
    missing = {name: why for name, why in sorted(reasons.items()) if why is not None}
    present = [look for look in wanted if name_of(look) not in missing]
    if not present:
        first, why = next(iter(missing.items()))
        raise InputError(
            f"not one of the {len(missing)} {source.unit} asked for is there: '{first}': {why}; {source.example()}",
            _NAMES[source.unit],
        )
    return present, missing


def name_of(look: Any) -> str:
    """Return the clip or image of a look."""
    return str(look[0])


def failed_names(found: VisualFeatures) -> dict[str, str]:
    """Return the clips or images that could not be read, with the reason."""
    return {name_of(look): why for look, why in found.failed.items()}


def model_facts(tested: Sequence[Tested[Any]]) -> tuple[dict[str, Mapping[str, Any]], dict[str, int]]:
    """Return what the results say of the models, and the seeds that their numbers depend on."""
    models: dict[str, Mapping[str, Any]] = {one.label: one.about for one in tested}
    seeds = {"bootstrap": BOOTSTRAP_SEED}
    for one in tested:
        seeds |= one.seeds
    return models, seeds
