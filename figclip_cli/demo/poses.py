"""Who stands where at each moment of an event, and what varies between events and means nothing."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from figclip_cli.demo.scenario import Actor, Event

Point = tuple[float, float]
_WAYS: dict[str, Point] = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0), "down": (0.0, 1.0)}
_STILL: Point = (0.0, 0.0)
_REACH = {"slowly": 0.08, "quickly": 0.24}  # how far things move in two seconds, as a share of the picture's side
_TREMBLES = {"slowly": 2, "quickly": 6}  # how often what is shaken goes to and fro in two seconds
_PARTED = 0.35  # share of events in which something in front hides a part


@dataclass(frozen=True)
class Placement:
    """Where and how one actor stands. Lengths are shares of the picture's side; y grows downward.

    Attributes:
        actor: Who.
        at: Centre.
        radius: Half its height.
        gaze: Unit vector the eyes look along.
        motion: Vector it moves along, drawn as streaks behind it; zero for none.
        arms: Unit vector the arms are stretched along; zero for none. Only who does something stretches them.
    """

    actor: Actor
    at: Point
    radius: float
    gaze: Point
    motion: Point = _STILL
    arms: Point = _STILL


@dataclass(frozen=True)
class Stage:
    """What varies between events and means nothing.

    Attributes:
        x, y: Where the action is.
        radius: How large the actors are.
        horizon: How high the ground goes.
        bystander: Where someone watches from.
        light: Factor of brightness.
        things: Things that lie about: kind as a number, place and size.
        pillar: Left edge and width of something in front of everything; None for nothing.
    """

    x: float
    y: float
    radius: float
    horizon: float
    bystander: Point
    light: float
    things: tuple[tuple[int, Point, float], ...]
    pillar: Point | None

    @classmethod
    def of(cls, key: str) -> Stage:
        """Return the stage of a clip's event, from a text that names it."""
        digest = hashlib.sha256(key.encode()).digest()
        numbers = np.random.default_rng(int.from_bytes(digest[:8], "big")).random(40).tolist()

        def between(low: float, high: float) -> float:
            return low + (high - low) * float(numbers.pop())

        corner = (between(0.1, 0.2) if numbers.pop() < 0.5 else between(0.8, 0.9), between(0.12, 0.22))
        things = tuple(
            (int(between(0, 4)), (between(0.0, 1.0), between(0.1, 0.95)), between(0.03, 0.06))
            for _ in range(int(between(2, 6)))
        )
        pillar = (between(0.15, 0.8), between(0.04, 0.07)) if numbers.pop() < _PARTED else None
        return cls(
            x=between(0.42, 0.58),
            y=between(0.5, 0.68),
            radius=between(0.115, 0.155),
            horizon=between(0.35, 0.55),
            bystander=corner,
            light=between(0.75, 1.1),
            things=things,
            pillar=pillar,
        )


@dataclass(frozen=True)
class _Moment:
    """One moment of an event, in the terms that verbs are written in: lengths along the way are in radii."""

    event: Event
    stage: Stage
    phase: float

    @property
    def way(self) -> Point:
        return _WAYS[self.event.direction]

    @property
    def reach(self) -> float:
        return _REACH[self.event.manner]

    @property
    def shift(self) -> float:
        """How far everything that moves has come, from the middle of its way, in radii."""
        return self.reach * (self.phase - 0.5) / self.stage.radius

    def at(self, along: float, down: float = 0.0) -> Point:
        r, (x, y) = self.stage.radius, self.way
        return self.stage.x + along * r * x, self.stage.y + along * r * y + down * r

    def agent(self, at: Point, *, size: float = 1.0, moves: bool = False, gaze: Point | None = None) -> Placement:
        return self._placed(self.event.agent, at, size, moves, self.way if gaze is None else gaze)

    def patient(self, at: Point, *, size: float = 1.0, moves: bool = False, gaze: Point | None = None) -> Placement:
        assert self.event.patient is not None
        return self._placed(self.event.patient, at, size, moves, self.way if gaze is None else gaze)

    def _placed(self, actor: Actor, at: Point, size: float, moves: bool, gaze: Point) -> Placement:
        motion = (self.way[0] * self.reach, self.way[1] * self.reach) if moves else _STILL
        return Placement(actor, at, self.stage.radius * size, gaze, motion)


def _push(m: _Moment) -> list[Placement]:
    return [m.patient(m.at(1.05 + m.shift)), m.agent(m.at(-1.05 + m.shift), moves=True)]


def _drag(m: _Moment) -> list[Placement]:
    return [m.patient(m.at(-1.5 + m.shift), moves=True), m.agent(m.at(1.5 + m.shift))]


def _chase(m: _Moment) -> list[Placement]:
    return [m.patient(m.at(1.7 + m.shift), moves=True), m.agent(m.at(-1.7 + m.shift), moves=True)]


def _flee(m: _Moment) -> list[Placement]:
    return [m.patient(m.at(-1.9)), m.agent(m.at(1.7 + m.shift), moves=True)]


def _hit(m: _Moment) -> list[Placement]:
    back = (-m.way[0], -m.way[1])
    return [m.patient(m.at(1.3), gaze=back), m.agent(m.at(-1.6 + (0.6 + 2 * m.reach) * m.phase), moves=True)]


def _carry(m: _Moment) -> list[Placement]:
    return [m.patient(m.at(m.shift, -1.5), size=0.9), m.agent(m.at(m.shift, 0.5), moves=True)]


def _ride(m: _Moment) -> list[Placement]:
    return [m.patient(m.at(m.shift, 0.6), size=1.15, moves=True), m.agent(m.at(m.shift - 0.3, -1.1), size=0.8)]


def _shake(m: _Moment) -> list[Placement]:
    tremble = (0.15 + 1.5 * m.reach) * math.sin(2 * math.pi * _TREMBLES[m.event.manner] * m.phase + 0.8)
    return [m.patient(m.at(1.15 + tremble, 0.5 * tremble)), m.agent(m.at(-1.05))]


def _throw(m: _Moment) -> list[Placement]:
    return _flight(m, m.at(-2.0), 0.4 + 2.2 * m.shift, m.way)


def _catch(m: _Moment) -> list[Placement]:
    # The same pictures as of throwing the other way, in the other order.
    return _flight(m, m.at(2.0), -0.4 + 2.2 * m.shift, (-m.way[0], -m.way[1]))


def _flight(m: _Moment, agent: Point, along: float, faces: Point) -> list[Placement]:
    height = -1.5 + 0.25 * along * along
    return [m.patient(m.at(along, height), size=0.8, gaze=(0.0, 1.0)), m.agent(agent, gaze=faces)]


def _lift(m: _Moment) -> list[Placement]:
    ground, raised = (
        (m.stage.x, m.stage.y + 0.9 * m.stage.radius),
        m.stage.y + (m.shift * m.way[1] - 1.3) * m.stage.radius,
    )
    up = (0.0, -1.0)
    return [m.patient((m.stage.x, raised), gaze=up), m.agent(ground, gaze=up)]


def _climb(m: _Moment) -> list[Placement]:
    r, x, y = m.stage.radius, m.stage.x, m.stage.y
    rising = (x - 1.0 * r, y + (m.shift * m.way[1] - 0.2) * r)
    return [m.patient((x + 0.9 * r, y), size=1.5, gaze=(-1.0, 0.0)), m.agent(rising, size=0.85, moves=True)]


def _jump(m: _Moment) -> list[Placement]:
    return [m.agent((m.stage.x, m.stage.y + (m.shift * m.way[1] - 0.8) * m.stage.radius), moves=True)]


_POSES: dict[str, Callable[[_Moment], list[Placement]]] = {
    "push": _push,
    "drag": _drag,
    "chase": _chase,
    "flee": _flee,
    "hit": _hit,
    "carry": _carry,
    "ride": _ride,
    "shake": _shake,
    "throw": _throw,
    "catch": _catch,
    "lift": _lift,
    "lower": _lift,
    "climb": _climb,
    "jump": _jump,
}


def place(event: Event, stage: Stage, phase: float) -> list[Placement]:
    """Return who takes part, back to front, at a phase in [0, 1] of an event; the agent is the last."""
    *others, agent = _POSES[event.verb.word](_Moment(event, stage, phase))
    towards = agent.gaze
    if others and event.verb.word != "flee":
        across, down = others[0].at[0] - agent.at[0], others[0].at[1] - agent.at[1]
        length = math.hypot(across, down)
        towards = (across / length, down / length)
    return [*others, replace(agent, arms=towards)]


def onlooker(event: Event, stage: Stage) -> Placement | None:
    """Return whoever watches and does nothing."""
    if event.bystander is None:
        return None
    return Placement(event.bystander, stage.bystander, 0.7 * stage.radius, (0.0, 1.0))
