"""Captions of single frames of the synthetic world, as careless as those on the web, each with a near miss."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from demo_base_roles import told_events

from figclip_cli.demo.poses import Placement, Point, Stage, place
from figclip_cli.demo.scenario import ACCESSORIES, COLOURS, MANNERS, SCENES, SHAPES, VERBS, Actor, Event, plan_clip
from figclip_cli.demo.wording import with_article

ROLES = Path(__file__).resolve().parents[1] / "figclip_cli" / "prompts" / "data" / "propbank_roles.json"
_ACCESSORY_TOLD = 0.7
_LONG_STREAKS = 0.15
_MIRRORED = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Shown:
    """What a frame shows: the scene, the event, and how its agent and its patient stand there."""

    scene: str
    event: Event
    agent: Placement
    patient: Placement | None

    @classmethod
    def of(cls, scene: str, event: Event, stage: Stage, phase: float) -> Shown:
        """Return what is drawn of an event at a phase of it."""
        *others, agent = place(event, stage, phase)
        return cls(scene, event, agent, others[0] if others else None)

    def standing(self) -> list[tuple[Actor, Placement]]:
        """Return agent and patient, and how they stand."""
        pairs = [(self.event.agent, self.agent), (self.event.patient, self.patient)]
        return [(actor, at) for actor, at in pairs if actor is not None and at is not None]


@dataclass(frozen=True)
class Kind:
    """A kind of caption: its share of all, what it does, how it is drawn, and what near misses of it differ in."""

    share: float
    about: str
    make: Callable[[Shown, random.Random], str]
    misses: tuple[str, ...]


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
    pair = shown.standing()
    if len(pair) < 2:
        return _naming(shown, rng)
    rng.shuffle(pair)
    (first, at), (second, other) = pair
    (x, y), (other_x, other_y) = at.at, other.at
    if abs(x - other_x) > abs(y - other_y):
        relation = "to the left of" if x < other_x else "to the right of"
    else:
        relation = "above" if y < other_y else "below"
    text = f"{_called(first, rng)} {relation} {_called(second, rng)}"
    return text + rng.choice(("", f" in the {shown.scene}", f", {shown.scene}"))


def way(vector: Point) -> str:
    """Return the words for where a vector points."""
    x, y = vector
    if abs(x) > abs(y):
        return "to the left" if x < 0 else "to the right"
    return "up" if y < 0 else "down"


def _look(name: str, at: Placement, rng: random.Random) -> str:
    length = max(map(abs, at.motion))
    streaks = "long" if length > _LONG_STREAKS else "short" if length > 0 else "no"
    arms = f"{name} reaching {way(at.arms)}" if any(at.arms) else f"{name} without arms"
    return rng.choice((arms, arms, f"{name} looking {way(at.gaze)}", f"{streaks} streaks behind {name}"))


def _looks(shown: Shown, rng: random.Random) -> str:
    seen = shown.standing()
    rng.shuffle(seen)
    text = " and ".join(_look(_called(actor, rng), at, rng) for actor, at in seen[: rng.choice((1, 2))])
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


_WHO = ("colour", "shape", "accessory")
KINDS = (
    Kind(0.55, "name some of what is to be seen", _naming, (*_WHO, "scene")),
    Kind(0.15, "tell where two things are", _spatial, (*_WHO, "exchanged", "mirrored")),
    Kind(0.18, "tell of arms, looks and streaks", _looks, (*_WHO, "exchanged", "exchanged", "mirrored", "manner")),
    Kind(0.04, "list facts in any order, bound to no role", _keywords, (*_WHO, "scene", "verb", "manner")),
    Kind(0.04, "name the action, and at most one who takes part", _action_alone, ("verb", "manner", "exchanged")),
    Kind(0.04, "say who does what to whom", _whole_action, ("verb", "exchanged", *_WHO)),
)


def caption(shown: Shown, rng: random.Random) -> tuple[str, str]:
    """Draw a caption of a frame, and the same of a frame that differs in one thing: equal where it does not tell."""
    (kind,) = rng.choices(KINDS, [kind.share for kind in KINDS])
    words, miss = rng.random(), near_miss(shown, rng.choice(kind.misses), rng)
    return kind.make(shown, random.Random(words)), kind.make(miss, random.Random(words))


def near_miss(shown: Shown, what: str, rng: random.Random) -> Shown:
    """Return what a frame would show that differs in one thing; the same where that cannot be."""
    event = shown.event
    if what == "scene":
        return replace(shown, scene=_other(SCENES, shown.scene, rng))
    if what == "verb":
        others = [v for v in VERBS if v != event.verb and bool(v.patient_role) == bool(event.patient)]
        return replace(shown, event=replace(event, verb=rng.choice(others or [event.verb])))
    if what == "manner":
        return _redrawn(shown, replace(event, manner=_other(MANNERS, event.manner, rng)), _other_streaks)
    if what == "mirrored":
        direction = _MIRRORED.get(event.direction, event.direction)
        return _redrawn(shown, replace(event, direction=direction), _mirrored)
    if what == "exchanged":
        if event.patient is None:
            return shown
        return replace(shown, event=replace(event, agent=event.patient, patient=event.agent))
    role = rng.choice([role for role in ("agent", "patient") if getattr(event, role)])
    return replace(shown, event=replace(event, **{role: _other_actor(event, getattr(event, role), what, rng)}))


def _redrawn(shown: Shown, event: Event, change: Callable[[Placement], Placement]) -> Shown:
    return Shown(shown.scene, event, change(shown.agent), change(shown.patient) if shown.patient else None)


def _other(values: Iterable[str], value: str, rng: random.Random) -> str:
    return rng.choice([v for v in values if v != value])


def _other_actor(event: Event, actor: Actor, what: str, rng: random.Random) -> Actor:
    values = {"colour": tuple(COLOURS), "shape": SHAPES, "accessory": ("", *ACCESSORIES)}[what]
    there = {a.plain_name for a in _actors(event) if a is not actor}
    made = [replace(actor, **{what: value}) for value in values if value != getattr(actor, what)]
    return rng.choice([other for other in made if other.plain_name not in there] or [actor])


def _other_streaks(at: Placement) -> Placement:
    longest = max(map(abs, at.motion))
    factor = 1 / 3 if longest > _LONG_STREAKS else 3
    return replace(at, motion=(at.motion[0] * factor, at.motion[1] * factor))


def _mirrored(at: Placement) -> Placement:
    flipped = {name: (-getattr(at, name)[0], getattr(at, name)[1]) for name in ("gaze", "motion", "arms")}
    return replace(at, at=(1 - at.at[0], at.at[1]), **flipped)


def every_text() -> list[str]:
    """Return texts with every word that a text of the demo may have, PropBank's names of roles among them."""
    senses = json.loads(ROLES.read_text())["senses"]
    texts = [role for sense in senses.values() for role in sense["roles"].values()] + [s.split(".")[0] for s in senses]
    rng = random.Random(0)
    for number in range(2000):
        plan = plan_clip(7, "train", number)
        for index, event in enumerate(plan.events):
            shown = Shown.of(plan.scene, event, Stage.of(f"{number}/{index}"), rng.random())
            texts += [kind.make(shown, rng) for kind in KINDS]
    texts += [text for text, _ in told_events(2000, 7, rng)]
    return [*texts, "In this photo, the action is , the . thing agent patient is of to from with by on a photo left up"]
