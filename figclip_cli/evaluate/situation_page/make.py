"""The page of situations out of what ``figclip evaluate situation`` reads: files in, one HTML file out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from figclip_cli.evaluate.datasets.vidsitu import SituationTruth, read_split, read_truth
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions, read_predictions
from figclip_cli.evaluate.metrics.cider import cider
from figclip_cli.evaluate.situation.role_items import hypotheses_of, role_items
from figclip_cli.evaluate.situation.task import SituationInputs, predictions_name
from figclip_cli.evaluate.situation_page.cells import judge_verb
from figclip_cli.evaluate.situation_page.choice import best_and_worst, most_changed
from figclip_cli.evaluate.situation_page.inputs import ChosenClip, ClipPredictions, PageClip, PagePrediction
from figclip_cli.evaluate.situation_page.page import write_page
from figclip_cli.evaluate.situation_page.source import PhraseCider, page_clips, page_predictions
from figclip_cli.frames import FramesReader

DEFAULT_COUNT = 5


def write_situation_page(
    path: Path,
    inputs: SituationInputs,
    *,
    clip_ids: Sequence[str] = (),
    count: int = DEFAULT_COUNT,
    frames: FramesReader | None = None,
) -> list[ChosenClip]:
    """Write a page of some clips of an evaluation.

    Args:
        path: An ``.html`` file.
        inputs: What is evaluated; everything is read again.
        clip_ids: The clips. None: of two models, ``count`` clips that gained most and as many that lost most; of one,
            as many best and worst. A clip's score is the mean CIDEr of its phrases, 0 to 10, or where none are
            predicted the share of its events with the right verb first.
        count: See there.
        frames: Where pictures come from.

    Returns:
        What is shown.

    Raises:
        UsageError: A clip is not of the split, or too many are asked for.
        InputError: A file breaks its format, or the frames are of other clips.
    """
    clips_of_split = read_split(inputs.split)
    given = {"base": inputs.base, "adapted": inputs.predictions} if inputs.base else {"": inputs.predictions}
    models = {
        name or predictions_name(paths): read_predictions(paths, clips_of_split, allow_missing=inputs.allow_missing)
        for name, paths in given.items()
    }
    truth = _truth(inputs, [kind for predictions in models.values() for kind in predictions.kinds])
    clips = page_clips(truth)
    scores = {name: phrase_cider(truth, predictions) for name, predictions in models.items()}
    said = {name: page_predictions(truth.clip_ids, models[name], scores[name]) for name in models}
    chosen = [ChosenClip(clip_id, "asked for") for clip_id in clip_ids]
    if not chosen:
        first, *others = (_clip_scores(clips, said[name], scores[name]) for name in models)
        chosen = most_changed(first, others[0], count) if others else best_and_worst(first, count)
    if not chosen:
        chosen = [ChosenClip(clip_id, "no clip changed") for clip_id in truth.clip_ids[:count]]
    title = f"Situations: {', '.join(predictions_name(paths) for paths in given.values())}"
    write_page(path, chosen, frames, clips, said, title=title)
    return chosen


def _truth(inputs: SituationInputs, kinds: Sequence[str]) -> SituationTruth:
    """Read what there is: annotations also where nothing but verbs is predicted, votes only where verbs are."""
    annotated = inputs.annotations is not None and ("verbs" not in kinds or inputs.annotations.is_file())
    return read_truth(
        inputs.split, inputs.annotations if annotated else None, inputs.vinfo if "verbs" in kinds else None
    )


def phrase_cider(truth: SituationTruth, predictions: SituationPredictions) -> PhraseCider:
    """Return the CIDEr of each phrase that is scored, 0 to 10, with the idf of all of them, as in the headline number.

    Returns:
        By clip id, event and role; empty where no roles are predicted.
    """
    if not predictions.roles:
        return {}
    items = role_items(truth).items
    scores = cider(hypotheses_of(items, predictions), [item.texts for item in items])
    keys = [(truth.clip_ids[item.clip], EVENTS[item.event], item.name) for item in items]
    return dict(zip(keys, scores.tolist(), strict=True))


def _clip_scores(clips: dict[str, PageClip], said: ClipPredictions, cider_of_phrases: PhraseCider) -> dict[str, float]:
    if cider_of_phrases:
        values: dict[str, list[float]] = {}
        for (clip_id, _, _), score in cider_of_phrases.items():
            values.setdefault(clip_id, []).append(score)
        return {clip_id: float(np.mean(scores)) for clip_id, scores in values.items()}
    return {clip_id: _right_verbs(clip, said.get(clip_id, ())) / len(clip.events) for clip_id, clip in clips.items()}


def _right_verbs(clip: PageClip, said: Sequence[PagePrediction]) -> int:
    return sum(judge_verb(event, one) == "right" for event, one in zip(clip.events, said, strict=False))
