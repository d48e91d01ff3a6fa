"""Negatives: false, distinct, reversible, and the same every time."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vidsitu_fixture import event, lines_of, push, record, world, write

from figclip_cli.errors import UsageError
from figclip_cli.models.tokens import TokenCounter
from figclip_cli.prompts import PromptOptions, Role, build
from figclip_cli.prompts.english import head_lemma
from figclip_cli.prompts.kinds import KINDS
from figclip_cli.prompts.lexicon import nouns_like, verbs_like
from figclip_cli.prompts.negatives import parse_requests
from figclip_cli.prompts.roles import labels_of, lemma_of, propbank
from figclip_cli.prompts.templates import TEMPLATES, clean_value, normalised

EVERY_KIND = dict.fromkeys(KINDS, 2)


def paper_prompt(verb: str, roles: list[Role]) -> str:
    return TEMPLATES["paper"].text(verb, roles)


def events_of(folder: Path, *records: dict, **options) -> list[dict]:
    path = write(folder / "ann.json", *records)
    build([path], folder / "out.jsonl", options=PromptOptions(**options), overwrite=True)
    return lines_of(folder / "out.jsonl")[1:]


def roles_of(line: dict) -> list[Role]:
    return [Role(**role) for role in line["roles"]]


def changed(verb: str, roles: list[Role], change: dict, *, undo: bool) -> tuple[str, list[Role]]:
    """Do or undo what ``change`` says, knowing nothing but it."""
    source, target = ("to", "from") if undo else ("from", "to")
    if "verb" in change:
        assert verb == change["verb"][source]
        verb = change["verb"][target]
    done = []
    for label, role in zip(labels_of(roles), roles, strict=True):
        name, value = change.get("names", {}).get(label), change.get("values", {}).get(label)
        assert name is None or role.name == name[source]
        assert value is None or role.value == value[source]
        done.append(Role(role.arg, name[target] if name else role.name, value[target] if value else role.value))
    return verb, done


def check(lines: list[dict]) -> None:
    """What holds of every file."""
    of_clip: dict[str, set[str]] = {}
    of_event: dict[tuple, set[str]] = {}
    verbs: dict[tuple, set[str]] = {}
    by_key = {(line["clip_id"], line["annotation_index"], line["event_index"]): line for line in lines}
    for line in lines:
        place = line["clip_id"], line["event_index"]
        of_clip.setdefault(line["clip_id"], set()).add(normalised(line["text"]))
        of_event.setdefault(place, set()).add(normalised(line["text"]))
        verbs.setdefault(place, set()).update(verbs_like(line["verb"]))
    for line in lines:
        place = line["clip_id"], line["event_index"]
        said = [normalised(negative["text"]) for negative in line["negatives"]]
        assert len(set(said)) == len(said)
        assert not set(said) & of_event[place]
        assert line["text"] == paper_prompt(line["verb"], roles_of(line))
        words = []
        for negative in line["negatives"]:
            kind, change = negative["kind"], negative["change"]
            if kind == "same-video":
                other = (line["clip_id"], line["annotation_index"], change["event"]["to"])
                assert change["event"]["from"] == line["event_index"]
                assert by_key[other]["text"] == negative["text"]
                continue
            assert normalised(negative["text"]) not in of_clip[line["clip_id"]]
            verb, roles = changed(line["verb"], roles_of(line), change, undo=False)
            assert paper_prompt(verb, roles) == negative["text"]
            assert [role.arg for role in roles] == [role["arg"] for role in line["roles"]]
            assert changed(verb, roles, change, undo=True) == (line["verb"], roles_of(line))
            if kind == "verb-role":
                assert change["verb_sense"]["from"] == line["verb_sense"]
                words.append(lemma_of(change["verb_sense"]["to"]).lower())
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
@given(records=RECORDS, seed=st.integers(0, 3), rule=st.sampled_from(["drop", "truncate"]), balance=st.booleans())
def test_no_negative_says_what_a_positive_says_and_every_change_can_be_undone(records, seed, rule, balance):
    with tempfile.TemporaryDirectory() as folder:
        options = {"seed": seed, "on_overflow": rule, "balance": balance, "negatives": EVERY_KIND}
        check(events_of(Path(folder), *records, **options))


@CALM
@given(records=RECORDS)
def test_roles_in_the_text_are_the_filled_ones_in_the_annotators_order(records):
    with tempfile.TemporaryDirectory() as folder:
        lines = events_of(Path(folder), *records, on_overflow="truncate", negatives={})
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
    line = events_of(tmp_path, record("v_a", full), negatives={"role-noun": 3})[0]
    swaps = [[*negative["change"]["values"]] for negative in line["negatives"] if negative["kind"] == "role-noun-swap"]
    assert swaps == [["Arg0", "Arg1"], ["Arg0", "Arg2"], ["Arg1", "Arg2"]]
    swapped = next(n["text"] for n in line["negatives"] if n["kind"] == "role-noun-swap")
    assert swapped == "In this photo, the action is hit, the tool is bat, the thing hit is boy, the hitter is ball."


@pytest.mark.parametrize(("pusher", "pushed"), [("man", "the man"), ("A man", "man"), ("Man", "man.")])
def test_nouns_that_are_the_same_but_for_case_and_articles_are_not_exchanged(tmp_path, pusher, pushed):
    line = events_of(tmp_path, record("v_a", push(pusher, pushed)))[0]
    assert not [n for n in line["negatives"] if n["kind"] == "role-noun-swap"]


def test_nouns_of_those_who_do_the_same_to_each_other_are_not_exchanged(tmp_path):
    hug = event({"Arg0 (hugger)": "man", "Arg1 (thing hugged)": "dog"}, verb="hug", sense="hug.01")
    line = events_of(tmp_path, record("v_a", hug))[0]
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
    lines = events_of(tmp_path, *records, negatives={"role-noun": 20})
    replaced = [n["change"]["values"] for n in lines[0]["negatives"] if n["kind"] == "role-noun-replace"]
    assert {(role, value["to"]) for values in replaced for role, value in values.items()} == {
        ("Arg0", "woman"),
        ("Arg1", "cart"),
    }


def test_a_replacing_noun_is_none_that_another_annotator_gave(tmp_path):
    records = [
        record("v_a", push("man", "car")),
        record("v_a", push("The Woman", "car")),
        record("v_b", push("woman", "car")),
    ]
    lines = events_of(tmp_path, *records, negatives={"role-noun": 20})
    texts = [n["change"] for n in lines[0]["negatives"] if n["kind"] == "role-noun-replace"]
    assert texts == []


def test_no_verb_that_another_annotator_gave_the_event_is_used(tmp_path):
    every = [*sorted(propbank())[:300]]
    spoken = [record("v_a", event({}, verb=sense.split(".")[0], sense=sense)) for sense in every]
    lines = events_of(tmp_path, *spoken, negatives={"verb-role": 6})
    check(lines)
    assert all(len(line["negatives"]) == 6 for line in lines)


def test_annotated_senses_that_define_every_filled_role_come_first_then_propbanks(tmp_path):
    records = [
        record("v_a", push("man", "car")),
        record("v_b", event({"Arg0 (zapper)": "x", "Arg1 (zapped)": ""}, verb="zap", sense="zap.99")),
    ]
    line = events_of(tmp_path, *records, negatives={"verb-role": 3})[0]
    senses = [n["change"]["verb_sense"]["to"] for n in line["negatives"] if n["kind"] == "verb-role"]
    assert senses[0] == "zap.99"
    assert all({"Arg0", "Arg1"} <= set(propbank()[sense]) for sense in senses[1:])
    assert line["negatives"][0]["text"] == "In this photo, the action is zap, the zapper is man, the zapped is car."
    assert line["negatives"][0]["change"] == {
        "verb": {"from": "push", "to": "zap"},
        "verb_sense": {"from": "push.01", "to": "zap.99"},
        "names": {"Arg0": {"from": "pusher", "to": "zapper"}, "Arg1": {"from": "thing pushed", "to": "zapped"}},
    }


def test_the_most_frequent_description_names_a_role_of_another_verb(tmp_path):
    def zap(name: str) -> dict:
        return event({f"Arg0 ({name})": "x"}, verb="zap", sense="zap.99")

    records = [record("v_a", event({"Arg0 (walker)": "man"})), record("v_b", zap("a rare one"), zap("common"))]
    line = events_of(tmp_path, *records, negatives={"verb-role": 1})[0]
    assert line["negatives"][0]["change"]["names"] == {"Arg0": {"from": "walker", "to": "common"}}


def test_where_no_other_noun_exists_fewer_negatives_are_written_and_counted(tmp_path):
    events_of(tmp_path, record("v_a", event({"Arg0 (walker)": "man"})), negatives={"verb-role": 1, "role-noun": 2})
    counts = lines_of(tmp_path / "out.jsonl")[0]["counts"]
    assert counts["negatives"] == {"verb-role": 5, "role-noun-swap": 0, "role-noun-replace": 0}
    assert counts["negatives_missing"] == {"verb-role": 0, "role-noun": 10}


def test_more_verbs_than_there_are_gives_all_there_are(tmp_path):
    walk = record("v_a", event({"Arg0 (walker)": "man"}))
    lines = events_of(tmp_path, walk, negatives={"verb-role": 5000})
    lemmas = {lemma_of(sense).lower() for sense in propbank()} - verbs_like("walk")
    assert len(lines[0]["negatives"]) == len(lemmas)


def test_negatives_of_a_shortened_prompt_leave_out_the_same_roles_and_fit(tmp_path):
    counter = TokenCounter()
    args = {"Arg0 (pusher)": "man", "Arg1 (thing pushed)": "car " * 50, "ArgM (goal)": "so " * 30}
    long = event(args, verb="push", sense="push.01")
    lines = events_of(tmp_path, record("v_a", long), *world(), negatives={"verb-role": 50})
    check(lines)
    assert [role["arg"] for role in lines[0]["lost_roles"]] == ["goal"]
    assert counter.count(lines[0]["text"]) > 70
    assert all(counter.fits(negative["text"]) for line in lines for negative in line["negatives"])
    assert lines_of(tmp_path / "out.jsonl")[0]["counts"]["overflow"]["negatives_refused"] > 0


def test_a_truncated_negative_differs_in_what_the_model_sees(tmp_path):
    counter = TokenCounter()
    long = event({"Arg0 (pusher)": "man " * 80, "Arg1 (thing pushed)": "car"}, verb="push", sense="push.01")
    line = events_of(tmp_path, record("v_a", long), *world(), on_overflow="truncate", negatives={"role-noun": 6})[0]
    seen = normalised(counter.visible(line["text"]))
    assert line["negatives"]
    assert all(normalised(counter.visible(negative["text"])) != seen for negative in line["negatives"])
    assert not [n for n in line["negatives"] if n["change"]["values"].keys() == {"Arg1"}]


def test_heads_are_compared_without_what_follows_them(tmp_path):
    records = [
        record("v_a", push("tall man in black", "car")),
        record("v_b", push("short men (in red)", "car")),
        record("v_c", push("person with hat", "car")),
    ]
    lines = events_of(tmp_path, *records, negatives={"role-noun": 9})
    assert head_lemma("short men (in red)") == "man"
    assert "person" in nouns_like("tall man in black")
    assert not [n for n in lines[0]["negatives"] if n["kind"] == "role-noun-replace"]


def of_kind(line: dict, kind: str) -> list[dict]:
    return [negative["change"]["values"] for negative in line["negatives"] if negative["kind"] == kind]


def test_adjectives_of_two_roles_are_exchanged_colour_with_colour_and_articles_follow(tmp_path):
    one = push("tall man in a red shirt", "an orange car")
    line = events_of(tmp_path, record("v_a", one), negatives={"attribute-swap": 5})[0]
    assert of_kind(line, "attribute-swap") == [
        {
            "Arg0": {"from": "tall man in a red shirt", "to": "tall man in an orange shirt"},
            "Arg1": {"from": "an orange car", "to": "a red car"},
        }
    ]


@pytest.mark.parametrize(
    ("agent", "patient"), [("man in red", "blue car"), ("red man", "red car"), ("tall man", "car")]
)
def test_adjectives_that_cannot_be_exchanged_are_left(tmp_path, agent, patient):
    line = events_of(tmp_path, record("v_a", push(agent, patient)), negatives={"attribute-swap": 5})[0]
    assert of_kind(line, "attribute-swap") == []


def test_manner_and_direction_become_their_opposites_first_and_scenes_others(tmp_path):
    args = {"ArgM (manner)": "very slowly", "ArgM (direction)": "to the left", "Scene of the Event": "a dark street"}
    other = {"ArgM (manner)": "angrily", "ArgM (direction)": "up", "Scene of the Event": "kitchen"}
    far = {"ArgM (manner)": "slowly", "ArgM (direction)": "to the left side", "Scene of the Event": "road"}
    records = [record("v_a", event(args)), record("v_b", event(other)), record("v_c", event(far))]
    kinds = {"manner-replace": 2, "direction-replace": 1, "scene-replace": 9}
    line = events_of(tmp_path, *records, negatives=kinds)[0]
    assert [v["manner"]["to"] for v in of_kind(line, "manner-replace")] == ["very quickly", "angrily"]
    assert [v["direction"]["to"] for v in of_kind(line, "direction-replace")] == ["to the right"]
    assert [v["scene"]["to"] for v in of_kind(line, "scene-replace")] == ["a bright street", "kitchen"]


def test_same_video_negatives_are_prompts_of_the_other_events(tmp_path):
    walk, run = event(), event(verb="run", sense="run.02")
    line, *rest = events_of(tmp_path, record("v_a", walk, run, walk), negatives={"same-video": 9})
    assert [(n["text"], n["change"]) for n in line["negatives"]] == [(rest[0]["text"], {"event": {"from": 0, "to": 1}})]


def test_verbs_that_may_be_said_of_the_same_event_are_never_negatives(tmp_path):
    near = [event({"Arg0 (a)": "man"}, verb=s.split(".")[0], sense=s) for s in ("sprint.01", "jog.01", "move.01")]
    records = [record("v_a", event({"Arg0 (a)": "man"}, verb="run", sense="run.02")), record("v_b", *near)]
    line = events_of(tmp_path, *records, negatives={"verb-role": 5000})[0]
    words = {negative["change"]["verb"]["to"] for negative in line["negatives"]}
    assert words
    assert not words & {"run", "sprint", "jog", "move", "dash", "race"}


def test_requests_are_read_and_refused():
    assert parse_requests(" role-noun = 2, verb-role=4,scene-replace=0") == {"verb-role": 4, "role-noun": 2}
    for text, message in (
        ("verb-role", "is not KIND=NUMBER"),
        ("verb-role=-1", "is not KIND=NUMBER"),
        ("verb-role=1,verb-role=2", "comes twice"),
        ("verb-rule=1", "no kind 'verb-rule'"),
    ):
        with pytest.raises(UsageError, match=message):
            parse_requests(text)


@pytest.mark.parametrize("template", ["natural", "verb-only", "nouns-only", "shuffled"])
def test_other_templates_have_negatives_that_differ_from_every_prompt_of_the_clip(tmp_path, template):
    lines = events_of(tmp_path, *world(), template=template, negatives=EVERY_KIND)
    bag = TEMPLATES[template].bag
    said: dict[str, set] = {}

    def meaning(text: str) -> str:
        return " ".join(sorted(normalised(text).split())) if bag else normalised(text)

    for line in lines:
        said.setdefault(line["clip_id"], set()).add(meaning(line["text"]))
    made = [(line, n) for line in lines for n in line["negatives"] if n["kind"] != "same-video"]
    assert made or template == "verb-only"
    for line, negative in made:
        assert meaning(negative["text"]) not in said[line["clip_id"]]
    if bag:
        assert not [n for _, n in made if n["kind"] == "role-noun-swap"]
