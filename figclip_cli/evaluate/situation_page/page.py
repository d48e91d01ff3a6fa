"""A page to look at: what models say of some clips beside what annotators say. One HTML file that needs nothing else.

It takes plain texts, whatever they were read from, so that any model's predictions can be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.situation_page.choice import nearest_clip
from figclip_cli.evaluate.situation_page.html import render_page
from figclip_cli.evaluate.situation_page.inputs import (
    ChosenClip,
    ClipPredictions,
    PageClip,
    PageEvent,
    PagePrediction,
    PageRole,
)
from figclip_cli.evaluate.situation_page.pictures import PagePictures
from figclip_cli.files import replacing
from figclip_cli.frames import FramesReader

__all__ = [
    "MAX_PAGE_CLIPS",
    "ChosenClip",
    "ClipPredictions",
    "PageClip",
    "PageEvent",
    "PagePrediction",
    "PageRole",
    "write_page",
]

MAX_PAGE_CLIPS = 200


def write_page(
    path: Path,
    clips: Sequence[ChosenClip | str],
    frames: FramesReader | None,
    truth: Mapping[str, PageClip],
    predictions_by_model: Mapping[str, ClipPredictions],
    *,
    title: str = "Situations in clips",
) -> None:
    """Write the page.

    Args:
        path: An ``.html`` file.
        clips: What is shown, in this order; a clip named twice is shown once.
        frames: Where pictures come from; a clip that is not there is shown without. None shows none.
        truth: Annotation by clip id.
        predictions_by_model: By name of the model, as headings show it, then by clip id: one for each event. Clips may
            be absent.
        title: Heading of the page.

    Raises:
        UsageError: No clip or too many, one without annotation, no model, or a name that is no page's.
        InputError: Predictions have another number of events than the annotation, or the frames have; or none of the
            clips has frames.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"the page {path} is no .html", "the name's ending says what it is")
    chosen = _unique(clips)
    _check(chosen, truth, predictions_by_model)
    pictures = PagePictures(frames, [clip.clip_id for clip in chosen])
    shown = [(clip, truth[clip.clip_id], pictures.of(truth[clip.clip_id])) for clip in chosen]
    with replacing(path) as temporary:
        temporary.write_text(render_page(title, shown, predictions_by_model), encoding="utf-8")


def _unique(clips: Sequence[ChosenClip | str]) -> list[ChosenClip]:
    chosen = [ChosenClip(clip) if isinstance(clip, str) else clip for clip in clips]
    return list({clip.clip_id: clip for clip in reversed(chosen)}.values())[::-1]


def _check(
    chosen: Sequence[ChosenClip], truth: Mapping[str, PageClip], predictions: Mapping[str, ClipPredictions]
) -> None:
    if not 1 <= len(chosen) <= MAX_PAGE_CLIPS:
        raise UsageError(f"a page shows 1 to {MAX_PAGE_CLIPS} clips, not {len(chosen)}", "name some, or fewer")
    if not predictions:
        raise UsageError("there are no predictions to show", "give those of one model or more")
    for clip in chosen:
        if clip.clip_id not in truth:
            raise UsageError(f"no clip '{clip.clip_id}' is in the annotation", nearest_clip(clip.clip_id, truth))
        events = len(truth[clip.clip_id].events)
        for model, of_model in predictions.items():
            if clip.clip_id in of_model and len(of_model[clip.clip_id]) != events:
                said = len(of_model[clip.clip_id])
                raise InputError(
                    f"{model} predicts {said} events of clip '{clip.clip_id}', the annotation has {events}",
                    "are these predictions for this annotation?",
                )
