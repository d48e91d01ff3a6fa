"""Situation predictions beside what annotators say, with frames: the clips that changed most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from figclip_cli.errors import UsageError
from figclip_cli.evaluate.datasets.vidsitu import SituationTruth, read_split, read_truth
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS
from figclip_cli.evaluate.datasets.vidsitu_predictions import SituationPredictions, read_predictions
from figclip_cli.evaluate.situation_page.cells import (
    NOT_ANNOTATED,
    counted,
    escaped,
    isolated,
    judge_verb,
    listed,
    phrase_cell,
    relation_cell,
    unasked_cell,
    unasked_keys,
    verb_cell,
)
from figclip_cli.evaluate.situation_page.choice import best_and_worst, most_changed
from figclip_cli.evaluate.situation_page.inputs import ChosenClip, ClipPredictions, PageClip, PageEvent, PagePrediction
from figclip_cli.evaluate.situation_page.make import phrase_cider
from figclip_cli.evaluate.situation_page.pictures import EventPictures, PagePictures
from figclip_cli.evaluate.situation_page.source import page_clips, page_predictions
from figclip_cli.report.markup import Row, Section, nothing, table
from figclip_cli.report.material import SituationFiles
from figclip_cli.report.pictures import FrameFiles
from figclip_cli.report.predictions import RunPredictions, of_situations
from figclip_cli.report.runs import ReportRun
from figclip_cli.report.texts import plain, whole

ANCHOR, TITLE = "situations", "Situation predictions"
_LONGEST_ALT = 300
_JUDGED = (
    "right: the first verb is one that an annotator named, a phrase has the words of one annotator; close: a later "
    "verb is, or a word is shared; wrong: none of that."
)


def situations(
    runs: Sequence[ReportRun],
    found: Sequence[RunPredictions],
    files: SituationFiles | None,
    frames: FrameFiles,
    count: int,
) -> Section:
    """Return some clips with what each head predicts of them.

    Raises:
        InputError: A prediction or annotation file breaks its format.
        UsageError: Annotation is missing that the predictions need.
    """
    own = of_situations(found)
    if not own or files is None:
        why = (
            "No head of these runs has predicted situations for this report."
            if not own
            else "There is no annotation to show the predictions beside."
        )
        command = (
            f"figclip report {runs[0].folder.path} --predictions FOLDER --vidsitu FOLDER, after figclip train-head "
            "situation and figclip predict situation,"
        )
        return Section(ANCHOR, TITLE, nothing(why, command), False)
    clip_ids = read_split(files.split)
    predictions = {one.label: read_predictions([one.folder], clip_ids, allow_missing=True) for one in own}
    truth = _truth(files, predictions)
    clips = page_clips(truth)
    scores = {label: phrase_cider(truth, made) for label, made in predictions.items()}
    said = {label: page_predictions(truth.clip_ids, made, scores[label]) for label, made in predictions.items()}
    by_phrases = {label: _phrase_scores(of_phrases) for label, of_phrases in scores.items()}
    by_verbs = {label: _verb_scores(clips, made) for label, made in said.items()}
    chosen = _choose(by_phrases, count) or _choose(by_verbs, count) or _first(truth.clip_ids, said, count)
    pictures = _pictures(own, frames, [one.clip_id for one in chosen])
    heads = ", ".join(f"{isolated(one.label)} by the head {isolated(one.head)}" for one in own)
    html = f"<p>Predicted of {len(clip_ids):,} clips: {heads}.</p>\n"
    html += f'<p class="soft">{escaped(_JUDGED)}</p>\n'
    if pictures is None:
        html += '<p class="none">The clips are not shown: pass the frames that were looked at with --frames.</p>\n'
    html += "".join(_clip(one, clips[one.clip_id], said, pictures) for one in chosen)
    return Section(ANCHOR, TITLE, html)


def _truth(files: SituationFiles, predictions: Mapping[str, SituationPredictions]) -> SituationTruth:
    kinds = {kind for made in predictions.values() for kind in made.kinds}
    there = files.annotations is not None and files.annotations.is_file()
    needs = bool({"roles", "relations"} & kinds)
    if needs and files.annotations is None:
        raise UsageError("predicted roles and relations are shown beside --annotations", "or name a --vidsitu folder")
    return read_truth(
        files.split, files.annotations if needs or there else None, files.vinfo if "verbs" in kinds else None
    )


def _phrase_scores(cider: Mapping[tuple[str, str, str], float]) -> dict[str, float]:
    """Return the mean CIDEr of the phrases of each clip; empty where none are predicted."""
    values: dict[str, list[float]] = {}
    for (clip_id, _, _), score in cider.items():
        values.setdefault(clip_id, []).append(score)
    return {clip_id: fmean(scores) for clip_id, scores in values.items()}


def _verb_scores(clips: Mapping[str, PageClip], said: ClipPredictions) -> dict[str, float]:
    """Return the share of the events of each predicted clip whose first verb is right."""
    return {
        clip_id: fmean(
            judge_verb(event, one) == "right" for event, one in zip(clip.events, said_of(said, clip), strict=True)
        )
        for clip_id, clip in clips.items()
        if clip_id in said
    }


def said_of(made: ClipPredictions, clip: PageClip) -> Sequence[PagePrediction | None]:
    """Return what a model says of each event of a clip, None of each where it says nothing of the clip."""
    return made.get(clip.clip_id) or [None] * len(clip.events)


def _choose(scores: Mapping[str, Mapping[str, float]], count: int) -> list[ChosenClip]:
    """Return the clips that changed most from the first model, the base where there is one, to the last.

    Returns:
        Of the clips that both predict; empty where none of these changed, or not all models have scores.
    """
    labels = list(scores)
    if not all(scores.values()):
        return []
    if len(labels) == 1:
        return best_and_worst(scores[labels[0]], count)
    first, last = scores[labels[0]], scores[labels[-1]]
    shared = first.keys() & last.keys()
    before, after = ({clip_id: one[clip_id] for clip_id in shared} for one in (first, last))
    return most_changed(before, after, count, names=(plain(labels[0], 40), plain(labels[-1], 40)))


def _first(clip_ids: Sequence[str], said: Mapping[str, ClipPredictions], count: int) -> list[ChosenClip]:
    """Return the first predicted clips where none can be chosen by what changed, and why."""
    first, *others = (made.keys() for made in said.values())
    if others and not first & others[-1]:
        why = "the heads predict different clips, so nothing can be set against each other"
    else:
        why = "no clip changed" if others else "among the first"
    return [ChosenClip(one, why) for one in clip_ids if any(one in made for made in said.values())][:count]


def _pictures(own: Sequence[RunPredictions], frames: FrameFiles, clip_ids: Sequence[str]) -> PagePictures | None:
    reader = next((found for one in own if (found := frames.reader(one.frames_sha256)) is not None), None)
    if reader is None or not set(reader.clip_ids).intersection(clip_ids) or reader.recipe.events != len(EVENTS):
        return None
    return PagePictures(reader, clip_ids)


def _clip(
    chosen: ChosenClip, clip: PageClip, said: Mapping[str, ClipPredictions], pictures: PagePictures | None
) -> str:
    shown = [EventPictures()] * len(clip.events) if pictures is None else pictures.of(clip)
    absent = [label for label, made in said.items() if clip.clip_id not in made]
    html = f"<h3>{isolated(clip.clip_id)}</h3>\n<p>{escaped(chosen.why)}</p>\n"
    html += "".join(f"<p>{isolated(label)} predicts nothing for this clip.</p>\n" for label in absent)
    html += "".join(f'<p class="soft">{escaped(why)}</p>\n' for why in dict.fromkeys(o.missing for o in shown) if why)
    for index, event in enumerate(clip.events):
        of_models = {label: said_of(made, clip)[index] for label, made in said.items()}
        html += f"<h4>Event {index + 1}</h4>\n{_figures(event, shown[index])}"
        html += _table(f"Event {index + 1} of {clip.clip_id}", event, of_models)
    return html


def _table(caption: str, event: PageEvent, said: Mapping[str, PagePrediction | None]) -> str:
    models = said.values()
    rows = [Row(("verb",), (counted(event.verbs), *(verb_cell(event, one) for one in models)))]
    for role in event.roles:
        title = f" <small>{isolated(role.title)}</small>" if role.title else ""
        cells = (listed(role.phrases), *(phrase_cell(role, one) for one in models))
        rows.append(Row((isolated(role.key) + title,), cells))
    for key in unasked_keys(event, models):
        rows.append(Row((isolated(key),), (NOT_ANNOTATED, *(unasked_cell(key, one) for one in models))))
    if event.relations:
        cells = (counted(event.relations), *(relation_cell(event, one) for one in models))
        rows.append(Row(("relation to the third event",), cells))
    return table(caption, ("role", "annotators", *map(isolated, said)), rows)


def _figures(event: PageEvent, found: EventPictures) -> str:
    if not found.pictures:
        return ""
    alt = whole(plain(_sentence(event), _LONGEST_ALT))
    return (
        '<div class="pictures">'
        + "".join(
            f'<img src="{one.uri}" alt="{alt} (frame {number} of {len(found.pictures)} shown, '
            f'at {one.seconds:.1f} seconds)">'
            for number, one in enumerate(found.pictures, start=1)
        )
        + "</div>\n"
    )


def _sentence(event: PageEvent) -> str:
    """Return who does what, as an annotator has it."""
    roles = "; ".join(f"{role.title or role.key}: {role.phrases[0]}" for role in event.roles if role.phrases)
    return f"{event.verbs[0] if event.verbs else 'no verb annotated'}. {roles}"
