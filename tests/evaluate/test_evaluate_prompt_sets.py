"""Prompt templates against OpenAI's published lists, and averages against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_evaluate_class_names import openai_lists

from figclip_cli.errors import InputError, UsageError
from figclip_cli.evaluate.datasets.prompt_sets import (
    AVERAGINGS,
    PROMPT_SET_NAMES,
    PromptSet,
    class_features,
    prompt_set,
    read_templates,
    texts_of,
)
from figclip_cli.models.pooling import POOLINGS


@pytest.mark.parametrize(
    ("name", "section", "count"), [("openai-ucf101", "UCF101", 48), ("openai-kinetics", "Kinetics700", 28)]
)
def test_openai_lists_equal_the_published_ones_in_order(shared_data, name, section, count):
    _, templates = openai_lists(shared_data, section)
    assert len(set(templates)) == count
    assert prompt_set(name).templates == tuple(templates)


def test_openai_is_resolved_by_data_set_and_named_by_what_it_became():
    for dataset_id in ("ucf101", "hmdb51"):
        assert prompt_set("openai", dataset_id=dataset_id) == prompt_set("openai-ucf101")
    for dataset_id in ("", "kinetics400", "ssv2"):
        assert prompt_set("openai", dataset_id=dataset_id).name == "openai-kinetics"


def test_every_named_set_has_distinct_templates_with_one_place():
    for name in PROMPT_SET_NAMES:
        templates = prompt_set(name).templates
        assert len(set(templates)) == len(templates) > 0
        assert all(template.count("{}") == 1 for template in templates)
    with pytest.raises(UsageError, match="no prompt set 'foto'") as caught:
        prompt_set("foto")
    assert "photo" in caught.value.hint


def test_texts_hold_the_names_as_they_are():
    assert texts_of(prompt_set("bare"), ["a {0} b", "c"]) == (("a {0} b",), ("c",))
    assert texts_of(PromptSet("two", ("x {}.", "{} y")), ["Tai Chi"]) == (("x Tai Chi.", "Tai Chi y"),)
    assert texts_of(prompt_set("photo"), ["dog"]) == (("a photo of a dog.",),)


def test_templates_are_read_from_a_file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("a clip of {}.\r\n\r\n{}\n", encoding="utf-8")
    assert read_templates(path) == PromptSet("mine.txt", ("a clip of {}.", "{}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no templates"),
        ("a clip of {}.\na clip\n", "line 2: 0 places"),
        ("{} and {}\n", "line 1: 2 places"),
        ("a {name} of {}\n", "line 1: 1 places"),
        ("a {{}}\n", "line 1"),
        ("x {}\nx {}\n", "twice"),
    ],
)
def test_broken_template_files_name_the_line(tmp_path, text, message):
    path = tmp_path / "mine.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        read_templates(path)


def simple_average(features, averaging):
    """Average one class with plain numpy in float64."""
    steps = averaging.split("-")
    value = np.asarray(features, dtype=np.float64)
    for step in steps:
        value = value.mean(axis=0) if step == "mean" else value / np.linalg.norm(value, axis=-1, keepdims=True)
    return value


@pytest.mark.parametrize("averaging", AVERAGINGS)
def test_averages_equal_the_simple_implementation(averaging):
    features = torch.randn(5, 7, 11, generator=torch.Generator().manual_seed(0)) * torch.rand(5, 7, 1) * 9
    found = class_features(features, averaging)
    assert found.shape == (5, 11) and found.dtype == torch.float32
    wanted = np.stack([simple_average(one.numpy(), averaging) for one in features])
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_the_three_averages_differ_in_direction_or_length():
    features = torch.tensor([[[3.0, 0.0], [0.0, 1.0]]])
    half = 0.5**0.5
    assert class_features(features, "l2-mean-l2")[0].tolist() == pytest.approx([half, half])
    assert class_features(features, "l2-mean")[0].tolist() == pytest.approx([0.5, 0.5])
    assert class_features(features, "mean-l2")[0].tolist() == pytest.approx([3 / 10**0.5, 1 / 10**0.5])
    assert set(AVERAGINGS) == set(POOLINGS)
