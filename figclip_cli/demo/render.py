"""Draw events, and write clips as real mp4 files with ffmpeg."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from figclip_cli.demo.scenario import COLOURS, SCENES, Actor, ClipPlan, Event
from figclip_cli.errors import MachineError
from figclip_cli.frames.decoder_ffmpeg import ffmpeg_program

SIZE = 64
FRAMES_PER_SECOND = 8
EVENT_SECONDS = 2
_SUPERSAMPLE = 2
_NOISE = 7.0
_NOISE_BANK = 16

Picture = npt.NDArray[np.uint8]
Point = tuple[float, float]


@dataclass(frozen=True)
class Placement:
    """Where and how one actor stands. Lengths are shares of the picture's side; y grows downward.

    Attributes:
        actor: Who.
        at: Centre.
        radius: Half its height.
        gaze: Unit vector the eyes look along.
        motion: Vector it moves along, drawn as streaks behind it; zero for none.
    """

    actor: Actor
    at: Point
    radius: float
    gaze: Point
    motion: Point = (0.0, 0.0)


@dataclass(frozen=True)
class Stage:
    """What varies between events and means nothing: position, scale, height of the horizon."""

    x: float
    y: float
    radius: float
    horizon: float
    bystander: Point

    @classmethod
    def of(cls, key: str) -> Stage:
        """Return the stage of a clip's event, from a text that names it."""
        digest = hashlib.sha256(key.encode()).digest()
        generator = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        corner = (float(generator.choice([0.14, 0.86])), float(generator.uniform(0.12, 0.2)))
        return cls(
            x=float(generator.uniform(0.45, 0.55)),
            y=float(generator.uniform(0.58, 0.68)),
            radius=float(generator.uniform(0.115, 0.145)),
            horizon=float(generator.uniform(0.35, 0.55)),
            bystander=corner,
        )


def place(event: Event, stage: Stage, phase: float) -> list[Placement]:
    """Return who stands where at a phase in [0, 1] of an event, back to front."""
    r = stage.radius
    way: Point = {"left": (-1.0, 0.0), "right": (1.0, 0.0), "up": (0.0, -1.0)}[event.direction]
    reach = 0.28 if event.manner == "quickly" else 0.1
    shift = reach * (phase - 0.5)
    x, y = stage.x + shift * way[0], stage.y + shift * way[1]
    motion = (way[0] * reach, way[1] * reach)
    still = (0.0, 0.0)
    back = (-way[0], -way[1])
    agent, patient = event.agent, event.patient

    def at(along: float, down: float = 0.0) -> Point:
        return x + along * r * way[0], y + along * r * way[1] + down * r

    word = event.verb.word
    if patient is None:
        placed = [Placement(agent, at(0.0, -0.8), r, way, motion)]
    elif word == "push":
        placed = [Placement(patient, at(1.05), r, way, still), Placement(agent, at(-1.05), r, way, motion)]
    elif word == "drag":
        placed = [Placement(patient, at(-1.5), r, way, motion), Placement(agent, at(1.5), r, way, still)]
    elif word == "chase":
        placed = [Placement(patient, at(1.7), r, way, motion), Placement(agent, at(-1.7), r, way, motion)]
    elif word == "flee":
        fixed = (stage.x - 1.9 * r * way[0], stage.y)
        placed = [Placement(patient, fixed, r, way, still), Placement(agent, at(1.7), r, way, motion)]
    elif word == "hit":
        fixed = (stage.x + 1.3 * r * way[0], stage.y)
        near = (stage.x + (-1.6 + 1.2 * phase) * r * way[0], stage.y)
        placed = [Placement(patient, fixed, r, back, still), Placement(agent, near, r, way, motion)]
    elif word == "lift":
        ground = (stage.x, stage.y + 0.9 * r)
        raised = (stage.x, y - 1.2 * r)
        placed = [Placement(patient, raised, r, way, motion), Placement(agent, ground, r, way, still)]
    else:  # climb: the agent rises along the side of a larger patient
        mountain = (stage.x + 0.9 * r, stage.y)
        placed = [Placement(patient, mountain, 1.5 * r, (-1.0, 0.0), still)]
        placed += [Placement(agent, (stage.x - 1.0 * r, y - 0.2 * r), 0.85 * r, way, motion)]
    if event.bystander is not None:
        placed.insert(0, Placement(event.bystander, stage.bystander, 0.7 * r, (0.0, 1.0)))
    return placed


def draw(scene: str, event: Event, stage: Stage, phase: float) -> Picture:
    """Draw one moment without noise, (64, 64, 3) uint8 RGB."""
    side = SIZE * _SUPERSAMPLE
    sky, ground = SCENES[scene]
    image = Image.new("RGB", (side, side), sky)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, side * stage.horizon, side, side), fill=ground)
    placed = place(event, stage, phase)
    if event.verb.word == "drag":
        ends = [tuple(c * side for c in item.at) for item in placed[-2:]]
        pen.line([*ends[0], *ends[1]], fill=(120, 80, 40), width=3)
    for item in placed:
        _streaks(pen, item, side)
        _actor(pen, item, side)
    if event.verb.word == "hit" and phase > 0.25:
        contact = [(a + b) / 2 * side for a, b in zip(placed[-1].at, placed[-2].at, strict=True)]
        pen.polygon(_star(contact[0], contact[1] - 0.07 * side, 0.08 * side, 8), fill=(255, 250, 120))
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX))


def _streaks(pen: ImageDraw.ImageDraw, item: Placement, side: int) -> None:
    length = math.hypot(*item.motion)
    if length == 0:
        return
    way = (item.motion[0] / length, item.motion[1] / length)
    across = (-way[1], way[0])
    for offset in (-0.6, 0.0, 0.6):
        start = [(item.at[k] + (across[k] * offset - way[k] * 1.1) * item.radius) * side for k in (0, 1)]
        end = [start[k] - way[k] * length * 0.6 * side for k in (0, 1)]
        pen.line([*start, *end], fill=(255, 255, 255), width=2)


def _actor(pen: ImageDraw.ImageDraw, item: Placement, side: int) -> None:
    x, y, r = item.at[0] * side, item.at[1] * side, item.radius * side
    fill, outline = COLOURS[item.actor.colour], (0, 0, 0)
    shape = item.actor.shape
    if shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=outline)
    elif shape == "square":
        pen.rectangle((x - 0.85 * r, y - 0.85 * r, x + 0.85 * r, y + 0.85 * r), fill=fill, outline=outline)
    else:
        pen.polygon(_polygon(shape, x, y, r), fill=fill, outline=outline)
    eye = max(1.5, 0.2 * r)
    ex, ey = x + item.gaze[0] * 0.4 * r, y + item.gaze[1] * 0.4 * r
    pen.ellipse((ex - eye, ey - eye, ex + eye, ey + eye), fill=(255, 255, 255), outline=outline)


def _polygon(shape: str, x: float, y: float, r: float) -> list[Point]:
    if shape == "triangle":
        return [(x, y - r), (x + r, y + 0.85 * r), (x - r, y + 0.85 * r)]
    if shape == "diamond":
        return [(x, y - 1.1 * r), (x + 0.8 * r, y), (x, y + 1.1 * r), (x - 0.8 * r, y)]
    if shape == "star":
        return _star(x, y, 1.15 * r, 5)
    w = 0.4 * r
    ends = [(-w, -r), (w, -r), (w, -w), (r, -w), (r, w), (w, w), (w, r), (-w, r), (-w, w), (-r, w), (-r, -w), (-w, -w)]
    return [(x + dx, y + dy) for dx, dy in ends]


def _star(x: float, y: float, r: float, points: int) -> list[Point]:
    angles = [math.pi * k / points - math.pi / 2 for k in range(2 * points)]
    return [
        (x + r * (0.45 if k % 2 else 1) * math.cos(a), y + r * (0.45 if k % 2 else 1) * math.sin(a))
        for k, a in enumerate(angles)
    ]


_noise_bank = np.random.default_rng(0).normal(0.0, _NOISE, (_NOISE_BANK, SIZE, SIZE, 3))


def add_noise(picture: Picture, number: int) -> Picture:
    """Add one of a few fixed fields of sensor noise."""
    return (picture + _noise_bank[number % _NOISE_BANK]).clip(0, 255).astype(np.uint8)


def draw_clip(plan: ClipPlan) -> Picture:
    """Draw all frames of a clip, (80, 64, 64, 3) uint8 RGB."""
    count = FRAMES_PER_SECOND * EVENT_SECONDS
    pictures = []
    for index, event in enumerate(plan.events):
        stage = Stage.of(f"{plan.clip_id}/{index}")
        for frame in range(count):
            moment = draw(plan.scene, event, stage, (frame + 0.5) / count)
            pictures.append(add_noise(moment, index * 5 + frame))
    return np.stack(pictures)


def write_mp4(path: Path, pictures: Sequence[Picture] | Picture) -> None:
    """Write pictures as an H.264 mp4.

    Raises:
        MachineError: ffmpeg failed; its last line is shown.
    """
    stream = ffmpeg.input("pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{SIZE}x{SIZE}", r=FRAMES_PER_SECOND)
    output = stream.output(f"file:{path}", vcodec="libx264", pix_fmt="yuv420p", preset="ultrafast", crf=12, threads=1)
    data = np.ascontiguousarray(pictures).tobytes()
    try:
        ffmpeg.run(output, cmd=ffmpeg_program(), input=data, quiet=True, overwrite_output=True)
    except ffmpeg.Error as error:
        last = (error.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise MachineError(f"ffmpeg could not write {path}: {last}", "is there space left?") from error
