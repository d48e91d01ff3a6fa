"""Annotation and frames in, ``heads/NAME/`` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.evaluate.datasets.vidsitu_annotations import SituationAnnotation, read_annotations
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.files import sha256_of_file, sha256_of_json
from figclip_cli.heads.chance import seeded
from figclip_cli.heads.folder import HEAD_FORMAT, HEAD_FORMAT_VERSION, HeadFolder
from figclip_cli.heads.held_out import held_out_clips
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.seen_model import SeenModel
from figclip_cli.heads.situation.card import head_card
from figclip_cli.heads.situation.examples import Annotated, Examples, make_examples
from figclip_cli.heads.situation.head import HeadSizes, SituationHead, parameter_counts
from figclip_cli.heads.situation.inputs import StoredFeatures, features_of, refuse_other_frames, situation_frames
from figclip_cli.heads.situation.labels import SituationLabels, labels_of, roles_of
from figclip_cli.heads.situation.options import PARTS, TASK, SituationOptions
from figclip_cli.heads.situation.task import ClipSet, SituationTask
from figclip_cli.heads.training import TrainSummary, fit
from figclip_cli.heads.vocabulary import Vocabulary, make_vocabulary, save_vocabulary
from figclip_cli.reporting import SILENT, Reporter


@dataclass(frozen=True)
class AnnotatedClips:
    """Clips to learn from or to be measured on.

    Attributes:
        annotations: VidSitu's ``vsann_SPLIT_lb.json``.
        clips: Their frames.
    """

    annotations: Path
    clips: StoredClips


@dataclass(frozen=True)
class _Split:
    """Clips that have both annotation and frames, and what is known of them."""

    annotated: Annotated
    clip_ids: tuple[str, ...]
    facts: Mapping[str, Any]


def train_situation(
    training: AnnotatedClips,
    model: SeenModel,
    folder: HeadFolder,
    *,
    options: SituationOptions,
    how: TrainingOptions,
    validation: AnnotatedClips | None = None,
    cache: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> TrainSummary:
    """Train a head, or go on with one.

    Args:
        validation: Clips to be measured after each epoch; None holds ``options.valid_share`` of the others out.
        cache: Folder in whose ``.figclip`` features are kept.

    Raises:
        UsageError: The folder exists and neither flag allows touching it, or it was begun with other choices.
        InputError: A file is missing or breaks its format, or nothing is left to train on.
        VerificationError: A loss is not finite.
        KeyboardInterrupt: It was stopped; ``resume`` goes on.
    """
    split, held_out = _splits(training, validation, options, how, reporter)
    labels, vocabulary = _learned_from(split, options)
    sizes = HeadSizes(
        feature_width=model.clip.width,
        frames_per_event=training.clips.reader.recipe.frames_per_event,
        senses=len(labels.senses),
        vocabulary_size=vocabulary.size,
        width=options.width,
        event_layers=options.event_layers,
        context_layers=options.context_layers,
        decoder_layers=options.decoder_layers,
        attention_heads=options.attention_heads,
        max_tokens=options.max_tokens,
        dropout=how.dropout,
        parts=tuple(part for part in PARTS if part in options.parts),
    )
    module = make_head(sizes, labels, seed=how.seed)
    sets = [_examples(part, labels, vocabulary, options) for part in (split, held_out) if part is not None]
    config = _config(model, training, (split, held_out), sets[0], module, options, how)
    resuming = folder.check(config, may_change=frozenset({"device"}), resume=resume, overwrite=overwrite)
    features = [
        _features(model, source, part, cache, reporter)
        for source, part in ((training, split), (validation or training, held_out))
        if part is not None
    ]
    clip_sets = [ClipSet(examples, of) for examples, of in zip(sets, features, strict=True)]
    module.to(model.clip.device)
    task = SituationTask(
        module, clip_sets[0], clip_sets[1] if len(clip_sets) > 1 else None, options, how, vocabulary.pad_id
    )
    folder.begin(config, resuming=resuming)
    save_vocabulary(folder.vocabulary_file, vocabulary)
    labels.save(folder.labels_file)
    fitted = fit(task, folder, how, resuming=resuming, reporter=reporter)
    result = {**fitted.as_dict(), "files": folder.companions()}
    folder.finish(config, result, head_card(folder.name, config, result))
    return TrainSummary(folder, fitted, config)


def _features(
    model: SeenModel, source: AnnotatedClips, part: _Split, cache: Path | None, reporter: Reporter
) -> StoredFeatures:
    found, frames = features_of(model, source.clips, part.clip_ids, cache=cache, reporter=reporter)
    if frames.failed:
        first, why = next(iter(frames.failed.items()))
        raise InputError(f"{len(frames.failed)} clips cannot be read, the first is {first}: {why}", "extract again")
    return found


def make_head(sizes: HeadSizes, labels: SituationLabels, *, seed: int = 0) -> SituationHead:
    """Return a head with random weights that follow from the seed."""
    with seeded(seed, "weights"):
        return SituationHead(sizes, labels.role_log_odds())


def _splits(
    training: AnnotatedClips,
    validation: AnnotatedClips | None,
    options: SituationOptions,
    how: TrainingOptions,
    reporter: Reporter,
) -> tuple[_Split, _Split | None]:
    """Return the clips to train on and those to measure.

    Raises:
        InputError: A clip is in both files, or one of the two is empty.
    """
    every = _usable(training, "training", reporter)
    if validation is not None:
        refuse_other_frames(validation.clips, situation_frames(training.clips), "training")
        other = _usable(validation, "validation", reporter)
        if twice := set(every.clip_ids) & set(other.clip_ids):
            where = f"{training.annotations} and {validation.annotations}"
            raise InputError(f"{len(twice)} clips are in both {where}, such as {min(twice)}", "hold other clips out")
        return every, other
    out = held_out_clips(every.clip_ids, options.valid_share, how.seed)
    if not out:
        return every, None
    kept = tuple(clip_id for clip_id in every.clip_ids if clip_id not in out)
    measured = tuple(clip_id for clip_id in every.clip_ids if clip_id in out)
    return _Split(every.annotated, kept, every.facts), _Split(every.annotated, measured, every.facts)


def _usable(source: AnnotatedClips, what: str, reporter: Reporter) -> _Split:
    """Return the annotated clips that have frames; says how many have none."""
    annotated = read_annotations(source.annotations)
    missing = {clip_id: why for clip_id in annotated if (why := source.clips.why_missing(clip_id)) is not None}
    clip_ids = tuple(sorted(clip_id for clip_id in annotated if clip_id not in missing))
    if not clip_ids:
        first, why = next(iter(missing.items()))
        raise InputError(
            f"not one of the {len(annotated)} {what} clips of {source.annotations} has frames; '{first}': {why}",
            f"{source.clips.example()}: are the ids written alike?",
        )
    if missing:
        first, why = next(iter(missing.items()))
        reporter.warn(f"{len(missing)} of {len(annotated)} {what} clips are left out, the first is {first}: {why}")
    facts = {
        "annotations": {"name": source.annotations.name, "sha256": sha256_of_file(source.annotations)},
        "annotated": len(annotated),
        "without_frames": len(missing),
        "frames_sha256": source.clips.reader.content_sha256,
    }
    return _Split(annotated, clip_ids, facts)


def _learned_from(split: _Split, options: SituationOptions) -> tuple[SituationLabels, Vocabulary]:
    annotations: list[SituationAnnotation] = [one for clip_id in split.clip_ids for one in split.annotated[clip_id]]
    events = [event for annotation in annotations for event in annotation]
    phrases = [phrase for event in events for phrase in list(roles_of(event).values())[: options.max_roles]]
    if "roles" in options.parts and not phrases:
        raise InputError("no event of the training clips has a role with a phrase", "leave roles out of --parts")
    if "relations" in options.parts and not any(event.relation for event in events):
        raise InputError("no event of the training clips has a relation", "leave relations out of --parts")
    vocabulary = make_vocabulary(options.vocabulary, phrases, size=options.vocabulary_size)
    return labels_of(events), vocabulary


def _examples(split: _Split, labels: SituationLabels, vocabulary: Vocabulary, options: SituationOptions) -> Examples:
    return make_examples(
        split.annotated,
        split.clip_ids,
        labels,
        vocabulary,
        max_tokens=options.max_tokens,
        max_roles=options.max_roles,
    )


def _config(
    model: SeenModel,
    training: AnnotatedClips,
    splits: tuple[_Split, _Split | None],
    examples: Examples,
    module: SituationHead,
    options: SituationOptions,
    how: TrainingOptions,
) -> dict[str, Any]:
    """Return the configuration of a head as plain JSON values."""
    split, held_out = splits
    rows = examples.rows
    return {
        "format": HEAD_FORMAT,
        "format_version": HEAD_FORMAT_VERSION,
        "task": TASK,
        "options": options.as_dict(),
        "training": how.as_dict(),
        "features": model.features,
        "model": dict(model.facts),
        "device": model.clip.device.type,
        "frames": situation_frames(training.clips),
        "clips": {
            "training": {**split.facts, **_described(split.clip_ids)},
            "validation": None if held_out is None else {**held_out.facts, **_described(held_out.clip_ids)},
        },
        "examples": {
            "events": len(rows.events.clip),
            "phrases": len(rows.phrases.role),
            "overlong_phrases": examples.overlong,
            "relations": len(rows.relations.label),
        },
        "sizes": module.sizes.as_dict(),
        "parameters": parameter_counts(module),
    }


def _described(clip_ids: Sequence[str]) -> dict[str, Any]:
    return {"used": len(clip_ids), "sha256": sha256_of_json(list(clip_ids))}
