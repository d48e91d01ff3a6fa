"""What happens in the synthetic world: actors, verbs, manners, directions, scenes, and clips made of five events.

Everything about a clip follows from (seed, split, number). Which actor does what to which decides the split: a
combination of agent, verb and patient occurs in one split alone, so test clips show events never trained on.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 230),
    "yellow": (240, 220, 50),
    "purple": (150, 60, 190),
    "orange": (245, 140, 30),
    "white": (245, 245, 245),
    "black": (25, 25, 25),
}
WORLD_VERSION = 2  # of what the same seed draws
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross")
ACCESSORIES = ("hat", "scarf", "flag")
SCENES: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "desert": ((235, 215, 160), (215, 180, 110)),
    "sea": ((150, 205, 235), (40, 110, 170)),
    "forest": ((150, 190, 140), (50, 95, 55)),
    "night": ((40, 40, 80), (70, 60, 90)),
    "snow": ((205, 220, 235), (235, 240, 245)),
}
MANNERS = ("slowly", "quickly")
SPLITS = ("train", "valid", "test")
EVENTS = 5
_CAST = 3
_PLAIN, _WATCHED = 0.4, 0.5  # shares of actors without an accessory, and of events that someone watches
# Of 10 parts of all combinations, one is kept for validation and two for the test.
_SPLIT_OF_PART = ("valid", "test", "test", *("train",) * 7)


@dataclass(frozen=True)
class Verb:
    """A verb of the world.

    Attributes:
        word: As in the annotation.
        sense: PropBank sense.
        third_person: As in a sentence.
        agent_role: Description of Arg0 in PropBank.
        patient_role: Description of Arg1; empty where nobody is acted upon.
        ways: Directions it may take.
        reversed_in_time: Another verb of the world that looks the same in every single frame; empty for most.
    """

    word: str
    sense: str
    third_person: str
    agent_role: str
    patient_role: str
    ways: tuple[str, ...] = ("left", "right")
    reversed_in_time: str = ""

    @property
    def vertical(self) -> bool:
        """Whether it goes up or down."""
        return self.ways[0] in ("up", "down")


_RISING = "Logical subject, patient, thing rising"
_SINKING = "Logical subject, patient, thing going down"
VERBS = (
    Verb("push", "push.01", "pushes", "pusher", "thing pushed"),
    Verb("drag", "drag.01", "drags", "dragger", "thing dragged"),
    Verb("chase", "chase.01", "chases", "follower", "thing followed"),
    Verb("flee", "flee.01", "flees from", "fleer, runner", "fled--person or place"),
    Verb("hit", "hit.01", "hits", "agent, hitter - animate only!", "thing hit"),
    Verb("carry", "carry.01", "carries", "carrier", "thing carried"),
    Verb("ride", "ride.01", "rides", "rider", "steed"),
    Verb("shake", "shake.01", "shakes", "causer of trembling motion", "thing trembling"),
    Verb("throw", "throw.01", "throws", "thrower", "thing thrown", reversed_in_time="catch"),
    Verb("catch", "catch.01", "catches", "receiver", "thing gotten", reversed_in_time="throw"),
    Verb("lift", "lift.01", "lifts", "elevator, Agent", _RISING, ("up",), reversed_in_time="lower"),
    Verb("lower", "lower.01", "lowers", "entity moving something downward", _SINKING, ("down",), "lift"),
    Verb("climb", "climb.01", "climbs", "climber", "thing climbed (clomb?)", ("up",)),
    Verb("jump", "jump.03", "jumps", "jumper", "", ("up",)),
)


@dataclass(frozen=True)
class Actor:
    """A coloured shape, with a hat, a scarf, a flag or nothing."""

    colour: str
    shape: str
    accessory: str = ""

    @property
    def plain_name(self) -> str:
        """Noun phrase without article and accessory."""
        return f"{self.colour} {self.shape}"

    @property
    def name(self) -> str:
        """Noun phrase without article."""
        return f"{self.plain_name} with a {self.accessory}" if self.accessory else self.plain_name


@dataclass(frozen=True)
class Event:
    """Two seconds in which one thing happens.

    Attributes:
        verb: What.
        agent: Who does it.
        patient: To whom; None for verbs without one.
        manner: ``slowly`` or ``quickly``.
        direction: ``left``, ``right``, ``up`` or ``down``.
        bystander: Someone who does nothing, or None.
    """

    verb: Verb
    agent: Actor
    patient: Actor | None
    manner: str
    direction: str
    bystander: Actor | None


@dataclass(frozen=True)
class ClipPlan:
    """One clip: its id, scene and five events."""

    clip_id: str
    scene: str
    events: tuple[Event, ...]


def plan_clip(seed: int, split: str, number: int) -> ClipPlan:
    """Return clip ``number`` of a split; the same arguments give the same clip on every machine."""
    digest = hashlib.sha256(f"figclip-demo/{seed}/{split}/{number}".encode()).digest()
    generator = random.Random(int.from_bytes(digest[:8], "big"))
    cast = [_actor(generator, *pair) for pair in generator.sample([(c, s) for c in COLOURS for s in SHAPES], _CAST)]
    scene = generator.choice(sorted(SCENES))
    events = tuple(_plan_event(generator, cast, split) for _ in range(EVENTS))
    return ClipPlan(f"v_demo{seed}{split}{number:05d}_seg_0_10", scene, events)


def _actor(generator: random.Random, colour: str, shape: str) -> Actor:
    return Actor(colour, shape, "" if generator.random() < _PLAIN else generator.choice(ACCESSORIES))


def _plan_event(generator: random.Random, cast: list[Actor], split: str) -> Event:
    # Among 3 actors and 14 verbs there are 81 combinations, so a few draws find one of the split. Should a cast
    # have none, fresh actors join it.
    for attempt in range(10_000):
        agent, other, third = generator.sample(cast, _CAST)
        if attempt >= 200:
            agent = _actor(generator, generator.choice(sorted(COLOURS)), generator.choice(SHAPES))
        verb = generator.choice(VERBS)
        patient = other if verb.patient_role else None
        alike = agent.plain_name == other.plain_name
        if not alike and split_of(verb, agent, patient) == split:
            watched = generator.random() < _WATCHED and third.plain_name != agent.plain_name
            direction, manner = generator.choice(verb.ways), generator.choice(MANNERS)
            return Event(verb, agent, patient, manner, direction, third if watched else None)
    raise AssertionError("no combination of the split was found")


def split_of(verb: Verb, agent: Actor, patient: Actor | None) -> str:
    """Return the one split in which this combination occurs, whatever the actors wear."""
    name = f"{verb.sense}/{agent.plain_name}/{patient.plain_name if patient else ''}"
    return _SPLIT_OF_PART[hashlib.sha256(name.encode()).digest()[0] % len(_SPLIT_OF_PART)]
