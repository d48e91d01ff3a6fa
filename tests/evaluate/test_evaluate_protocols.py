"""Choices that the command line lists without importing what they choose among."""

from __future__ import annotations

from dataclasses import fields

import pytest

from figclip_cli.errors import UsageError
from figclip_cli.evaluate import task_options
from figclip_cli.evaluate.datasets.class_names import NAME_STYLES
from figclip_cli.evaluate.datasets.prompt_sets import AVERAGINGS, PROMPT_SET_NAMES, prompt_set
from figclip_cli.evaluate.metrics.ranking import MULTI_CAPTION, TIES
from figclip_cli.evaluate.protocols import CROPS, POOLINGS, PROTOCOLS, ProtocolOptions
from figclip_cli.frames import sampling
from figclip_cli.models import pooling


def test_the_flags_choices_are_those_of_the_code_behind_them():
    assert task_options.TIES == TIES and task_options.MULTI_CAPTION == MULTI_CAPTION
    assert sorted(task_options.PROMPT_SETS) == sorted(PROMPT_SET_NAMES)
    assert task_options.AVERAGINGS == AVERAGINGS and task_options.NAME_STYLES == NAME_STYLES
    assert sorted(POOLINGS) == sorted(pooling.POOLINGS) and CROPS == sampling.CROPS


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_named_protocol_is_made_of_known_choices_and_changes_nothing_by_itself(name):
    protocol = ProtocolOptions(protocol=name).resolve()
    assert protocol == PROTOCOLS[name] and protocol.name == name and protocol.changed == ()
    assert protocol.pooling in POOLINGS and protocol.prompt_averaging in AVERAGINGS
    assert prompt_set(protocol.prompts, dataset_id="ucf101").templates and protocol.class_names in NAME_STYLES
    assert set(protocol.as_dict()) == {item.name for item in fields(protocol)}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"protocol": "clip4clp"}, "--protocol cannot be 'clip4clp'"),
        ({"pooling": "mean"}, "--pooling cannot be 'mean'"),
        ({"num_frames": 0}, "--num-frames must be at least 1"),
        ({"max_tokens": 2}, "--max-tokens must be at least 3"),
    ],
)
def test_choices_that_cannot_be_meant_are_refused(asked, said):
    with pytest.raises(UsageError, match=said):
        ProtocolOptions(**asked)
