"""Roles of an event: the keys annotators used, the names the prompt uses, and PropBank behind them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

NUMBERED = ("Arg0", "Arg1", "Arg2", "Arg3", "Arg4", "Arg5")
"""The roles that a verb sense defines, by their PropBank labels."""

MODIFIERS = ("direction", "purpose", "manner", "location", "goal")
"""The roles that any verb may have, in the order in which an ``ArgM (...)`` key is searched for them."""

SCENE = "scene"
SCENE_KEY = "Scene of the Event"
KNOWN_KEYS = "ArgN (name) with N from 0 to 5, ArgM (" + "|".join(MODIFIERS) + f"), {SCENE_KEY}"

TAGS: Mapping[str, str] = MappingProxyType(
    {
        **{arg.upper(): arg for arg in NUMBERED},
        "ARGM-DIR": "direction",
        "ARGM-PRP": "purpose",
        "ARGM-MNR": "manner",
        "ARGM-LOC": "location",
        "ARGM-GOL": "goal",
    }
)
"""The roles by PropBank's tags, as parsers and tagged questions write them."""

KNOWN_OWN_KEYS = f"ArgN or ArgN (name) with N from 0 to 5, {', '.join(MODIFIERS)}, {SCENE}"

GENERIC_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "Arg0": "agent",
        "Arg1": "patient",
        "Arg2": "instrument",
        "Arg3": "starting point",
        "Arg4": "ending point",
        "Arg5": "modifier",
    }
)
"""What a numbered role usually is (PropBank guidelines), for a role that neither annotation nor frame names."""

_NUMBERED_KEY = re.compile(r"(Arg[0-5])(?:\s*\((.*)\))?\s*")
_BARE_KEYS = "|".join((*MODIFIERS, SCENE, *GENERIC_NAMES.values()))
OWN_KEY_PATTERN = rf"^(Arg[0-5]( \(.*\))?|ArgM \(.*\)|{SCENE_KEY}|{_BARE_KEYS})$"
"""Regular expression of the keys of figclip's own annotation form."""

NOUN_ROLES = frozenset({*GENERIC_NAMES, "location", SCENE})
"""The roles that things fill, rather than ways of doing."""

_SENSE_NUMBER = re.compile(r"\.\d+$")
_MODIFIER_KEY = re.compile(r"ArgM\s*\((.*)\)\s*")
_PROPBANK_FILE = Path(__file__).parent / "data" / "propbank_roles.json"


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One filled role of an event.

    Attributes:
        arg: ``Arg0`` to ``Arg5``, ``direction``, ``purpose``, ``manner``, ``location``, ``goal`` or ``scene``.
        name: What the prompt calls it, for example ``walker``.
        value: What fills it, for example ``man with short hair``.
    """

    arg: str
    name: str
    value: str


def parse_own_key(key: str) -> tuple[str, str] | None:
    """Return the same for a key of figclip's own form, which also takes bare names: ``agent``, ``manner``."""
    bare = key.strip().lower()
    if bare in MODIFIERS or bare == SCENE:
        return bare, ""
    generic = next((arg for arg, name in GENERIC_NAMES.items() if name == bare), None)
    return (generic, "") if generic else parse_key(key.strip())


@cache
def parse_key(key: str) -> tuple[str, str] | None:
    """Return ``(arg, description)`` of a key of VidSitu's ``Args``, or None where the key is no known role.

    The description is the text in the parenthesis of a numbered role, empty where there is none.
    """
    if key == SCENE_KEY:
        return SCENE, ""
    if numbered := _NUMBERED_KEY.fullmatch(key):
        return numbered[1], " ".join((numbered[2] or "").split())
    if modifier := _MODIFIER_KEY.fullmatch(key):
        name = next((name for name in MODIFIERS if name in modifier[1].lower()), None)
        return (name, "") if name else None
    return None


@cache
def _propbank_frames() -> Mapping[str, Mapping[str, Any]]:
    senses: dict[str, dict[str, Any]] = json.loads(_PROPBANK_FILE.read_text(encoding="utf-8"))["senses"]
    return senses


@cache
def propbank() -> Mapping[str, Mapping[str, str]]:
    """Return the role names of every sense, ``{"walk.01": {"Arg0": "walker", ...}}`` (PropBank v2.1.5, CC0)."""
    return {
        sense: {f"Arg{number}": " ".join(name.split()) for number, name in frame["roles"].items()}
        for sense, frame in _propbank_frames().items()
    }


@cache
def propbank_definitions() -> Mapping[str, str]:
    """Return the definition of every sense, ``{"walk.01": "walk", ...}``."""
    return {sense: frame["name"] for sense, frame in _propbank_frames().items()}


def role_name(sense: str, arg: str, description: str) -> tuple[str, bool]:
    """Return what the prompt calls a role, and whether that is only the generic name.

    The annotator's own description wins, then PropBank's name for the sense, then the generic name.
    """
    if arg not in GENERIC_NAMES:
        return arg, False
    name = description or propbank().get(sense, {}).get(arg, "")
    return (name, False) if name else (GENERIC_NAMES[arg], True)


def lemma_of(sense: str) -> str:
    """Return the verb of a sense in words: ``light_up.05`` gives ``light up``, and so does ``light_up``."""
    return (_SENSE_NUMBER.sub("", sense) or sense).replace("_", " ")


def labels_of(roles: Sequence[Role]) -> list[str]:
    """Return one distinct label per role, which is how a negative's ``change`` names it.

    The label is the role's ``arg``; a second role with the same ``arg`` is labelled ``Arg1#2``, and so on.
    """
    labels = [role.arg for role in roles]
    if len(set(labels)) == len(labels):
        return labels
    seen: dict[str, int] = {}
    labels.clear()
    for role in roles:
        seen[role.arg] = seen.get(role.arg, 0) + 1
        labels.append(role.arg if seen[role.arg] == 1 else f"{role.arg}#{seen[role.arg]}")
    return labels
