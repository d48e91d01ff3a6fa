"""Compositional choices made in memory: boxes, events, rules of parts, what items of one image share, what is gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from figclip_cli.errors import InputError, VerificationError
from figclip_cli.evaluate.compositional import evaluate_compositional
from figclip_cli.evaluate.datasets.choices import Average, Choice, Compositional, Look, PartRule
from figclip_cli.evaluate.encoders import Encoding
from figclip_cli.evaluate.protocols import ProtocolOptions
from figclip_cli.evaluate.task_options import CompositionalOptions
from figclip_cli.evaluate.visuals import ImageFiles, StoredClips
from figclip_cli.frames import FramesReader
from figclip_cli.models.adapted import load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

STRICT, LENIENT = PartRule("micro", "strict"), PartRule("micro", "lenient")
PROTOCOL = ProtocolOptions().resolve()


@pytest.fixture
def clip(prepared):
    return load_clip(ModelSource(str(prepared / "base-model")))


@pytest.fixture
def images(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(generator.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    return ImageFiles([tmp_path], size=32, crop="center")


@pytest.fixture
def clips(prepared):
    return StoredClips(FramesReader(prepared / "frames.h5"), PROTOCOL)


def choice(name, look, *texts, part="a", group=""):
    return Choice(name, (look,), texts, part, group)


def benchmark(*choices, rules=None, averages=(), uses="images"):
    rules = rules or dict.fromkeys(dict.fromkeys(one.part for one in choices), STRICT)
    return Compositional("toy", "toy", "0" * 64, choices, rules, tuple(averages), {}, uses)


def evaluated(clip, source, made, *, run=None, ties="official"):
    options = CompositionalOptions(ties=ties)
    return evaluate_compositional(clip, source, made, encoding=Encoding(PROTOCOL), run=run, options=options)


def value(results, name, group=""):
    (found,) = [one for one in (*results.metrics, *results.groups) if (one.name, one.group) == (name, group)]
    return found


def margin_by_hand(clip, pixels, texts):
    """One frame and one text at a time, the right text first."""
    with torch.no_grad():
        frames = [clip.encode_frames(torch.from_numpy(one[None].copy()))[0] for one in pixels]
        look = normalize(torch.stack(frames).mean(0), dim=-1)
        scores = [float(look @ normalize(clip.encode_texts([text])[0], dim=-1)) for text in texts]
    return scores[0] - max(scores[1:])


def test_an_image_and_each_box_of_it_are_looked_at_for_themselves(clip, images):
    boxes = [None, (0, 0, 32, 32), (40, 10, 32, 32), (3, 4, 36, 32)]
    texts = "a red dog", "a blue dog", "dog red a"
    made = benchmark(*(choice(str(n), Look(image="1.png", box=box), *texts) for n, box in enumerate(boxes)))
    evaluation = evaluated(clip, images, made)
    assert evaluation.results.asked == evaluation.results.evaluated == {"items": 4, "images": 1}
    margins = [sample.outcomes["base"].margin for sample in evaluation.samples()]
    whole = np.asarray(Image.open(images.roots[0] / "1.png"))
    cuts = [whole[0:32, 0:32], whole[10:42, 40:72], whole[4:36, 5:37]]
    assert margins[1:] == pytest.approx([margin_by_hand(clip, [cut], texts) for cut in cuts], abs=1e-6)
    assert len(set(margins)) == 4 and {sample.look for sample in evaluation.samples()} == {"1.png"}


def test_a_clip_and_each_event_of_it_are_looked_at_for_themselves(clip, clips):
    clip_id, texts = clips.reader.clip_ids[2], ("a man walks", "a man runs")
    made = benchmark(
        *(choice(str(n), Look(clip_id=clip_id, event_index=event), *texts) for n, event in enumerate((None, 0, 4))),
        uses="clips",
    )
    evaluation = evaluated(clip, clips, made)
    stored = clips.reader.read(clip_id)
    expected = [margin_by_hand(clip, pixels, texts) for pixels in (stored.reshape(-1, 32, 32, 3), stored[0], stored[4])]
    assert [s.outcomes["base"].margin for s in evaluation.samples()] == pytest.approx(expected, abs=1e-6)
    assert evaluation.results.evaluated == {"items": 3, "clips": 1}
    beyond = benchmark(choice("x", Look(clip_id=clip_id, event_index=5), *texts), uses="clips")
    with pytest.raises(InputError, match="event 5 of clip .* is asked for, the frames have 5 events"):
        evaluated(clip, clips, beyond)


def test_each_part_follows_its_own_rule_of_ties_unless_one_is_asked_for(clip, images):
    rules = {"a": STRICT, "b": LENIENT}
    looks = [Look(image=f"{number}.png") for number in range(4)]
    made = benchmark(
        choice("0", looks[0], "a dog", "a dog"),
        choice("1", looks[1], "two", "one", "two", part="b"),
        choice("2", looks[2], "two", "two", "two", part="b"),
        rules=rules,
        averages=[Average("mean", ("a", "b")), Average("mean of means", ("mean", "b"))],
    )
    official = evaluated(clip, images, made)
    right = {sample.id: sample.outcomes["base"].right for sample in official.samples()}
    by_hand = margin_by_hand(clip, [images.read(("1.png", None))[0]], ("two", "one")) >= 0
    assert right == {"0": False, "1": by_hand, "2": True}
    assert official.results.protocol["ties"] == {"a": "strict", "b": "lenient"}
    b = 50.0 * (1 + by_hand)
    values = {one.name: one.value for one in official.results.metrics}
    assert values == pytest.approx(
        {"a": 0, "b": b, "mean": b / 2, "mean of means": 0.75 * b, "all items": 100 * (1 + by_hand) / 3}
    )
    lenient = evaluated(clip, images, made, ties="lenient").results
    strict = evaluated(clip, images, made, ties="strict").results
    assert (value(lenient, "a").value, value(strict, "b").value) == (100.0, 0.0)
    for results in (official.results, lenient, strict):
        assert value(results, "a", "ties lenient").value == 100 and value(results, "b", "ties strict").value == 0


def test_items_of_one_image_are_drawn_together(clip, images):
    texts = [("a red dog", "dog a"), ("a cat", "the blue sky"), ("one", "two"), ("sees a man", "a man sees")]
    items = [choice(str(n), Look(image=f"{n}.png"), *pair) for n, pair in enumerate(texts)]
    again = [choice(f"{n} again", Look(image=f"{n}.png"), *pair) for n, pair in enumerate(texts)]
    once, twice = (evaluated(clip, images, benchmark(*made)).results for made in (items, items + again))
    assert value(twice, "a").value == value(once, "a").value and 0 < value(once, "a").value < 100
    assert value(twice, "a").standard_error == pytest.approx(value(once, "a").standard_error)
    assert (value(once, "a").n, value(twice, "a").n) == (4, 8)


def test_an_average_whose_part_has_no_image_left_is_not_given_under_its_name(clip, images):
    made = benchmark(
        choice("0", Look(image="0.png"), "a dog", "a cat"),
        choice("1", Look(image="gone.png"), "a dog", "a cat", part="b"),
        averages=[Average("mean", ("a", "b"))],
    )
    results = evaluated(clip, images, made).results
    assert results.evaluated == {"items": 1, "images": 1} and list(results.missing) == ["gone.png"]
    assert "mean" not in [one.name for one in results.metrics]


def test_an_item_of_two_images_needs_both(clip, images):
    rule = PartRule("micro", "strict", scoring="winoground")
    pairs = [("0.png", "1.png"), ("2.png", "gone.png"), ("2.png", "3.png")]
    made = benchmark(
        *(
            Choice(str(n), (Look(image=a), Look(image=b)), ("a red dog", "a dog red"), "w")
            for n, (a, b) in enumerate(pairs)
        ),
        rules={"w": rule},
    )
    evaluation = evaluated(clip, images, made)
    assert [sample.id for sample in evaluation.samples()] == ["0", "2"]
    assert evaluation.results.asked == {"items": 3, "images": 5}
    assert evaluation.results.evaluated == {"items": 2, "images": 4}
    assert [one.name for one in evaluation.results.metrics] == ["text score", "image score", "group score"]


def test_a_damaged_image_is_listed_and_one_that_changes_between_models_is_an_error(finished_run, images, monkeypatch):
    made = benchmark(*(choice(str(n), Look(image=f"{n}.png"), "a dog", "dog a") for n in range(4)))
    path = images.roots[0] / "2.png"
    good = path.read_bytes()
    path.write_bytes(good[:100])
    results = evaluated(load_base(finished_run), images, made, run=finished_run).results
    assert results.evaluated == {"items": 3, "images": 3} and results.missing["2.png"].startswith("image 2.png ")
    path.write_bytes(good)
    real, reads = images.read, []

    def read(look):
        reads.append(look)
        if len(reads) > 4 and look[0] == "2.png":
            raise InputError("image 2.png cannot be read: gone", "fetch it again")
        return real(look)

    monkeypatch.setattr(images, "read", read)
    with pytest.raises(InputError, match="1 looks were read for one model and not for .*2.png"):
        evaluated(load_base(finished_run), images, made, run=finished_run)


@pytest.mark.parametrize("tower", ["visual.proj", "text_projection"])
def test_a_model_whose_features_are_not_finite_is_refused(clip, images, tower):
    with torch.no_grad():
        clip.model.get_parameter(tower).fill_(float("nan"))
    with pytest.raises(VerificationError, match="not finite"):
        evaluated(clip, images, benchmark(choice("0", Look(image="0.png"), "a", "b")))


def test_without_a_single_image_nothing_is_computed(clip, images):
    made = benchmark(choice("0", Look(image="gone.png"), "a", "b"), choice("1", Look(image="away.png"), "a", "b"))
    with pytest.raises(InputError, match="not one of the 2 images asked for is there: 'away.png': not in"):
        evaluated(clip, images, made)
