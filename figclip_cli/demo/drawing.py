"""Pictures of single moments: a backdrop that stays for an event, and the actors on it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from figclip_cli.demo.poses import Placement, Point, Stage, onlooker, place
from figclip_cli.demo.scenario import COLOURS, SCENES, Event

SIZE = 64
_SUPERSAMPLE = 2
_SIDE = SIZE * _SUPERSAMPLE
_NOISE = 9.0
_NOISE_BANK = 16
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)

Colour = tuple[int, int, int]
Picture = npt.NDArray[np.uint8]


class Drawing:
    """An event's pictures: the backdrop is drawn once."""

    def __init__(self, scene: str, event: Event, stage: Stage) -> None:
        self._event, self._stage = event, stage
        sky, ground = (_lit(colour, stage.light) for colour in SCENES[scene])
        self._front = _lit(ground, 0.7)
        self._backdrop = Image.new("RGB", (_SIDE, _SIDE), sky)
        pen = ImageDraw.Draw(self._backdrop)
        pen.rectangle((0, _SIDE * stage.horizon, _SIDE, _SIDE), fill=ground)
        for kind, at, size in stage.things:
            _thing(pen, kind, at, size, _lit(ground if kind % 2 else sky, 0.82))
        if (watching := onlooker(event, stage)) is not None:
            _actor(pen, watching)

    def at(self, phase: float) -> Picture:
        """Draw one moment without noise, (64, 64, 3) uint8 RGB."""
        image = self._backdrop.copy()
        pen = ImageDraw.Draw(image)
        placed = place(self._event, self._stage, phase)
        if self._event.verb.word == "drag":
            ends = [(item.at[0] * _SIDE, item.at[1] * _SIDE) for item in placed]
            pen.line(ends, fill=(120, 80, 40), width=3)
        for item in placed:
            _streaks(pen, item)
            _actor(pen, item)
            _arms(pen, item)
        if self._event.verb.word == "hit" and phase > 0.25:
            x, y = ((a + b) / 2 * _SIDE for a, b in zip(placed[0].at, placed[1].at, strict=True))
            pen.polygon(_star(x, y - 0.07 * _SIDE, 0.08 * _SIDE, 8), fill=(255, 250, 120))
        if self._stage.pillar is not None:
            left, width = (value * _SIDE for value in self._stage.pillar)
            pen.rectangle((left, 0, left + width, _SIDE), fill=self._front)
        return np.asarray(image.reduce(_SUPERSAMPLE))


def draw(scene: str, event: Event, stage: Stage, phase: float) -> Picture:
    """Draw one moment without noise, (64, 64, 3) uint8 RGB."""
    return Drawing(scene, event, stage).at(phase)


_noise_bank = np.random.default_rng(0).normal(0.0, _NOISE, (_NOISE_BANK, SIZE, SIZE, 3)).round().astype(np.int16)


def add_noise(picture: Picture, number: int) -> Picture:
    """Add one of a few fixed fields of sensor noise."""
    return np.clip(picture + _noise_bank[number % _NOISE_BANK], 0, 255).astype(np.uint8)


def _lit(colour: Colour, light: float) -> Colour:
    red, green, blue = (min(255, round(channel * light)) for channel in colour)
    return red, green, blue


def _thing(pen: ImageDraw.ImageDraw, kind: int, at: Point, size: float, fill: Colour) -> None:
    """Draw something that lies about and has no eyes: a stone, a bush, a crate or a pole."""
    x, y, r = at[0] * _SIDE, at[1] * _SIDE, size * _SIDE
    if kind == 0:
        pen.ellipse((x - 1.4 * r, y - 0.7 * r, x + 1.4 * r, y + 0.7 * r), fill=fill)
    elif kind == 1:
        pen.polygon([(x, y - 1.6 * r), (x + r, y + r), (x - r, y + r)], fill=fill)
    elif kind == 2:
        pen.rectangle((x - r, y - r, x + r, y + 0.6 * r), fill=fill)
    else:
        pen.rectangle((x - 0.25 * r, y - 2 * r, x + 0.25 * r, y + 2 * r), fill=fill)


def _streaks(pen: ImageDraw.ImageDraw, item: Placement) -> None:
    length = math.hypot(*item.motion)
    if length == 0:
        return
    way = (item.motion[0] / length, item.motion[1] / length)
    across = (-way[1], way[0])
    for offset in (-0.6, 0.0, 0.6):
        x, y = ((item.at[k] + (across[k] * offset - way[k] * 1.1) * item.radius) * _SIDE for k in (0, 1))
        tail = 0.7 * length * _SIDE
        pen.line([(x, y), (x - way[0] * tail, y - way[1] * tail)], fill=_WHITE, width=2)


def _arms(pen: ImageDraw.ImageDraw, item: Placement) -> None:
    if item.arms == (0.0, 0.0):
        return
    (along_x, along_y), r = item.arms, item.radius * _SIDE
    for side in (-0.65, 0.65):
        x = item.at[0] * _SIDE - side * r * along_y
        y = item.at[1] * _SIDE + side * r * along_x
        end = (x + 1.45 * r * along_x, y + 1.45 * r * along_y)
        pen.line([(x + 0.5 * r * along_x, y + 0.5 * r * along_y), end], fill=_BLACK, width=4)
        hand = 0.22 * r
        pen.ellipse((end[0] - hand, end[1] - hand, end[0] + hand, end[1] + hand), fill=_WHITE, outline=_BLACK)


def _actor(pen: ImageDraw.ImageDraw, item: Placement) -> None:
    x, y, r = item.at[0] * _SIDE, item.at[1] * _SIDE, item.radius * _SIDE
    fill, shape = COLOURS[item.actor.colour], item.actor.shape
    if item.actor.accessory == "flag":
        pen.line([(x - 0.9 * r, y + r), (x - 0.9 * r, y - 1.5 * r)], fill=_BLACK, width=2)
        pen.polygon(
            [(x - 0.9 * r, y - 1.5 * r), (x - 0.9 * r, y - 0.8 * r), (x, y - 1.15 * r)], fill=_WHITE, outline=_BLACK
        )
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=_BLACK)
    elif shape == "square":
        pen.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), fill=fill, outline=_BLACK)
    else:
        pen.polygon([(x + r * dx, y + r * dy) for dx, dy in _outline(shape)], fill=fill, outline=_BLACK)
    if item.actor.accessory == "scarf":
        pen.rectangle((x - 0.8 * r, y + 0.3 * r, x + 0.8 * r, y + 0.6 * r), fill=(230, 60, 120), outline=_BLACK)
        pen.rectangle((x + 0.2 * r, y + 0.5 * r, x + 0.5 * r, y + 1.1 * r), fill=(230, 60, 120))
    if item.actor.accessory == "hat":
        pen.rectangle((x - 0.8 * r, y - 1.0 * r, x + 0.8 * r, y - 0.8 * r), fill=(90, 50, 20))
        pen.rectangle((x - 0.45 * r, y - 1.6 * r, x + 0.45 * r, y - 0.9 * r), fill=(90, 50, 20))
    eye = max(1.5, 0.2 * r)
    ex, ey = x + item.gaze[0] * 0.4 * r, y + item.gaze[1] * 0.4 * r
    pen.ellipse((ex - eye, ey - eye, ex + eye, ey + eye), fill=_WHITE, outline=_BLACK)


@lru_cache
def _outline(shape: str) -> tuple[Point, ...]:
    """Return the corners of a shape of radius 1 around the origin."""
    if shape == "triangle":
        return (0, -1), (1, 0.85), (-1, 0.85)
    if shape == "diamond":
        return (0, -1.1), (0.8, 0), (0, 1.1), (-0.8, 0)
    if shape == "star":
        return tuple(_star(0, 0, 1.15, 5))
    w = 0.4
    return (-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w), (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w)


def _star(x: float, y: float, r: float, points: int) -> list[Point]:
    angles = [math.pi * k / points - math.pi / 2 for k in range(2 * points)]
    return [
        (x + r * (0.45 if k % 2 else 1) * math.cos(a), y + r * (0.45 if k % 2 else 1) * math.sin(a))
        for k, a in enumerate(angles)
    ]
