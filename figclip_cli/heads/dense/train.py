"""Annotation and frames in, ``heads/NAME/`` out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.heads.chance import seeded
from figclip_cli.heads.dense.card import head_card
from figclip_cli.heads.dense.head import DenseHead
from figclip_cli.heads.dense.inputs import (
    AnnotatedVideos,
    UsableVideos,
    described,
    refuse_other_frames,
    usable_videos,
)
from figclip_cli.heads.dense.options import TASK, DenseOptions
from figclip_cli.heads.dense.sizes import DenseSizes
from figclip_cli.heads.dense.task import DenseTask, ExampleSet
from figclip_cli.heads.dense.videos import Example, StoredVideos
from figclip_cli.heads.folder import HEAD_FORMAT, HEAD_FORMAT_VERSION, HeadFolder
from figclip_cli.heads.frame_features import frame_features
from figclip_cli.heads.held_out import held_out_clips
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.seen_frames import frames_facts
from figclip_cli.heads.seen_model import SeenModel
from figclip_cli.heads.training import TrainSummary, fit
from figclip_cli.heads.vocabulary import Vocabulary, make_vocabulary, save_vocabulary
from figclip_cli.reporting import SILENT, Reporter


def train_dense_captioning(
    training: AnnotatedVideos,
    model: SeenModel,
    folder: HeadFolder,
    *,
    options: DenseOptions,
    how: TrainingOptions,
    validation: AnnotatedVideos | None = None,
    cache: Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> TrainSummary:
    """Train a head, or go on with one.

    Args:
        validation: Videos to be measured after each epoch; None holds ``options.valid_share`` of the others out.
        cache: Folder in whose ``.figclip`` features are kept.

    Raises:
        UsageError: The folder exists and neither flag allows touching it, or it was begun with other choices.
        InputError: A file is missing or breaks its format, or nothing is left to train on.
        VerificationError: A loss is not finite.
        KeyboardInterrupt: It was stopped; ``resume`` goes on.
    """
    split, held_out = _splits(training, validation, options, how, reporter)
    sentences = [sentence for example in split.examples for sentence in example.sentences]
    vocabulary = make_vocabulary(options.vocabulary, sentences, size=options.vocabulary_size)
    overlong = sum(len(vocabulary.encode(sentence)) > options.max_tokens for sentence in sentences)
    sizes = _sizes(split.examples, model, vocabulary, options, how)
    _tell(split.examples, sizes, overlong, reporter)
    config = _config(model, training, (split, held_out), sizes, overlong, options, how)
    resuming = folder.check(config, may_change=frozenset({"device"}), resume=resume, overwrite=overwrite)
    sets = [
        _with_frames(part, source, model, cache, reporter)
        for part, source in ((split, training), (held_out, validation or training))
        if part is not None
    ]
    module = make_head(sizes, seed=how.seed).to(model.clip.device)
    task = DenseTask(module, sets[0], sets[1] if len(sets) > 1 else None, options, how, vocabulary)
    folder.begin(config, resuming=resuming)
    save_vocabulary(folder.vocabulary_file, vocabulary)
    fitted = fit(task, folder, how, resuming=resuming, reporter=reporter)
    result = {**fitted.as_dict(), "files": folder.companions()}
    folder.finish(config, result, head_card(folder.name, config, result))
    return TrainSummary(folder, fitted, config)


def make_head(sizes: DenseSizes, *, seed: int = 0) -> DenseHead:
    """Return a head with random weights that follow from the seed."""
    with seeded(seed, "weights"):
        return DenseHead(sizes)


def _splits(
    training: AnnotatedVideos,
    validation: AnnotatedVideos | None,
    options: DenseOptions,
    how: TrainingOptions,
    reporter: Reporter,
) -> tuple[UsableVideos, UsableVideos | None]:
    """Return the videos to train on and those to measure.

    Raises:
        InputError: A video is among both, or one of the two is empty.
    """
    every = usable_videos(training, "training", reporter, for_training=True)
    clip_ids = sorted({example.clip_id for example in every.examples})
    if validation is not None:
        refuse_other_frames(validation.clips, frames_facts(training.clips), f"{training.clips.reader.paths[0]}")
        other = usable_videos(validation, "validation", reporter)
        if twice := set(clip_ids) & {example.clip_id for example in other.examples}:
            raise InputError(
                f"{len(twice)} videos are trained on and held out, such as {min(twice)}", "hold other videos out"
            )
        return every, other
    out = held_out_clips(clip_ids, options.valid_share, how.seed)
    if not out:
        return every, None
    kept = tuple(example for example in every.examples if example.clip_id not in out)
    measured = tuple(example for example in every.examples if example.clip_id in out)
    return UsableVideos(kept, every.facts), UsableVideos(measured, every.facts)


def _sizes(
    examples: Sequence[Example],
    model: SeenModel,
    vocabulary: Vocabulary,
    options: DenseOptions,
    how: TrainingOptions,
) -> DenseSizes:
    most = max(len(example.sentences) for example in examples)
    return DenseSizes.of(
        options,
        feature_width=model.clip.width,
        vocabulary_size=vocabulary.size,
        max_events=min(most, options.queries),
        dropout=how.dropout,
    )


def _tell(examples: Sequence[Example], sizes: DenseSizes, overlong: int, reporter: Reporter) -> None:
    beyond = sum(len(example.sentences) > sizes.queries for example in examples)
    if beyond and not sizes.is_given:
        reporter.warn(f"{beyond} videos have more events than the {sizes.queries} --queries: some are never found")
    if overlong:
        reporter.warn(f"{overlong} captions are cut after {sizes.max_tokens} tokens; see --max-tokens")


def _with_frames(
    part: UsableVideos, source: AnnotatedVideos, model: SeenModel, cache: Path | None, reporter: Reporter
) -> ExampleSet:
    """Encode the frames of videos.

    Raises:
        InputError: A picture is damaged: what is trained on must not depend on that.
    """
    clip_ids = list(dict.fromkeys(example.clip_id for example in part.examples))
    frames = frame_features(
        model.clip, source.clips, clip_ids, precision=model.precision, cache=cache, reporter=reporter
    )
    if frames.failed:
        first, why = next(iter(frames.failed.items()))
        raise InputError(f"{len(frames.failed)} videos cannot be read, the first is {first}: {why}", "extract again")
    return ExampleSet(part.examples, StoredVideos(frames, source.clips))


def _config(
    model: SeenModel,
    training: AnnotatedVideos,
    splits: tuple[UsableVideos, UsableVideos | None],
    sizes: DenseSizes,
    overlong: int,
    options: DenseOptions,
    how: TrainingOptions,
) -> dict[str, Any]:
    """Return the configuration of a head as plain JSON values."""
    split, held_out = splits
    return {
        "format": HEAD_FORMAT,
        "format_version": HEAD_FORMAT_VERSION,
        "task": TASK,
        "options": options.as_dict(),
        "training": how.as_dict(),
        "features": "frames",
        "model": dict(model.facts),
        "device": model.clip.device.type,
        "frames": frames_facts(training.clips),
        "videos": {
            "training": {**split.facts, **described(split.examples)},
            "validation": None if held_out is None else {**held_out.facts, **described(held_out.examples)},
        },
        "overlong_captions": overlong,
        "sizes": sizes.as_dict(),
    }
