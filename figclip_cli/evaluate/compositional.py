"""Compositional benchmarks: does the right text score higher than one that differs in a word, a role, an order?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from figclip_cli.evaluate.compositional_numbers import CompositionalNumbers, Scored
from figclip_cli.evaluate.contextual_reading import contextualizer_for, reading_facts
from figclip_cli.evaluate.datasets.choices import Choice, Compositional, Look
from figclip_cli.evaluate.encoders import WHOLE, Encoder, Encoding
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.looked_at import (
    SCORES,
    Tested,
    failed_names,
    model_facts,
    name_of,
    score_models,
    split_present,
)
from figclip_cli.evaluate.metrics.choices import choice_outcomes, winoground_outcomes
from figclip_cli.evaluate.metrics.exact_scores import exact_scores
from figclip_cli.evaluate.results import Results
from figclip_cli.evaluate.task_options import CompositionalOptions
from figclip_cli.evaluate.visuals import ImageFiles, StoredClips, VisualFeatures
from figclip_cli.evaluate.visuals.contextual import Contextualizer
from figclip_cli.models.clip import Clip
from figclip_cli.models.text_features import TextFeatures
from figclip_cli.run_folder import RunFolder

_PAIRS_AT_ONCE = 8192


TASK = "compositional"


@dataclass(frozen=True)
class _Made:
    """What one model made of the items, and how many texts it saw no end of."""

    scored: Scored
    overlong: int


def evaluate_compositional(
    clip: Clip,
    source: ImageFiles | StoredClips,
    benchmark: Compositional,
    *,
    encoding: Encoding,
    run: RunFolder | None = None,
    options: CompositionalOptions | None = None,
) -> Evaluation:
    """Score each item's texts against what it looks at, with the base model and, with a run, the adapted one.

    Args:
        clip: The base model. With a run its adapter is attached to it, in place.
        source: Where the benchmark's images or clips are.
        run: A finished run that started from this base.

    Raises:
        InputError: Not one image or clip is there.
        VerificationError: A model gives features that are not finite.
    """
    return evaluate_compositional_at(WHOLE, clip, source, benchmark, encoding=encoding, run=run, options=options)[0]


def evaluate_compositional_at(
    scales: Sequence[float],
    clip: Clip,
    source: ImageFiles | StoredClips,
    benchmark: Compositional,
    *,
    encoding: Encoding,
    run: RunFolder | None = None,
    options: CompositionalOptions | None = None,
) -> list[Evaluation]:
    """Do as :func:`evaluate_compositional` with the run at each scale; one evaluation without a run.

    Args:
        scales: From 0, the base, to 1, the run as it is.
    """
    options = options or CompositionalOptions()
    if isinstance(source, StoredClips) and benchmark.events_per_clip is not None:
        source.reader.require_events(benchmark.events_per_clip)
    wanted = list(dict.fromkeys(_look(look) for choice in benchmark.choices for look in choice.looks))
    looks, missing = split_present(source, wanted)
    reader = contextualizer_for(
        options.features, run, clip, source, looks, encoding.protocol, scales=scales, reporter=encoding.reporter
    )

    def score(encoder: Encoder, found: VisualFeatures) -> _Made:
        choices = _with_looks(benchmark.choices, found.looks)
        texts = encoder.texts([text for choice in choices for text in choice.texts])
        return _Made(_score(choices, found, texts), len(texts.overlong))

    scores = score_models(clip, run, encoding, source, looks, score, scales, reader)
    missing |= failed_names(scores.first)
    return [
        _evaluation(source, benchmark, encoding, options, scores.first, missing, tested, reader)
        for tested in scores.evaluations()
    ]


def _evaluation(
    source: ImageFiles | StoredClips,
    benchmark: Compositional,
    encoding: Encoding,
    options: CompositionalOptions,
    first: VisualFeatures,
    missing: Mapping[str, str],
    tested: Sequence[Tested[_Made]],
    reader: Contextualizer | None,
) -> Evaluation:
    choices = _with_looks(benchmark.choices, first.looks)
    scored = {one.label: one.made.scored for one in tested}
    asked = {name_of(_look(look)) for choice in benchmark.choices for look in choice.looks}
    seen = {name_of(_look(look)) for choice in choices for look in choice.looks}
    table = CompositionalNumbers(benchmark, choices, scored, options.ties)
    models, seeds = model_facts(tested)
    results = Results(
        task=TASK,
        dataset_id=benchmark.dataset_id,
        dataset_sha256=benchmark.sha256,
        asked={"items": len(benchmark.choices), source.unit: len(asked)},
        evaluated={"items": len(choices), source.unit: len(seen)},
        missing=missing,
        protocol={
            **encoding.protocol.as_dict(),
            **_choices_made(benchmark, table, scored, options),
            **reading_facts(reader),
            **_pixels(source),
            "looks_sha256": first.sha256,
            "overlong_texts": tested[-1].made.overlong,
        },
        models=models,
        metrics=tuple(table.metrics()),
        groups=tuple(table.groups()),
        seeds=seeds | ({"order": options.order_seed} if benchmark.benchmark.endswith("order") else {}),
    )
    return Evaluation(results, table.samples)


def _look(look: Look) -> Any:
    return (look.image, look.box) if look.image is not None else (look.clip_id, look.event_index)


def _with_looks(choices: Sequence[Choice], looks: Sequence[Any]) -> list[Choice]:
    there = set(looks)
    return [choice for choice in choices if all(_look(look) in there for look in choice.looks)]


def _score(choices: Sequence[Choice], found: VisualFeatures, texts: TextFeatures) -> Scored:
    """Score every text of an item against every look of it."""
    row_of = {look: row for row, look in enumerate(found.looks)}
    pairs = [(row_of[_look(look)], text) for choice in choices for text in choice.texts for look in choice.looks]
    scores = _pair_scores(found, texts, np.array([row for row, _ in pairs]), [text for _, text in pairs])
    if len(choices[0].looks) == 2:
        square = scores.reshape(-1, 2, 2)  # texts by images
        return Scored(winoground_outcomes(square), np.ones(len(square), dtype=np.int64))
    by_item = np.split(scores, np.cumsum([len(choice.texts) for choice in choices])[:-1])
    return Scored({"": choice_outcomes(by_item)}, np.array([1 + row[1:].argmax() for row in by_item]))


def _pair_scores(
    found: VisualFeatures, texts: TextFeatures, look_rows: npt.NDArray[np.int64], words: Sequence[str]
) -> npt.NDArray[np.float32]:
    """Return exact dot products (pairs,) rounded to float32, so that equal texts tie."""
    text_rows = texts.rows(words)
    scores = torch.empty(len(words))
    for start in range(0, len(words), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        seen, said = found.take(torch.from_numpy(look_rows[part])), texts.gather(text_rows[part])
        scores[part] = exact_scores(seen, said)
    return scores.numpy()


def _pixels(source: ImageFiles | StoredClips) -> dict[str, Any]:
    """Return what the result says of how pixels were made."""
    if isinstance(source, StoredClips):
        recipe = source.reader.recipe.as_dict()
        return {"crop": recipe["crop"], "frames": recipe, "frames_content_sha256": source.reader.content_sha256}
    shortened = {"images_found_without_leading_folders": source.shortened}
    return {"crop": source.crop, "interpolation": source.interpolation, "size": source.size, **shortened}


def _choices_made(
    benchmark: Compositional, table: CompositionalNumbers, scored: Mapping[str, Scored], options: CompositionalOptions
) -> dict[str, Any]:
    """Return what the result says of how numbers were made of scores."""
    return {
        "benchmark": benchmark.benchmark,
        "remarks": benchmark.remarks,
        "ties": {part: table.rule_of_ties(part) for part in table.parts},
        "tie_rule": options.ties,
        "averages": {name: list(of) for name, of in table.averages.items()},
        "tied_items": {
            model: {name or "all": int(outcomes.tied.sum()) for name, outcomes in one.outcomes.items()}
            for model, one in scored.items()
        },
        "scores": SCORES,
        "bootstrap_draws": table.resampling.draws,
    }
