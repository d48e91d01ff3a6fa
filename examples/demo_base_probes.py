"""Pairs of a right and a wrong text about single frames of the synthetic world."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable

from demo_base_captions import Shown, way

from figclip_cli.demo.scenario import ACCESSORIES, COLOURS, MANNERS, SCENES, SHAPES, VERBS, Actor, Event
from figclip_cli.demo.wording import with_article

Pairs = dict[str, list[tuple[int, str, str]]]


def probes(shown: list[Shown]) -> Pairs:
    """Return (row of the frame, right text, wrong text), by what differs; the same for the same frames."""
    rng = random.Random(1)
    pairs: Pairs = defaultdict(list)
    for row, one in enumerate(shown):
        for kind, right, wrong in [
            *_where(one),
            *_arms(one),
            *_naming(one, rng),
            *_told(one, rng),
            *_prompts(one, rng),
        ]:
            pairs[kind].append((row, right, wrong))
    return dict(pairs)


def _other(values: Iterable[str], value: str, rng: random.Random) -> str:
    return rng.choice([v for v in values if v != value])


def _naming(one: Shown, rng: random.Random) -> list[tuple[str, str, str]]:
    agent = one.event.agent
    name = with_article(agent.plain_name)
    made = [
        ("colour", name, with_article(f"{_other(COLOURS, agent.colour, rng)} {agent.shape}")),
        ("shape", name, with_article(f"{agent.colour} {_other(SHAPES, agent.shape, rng)}")),
        ("scene", f"{name}, {one.scene}", f"{name}, {_other(SCENES, one.scene, rng)}"),
    ]
    if agent.accessory:
        other = Actor(agent.colour, agent.shape, _other(ACCESSORIES, agent.accessory, rng))
        made.append(("accessory", with_article(agent.name), with_article(other.name)))
    return made


def _where(one: Shown) -> list[tuple[str, str, str]]:
    if one.event.patient is None or one.patient is None:
        return []
    agent, patient = one.agent.at, one.patient.at
    name, other = (with_article(actor.plain_name) for actor in (one.event.agent, one.event.patient))
    if abs(agent[0] - patient[0]) <= abs(agent[1] - patient[1]):
        return []
    right, wrong = ("left", "right") if agent[0] < patient[0] else ("right", "left")
    return [("where", f"{name} to the {right} of {other}", f"{name} to the {wrong} of {other}")]


def _arms(one: Shown) -> list[tuple[str, str, str]]:
    if one.event.patient is None:
        return []
    names = [with_article(actor.plain_name) for actor in (one.event.agent, one.event.patient)]
    right, wrong = (f"{who} reaching {way(one.agent.arms)}" for who in names)
    return [("arms", right, wrong)]


def _told(one: Shown, rng: random.Random) -> list[tuple[str, str, str]]:
    event = one.event
    if event.patient is None:
        return []
    who, whom = with_article(event.agent.name), with_article(event.patient.name)
    verb = event.verb.third_person
    other = rng.choice([v for v in VERBS if v != event.verb and v.patient_role])
    return [
        ("verb", f"{who} {verb} {whom}", f"{who} {other.third_person} {whom}"),
        ("who does it to whom", f"{who} {verb} {whom}", f"{whom} {verb} {who}"),
    ]


def prompt(event: Event, scene: str) -> str:
    """Return the paper's prompt of an event."""
    parts = [f"the {event.verb.agent_role} is {event.agent.name}"]
    if event.patient is not None:
        parts.append(f"the {event.verb.patient_role} is {event.patient.name}")
    modifiers = f"direction is {event.direction}, manner is {event.manner}, scene is {scene}."
    return f"In this photo, the action is {event.verb.word}, {', '.join(parts)}, {modifiers}"


def _prompts(one: Shown, rng: random.Random) -> list[tuple[str, str, str]]:
    event = one.event
    right = prompt(event, one.scene)

    def changed(**what: object) -> str:
        return prompt(Event(**{**event.__dict__, **what}), one.scene)  # type: ignore[arg-type]

    made = [("prompt: manner", right, changed(manner=_other(MANNERS, event.manner, rng)))]
    if not event.verb.vertical:
        made.append(("prompt: direction", right, changed(direction=_other(("left", "right"), event.direction, rng))))
    if event.patient is not None:
        other = rng.choice([v for v in VERBS if v != event.verb and v.patient_role])
        made.append(("prompt: verb", right, changed(verb=other)))
        made.append(("prompt: roles exchanged", right, changed(agent=event.patient, patient=event.agent)))
    return made
