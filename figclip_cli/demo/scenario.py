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
SHAPES = ("circle", "square", "triangle", "star", "diamond", "cross")
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
        vertical: Whether the motion is upward; else it is to the left or the right.
    """

    word: str
    sense: str
    third_person: str
    agent_role: str
    patient_role: str
    vertical: bool = False


VERBS = (
    Verb("push", "push.01", "pushes", "pusher", "thing pushed"),
    Verb("drag", "drag.01", "drags", "dragger", "thing dragged"),
    Verb("chase", "chase.01", "chases", "follower", "thing followed"),
    Verb("flee", "flee.01", "flees from", "fleer, runner", "fled--person or place"),
    Verb("hit", "hit.01", "hits", "agent, hitter - animate only!", "thing hit"),
    Verb("lift", "lift.01", "lifts", "elevator, Agent", "Logical subject, patient, thing rising", vertical=True),
    Verb("climb", "climb.01", "climbs", "climber", "thing climbed (clomb?)", vertical=True),
    Verb("jump", "jump.03", "jumps", "jumper", "", vertical=True),
)


@dataclass(frozen=True)
class Actor:
    """A coloured shape."""

    colour: str
    shape: str

    @property
    def name(self) -> str:
        """Noun phrase without article."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True)
class Event:
    """Two seconds in which one thing happens.

    Attributes:
        verb: What.
        agent: Who does it.
        patient: To whom; None for verbs without one.
        manner: ``slowly`` or ``quickly``.
        direction: ``left``, ``right`` or ``up``.
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
    cast = [Actor(*pair) for pair in generator.sample([(c, s) for c in COLOURS for s in SHAPES], _CAST)]
    scene = generator.choice(sorted(SCENES))
    events = tuple(_plan_event(generator, cast, split) for _ in range(EVENTS))
    return ClipPlan(f"v_demo{split}{number:05d}_seg_0_10", scene, events)


def _plan_event(generator: random.Random, cast: list[Actor], split: str) -> Event:
    # Among 3 actors and 8 verbs there are 45 combinations, so a few draws find one of the split. Should a cast
    # have none, fresh actors join it.
    for attempt in range(10_000):
        agent, other, third = generator.sample(cast, _CAST)
        if attempt >= 200:
            agent = Actor(generator.choice(sorted(COLOURS)), generator.choice(SHAPES))
        verb = generator.choice(VERBS)
        patient = other if verb.patient_role else None
        if agent != patient and split_of(verb, agent, patient) == split:
            direction = "up" if verb.vertical else generator.choice(("left", "right"))
            manner = generator.choice(MANNERS)
            bystander = third if generator.random() < 0.5 and third != agent else None
            return Event(verb, agent, patient, manner, direction, bystander)
    raise AssertionError("no combination of the split was found")


def split_of(verb: Verb, agent: Actor, patient: Actor | None) -> str:
    """Return the one split in which this combination occurs."""
    name = f"{verb.sense}/{agent.name}/{patient.name if patient else ''}"
    return _SPLIT_OF_PART[hashlib.sha256(name.encode()).digest()[0] % len(_SPLIT_OF_PART)]
