"""Role keys and role names."""

from __future__ import annotations

import json

import pytest

from figclip_cli.prompts.roles import GENERIC_NAMES, Role, labels_of, lemma_of, parse_key, propbank, role_name


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("Arg0 (walker)", ("Arg0", "walker")),
        ("Arg1 (thing tossed(s),  if any)", ("Arg1", "thing tossed(s), if any")),
        ("Arg5", ("Arg5", "")),
        ("Arg2 ()", ("Arg2", "")),
        ("ArgM (direction)", ("direction", "")),
        ("ArgM (purpose)", ("purpose", "")),
        ("ArgM (manner of it)", ("manner", "")),
        ("ArgM (Location)", ("location", "")),
        ("ArgM (goal)", ("goal", "")),
        ("Scene of the Event", ("scene", "")),
        ("ArgM (tempo)", None),
        ("Arg9", None),
        ("Arg0walker", None),
        ("", None),
    ],
)
def test_a_key_becomes_a_role_and_the_annotators_description(key, expected):
    assert parse_key(key) == expected


def test_the_annotators_name_wins_over_propbank_which_wins_over_the_generic_name():
    assert role_name("walk.01", "Arg0", "stroller") == ("stroller", False)
    assert role_name("walk.01", "Arg0", "") == (propbank()["walk.01"]["Arg0"], False)
    assert role_name("walk.01", "Arg5", "") == (GENERIC_NAMES["Arg5"], True)
    assert role_name("unheard.01", "Arg0", "") == ("agent", True)
    assert role_name("walk.01", "scene", "") == ("scene", False)


def test_the_shipped_role_names_are_the_published_ones(shared_data):
    from figclip_cli.prompts import roles

    published = json.loads((shared_data / "vidsitu" / "propbank_roles.json").read_text())
    assert json.loads(roles._PROPBANK_FILE.read_text()) == published
    assert len(propbank()) == 1556
    assert {arg for names in propbank().values() for arg in names} <= set(GENERIC_NAMES)


def test_the_notice_names_the_source_and_the_licence():
    from figclip_cli.prompts import roles

    notice = (roles._PROPBANK_FILE.parent / "NOTICE.md").read_text()
    assert "v2.1.5" in notice
    assert "CC0 1.0" in notice


def test_the_lemma_of_a_sense_is_its_verb_in_words():
    assert [lemma_of(sense) for sense in ("walk.01", "light_up.05", "odd")] == ["walk", "light up", "odd"]


def test_roles_of_the_same_kind_get_labels_of_their_own():
    roles = [Role(arg, "n", "v") for arg in ("Arg1", "scene", "Arg1", "Arg1")]
    assert labels_of(roles) == ["Arg1", "scene", "Arg1#2", "Arg1#3"]
