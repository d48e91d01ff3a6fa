"""The sentence, and when two sentences say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figclip_cli.errors import UsageError
from figclip_cli.prompts.roles import Role
from figclip_cli.prompts.templates import TEMPLATES, clean_value, normalised, template_named


def paper_prompt(verb, roles):
    return TEMPLATES["paper"].text(verb, roles)


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


MAN = [
    Role("Arg0", "walker", "man with short hair"),
    Role("direction", "direction", "forward"),
    Role("manner", "manner", "slowly"),
    Role("scene", "scene", "apartment"),
]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("natural", "A man with short hair walks forward slowly in an apartment."),
        ("verb-only", "In this photo, the action is walk."),
        ("nouns-only", "In this photo: man with short hair, apartment."),
    ],
)
def test_the_other_templates(name, expected):
    assert TEMPLATES[name].text("walk", MAN) == expected


def test_shuffled_has_the_papers_words_in_another_order_and_the_same_every_time():
    paper, shuffled = TEMPLATES["paper"].text("walk", MAN), TEMPLATES["shuffled"].text("walk", MAN)
    assert sorted(normalised(paper).split()) == sorted(normalised(shuffled).split())
    assert normalised(paper) != normalised(shuffled)
    assert shuffled == TEMPLATES["shuffled"].text("walk", MAN)


@pytest.mark.parametrize("name", ["nouns-only", "shuffled"])
def test_where_order_says_nothing_exchanged_nouns_say_the_same(name):
    template = TEMPLATES[name]
    one = [Role("Arg0", "hitter", "boy"), Role("Arg1", "thing hit", "ball")]
    other = [Role("Arg0", "hitter", "ball"), Role("Arg1", "thing hit", "boy")]
    assert template.meaning(template.pieces("hit", one)) == template.meaning(template.pieces("hit", other))


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_what_a_text_says_is_what_its_pieces_say(name):
    template = TEMPLATES[name]
    expected = normalised(template.text("walk", MAN))
    assert template.meaning(template.pieces("walk", MAN)) == (
        " ".join(sorted(expected.split())) if template.bag else expected
    )


def test_an_unknown_template_is_a_usage_error_with_the_nearest_name():
    with pytest.raises(UsageError, match="no template 'natrual'") as caught:
        template_named("natrual")
    assert "natural" in caught.value.hint
