"""Captions of single frames of the synthetic world, as careless as those on the web."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from figclip_cli.demo.scenario import Actor, Event, plan_clip
from figclip_cli.demo.wording import with_article

ROLES = Path(__file__).resolve().parents[1] / "figclip_cli" / "prompts" / "data" / "propbank_roles.json"
_ACCESSORY_TOLD = 0.7


@dataclass(frozen=True)
class Shown:
    """What a frame shows: the scene, the event, and where those who take part are, by their names."""

    scene: str
    event: Event
    places: dict[str, tuple[float, float]]


@dataclass(frozen=True)
class Kind:
    """A kind of caption: its share of all, what it does, and how it is drawn."""

    share: float
    about: str
    make: Callable[[Shown, random.Random], str]


def _called(actor: Actor, rng: random.Random) -> str:
    return with_article(actor.name if rng.random() < _ACCESSORY_TOLD else actor.plain_name)


def _actors(event: Event) -> list[Actor]:
    return [actor for actor in (event.agent, event.patient, event.bystander) if actor is not None]


def _naming(shown: Shown, rng: random.Random) -> str:
    seen = _actors(shown.event)
    rng.shuffle(seen)
    text = " and ".join(_called(actor, rng) for actor in seen[: rng.choice((1, 2, 2, 3))])
    frame = rng.choice(("{}", "{} in the {s}", "{}, {s}", "a picture of {}", "{s} with {}", "there is {} in the {s}"))
    return frame.format(text, s=shown.scene)


def _spatial(shown: Shown, rng: random.Random) -> str:
    event = shown.event
    if event.patient is None:
        return _naming(shown, rng)
    pair = [event.agent, event.patient]
    rng.shuffle(pair)
    (x, y), (other_x, other_y) = (shown.places[actor.name] for actor in pair)
    if abs(x - other_x) > abs(y - other_y):
        relation = "to the left of" if x < other_x else "to the right of"
    else:
        relation = "above" if y < other_y else "below"
    text = f"{_called(pair[0], rng)} {relation} {_called(pair[1], rng)}"
    return text + rng.choice(("", f" in the {shown.scene}", f", {shown.scene}"))


def _action_alone(shown: Shown, rng: random.Random) -> str:
    event = shown.event
    who, whom = rng.choice((("someone", "something"), (_called(event.agent, rng), "something"), ("someone", None)))
    whom = "" if event.patient is None else whom or _called(event.patient, rng)
    text = f"{who} {event.verb.third_person} {whom}".rstrip()
    manner, towards = f" {event.manner}", _towards(event)
    return text + rng.choice(("", manner, towards, f"{towards}{manner}", f"{manner} in the {shown.scene}"))


def _towards(event: Event) -> str:
    return f" {event.direction}" if event.verb.vertical else f" to the {event.direction}"


def _whole_action(shown: Shown, rng: random.Random) -> str:
    event = shown.event
    text = f"{_called(event.agent, rng)} {event.verb.third_person}"
    if event.patient is not None:
        text += f" {_called(event.patient, rng)}"
    return text + rng.choice(("", _towards(event), f" {event.manner}", f" in the {shown.scene}"))


def _keywords(shown: Shown, rng: random.Random) -> str:
    event = shown.event
    facts = [
        *(f"there is {actor.name}" for actor in _actors(event)),
        f"the scene is {shown.scene}",
        f"the action is {event.verb.word}",
        f"manner is {event.manner}",
        f"direction is {event.direction}",
    ]
    rng.shuffle(facts)
    return "In this photo, " + ", ".join(facts[: rng.randint(2, 6)])


def _one_role(shown: Shown, rng: random.Random) -> str:
    event = shown.event
    roles = [(event.verb.agent_role, event.agent), (event.verb.patient_role, event.patient)]
    role, actor = rng.choice([(role, actor) for role, actor in roles if actor is not None])
    text = f"the {role} is {actor.name}"
    return rng.choice((text, f"{text}, {shown.scene}", f"In this photo, the action is {event.verb.word}, {text}"))


_MAKERS = (
    ("name some of what is to be seen", _naming),
    ("tell where two things are", _spatial),
    ("list facts in any order, bound to no role", _keywords),
    ("name the action, and at most one who takes part", _action_alone),
    ("name one role of the action", _one_role),
    ("say who does what to whom", _whole_action),
)


def _kinds(*shares: float) -> tuple[Kind, ...]:
    return tuple(Kind(share, *about) for share, about in zip(shares, _MAKERS, strict=True))


MIXES = {
    "mixed": _kinds(0.46, 0.16, 0.14, 0.12, 0.04, 0.08),
    "telling": _kinds(0.28, 0.15, 0.17, 0.17, 0.08, 0.15),
    "naming": _kinds(0.8, 0.07, 0.05, 0.04, 0.01, 0.03),
}


def caption(shown: Shown, kinds: Sequence[Kind], rng: random.Random) -> str:
    """Draw one caption of a frame."""
    (kind,) = rng.choices(kinds, [kind.share for kind in kinds])
    return kind.make(shown, rng)


def every_text() -> list[str]:
    """Return texts with every word that a text of the demo may have, PropBank's names of roles among them."""
    senses = json.loads(ROLES.read_text())["senses"]
    texts = [role for sense in senses.values() for role in sense["roles"].values()] + [s.split(".")[0] for s in senses]
    rng = random.Random(0)
    for number in range(2000):
        plan = plan_clip(7, "train", number)
        for event in plan.events:
            places = {actor.name: (rng.random(), rng.random()) for actor in _actors(event)}
            texts += [kind.make(Shown(plan.scene, event, places), rng) for kind in MIXES["mixed"]]
    return [*texts, "In this photo, the action is , the . thing agent patient is of to from with by on a photo left up"]
