"""The texts of a run: which are used, as which rows, and where their features come from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_sources import annotations_of, event, opened, write_small_source
from torch.nn.functional import normalize

from figclip_cli.adapt.batches import Batch, Batches
from figclip_cli.adapt.options import AdaptOptions
from figclip_cli.adapt.processes import Processes
from figclip_cli.adapt.sources import ClipLists
from figclip_cli.adapt.text_side import FrozenTexts, TrainedTexts, texts_of_run, tokens_of
from figclip_cli.adapt.texts import ClipRef, kinds_of_negatives, texts_of, used_negatives
from figclip_cli.errors import InputError
from figclip_cli.models.clip import load_clip
from figclip_cli.models.lora import attach_lora
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SILENT

CPU = torch.device("cpu")
ALONE = Processes(0, 1, CPU)
PROMPTS = [
    event(
        "a", 0, "a man walks", [("verb-role", "a man runs"), ("role-noun", "a dog walks"), ("verb-role", "a man walks")]
    ),
    event("a", 1, "a girl sits"),
    event("a", 0, "someone walks", [("role-swap", "walks someone")], annotation=1),
    event("b", 1, "a man walks", [("role-noun", "a cat walks")]),
]


@pytest.fixture
def sources(tmp_path):
    return opened([write_small_source(tmp_path, "s", ["a", "b"], prompts=PROMPTS)])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("role-noun", "role-swap", "verb-role")),
        ({"negative_kinds": ("verb-role", "role-noun")}, ("role-noun", "verb-role")),
        ({"hard_negatives": False}, ()),
        ({"hard_negatives": False, "negative_kinds": ("no-such",)}, ()),
    ],
)
def test_the_kinds_that_are_used_are_those_asked_for_or_all(sources, values, expected):
    assert kinds_of_negatives(sources, AdaptOptions(**values)) == expected


def test_a_kind_that_occurs_nowhere_is_refused_with_the_nearest(sources):
    with pytest.raises(InputError, match="no negatives of the kind 'verb-rol'") as caught:
        kinds_of_negatives(sources, AdaptOptions(negative_kinds=("role-noun", "verb-rol")))
    assert caught.value.hint == "did you mean 'verb-role'?"


def test_a_negative_that_says_what_the_prompt_says_is_never_used():
    assert [one.text for one in used_negatives(PROMPTS[0], ("verb-role", "role-noun"))] == ["a man runs", "a dog walks"]
    assert used_negatives(PROMPTS[0], ()) == []


def test_only_texts_that_are_used_are_encoded(sources):
    everything = {"a man walks", "a girl sits", "someone walks"}
    assert set(texts_of(sources, ())) == everything
    assert set(texts_of(sources, ("role-noun",))) == everything | {"a dog walks", "a cat walks"}


def test_texts_of_clips_that_are_not_used_are_not_encoded(tmp_path):
    files = write_small_source(tmp_path, "s", ["a", "b"], prompts=PROMPTS)
    (tmp_path / "x.txt").write_text("a\n")
    assert texts_of(opened([files], ClipLists(exclude=(tmp_path / "x.txt",))), ("role-noun",)) == [
        "a man walks",
        "a cat walks",
    ]


def test_each_annotation_of_a_clip_has_its_own_texts(sources):
    made, table = annotations_of(sources, AdaptOptions())

    def said(rows):
        return [table[row] if row >= 0 else None for row in rows]

    assert set(made) == {ClipRef(0, "a"), ClipRef(0, "b")} and len(made[ClipRef(0, "b")]) == 1
    first, second = made[ClipRef(0, "a")]
    assert said(first.positives) == ["a man walks", "a girl sits"] and said(second.positives) == ["someone walks", None]
    assert [said(row) for row in first.negatives] == [["a man runs", "a dog walks"], [None, None]]
    assert first.kinds.tolist() == [[2, 0], [-1, -1]] and second.kinds.tolist() == [[1], [-1]]


def test_two_sources_may_have_a_clip_of_one_id(tmp_path):
    files = [write_small_source(tmp_path, name, ["a"], prompts=[event("a", 0, name)]) for name in ("s", "t")]
    made, table = annotations_of(opened(files), AdaptOptions())
    assert [table[made[ClipRef(number, "a")][0].positives[0]] for number in (0, 1)] == ["s", "t"]


@pytest.fixture
def clip(tiny_model):
    return load_clip(ModelSource(str(tiny_model)), device="cpu")


def batch_of(sources, side_and_annotations):
    batches = Batches(sources, side_and_annotations.annotations, size=2, seed=0)
    return next(batches.stream(0, 0, 1))


def made_texts(clip, sources, options, folder):
    kinds = kinds_of_negatives(sources, options)
    return texts_of_run(clip, sources, kinds, options, ALONE, beside=folder / "p.jsonl", reporter=SILENT)


def encoded(clip, texts):
    with torch.no_grad():
        return normalize(clip.model.encode_text(clip.tokenizer(texts)), dim=-1)


def test_frozen_texts_are_those_of_the_tower_and_known_beforehand(clip, sources, tmp_path):
    made = made_texts(clip, sources, AdaptOptions(), tmp_path)
    batch = batch_of(sources, made)
    table = sorted(set(texts_of(sources, ("role-noun", "role-swap", "verb-role"))))
    expected = encoded(clip, [table[row] for row in batch.layout.text_rows])
    assert isinstance(made.side, FrozenTexts) and made.overlong == 0
    assert torch.allclose(made.side.known(batch.layout), expected, atol=1e-5)
    brought = replace(batch, texts=torch.ones(2, 3))
    assert torch.equal(made.side.features(brought, parts=1, seed=None), brought.texts)
    assert torch.equal(made.side.features(batch, parts=3, seed=None), made.side.known(batch.layout))
    made.side.backward()


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_trained_texts_are_encoded_in_each_step_with_their_gradients(clip, sources, tmp_path, parts):
    options = AdaptOptions(rank=2, towers="text")
    attach_lora(clip.model, options.lora(), seed=0, image_size=32, context_length=77)
    made = made_texts(clip, sources, options, tmp_path)
    batch = batch_of(sources, made)
    assert made.side.known(batch.layout) is None
    table = sorted(set(texts_of(sources, ("role-noun", "role-swap", "verb-role"))))
    trained = [p for p in clip.model.parameters() if p.requires_grad]
    weights = torch.randn(len(batch.layout.text_rows), 32, generator=torch.Generator().manual_seed(0))
    found = made.side.features(batch, parts=parts, seed=None)
    (found * weights).sum().backward()
    made.side.backward()
    expected = normalize(clip.model.encode_text(clip.tokenizer([table[row] for row in batch.layout.text_rows])), dim=-1)
    wanted = torch.autograd.grad((expected * weights).sum(), trained)
    assert torch.allclose(found, expected, atol=1e-6)
    assert all(torch.allclose(p.grad, g, atol=1e-5) for p, g in zip(trained, wanted, strict=True))
    assert any(g.abs().max() > 1e-6 for g in wanted)


def test_trained_texts_want_features_before_gradients():
    with pytest.raises(AssertionError, match="features come first"):
        TrainedTexts(lambda tokens: tokens, torch.zeros(1, 2), ALONE).backward()


def test_a_text_over_the_context_is_counted_whichever_tower_is_trained(clip, tmp_path):
    prompts = [event("a", 0, "man " * 100), event("b", 0, "a man")]
    sources = opened([write_small_source(tmp_path, "s", ["a", "b"], prompts=prompts)])
    assert made_texts(clip, sources, AdaptOptions(), tmp_path).overlong == 1
    assert made_texts(clip, sources, AdaptOptions(towers="both"), tmp_path).overlong == 1


@pytest.mark.parametrize("block", [1, 2, 100])
def test_tokens_do_not_depend_on_the_block(clip, block):
    texts = ["a man", "a woman walks", "x", "a man"]
    found = tokens_of(texts, clip.tokenizer, block=block)
    assert found.dtype == torch.int32 and torch.equal(found.long(), clip.tokenizer(texts))


def test_a_batch_is_made_of_what_the_annotations_say(clip, sources, tmp_path):
    batch = batch_of(sources, made_texts(clip, sources, AdaptOptions(), tmp_path))
    assert isinstance(batch, Batch) and batch.texts is None and set(batch.layout.clip_ids) == {"a", "b"}
