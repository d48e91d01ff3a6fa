"""The sentence, and when two sentences say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figclip_cli.prompts.roles import Role
from figclip_cli.prompts.templates import clean_value, last_word, normalised, paper_prompt


def test_the_prompt_is_the_papers():
    roles = [
        Role("Arg0", "walker", "man with short hair"),
        Role("direction", "direction", "forward"),
        Role("manner", "manner", "slowly"),
        Role("scene", "scene", "apartment"),
    ]
    assert paper_prompt("walk", roles) == (
        "In this photo, the action is walk, the walker is man with short hair, direction is forward, "
        "manner is slowly, scene is apartment."
    )


def test_an_event_without_roles_still_has_its_action():
    assert paper_prompt("walk", []) == "In this photo, the action is walk."


@pytest.mark.parametrize(
    ("one", "other"),
    [("The man, a dog.", "man dog"), ("MAN", "man"), ("an  old-fashioned car", "old fashioned car"), ("the", "")],
)
def test_case_articles_punctuation_and_spaces_do_not_make_a_difference(one, other):
    assert normalised(one) == normalised(other)


def test_words_make_a_difference():
    assert normalised("man walks") != normalised("men walk")
    assert normalised("theatre") == "theatre"


@given(st.text())
def test_normalising_twice_changes_nothing_more(text):
    once = normalised(text)
    assert normalised(once) == once
    assert once == " ".join(once.split())


@given(st.text())
def test_a_cleaned_value_is_one_line_without_trailing_punctuation(text):
    value = clean_value(text)
    assert value == clean_value(value)
    assert value == " ".join(value.split())
    assert not value.endswith((".", ",", ";", ":", "!", "?", " "))


def test_the_last_word_is_normalised_too():
    assert [last_word(value) for value in ("man with a Hat.", "man", "the", "")] == ["hat", "man", "", ""]
