"""Action recognition on sets made in memory: splits with classes of their own, clips that go away, damaged weights."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.action import evaluate_action
from figclip_cli.evaluate.datasets.action_sets import ActionClip, ActionSet, ActionSplit
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.protocols import ProtocolOptions
from figclip_cli.evaluate.task_options import ActionOptions
from figclip_cli.evaluate.visuals import StoredClips, encoding
from figclip_cli.frames import FramesReader
from figclip_cli.models.adapted import load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

CLASSES = ("walk", "push a car", "hit a ball", "look around", "run away", "sleep")


@pytest.fixture
def clip(prepared):
    return load_clip(ModelSource(str(prepared / "base-model")))


@pytest.fixture
def frames(prepared):
    return FramesReader(prepared / "frames.h5")


def split_of(name, classes, labels):
    """A split in which clip n, by its number in ``labels``, is of a class."""
    clip_ids = [f"v_clip{number:07d}_seg_0_10" for number in labels]
    clips = tuple(ActionClip(clip_id, label) for clip_id, label in zip(clip_ids, labels.values(), strict=True))
    return ActionSplit(name, tuple(classes), clips)


def evaluated(clip, source, *splits, run=None, ties="average"):
    actions = ActionSet("toy", "0" * 64, "csv", splits)
    protocol = ProtocolOptions().resolve(prompts="photo")
    source = source if hasattr(source, "read") and hasattr(source, "unit") else StoredClips(source, protocol)
    return evaluate_action(
        clip, source, actions, encoding=Encoding(protocol), run=run, options=ActionOptions(ties=ties)
    )


def value(results, name, group=""):
    (found,) = [one for one in (*results.metrics, *results.groups) if (one.name, one.group) == (name, group)]
    return found


def ranks_by_hand(clip, frames, split):
    """One clip and one class at a time."""
    ranks = []
    with torch.no_grad():
        texts = [normalize(clip.encode_texts([f"a photo of a {name}."])[0], dim=-1) for name in split.classes]
        for one in split.clips:
            pixels = torch.from_numpy(frames.read(one.clip_id).reshape(-1, 32, 32, 3).copy())
            look = normalize(torch.stack([clip.encode_frames(p[None])[0] for p in pixels]).mean(0), dim=-1)
            scores = [float(look @ text) for text in texts]
            ranks.append(sum(other > scores[one.label] for other in scores))
    return ranks


def test_splits_may_have_classes_of_their_own(clip, frames):
    first = split_of("one", CLASSES, {0: 1, 1: 0, 2: 5, 3: 2})
    second = split_of("two", CLASSES[3:0:-1], {2: 0, 3: 2, 4: 1, 5: 1, 0: 2})
    results = evaluated(clip, frames, first, second).results
    assert results.asked == results.evaluated == {"clips": 6}
    tops = [[100 * np.mean([r < k for r in ranks_by_hand(clip, frames, split)]) for split in (first, second)]
            for k in (1, 5)]  # fmt: skip
    for name, alone in zip(("top-1", "top-5"), tops, strict=True):
        assert [value(results, name, split).value for split in ("one", "two")] == pytest.approx(alone)
        assert value(results, name).value == pytest.approx(statistics.fmean(alone))
        assert value(results, name).deviation == pytest.approx(statistics.stdev(alone))
    both = value(results, "mean of top-1 and top-5")
    assert both.value == pytest.approx(statistics.fmean(tops[0] + tops[1]))


def test_a_class_without_clips_competes_and_is_in_no_mean(clip, frames):
    labels = {number: number % 2 for number in range(6)}
    split = split_of("all", CLASSES, labels)
    results = evaluated(clip, frames, split).results
    hits = [rank == 0 for rank in ranks_by_hand(clip, frames, split)]
    means = [
        100 * np.mean([hit for hit, label in zip(hits, labels.values(), strict=True) if label == c]) for c in (0, 1)
    ]
    assert value(results, "per-class mean").value == pytest.approx(np.mean(means))
    assert {one.group for one in results.groups} == {"walk", "push a car"}
    assert results.protocol["splits"]["all"]["classes"] == 6


def test_the_order_of_classes_and_clips_changes_no_number(clip, frames):
    labels = {0: 1, 1: 4, 2: 5, 3: 2, 4: 0, 5: 1}
    turned = {number: len(CLASSES) - 1 - label for number, label in reversed(labels.items())}
    one = evaluated(clip, frames, split_of("s", CLASSES, labels))
    other = evaluated(clip, frames, split_of("s", CLASSES[::-1], turned))
    assert [m.value for m in one.results.metrics] == [m.value for m in other.results.metrics]
    samples = {sample.id: sample for sample in one.samples()}
    assert samples == {sample.id: sample for sample in other.samples()} and len(samples) == 6


def test_a_clip_of_two_splits_is_encoded_once_and_drawn_with_both(clip, frames, monkeypatch):
    counts = []
    real = encoding._encode
    monkeypatch.setattr(
        encoding, "_encode", lambda c, pixels, *rest: counts.append(len(pixels)) or real(c, pixels, *rest)
    )
    labels = {0: 1, 1: 0, 2: 5, 3: 2, 4: 3, 5: 1}
    alone = evaluated(clip, frames, split_of("one", CLASSES, labels)).results
    assert sum(counts) == 6 * 20
    twice = evaluated(clip, frames, split_of("one", CLASSES, labels), split_of("two", CLASSES, labels)).results
    assert sum(counts) == 2 * 6 * 20
    for one, two in zip(alone.metrics, twice.metrics, strict=True):
        assert two.value == pytest.approx(one.value) and two.standard_error == pytest.approx(one.standard_error)
        assert two.deviation == pytest.approx(0.0, abs=1e-9) and two.n == 2 * one.n


class Failing:
    """Stored clips of which some cannot be read from some time on."""

    def __init__(self, source, failing, after=0):
        self._source, self._failing, self._after, self._reads = source, failing, after, 0

    def __getattr__(self, name):
        return getattr(self._source, name)

    def read(self, look):
        self._reads += 1
        if look[0] in self._failing and self._reads > self._after:
            raise InputError(f"clip {look[0]} is damaged", "extract again")
        return self._source.read(look)


@pytest.fixture
def stored(frames):
    return StoredClips(frames, ProtocolOptions().resolve())


def test_a_damaged_clip_is_listed_with_the_reason_and_the_others_count(clip, frames, stored):
    labels = {0: 1, 1: 0, 2: 5, 3: 2}
    damaged = "v_clip0000002_seg_0_10"
    results = evaluated(clip, Failing(stored, {damaged}), split_of("s", CLASSES, labels)).results
    assert results.missing == {damaged: f"clip {damaged} is damaged"}
    assert (results.asked, results.evaluated) == ({"clips": 4}, {"clips": 3})
    assert results.protocol["splits"] == {"s": {"classes": 6, "asked": 4, "evaluated": 3}}
    del labels[2]
    rest = evaluated(clip, frames, split_of("s", CLASSES, labels)).results
    assert [m.value for m in results.metrics] == [m.value for m in rest.metrics]


def test_a_clip_that_only_one_model_could_see_is_an_error(finished_run, stored):
    damaged = Failing(stored, {"v_clip0000001_seg_0_10"}, after=4)
    split = split_of("s", CLASSES, {0: 1, 1: 0, 2: 5, 3: 2})
    with pytest.raises(InputError, match="1 looks were read for one model and not for .*v_clip0000001_seg_0_10"):
        evaluated(load_base(finished_run), damaged, split, run=finished_run)


def test_a_split_whose_clips_are_all_missing_is_an_error(clip, frames):
    there, gone = split_of("one", CLASSES, {0: 1, 1: 0}), split_of("two", CLASSES, {8: 1, 9: 0})
    with pytest.raises(InputError, match="no clip of split 'two' is there, for example 'v_clip0000008_seg_0_10'"):
        evaluated(clip, frames, there, gone)
    with pytest.raises(InputError, match="not one of the 2 clips asked for is there: 'v_clip0000008_seg_0_10'"):
        evaluated(clip, frames, gone)


@pytest.mark.parametrize("tower", ["visual.proj", "text_projection"])
def test_a_model_whose_features_are_not_finite_is_refused(clip, frames, tower):
    with torch.no_grad():
        clip.model.get_parameter(tower).fill_(float("nan"))
    with pytest.raises(VerificationError, match="not finite"):
        evaluated(clip, frames, split_of("s", CLASSES, {0: 1, 1: 0}))


def test_a_model_that_sees_no_difference_ties_all_classes(clip, frames):
    with torch.no_grad():
        clip.model.token_embedding.weight[:-2] = 1.0  # all words but the marks of start and end are one word
    split = split_of("s", ("walk", "swim", "push"), {0: 0, 1: 1, 2: 2, 3: 0})
    found = {ties: evaluated(clip, frames, split, ties=ties) for ties in ("average", "optimistic", "pessimistic")}
    assert {ties: value(one.results, "top-1").value for ties, one in found.items()} == {
        "average": 0.0,
        "optimistic": 100.0,
        "pessimistic": 0.0,
    }
    ranks = {ties: {sample.outcomes["base"].rank for sample in one.samples()} for ties, one in found.items()}
    assert ranks == {"average": {1.0}, "optimistic": {0.0}, "pessimistic": {2.0}}
    assert all(one.results.protocol["tied_clips"] == {"base": 4} for one in found.values())
    chosen = {ties: [sample.outcomes["base"].chosen for sample in one.samples()] for ties, one in found.items()}
    assert chosen["optimistic"] == ["walk", "swim", "push", "walk"]
    assert chosen["average"] == chosen["pessimistic"] == ["swim", "walk", "walk", "swim"]
