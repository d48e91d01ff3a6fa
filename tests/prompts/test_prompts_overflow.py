"""Prompts over the context: what is left out, in which order, and what is refused."""

from __future__ import annotations

import pytest

from figclip_cli.errors import InputError
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.overflow import DROP_ORDER, Fitted
from figclip_cli.prompts.overflow import fit as fit_template
from figclip_cli.prompts.roles import GENERIC_NAMES, Role
from figclip_cli.prompts.templates import TEMPLATES

WHERE = ("v_x", 0, 0)


@pytest.fixture(scope="module")
def counter() -> TokenCounter:
    return TokenCounter()


def fit(verb: str, roles: list[Role], **options) -> Fitted:
    return fit_template(verb, roles, template=TEMPLATES["paper"], **options)


def role(arg: str, words: int) -> Role:
    return Role(arg, GENERIC_NAMES.get(arg, arg), " ".join(["man"] * words))


def lost_when(counter, roles, rule="drop") -> list[str]:
    return [role.arg for role in fit("walk", roles, counter=counter, on_overflow=rule, where=WHERE).lost]


def test_a_prompt_that_fits_is_kept_whole_under_every_rule(counter):
    roles = [role("Arg0", 50)]
    for rule in ("drop", "truncate", "error"):
        fitted = fit("walk", roles, counter=counter, on_overflow=rule, where=WHERE)
        assert (fitted.roles, fitted.lost, fitted.overlong) == (tuple(roles), (), False)


def test_roles_go_in_the_documented_order_and_no_more_than_needed(counter):
    args = [
        "Arg0",
        "Arg1",
        "Arg2",
        "Arg3",
        "Arg4",
        "Arg5",
        "direction",
        "purpose",
        "manner",
        "location",
        "goal",
        "scene",
    ]
    for gone in range(1, len(DROP_ORDER) + 1):
        # The agent grows until exactly the first `gone` roles of the order must leave.
        for words in range(1, 70):
            roles = [role(arg, words if arg == "Arg0" else 1) for arg in args]
            lost = lost_when(counter, roles)
            if len(lost) == gone:
                break
        assert set(lost) == set(DROP_ORDER[:gone])


def test_lost_and_kept_roles_keep_their_order_and_the_text_fits(counter):
    roles = [role("scene", 30), role("Arg0", 30), role("goal", 30), role("Arg1", 5)]
    fitted = fit("walk", roles, counter=counter, on_overflow="drop", where=WHERE)
    assert [r.arg for r in fitted.roles] == ["Arg0", "Arg1"]
    assert [r.arg for r in fitted.lost] == ["scene", "goal"]
    assert fitted.overlong
    text = " ".join(fitted.pieces)
    assert counter.fits(text)
    assert text.startswith("In this photo, the action is walk, the agent is man")


def test_of_two_roles_of_one_kind_the_later_goes_first(counter):
    first, second = Role("Arg1", "a", "man " * 29 + "one"), Role("Arg1", "b", "man " * 29 + "two")
    fitted = fit("walk", [role("Arg0", 20), first, second], counter=counter, on_overflow="drop", where=WHERE)
    assert fitted.lost == (second,)


def test_the_agent_loses_words_only_when_nothing_else_is_left(counter):
    fitted = fit("walk", [role("Arg0", 90), role("Arg1", 1)], counter=counter, on_overflow="drop", where=WHERE)
    assert [r.arg for r in fitted.lost] == ["Arg1"]
    assert fitted.words_cut
    assert counter.count_pieces(fitted.pieces) == counter.context_length
    assert fitted.roles[0].value == " ".join(["man"] * len(fitted.roles[0].value.split()))


def test_a_cut_agent_does_not_end_in_a_comma(counter):
    long = Role("Arg0", "agent", " ".join(["man,"] * 60))
    fitted = fit("walk", [long], counter=counter, on_overflow="drop", where=WHERE)
    assert not fitted.roles[0].value.endswith(",")


def test_truncate_keeps_the_text_and_says_that_it_is_too_long(counter):
    roles = [role("Arg0", 90), role("goal", 3)]
    fitted = fit("walk", roles, counter=counter, on_overflow="truncate", where=WHERE)
    assert (fitted.roles, fitted.lost, fitted.overlong) == (tuple(roles), (), True)
    assert counter.count_pieces(fitted.pieces) > 77


def test_error_names_clip_event_and_tokens(counter):
    with pytest.raises(InputError) as caught:
        fit("walk", [role("Arg0", 90)], counter=counter, on_overflow="error", where=WHERE)
    tokens = counter.count("In this photo, the action is walk, the agent is " + " ".join(["man"] * 90) + ".")
    assert (
        caught.value.message == f"clip v_x, annotation 0, event 0: the prompt has {tokens} tokens, the model takes 77"
    )


def test_what_cannot_be_shortened_is_refused_rather_than_cut_silently(counter):
    for verb, roles in (
        ("wa" * 200, []),
        ("walk", [Role("Arg0", "agent", "xq" * 200)]),
        ("walk", [role("Arg0", 0)] * 40),
    ):
        with pytest.raises(Problem, match="verb and agent alone are over the model's 77 tokens"):
            fit(verb, roles, counter=counter, on_overflow="drop", where=WHERE)
