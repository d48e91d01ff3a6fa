"""The head learns what is to be seen, and nothing from features that tell nothing; it resumes to the same bytes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from dense_videos import KINDS, MadeVideos, small_head

from figclip_cli.heads.chance import seed_of
from figclip_cli.heads.dense.inference import Proposal, describe, propose
from figclip_cli.heads.dense.losses import PARTS
from figclip_cli.heads.dense.options import DensePredictOptions
from figclip_cli.heads.dense.task import DenseTask, score_proposals
from figclip_cli.heads.dense.videos import make_batch
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.training import fit
from figclip_cli.models.tensors import load_tensors

CONFIG = {"format": "figclip-head", "format_version": 1, "task": "dense-captioning"}
HELD_OUT = MadeVideos(20, 2)


def trained(tmp_path, *, shuffled=False, epochs=24, name="head", stop_after=None, resume=False, **changed):
    """Train on made-up videos; return the task and its folder."""
    videos = MadeVideos(60, 1, shuffled=shuffled)
    options, vocabulary, head = small_head(videos, **changed)
    how = TrainingOptions(epochs=epochs, lr=3e-3, batch_size=12, dropout=0.0)
    task = DenseTask(head, videos.as_set(), HELD_OUT.as_set(), options, how, vocabulary)
    folder = HeadFolder(tmp_path / name)
    resuming = folder.check(CONFIG, may_change=frozenset(), resume=resume, overwrite=False)
    folder.begin(CONFIG, resuming=resuming)
    if stop_after is not None:
        batches = task.batches

        def stopping(epoch):
            for number, batch in enumerate(batches(epoch)):
                if (epoch, number) == stop_after:
                    raise KeyboardInterrupt
                yield batch

        task.batches = stopping
    fit(task, folder, how, resuming=resuming)
    return task, folder, vocabulary


def scores(task, vocabulary, *, given=False):
    videos = [HELD_OUT.take(example.clip_id) for example in HELD_OUT.examples]
    batch, durations = make_batch(videos, 40), [video.duration_seconds for video in videos]
    if given:
        times = [example.annotated.segments_seconds for example in HELD_OUT.examples]
        made = describe(task.module, batch, durations, times, vocabulary, DensePredictOptions())
    else:
        made = propose(task.module, batch, durations, vocabulary, DensePredictOptions())
    return score_proposals(HELD_OUT.examples, made)


def annotated():
    """Return what a perfect head says."""
    return [
        [
            Proposal(*times, text, 1.0, 0.0, 1.0)
            for times, text in zip(
                example.annotated.segments_seconds.tolist(), example.annotated.sentences, strict=True
            )
        ]
        for example in HELD_OUT.examples
    ]


def majority():
    """Score the most frequent number of events at their mean places with the most frequent caption."""
    training = MadeVideos(60, 1).examples
    count = int(np.bincount([len(example.sentences) for example in training]).argmax())
    shares = [
        example.annotated.segments_seconds / example.annotated.duration_seconds
        for example in training
        if len(example.sentences) == count
    ]
    mean = np.mean(shares, axis=0)
    texts = [text for example in training for text in example.sentences]
    text = max(KINDS, key=texts.count)
    made = [
        [Proposal(*(pair * example.annotated.duration_seconds).tolist(), text, 1.0, 0.0, 1.0) for pair in mean]
        for example in HELD_OUT.examples
    ]
    return score_proposals(HELD_OUT.examples, made)


def test_it_finds_and_names_events_far_better_than_by_chance(tmp_path):
    task, folder, vocabulary = trained(tmp_path, epochs=14, best_by="loss")
    found = scores(task, vocabulary)
    blind_task, _, blind_vocabulary = trained(tmp_path, shuffled=True, name="blind", epochs=4, best_by="loss")
    blind, most = scores(blind_task, blind_vocabulary), majority()
    for name, least in (("f1", 0.15), ("cider", 1.0)):
        assert found[name] > max(blind[name], most[name]) + least, (name, found, blind, most)
    logged = [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]
    assert all(logged[-1][part] < logged[0][part] for part in PARTS)


def test_the_best_epoch_is_that_of_the_best_captions_and_segments(tmp_path):
    _, folder, _ = trained(tmp_path, epochs=3)
    logged = [json.loads(line)["validation"] for line in folder.metrics_file.read_text().splitlines()]
    assert set(logged[0]) >= {"score", "f1", "cider", "recall", "precision", "loss", *PARTS}
    assert all(line["score"] == pytest.approx((line["f1"] + line["cider"]) / 2) for line in logged)
    best = max(range(3), key=lambda number: logged[number]["score"]) + 1
    assert load_tensors(folder.weights_file, "head")[1]["epoch"] == best


def test_given_segments_are_named(tmp_path):
    task, folder, vocabulary = trained(tmp_path, mode="given", epochs=30, best_by="loss")
    found = scores(task, vocabulary, given=True)
    assert found["f1"] == 1 and found["cider"] > 0.7 * score_proposals(HELD_OUT.examples, annotated())["cider"]
    logged = json.loads(folder.metrics_file.read_text().splitlines()[-1])
    assert "giou" not in logged and logged["caption"] < 0.3


@pytest.mark.parametrize("mode", ["proposals", "given"])
def test_what_was_stopped_ends_with_the_same_bytes(tmp_path, mode):
    how = {"epochs": 3, "mode": mode, "best_by": "loss", "decoder_layers": 1}
    _, whole, _ = trained(tmp_path, **how)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, name="cut", stop_after=(1, 3), **how)
    _, cut, _ = trained(tmp_path, name="cut", resume=True, **how)
    for name in ("head.safetensors", "metrics.jsonl", "checkpoints/last.safetensors"):
        assert (cut.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_the_best_epoch_can_be_that_of_the_least_loss(tmp_path):
    _, folder, _ = trained(tmp_path, epochs=3, best_by="loss")
    logged = [json.loads(line) for line in folder.metrics_file.read_text().splitlines()]
    assert all("cider" not in line["validation"] for line in logged)
    best = min(logged, key=lambda line: line["validation"]["score"])
    assert best["validation"]["score"] == best["validation"]["loss"]
    assert load_tensors(folder.weights_file, "head")[1]["epoch"] == best["epoch"]


def test_weights_of_losses_weigh(tmp_path):
    videos = MadeVideos(6, 1)
    batch_of, totals = {}, {}
    for name in (None, *PARTS):
        changed = {} if name is None else {f"{name}_weight": 0.0}
        options, vocabulary, head = small_head(videos, decoder_layers=1, **changed)
        task = DenseTask(head.eval(), videos.as_set(), None, options, TrainingOptions(batch_size=6), vocabulary)
        totals[name], batch_of[name] = task.loss(next(task.batches(0)))
        assert task.validate() is None and task.steps() == 1
    parts, weights = batch_of[None], dict(zip(PARTS, (2.0, 2.0, 4.0, 0.5, 2.0), strict=True))
    assert float(totals[None].detach()) == pytest.approx(sum(weights[name] * parts[name] for name in PARTS), rel=1e-5)
    # Without the counter nothing else changes; the others also weigh in the matching.
    assert float(totals["count"].detach()) == pytest.approx(
        float(totals[None].detach()) - 0.5 * parts["count"], rel=1e-5
    )
    assert float(totals["caption"].detach()) == pytest.approx(
        float(totals[None].detach()) - 2.0 * parts["caption"], rel=1e-5
    )


def test_every_layer_is_told_and_can_be_left_untold():
    videos = MadeVideos(6, 1)
    for weight in (1.0, 0.0):
        options, vocabulary, head = small_head(videos, auxiliary_weight=weight)
        task = DenseTask(head, videos.as_set(), None, options, TrainingOptions(batch_size=6), vocabulary)
        loss, _ = task.loss(next(task.batches(0)))
        loss.backward()
        told = head.classes[0].weight.grad
        assert (told is not None and bool(told.any())) == (weight > 0)
        assert head.classes[1].weight.grad.any() and head.captions.embedding.weight.grad.any()


def test_orders_follow_from_seed_and_epoch_alone():
    videos = MadeVideos(12, 1)
    options, vocabulary, head = small_head(videos)

    def order(seed, epoch):
        task = DenseTask(head, videos.as_set(), None, options, TrainingOptions(batch_size=4, seed=seed), vocabulary)
        return [batch.durations_seconds for batch in task.batches(epoch)]

    before = torch.random.get_rng_state()
    assert order(0, 1) == order(0, 1) and order(0, 1) != order(0, 2) and order(0, 1) != order(1, 1)
    assert sorted(sum(order(0, 1), ())) == sorted(sum(order(0, 2), ()))
    assert torch.equal(before, torch.random.get_rng_state()) and seed_of(0, "a") != seed_of(0, "b")
