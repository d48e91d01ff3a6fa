"""Template files, the natural sentence, joined texts, captions turned into annotation, and words."""

from __future__ import annotations

import json

import pytest
from vidsitu_fixture import event, lines_of, push, record, world, write

from figclip_cli.errors import InputError, UsageError
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts import PromptOptions, Role, build
from figclip_cli.prompts.english import head, is_plural, verb_lemma, with_article, with_right_articles
from figclip_cli.prompts.from_captions import convert_captions
from figclip_cli.prompts.lexicon import adjective_kinds, nouns_like, opposite_of, verbs_like
from figclip_cli.prompts.roles import propbank
from figclip_cli.prompts.template_file import read_template
from figclip_cli.prompts.templates import TEMPLATES

TEMPLATE = """# how my lab says it
text: Someone is {verb_ing}{roles}.
role: ; the {name} is {a_value}
modifier: ; {name}: {value}
scene: , {{in}} {a_value}
purpose:
"""
ROLES = [
    Role("Arg0", "pusher", "man"),
    Role("manner", "manner", "slowly"),
    Role("purpose", "purpose", "to win"),
    Role("scene", "scene", "office"),
]


def test_a_template_file_makes_texts(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(TEMPLATE)
    template = read_template(path)
    assert template.text("push", ROLES) == "Someone is pushing; the pusher is a man; manner: slowly, {in} an office."
    summary = build(
        [write(tmp_path / "a.json", *world())], tmp_path / "p.jsonl", options=PromptOptions(template=str(path))
    )
    header = lines_of(tmp_path / "p.jsonl")[0]
    assert header["options"]["template"] == "mine.txt"
    assert len(header["options"]["template_sha256"]) == 64
    assert summary.counts["negatives"]["verb-role"] == 60


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rolle: {value}", "line 2: no key 'rolle'"),
        ("no colon here", "line 2: 'no colon here' is not KEY: TEXT"),
        ("role: {valeu}", "line 2: role cannot have {valeu}"),
        ("role: {value!r}", "line 2: role cannot have {value}"),
        ("role: {value", "line 2: expected '}' before end of string"),
        ("text: {verb}", "line 2: text is there already"),
        ("manner: {verb}", "line 2: manner cannot have {verb}"),
        ("# only a comment", "has no line 'role: ...'"),
    ],
)
def test_a_bad_template_names_the_line(tmp_path, line, expected):
    path = tmp_path / "mine.txt"
    path.write_text(f"text: {{verb}}{{roles}}\n{line}\n")
    with pytest.raises(InputError) as caught:
        read_template(path)
    assert expected in caught.value.message


def test_a_text_without_anything_of_the_event_is_refused(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("text: hello\nrole: {value}\n")
    with pytest.raises(InputError, match="line 1: the text has neither a verb nor"):
        read_template(path)


@pytest.mark.parametrize(
    ("verb", "roles", "expected"),
    [
        ("push", [("Arg0", "pusher", "two men"), ("Arg1", "thing pushed", "old car")], "Two men push an old car."),
        ("look", [("Arg0", "looker", "she"), ("Arg1", "thing looked at", "dog")], "She looks at a dog."),
        ("hit", [("Arg0", "hitter", "boy"), ("Arg2", "instrument", "bat")], "A boy hits with a bat."),
        ("open", [("Arg1", "thing opened", "the door")], "The door opens."),
        ("light up", [("Arg0", "lighter", "John")], "John lights up."),
        (
            "walk",
            [("direction", "direction", "left"), ("manner", "manner", "slow")],
            "Someone walks to the left in a slow manner.",
        ),
        (
            "run",
            [("Arg0", "runner", "people"), ("purpose", "purpose", "catch the bus")],
            "People run to catch the bus.",
        ),
        ("swim", [("Arg0", "swimmer", "girl"), ("location", "location", "in the sea")], "A girl swims in the sea."),
        ("talk", [("Arg0", "talker", "boy"), ("Arg2", "hearer", "his mother")], "A boy talks to his mother."),
    ],
)
def test_the_natural_sentence_agrees_and_has_articles_and_prepositions(verb, roles, expected):
    assert TEMPLATES["natural"].text(verb, [Role(*role) for role in roles]) == expected


def test_words():
    assert [verb_lemma(word) for word in ("ran", "pushes", "clinging", "xyzzy")] == ["run", "push", "cling", "xyzzy"]
    assert [head(p) for p in ("two tall men in black", "in the park", "up", "the", "")] == [
        "men",
        "park",
        "up",
        "the",
        "",
    ]
    assert [is_plural(p) for p in ("man", "men", "a boss", "glasses", "man and dog", "police officer")] == [
        False, True, False, True, True, False,
    ]  # fmt: skip
    assert [with_article(p) for p in ("hour", "water", "his car", "old man", "John")] == [
        "an hour", "water", "his car", "an old man", "John",
    ]  # fmt: skip
    assert with_right_articles("an red car and A old hat") == "a red car and An old hat"


def test_the_lexicon_is_symmetric_and_covers_what_it_must():
    for sense in propbank():
        verb = sense.rpartition(".")[0].replace("_", " ")
        assert verb in verbs_like(verb)
        for other in verbs_like(verb):
            assert verb in verbs_like(other)
    assert {"move", "stroll", "go"} <= verbs_like("walk")
    assert "person" in nouns_like("tall man")
    assert "man" in nouns_like("a person")
    assert opposite_of("to the LEFT side") == "to the right side"
    assert opposite_of("sideways") is None
    assert adjective_kinds()["golden"] == {"colour", "material"}


def test_a_joined_text_fits_and_its_negatives_are_other_orders_of_its_events(tmp_path):
    walk, look = event(), event({"Arg0 (looker)": "girl"}, verb="look", sense="look.01")
    records = [record("v_a", walk, push("woman in red", "old car"), look), record("v_b", walk)]
    options = PromptOptions(negatives={"temporal": 3})
    build([write(tmp_path / "a.json", *records)], tmp_path / "p.jsonl", options=options, joined=tmp_path / "j.jsonl")
    header, first, second = lines_of(tmp_path / "j.jsonl")
    assert header["format"] == "figclip-joined-texts"
    assert header["counts"]["negatives"] == {"temporal": 3}
    assert header["counts"]["negatives_missing"] == {"temporal": 3}
    assert first["text"].startswith(
        "In this video, first the action is walk, the walker is man with short hair, then the"
    )
    assert TokenCounter().fits(first["text"])
    assert header["counts"]["roles_lost"] == {
        role: first["lost_roles"].get(role, 0) + second["lost_roles"].get(role, 0)
        for role in {**first["lost_roles"], **second["lost_roles"]}
    }
    assert len({negative["text"] for negative in first["negatives"]}) == 3
    for negative in first["negatives"]:
        order = negative["change"]["order"]
        told = [first["events"][place] for place in order]
        clauses = [
            " ".join(TEMPLATES["paper"].clause(each["verb"], [Role(**role) for role in each["roles"]])) for each in told
        ]
        assert negative["text"] == f"In this video, first {', then '.join(clauses)}."
    assert second["negatives"] == []  # five times the same event has no other order


def test_temporal_negatives_without_joined_texts_are_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="made of joined texts"):
        build(
            [write(tmp_path / "a.json", *world())],
            tmp_path / "p.jsonl",
            options=PromptOptions(negatives={"temporal": 1}),
        )


def converted(tmp_path, content, name="c.json") -> tuple[list[dict], tuple[str, ...]]:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    summary = convert_captions(path, tmp_path / "annotations.json", overwrite=True)
    return json.loads((tmp_path / "annotations.json").read_text())["events"], summary.problems


def test_a_caption_in_the_papers_words_becomes_annotation_and_the_same_prompt_again(tmp_path):
    text = "In this photo, the action is walk, the walker is man, in black, direction is forward, scene is apartment."
    events, problems = converted(tmp_path, [{"clip": "v1", "event": 2, "caption": text}])
    assert problems == ()
    assert events == [
        {
            "clip": "v1",
            "event": 2,
            "verb": "walk.01",
            "roles": {"Arg0 (walker)": "man, in black", "direction": "forward", "scene": "apartment"},
        }
    ]
    build([tmp_path / "annotations.json"], tmp_path / "p.jsonl")
    assert lines_of(tmp_path / "p.jsonl")[1]["text"] == text


def test_questions_and_answers_become_annotation_and_what_is_unclear_is_left_out_and_reported(tmp_path):
    qa = [
        {"question": "What is happening?", "answer": "pushes"},
        {"question": "Who is the pusher?", "answer": "a man"},
        {"question": "<Q-ARG1> is pushed", "answer": "the car"},
        {"question": "How does he push it?", "answer": "slowly"},
        {"question": "Which direction does he go?", "answer": "left"},
        {"question": "What colour is it?", "answer": "red"},
    ]
    events, problems = converted(tmp_path, [{"clip": "v1", "qa": qa}, {"clip": "v2", "caption": "A man walks."}])
    assert events == [
        {
            "clip": "v1",
            "verb": "push.01",
            "roles": {"Arg0 (pusher)": "a man", "Arg1": "the car", "manner": "slowly", "direction": "left"},
        }
    ]
    assert len(problems) == 2
    assert "record 1: caption: it does not say 'the action is VERB'" in problems[0] + problems[1]
    assert "'What colour is it?' asks for no role that is known; it was left out" in problems[0] + problems[1]


def test_questions_in_rows_are_put_together(tmp_path):
    rows = "clip,event,question,answer\nv1,0,what is the action,walk\nv1,0,who is the agent?,man\nv1,1,why?,to win\n"
    events, problems = converted(tmp_path, rows, "c.csv")
    assert events == [{"clip": "v1", "verb": "walk", "roles": {"Arg0": "man"}}]
    assert problems == (f"{tmp_path / 'c.csv'}, line 4: clip v1, event 1: no verb, and no question asks for it",)


def test_a_file_of_which_nothing_can_be_turned_is_refused(tmp_path):
    with pytest.raises(InputError, match="nothing in .* can be turned"):
        converted(tmp_path, [{"clip": "v1", "caption": "A man walks."}])
