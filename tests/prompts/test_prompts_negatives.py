"""Negatives: false, distinct, reversible, and the same every time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vidsitu_fixture import event, lines_of, push, record, world, write

from figclip_cli.prompts import PromptOptions, Role, build
from figclip_cli.prompts.negatives import KINDS
from figclip_cli.prompts.roles import labels_of, lemma_of, propbank
from figclip_cli.prompts.templates import clean_value, last_word, normalised, paper_prompt


def events_of(folder: Path, *records: dict, **options) -> list[dict]:
    path = write(folder / "ann.json", *records)
    build([path], folder / "out.jsonl", options=PromptOptions(**options), overwrite=True)
    return lines_of(folder / "out.jsonl")[1:]


def roles_of(line: dict) -> list[Role]:
    return [Role(**role) for role in line["roles"]]


def changed(verb: str, roles: list[Role], kind: str, change: dict, *, undo: bool) -> tuple[str, list[Role]]:
    """Do or undo what ``change`` says, knowing nothing but it."""
    labels = labels_of(roles)
    old, new = (1, 0) if undo else (0, 1)
    source, target = ("to", "from") if undo else ("from", "to")
    if kind == "verb-role":
        assert verb == change["word"][source]
        names = change["role_names"]
        assert all(role.name == names[label][old] for label, role in zip(labels, roles, strict=True) if label in names)
        done = [
            Role(r.arg, names[lab][new] if lab in names else r.name, r.value)
            for lab, r in zip(labels, roles, strict=True)
        ]
        return change["word"][target], done
    values = {label: role.value for label, role in zip(labels, roles, strict=True)}
    if kind == "role-noun-swap":
        one, other = change["swap"]
        values[one], values[other] = values[other], values[one]
    else:
        assert values[change["role"]] == change[source]
        values[change["role"]] = change[target]
    return verb, [Role(role.arg, role.name, values[label]) for label, role in zip(labels, roles, strict=True)]


def check(lines: list[dict]) -> None:
    """What holds of every file."""
    positives: dict[tuple, set[str]] = {}
    for line in lines:
        positives.setdefault((line["clip_id"], line["event_index"]), set()).add(normalised(line["text"]))
    verbs: dict[tuple, set[str]] = {}
    for line in lines:
        given_verbs = verbs.setdefault((line["clip_id"], line["event_index"]), set())
        given_verbs |= {line["verb"].lower(), lemma_of(line["verb_sense"])}
    for line in lines:
        place = line["clip_id"], line["event_index"]
        said = [normalised(negative["text"]) for negative in line["negatives"]]
        assert len(set(said)) == len(said)
        assert not set(said) & positives[place]
        assert line["text"] == paper_prompt(line["verb"], roles_of(line))
        words = []
        for negative in line["negatives"]:
            kind, change = negative["kind"], negative["change"]
            verb, roles = changed(line["verb"], roles_of(line), kind, change, undo=False)
            assert paper_prompt(verb, roles) == negative["text"]
            assert [role.arg for role in roles] == [role["arg"] for role in line["roles"]]
            assert changed(verb, roles, kind, change, undo=True) == (line["verb"], roles_of(line))
            if kind == "verb-role":
                assert change["verb"]["from"] == line["verb_sense"]
                words.append(lemma_of(change["verb"]["to"]))
        assert len(set(words)) == len(words)
        assert not set(words) & verbs[place]


NOUNS = st.sampled_from(
    ["man", "the man", "A man.", "woman", "dog", "the", "old dog", "", "...", "red car, with lights"]
)
VALUES = st.one_of(NOUNS, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=8))
KEYS = st.sampled_from(
    [
        "Arg0 (agent)",
        "Arg0 (walker)",
        "Arg0",
        "Arg1 (thing)",
        "Arg1",
        "Arg2 (tool)",
        "Arg3",
        "ArgM (manner)",
        "ArgM (goal)",
        "Scene of the Event",
    ]
)
VERBS = st.sampled_from(
    [("walk", "walk.01"), ("run (x)", "run.02"), ("pick", "pick_up.04"), ("pick", "pick.01"), ("Zap", "zap.99")]
)


@st.composite
def annotated_events(draw) -> dict:
    args = draw(st.dictionaries(KEYS, VALUES, max_size=6))
    order = dict(zip(args, draw(st.permutations(range(len(args)))), strict=True))
    verb, sense = draw(VERBS)
    return event(args, order=order, verb=verb, sense=sense)


RECORDS = st.lists(
    st.builds(record, st.sampled_from(["v_a", "v_b", "v_c"]), annotated_events(), annotated_events()),
    min_size=1,
    max_size=4,
)
CALM = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@CALM
@given(records=RECORDS, seed=st.integers(0, 3), rule=st.sampled_from(["drop", "truncate"]))
def test_no_negative_says_what_a_positive_says_and_every_change_can_be_undone(records, seed, rule):
    with tempfile.TemporaryDirectory() as folder:
        check(events_of(Path(folder), *records, seed=seed, on_overflow=rule))


@CALM
@given(records=RECORDS)
def test_roles_in_the_text_are_the_filled_ones_in_the_annotators_order(records):
    with tempfile.TemporaryDirectory() as folder:
        none = {"verb_role_negatives": 0, "role_noun_negatives": 0}
        lines = events_of(Path(folder), *records, on_overflow="truncate", **none)
    found = [[role["value"] for role in line["roles"]] for line in lines]
    by_clip = sorted(records, key=lambda record: record["Ev1"]["vid_seg_int"])
    expected = [
        [clean_value(event["Args"][key]) for key in sorted(event["Args"], key=event["Arg_List"].__getitem__)]
        for record in by_clip
        for event in record.values()
    ]
    assert found == [[value for value in values if value] for values in expected]


@CALM
@given(records=RECORDS, seed=st.integers(0, 3))
def test_the_same_input_and_seed_give_the_same_bytes(records, seed):
    with tempfile.TemporaryDirectory() as folder:
        first = events_of(Path(folder), *records, seed=seed)
        bytes_of_first = (Path(folder) / "out.jsonl").read_bytes()
        assert events_of(Path(folder), *records, seed=seed) == first
        assert (Path(folder) / "out.jsonl").read_bytes() == bytes_of_first


def test_the_world_gets_every_negative_it_asks_for(tmp_path):
    lines = events_of(tmp_path, *world())
    check(lines)
    with_nouns = [line for line in lines if any(role["arg"].startswith("Arg") for role in line["roles"])]
    for line in with_nouns:
        kinds = [negative["kind"] for negative in line["negatives"]]
        assert kinds.count("verb-role") == 4
        assert len(kinds) == 6
        assert kinds == sorted(kinds, key=KINDS.index)


def test_the_order_of_other_clips_in_the_file_changes_nothing(tmp_path):
    forward = events_of(tmp_path, *world())
    assert events_of(tmp_path, *reversed(world())) == forward


def test_another_seed_draws_other_negatives_for_the_same_prompts(tmp_path):
    one, other = events_of(tmp_path, *world(), seed=1), events_of(tmp_path, *world(), seed=2)
    assert [line["text"] for line in one] == [line["text"] for line in other]
    assert [line["negatives"] for line in one] != [line["negatives"] for line in other]


def test_agent_and_patient_are_exchanged_first(tmp_path):
    full = event({"Arg2 (tool)": "bat", "Arg1 (thing hit)": "ball", "Arg0 (hitter)": "boy"}, verb="hit", sense="hit.01")
    line = events_of(tmp_path, record("v_a", full), role_noun_negatives=3)[0]
    swaps = [negative["change"]["swap"] for negative in line["negatives"] if negative["kind"] == "role-noun-swap"]
    assert swaps == [["Arg0", "Arg1"], ["Arg0", "Arg2"], ["Arg1", "Arg2"]]
    swapped = next(n["text"] for n in line["negatives"] if n["kind"] == "role-noun-swap")
    assert swapped == "In this photo, the action is hit, the tool is bat, the thing hit is boy, the hitter is ball."


@pytest.mark.parametrize(("pusher", "pushed"), [("man", "the man"), ("A man", "man"), ("Man", "man.")])
def test_nouns_that_are_the_same_but_for_case_and_articles_are_not_exchanged(tmp_path, pusher, pushed):
    line = events_of(tmp_path, record("v_a", push(pusher, pushed)))[0]
    assert not [n for n in line["negatives"] if n["kind"] == "role-noun-swap"]


def test_nouns_of_two_roles_that_read_the_same_are_not_exchanged(tmp_path):
    both = event({"Arg0 (thing)": "man", "Arg1 (thing)": "dog"})
    line = events_of(tmp_path, record("v_a", both))[0]
    assert not [n for n in line["negatives"] if n["kind"] == "role-noun-swap"]


def test_a_replacing_noun_comes_from_the_same_role_of_another_clip_and_ends_in_another_word(tmp_path):
    records = [
        record("v_a", push("tall man", "car"), push("only here", "bus")),
        record("v_b", push("short man", "cart")),
        record("v_c", push("woman", "TALL MAN")),
    ]
    lines = events_of(tmp_path, *records, role_noun_negatives=20)
    replaced = [n["change"] for n in lines[0]["negatives"] if n["kind"] == "role-noun-replace"]
    assert {(change["role"], change["to"]) for change in replaced} == {("Arg0", "woman"), ("Arg1", "cart")}


def test_a_replacing_noun_is_none_that_another_annotator_gave(tmp_path):
    records = [
        record("v_a", push("man", "car")),
        record("v_a", push("The Woman", "car")),
        record("v_b", push("woman", "car")),
    ]
    lines = events_of(tmp_path, *records, role_noun_negatives=20)
    texts = [n["change"] for n in lines[0]["negatives"] if n["kind"] == "role-noun-replace"]
    assert texts == []


def test_no_verb_that_another_annotator_gave_the_event_is_used(tmp_path):
    every = [*sorted(propbank())[:300]]
    spoken = [record("v_a", event({}, verb=sense.split(".")[0], sense=sense)) for sense in every]
    lines = events_of(tmp_path, *spoken, verb_role_negatives=6, role_noun_negatives=0)
    check(lines)
    assert all(len(line["negatives"]) == 6 for line in lines)


def test_annotated_senses_that_define_every_filled_role_come_first_then_propbanks(tmp_path):
    records = [
        record("v_a", push("man", "car")),
        record("v_b", event({"Arg0 (zapper)": "x", "Arg1 (zapped)": ""}, verb="zap", sense="zap.99")),
    ]
    line = events_of(tmp_path, *records, verb_role_negatives=3)[0]
    senses = [n["change"]["verb"]["to"] for n in line["negatives"] if n["kind"] == "verb-role"]
    assert senses[0] == "zap.99"
    assert all({"Arg0", "Arg1"} <= set(propbank()[sense]) for sense in senses[1:])
    assert line["negatives"][0]["text"] == "In this photo, the action is zap, the zapper is man, the zapped is car."
    assert line["negatives"][0]["change"] == {
        "verb": {"from": "push.01", "to": "zap.99"},
        "word": {"from": "push", "to": "zap"},
        "role_names": {"Arg0": ["pusher", "zapper"], "Arg1": ["thing pushed", "zapped"]},
    }


def test_the_most_frequent_description_names_a_role_of_another_verb(tmp_path):
    def zap(name: str) -> dict:
        return event({f"Arg0 ({name})": "x"}, verb="zap", sense="zap.99")

    records = [record("v_a", event({"Arg0 (walker)": "man"})), record("v_b", zap("a rare one"), zap("common"))]
    line = events_of(tmp_path, *records, verb_role_negatives=1)[0]
    assert line["negatives"][0]["change"]["role_names"] == {"Arg0": ["walker", "common"]}


def test_where_no_other_noun_exists_fewer_negatives_are_written_and_counted(tmp_path):
    events_of(tmp_path, record("v_a", event({"Arg0 (walker)": "man"})), verb_role_negatives=1, role_noun_negatives=2)
    counts = lines_of(tmp_path / "out.jsonl")[0]["counts"]
    assert counts["negatives"] == {"verb-role": 5, "role-noun-swap": 0, "role-noun-replace": 0}
    assert counts["negatives_missing"] == {"verb-role": 0, "role-noun": 10}


def test_more_verbs_than_there_are_gives_all_there_are(tmp_path):
    walk = record("v_a", event({"Arg0 (walker)": "man"}))
    lines = events_of(tmp_path, walk, verb_role_negatives=5000, role_noun_negatives=0)
    lemmas = {lemma_of(sense) for sense in propbank()} - {"walk"}
    assert len(lines[0]["negatives"]) == len(lemmas)


def test_negatives_of_a_shortened_prompt_leave_out_the_same_roles_and_fit(tmp_path):
    from figclip_cli.models.tokens import TokenCounter

    counter = TokenCounter()
    args = {"Arg0 (pusher)": "man", "Arg1 (thing pushed)": "car " * 50, "ArgM (goal)": "so " * 30}
    long = event(args, verb="push", sense="push.01")
    lines = events_of(tmp_path, record("v_a", long), *world())
    check(lines)
    assert [role["arg"] for role in lines[0]["lost_roles"]] == ["goal"]
    assert counter.count(lines[0]["text"]) > 70
    assert all(counter.fits(negative["text"]) for line in lines for negative in line["negatives"])
    assert lines_of(tmp_path / "out.jsonl")[0]["counts"]["overflow"]["negatives_refused"] > 0


def test_a_truncated_negative_differs_in_what_the_model_sees(tmp_path):
    from figclip_cli.models.tokens import TokenCounter

    counter = TokenCounter()
    long = event({"Arg0 (pusher)": "man " * 80, "Arg1 (thing pushed)": "car"}, verb="push", sense="push.01")
    line = events_of(tmp_path, record("v_a", long), *world(), on_overflow="truncate", role_noun_negatives=6)[0]
    seen = normalised(counter.visible(line["text"]))
    assert line["negatives"]
    assert all(normalised(counter.visible(negative["text"])) != seen for negative in line["negatives"])
    assert not [n for n in line["negatives"] if n["change"].get("role") == "Arg1"]


def test_last_words_are_compared_without_punctuation(tmp_path):
    records = [record("v_a", push("tall man", "car")), record("v_b", push("short (man)", "car"))]
    lines = events_of(tmp_path, *records, role_noun_negatives=9)
    assert last_word("short (man)") == "man"
    assert not [n for n in lines[0]["negatives"] if n["kind"] == "role-noun-replace"]
