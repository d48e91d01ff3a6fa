"""Situations of images: imSitu's and SWiG's ``{train,dev,test}.json``, an object of images.

``{"clinging_250.jpg": {"verb": "clinging", "frames": [{"agent": "n10287213", "clungto": "n04100174", "place": ""}]}}``

Layout: my89/imSitu, allenai/swig. A noun is a WordNet id, for which ``imsitu_space.json`` has the words; a file whose
nouns are words already needs none. An image is a clip of one event; each frame is an annotation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from figclip_cli.errors import InputError
from figclip_cli.files import read_json
from figclip_cli.prompts.english import verb_lemma
from figclip_cli.prompts.events import AnnotatedEvent, Argument, Found, Problem
from figclip_cli.prompts.formats.checks import member, refuse_unusable, text, type_of
from figclip_cli.prompts.roles import NUMBERED, SCENE
from figclip_cli.prompts.templates import clean_value

_AGENT = "agent"
_PLACE = "place"
_WORDNET_ID = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Nouns:
    """The words of ``imsitu_space.json``.

    Attributes:
        glosses: First word of each WordNet id.
        orders: Roles of each verb, in the order of its definition.
    """

    glosses: Mapping[str, str]
    orders: Mapping[str, tuple[str, ...]]


def read_nouns(path: Path) -> Nouns:
    """Read ``imsitu_space.json``.

    Raises:
        InputError: The file is missing, not JSON, or has no nouns with glosses.
    """
    space = read_json(path, "noun file")
    try:
        glosses = {name: noun["gloss"][0] for name, noun in space["nouns"].items() if noun["gloss"]}
        orders = {name: tuple(verb["order"]) for name, verb in space.get("verbs", {}).items() if "order" in verb}
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(
            f"noun file {path} has no nouns with glosses ({type(error).__name__}: {error})",
            "pass imsitu_space.json of imSitu or SWiG",
        ) from error
    return Nouns(glosses, orders)


def recognises(record: Any, key: str | None) -> bool:
    """Return whether a record is an image's situation."""
    return key is not None and isinstance(record, dict) and "verb" in record and "frames" in record


def parse(record: Any, key: str | None, nouns: Nouns | None = None) -> list[Found]:
    """Return one annotation per frame of an image."""
    if key is None or not isinstance(record, dict):
        raise Problem(f"it is {type_of(record)}, not an image with verb and frames")
    verb, frames = text(record, "verb"), member(record, "frames", list)
    clip_id = PurePosixPath(key).stem
    lemma = verb_lemma(verb.strip())
    found = []
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict):
            raise Problem(f"frames, {number} is {type_of(frame)}, not an object")
        arguments = _arguments(frame, verb, nouns, f"frames, {number}")
        found.append(Found(clip_id, [AnnotatedEvent(0, lemma, lemma.replace(" ", "_"), arguments)]))
    if not found:
        raise Problem("frames is empty")
    return found


def _arguments(frame: dict[str, Any], verb: str, nouns: Nouns | None, where: str) -> tuple[Argument, ...]:
    """Return the roles: the agent is Arg0, the place the scene, the others count on from Arg1 in the verb's order."""
    order = nouns.orders.get(verb, ()) if nouns else ()
    roles = sorted(frame, key=lambda role: order.index(role) if role in order else len(order))
    others = [role for role in roles if role not in (_AGENT, _PLACE)]
    if len(others) >= len(NUMBERED):
        raise Problem(f"{where} has {len(others)} roles beside agent and place, figclip numbers {len(NUMBERED) - 1}")
    args = {_AGENT: NUMBERED[0], _PLACE: SCENE, **dict(zip(others, NUMBERED[1:], strict=False))}
    return tuple(
        Argument(args[role], "" if role == _PLACE else role, _word(frame[role], nouns, f"{where}, {role}"))
        for role in roles
    )


def _word(noun: Any, nouns: Nouns | None, where: str) -> str:
    if not isinstance(noun, str):
        raise Problem(f"{where} is {type_of(noun)}, not a string")
    if not _WORDNET_ID.fullmatch(noun):
        refuse_unusable(noun, where)
        return clean_value(noun)
    if nouns is None:
        raise Problem(
            f"{where}: {noun} is a number of WordNet's", "pass --nouns imsitu_space.json, which has the words"
        )
    if noun not in nouns.glosses:
        raise Problem(f"{where}: {noun} has no gloss in the noun file")
    return clean_value(nouns.glosses[noun])
