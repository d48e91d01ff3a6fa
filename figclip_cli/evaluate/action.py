"""Zero-shot action recognition: each clip's frames against the names of all classes, put into prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from figclip_cli.errors import InputError
from figclip_cli.evaluate.action_numbers import ActionNumbers, ScoredSplit
from figclip_cli.evaluate.datasets.action_sets import ActionClip, ActionSet, ActionSplit
from figclip_cli.evaluate.datasets.class_names import spoken
from figclip_cli.evaluate.datasets.prompt_sets import (
    PromptSet,
    class_features,
    prompt_set,
    read_templates,
    texts_of,
)
from figclip_cli.evaluate.encoders import WHOLE, Encoder, Encoding
from figclip_cli.evaluate.evaluation import Evaluation
from figclip_cli.evaluate.looked_at import SCORES, Tested, failed_names, model_facts, score_models, split_present
from figclip_cli.evaluate.metrics.classification import Classified, classify, score_matrix
from figclip_cli.evaluate.metrics.ranking import Ties
from figclip_cli.evaluate.results import Results
from figclip_cli.evaluate.task_options import ActionOptions
from figclip_cli.evaluate.visuals import StoredClips, VisualFeatures
from figclip_cli.models.clip import Clip
from figclip_cli.run_folder import RunFolder

TASK = "zero-shot action recognition"


@dataclass(frozen=True)
class _Made:
    """What one model made of each split, and the prompts that it saw no end of."""

    classified: tuple[Classified, ...]
    overlong: frozenset[str]


def evaluate_action(
    clip: Clip,
    source: StoredClips,
    actions: ActionSet,
    *,
    encoding: Encoding,
    run: RunFolder | None = None,
    options: ActionOptions | None = None,
) -> Evaluation:
    """Classify the clips of every split with the base model and, with a run, the adapted one.

    Args:
        clip: The base model. With a run its adapter is attached to it, in place.
        encoding: Its protocol names the prompt set, unless ``options.templates`` has one.
        run: A finished run that started from this base.

    Raises:
        InputError: No clip of a split has frames.
        VerificationError: A model gives features that are not finite.
    """
    return evaluate_action_at(WHOLE, clip, source, actions, encoding=encoding, run=run, options=options)[0]


def evaluate_action_at(
    scales: Sequence[float],
    clip: Clip,
    source: StoredClips,
    actions: ActionSet,
    *,
    encoding: Encoding,
    run: RunFolder | None = None,
    options: ActionOptions | None = None,
) -> list[Evaluation]:
    """Do as :func:`evaluate_action` with the run at each scale; one evaluation without a run.

    Args:
        scales: From 0, the base, to 1, the run as it is.
    """
    options = options or ActionOptions()
    if options.templates:
        prompts = read_templates(options.templates)
    else:
        prompts = prompt_set(encoding.protocol.prompts, dataset_id=actions.dataset_id)
    wanted = [(one.clip_id, None) for split in actions.splits for one in split.clips]
    looks, missing = split_present(source, list(dict.fromkeys(wanted)))

    def score(encoder: Encoder, found: VisualFeatures) -> _Made:
        classified, overlong = [], set()
        for split in actions.splits:
            clips = _present(split, found, missing | failed_names(found))
            classes, too_long = _class_features(encoder, split, prompts)
            overlong |= too_long
            classified.append(_classify(found, clips, classes, options.ties))  # type: ignore[arg-type]
        return _Made(tuple(classified), frozenset(overlong))

    scores = score_models(clip, run, encoding, source, looks, score, scales)
    missing |= failed_names(scores.first)
    return [
        _evaluation(source, actions, encoding, options, prompts, scores.first, missing, tested)
        for tested in scores.evaluations()
    ]


def _evaluation(
    source: StoredClips,
    actions: ActionSet,
    encoding: Encoding,
    options: ActionOptions,
    prompts: PromptSet,
    first: VisualFeatures,
    missing: Mapping[str, str],
    tested: Sequence[Tested[_Made]],
) -> Evaluation:
    splits = [
        ScoredSplit(split, _present(split, first, missing), {one.label: one.made.classified[number] for one in tested})
        for number, split in enumerate(actions.splits)
    ]
    numbers = ActionNumbers(splits)
    models, seeds = model_facts(tested)
    results = Results(
        task=TASK,
        dataset_id=actions.dataset_id,
        dataset_sha256=actions.sha256,
        asked={"clips": len({one.clip_id for split in actions.splits for one in split.clips})},
        evaluated={"clips": len({one.clip_id for split in splits for one in split.clips})},
        missing=missing,
        protocol={
            **encoding.protocol.as_dict(),
            "prompts": prompts.name,
            "templates": list(prompts.templates),
            "ties": options.ties,
            "tied_clips": numbers.tied(),
            "overlong_texts": len(frozenset().union(*(one.made.overlong for one in tested))),
            "list_format": actions.format,
            "list_choices": actions.choices,
            "splits": {split.split.name: _counts(split) for split in splits},
            "deviation_over_splits": "sample standard deviation, n - 1",
            "scores": SCORES,
            "zero_shot": True,
            "contextualizer": False,
            "frames": source.reader.recipe.as_dict(),
            "frames_content_sha256": source.reader.content_sha256,
            "looks_sha256": first.sha256,
            "bootstrap_draws": numbers.resampling.draws,
        },
        models=models,
        metrics=tuple(numbers.metrics()),
        groups=tuple(numbers.groups()),
        seeds=seeds,
    )
    return Evaluation(results, numbers.samples)


def _present(split: ActionSplit, found: VisualFeatures, missing: Mapping[str, str]) -> tuple[ActionClip, ...]:
    there = {clip_id for clip_id, _ in found.looks}
    clips = tuple(clip for clip in split.clips if clip.clip_id in there)
    if not clips:
        first = split.clips[0].clip_id
        raise InputError(
            f"no clip of split '{split.name}' is there, for example '{first}': {missing[first]}",
            "fetch its clips, or choose another --split",
        )
    return clips


def _counts(split: ScoredSplit) -> dict[str, int]:
    return {"classes": len(split.split.classes), "asked": len(split.split.clips), "evaluated": len(split.clips)}


def _class_features(encoder: Encoder, split: ActionSplit, prompts: PromptSet) -> tuple[Tensor, set[str]]:
    """Return (classes, D) float32 on the CPU, and the prompts whose end the tower did not see."""
    protocol = encoder.encoding.protocol
    names = [spoken(name, protocol.class_names) for name in split.classes]  # type: ignore[arg-type]
    texts = texts_of(prompts, names)
    flat = [text for of_class in texts for text in of_class]
    if protocol.prompt_averaging == "mean-l2":
        features, overlong = encoder.raw_texts(flat)
    else:
        encoded = encoder.texts(flat)
        features, overlong = encoded.gather(encoded.rows(flat)), encoded.overlong
    of_class = features.unflatten(0, (len(texts), -1))
    return class_features(of_class, protocol.prompt_averaging), set(overlong)  # type: ignore[arg-type]


def _classify(found: VisualFeatures, clips: Sequence[ActionClip], classes: Tensor, ties: Ties) -> Classified:
    row_of = {clip_id: row for row, (clip_id, _) in enumerate(found.looks)}
    videos = found.take(torch.tensor([row_of[clip.clip_id] for clip in clips], dtype=torch.int64))
    labels = np.array([clip.label for clip in clips], dtype=np.int64)
    return classify(score_matrix(videos.numpy(), classes.numpy()), labels, ties=ties)
