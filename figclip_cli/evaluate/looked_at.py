"""What both models looked at: features of the same pixels, who was there, who is missing, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from figclip_cli.errors import InputError
from figclip_cli.evaluate.encoders import Encoder, Encoding, encoders
from figclip_cli.evaluate.evaluation import BOOTSTRAP_SEED
from figclip_cli.evaluate.visuals import VisualFeatures
from figclip_cli.evaluate.visuals.source import LookSource
from figclip_cli.models.clip import Clip
from figclip_cli.run_folder import RunFolder

_NAMES = {
    "clips": "clip ids are the video files' names without ending",
    "images": "images are looked for below --images, with and without their leading folders",
}
_CHANGED = "did a file change meanwhile? run it again"
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


def each_model(
    clip: Clip, run: RunFolder | None, encoding: Encoding, source: LookSource, looks: Sequence[Any]
) -> Iterator[tuple[Encoder, VisualFeatures]]:
    """Yield the base and then, with a run, the adapted model, each with its features of the same looks.

    Raises:
        InputError: Not one look could be read, or the two models did not see the same.
    """
    first: VisualFeatures | None = None
    for encoder in encoders(clip, run, encoding):
        found = encoder.looks(source, looks)
        if not len(found):
            message = next(iter(found.failed.values()))
            raise InputError(f"not one of {len(found.failed)} could be read, the first: {message}", "see to that first")
        require_same_looks(first, found, encoder)
        first = first or found
        yield encoder, found


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


def model_facts(encoders: Sequence[Encoder]) -> tuple[dict[str, Mapping[str, Any]], dict[str, int]]:
    """Return what the results say of the models, and the seeds that their numbers depend on."""
    models: dict[str, Mapping[str, Any]] = {encoder.label: encoder.about for encoder in encoders}
    seeds = {"bootstrap": BOOTSTRAP_SEED}
    for encoder in encoders:
        seeds |= encoder.seeds
    return models, seeds
