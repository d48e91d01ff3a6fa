"""Captions and questions with answers, made elsewhere, turned into figclip's simple form where that is mechanical.

Three kinds of records are taken, as a JSON list, JSON lines or CSV, each with ``clip`` and, optionally, ``event``:

* ``caption``: a text that binds each noun to a role, ``the action is walk, the walker is man, scene is apartment``;
* ``verb`` and ``qa``: a list of ``{"question": ..., "answer": ...}`` about one event;
* ``question`` and ``answer``: one of these per record; the records of one clip and event belong together.

Nothing is guessed: a role's name must be PropBank's for the verb, a modifier, or a generic name; a question must name
its role, or be one that asks for the verb, the manner, the direction, the purpose or the scene.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from figclip_cli.errors import InputError
from figclip_cli.files import refuse_existing, write_json
from figclip_cli.prompts.annotations import read_records
from figclip_cli.prompts.english import verb_lemma
from figclip_cli.prompts.events import Problem
from figclip_cli.prompts.formats import simple
from figclip_cli.prompts.formats.checks import member, text
from figclip_cli.prompts.roles import GENERIC_NAMES, TAGS, lemma_of, parse_own_key, propbank
from figclip_cli.prompts.templates import clean_value, normalised

DEFAULT_OUTPUT = Path("annotations.json")
_ACTION = re.compile(r"\b(?:the )?(?:action|verb) is (?P<verb>[^,]+?)(?=,|\.?\s*$)", re.IGNORECASE)
_BINDING = re.compile(r"(?:the )?(?P<name>[^,]+?) is (?P<value>.+)", re.IGNORECASE)
_NEXT_BINDING = re.compile(r",\s+(?=[^,]+? is )")
_TAG = re.compile(r"<(?:Q-)?(ARG(?:[0-5]|M-[A-Z]{3}))>", re.IGNORECASE)
_VERB = "verb"
_NAMED_QUESTION = re.compile(r"(?:who|what)(?: is|'s| are) the (?P<name>[^?]+?)\s*\?*\s*$", re.IGNORECASE)
_OTHER_QUESTIONS = (
    (re.compile(r"what (?:is happening|happens|is going on|action|is the (?:action|verb))", re.IGNORECASE), _VERB),
    (re.compile(r"(?:in |to )?(?:which|what) direction", re.IGNORECASE), "direction"),
    (re.compile(r"how (?!many|much|long|old|often|far)", re.IGNORECASE), "manner"),
    (re.compile(r"why", re.IGNORECASE), "purpose"),
    (re.compile(r"where (?:does|did|is|was) (?:it|this|the (?:event|scene|action))\b", re.IGNORECASE), "scene"),
)
_SCENE_NAMES = {"scene of event": "scene", "scene of the event": "scene"}


@dataclass(frozen=True)
class ConversionSummary:
    """What was written.

    Attributes:
        output: The annotation file.
        events: Events in it.
        problems: One line for each record or question that was left out.
    """

    output: Path
    events: int
    problems: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"output": str(self.output), "events": self.events, "problems": list(self.problems)}


def convert_captions(path: Path, output: Path = DEFAULT_OUTPUT, *, overwrite: bool = False) -> ConversionSummary:
    """Write the simple form of captions, or of questions and answers.

    Raises:
        UsageError: ``output`` exists and ``overwrite`` is false.
        InputError: The file is missing, not JSON or CSV, or nothing in it can be turned.
    """
    refuse_existing(output, overwrite=overwrite)
    events: dict[tuple[str, int], simple.Event] = {}
    asked: dict[tuple[str, int], list[tuple[str, str, str]]] = defaultdict(list)
    problems: list[str] = []
    for place, record in read_records(path):
        try:
            key = _key(record)
            if "question" in record:
                asked[key].append((place, text(record, "question"), text(record, "answer")))
            elif key in events:
                raise Problem(f"clip {key[0]}, event {key[1]} is there already")
            else:
                events[key] = _event(key, record, place, problems, path)
        except Problem as problem:
            problems.append(f"{path}, {place}: {problem}")
    for key, answers in asked.items():
        try:
            if key in events:
                raise Problem(f"clip {key[0]}, event {key[1]} is there already")
            events[key] = _of_answers(key, "", answers, problems, path)
        except Problem as problem:
            problems.append(f"{path}, {answers[0][0]}: {problem}")
    if not events:
        raise InputError(f"{problems[0]} (nothing in {path} can be turned)", "docs/build-prompts.md shows what can")
    write_json(output, msgspec.to_builtins(simple.Document([events[key] for key in sorted(events)])))
    return ConversionSummary(output, len(events), tuple(problems))


def _key(record: Any) -> tuple[str, int]:
    if not isinstance(record, dict):
        raise Problem("it is not an object with clip and caption, or question and answer")
    clip_id = text(record, "clip").strip()
    event = record.get("event", 0)
    event = int(event) if isinstance(event, str) and event.strip().isdecimal() else event
    if not isinstance(event, int) or isinstance(event, bool) or event < 0:
        raise Problem(f"event: {event!r} is not a whole number from 0")
    return clip_id, event


def _event(key: tuple[str, int], record: dict[str, Any], place: str, problems: list[str], path: Path) -> simple.Event:
    if "caption" in record:
        return _of_caption(key, text(record, "caption"))
    answers = [
        (f"{place}, qa, {n}", text(pair, "question", f"qa, {n}"), text(pair, "answer", f"qa, {n}"))
        for n, pair in enumerate(member(record, "qa", list))
        if isinstance(pair, dict)
    ]
    return _of_answers(key, text(record, "verb") if "verb" in record else "", answers, problems, path)


def _of_caption(key: tuple[str, int], caption: str) -> simple.Event:
    """Return the event of a caption that binds nouns to roles."""
    action = _ACTION.search(caption)
    if action is None:
        raise Problem("caption: it does not say 'the action is VERB'")
    bindings: list[tuple[str, str]] = []
    rest = caption[action.end() :].lstrip(" ,")
    for part in filter(None, map(clean_value, _NEXT_BINDING.split(rest))):
        binding = _BINDING.fullmatch(part)
        if binding is None:
            raise Problem(f"caption: '{part}' is not 'the ROLE is VALUE'")
        bindings.append((binding["name"], binding["value"]))
    sense, names = _sense_of(action["verb"], [name for name, _ in bindings])
    roles: dict[str, str] = {}
    for name, value in bindings:
        if name not in names:
            raise Problem(f"caption: '{name}' is not a role of {action['verb']}")
        if names[name] in roles:
            raise Problem(f"caption: two values for {names[name]}")
        roles[names[name]] = value
    return simple.Event(clip=key[0], event=key[1], verb=sense, roles=roles)


def _of_answers(
    key: tuple[str, int], verb: str, answers: list[tuple[str, str, str]], problems: list[str], path: Path
) -> simple.Event:
    """Return the event that answers tell of; a question that asks for no known role is reported and left out."""
    asked = [(place, _asked_for(question), question, clean_value(answer)) for place, question, answer in answers]
    verbs = [answer for _, (kind, _), _, answer in asked if kind == _VERB]
    verb = verb or next(iter(verbs), "")
    if not verb:
        raise Problem(f"clip {key[0]}, event {key[1]}: no verb, and no question asks for it")
    sense, names = _sense_of(verb, [name for _, (kind, name), _, _ in asked if kind == "name"])
    roles: dict[str, str] = {}
    for place, (kind, name), question, answer in asked:
        role = names.get(name) if kind == "name" else name
        if kind == _VERB or not answer:
            continue
        if not role or role in roles:
            why = "asks for a role a second time" if role else "asks for no role that is known"
            problems.append(f"{path}, {place}: '{question}' {why}; it was left out")
        else:
            roles[role] = answer
    return simple.Event(clip=key[0], event=key[1], verb=sense, roles=roles)


def _asked_for(question: str) -> tuple[str, str]:
    """Return what a question asks for: ``("role", arg)``, ``("name", role name)``, the verb, or nothing known."""
    if tag := _TAG.search(question):
        return "role", TAGS.get(tag[1].upper(), "")
    stripped = question.strip()
    for pattern, role in _OTHER_QUESTIONS:
        if pattern.match(stripped):
            return (_VERB, "") if role == _VERB else ("role", role)
    named = _NAMED_QUESTION.match(stripped)
    return ("name", named["name"]) if named else ("role", "")


def _sense_of(verb: str, names: list[str]) -> tuple[str, Mapping[str, str]]:
    """Return the verb's sense, and the role key of each name that is known.

    The sense is the only one of the verb that has all names which are neither modifiers nor generic; where several
    have, or none, the verb stays a word.
    """
    fixed = {name: arg for name in names if (arg := _fixed(name))}
    others = [name for name in names if name not in fixed]
    word = verb.strip().lower()
    lemma = word if " " in word else verb_lemma(word)
    senses = [sense for sense in propbank() if sense == word or lemma_of(sense) in (word, lemma)]
    whole = [found for sense in senses if (found := _named_by(sense, others)) is not None]
    readings = {tuple(sorted(found.items())) for _, found in whole}
    if not others or len(readings) != 1:
        return lemma.replace(" ", "_"), fixed
    sense, keys = whole[0]
    return (sense if len(whole) == 1 else lemma.replace(" ", "_")), {**fixed, **keys}


def _fixed(name: str) -> str:
    key = _SCENE_NAMES.get(name.strip().lower(), name)
    parsed = parse_own_key(key)
    return parsed[0] if parsed else ""


def _named_by(sense: str, names: list[str]) -> tuple[str, dict[str, str]] | None:
    """Return the sense and role keys ``Arg0 (walker)`` of all names, or None where it lacks one."""
    found = {}
    for name in names:
        arg = next(
            (
                arg
                for arg, known in propbank()[sense].items()
                if arg in GENERIC_NAMES
                and normalised(name) in {normalised(part) for part in (known, *known.split(","))}
            ),
            None,
        )
        if arg is None:
            return None
        found[name] = f"{arg} ({name})"
    return sense, found
