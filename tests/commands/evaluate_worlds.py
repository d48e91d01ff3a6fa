"""Clips named as each benchmark names them, the program in this process, and scores of one look and one text at a time.

A test module takes over the fixtures that it uses; what is costly to make is made once for all modules.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import write_video
from typer.testing import CliRunner

from figclip_cli.app import app
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.models.adapted import attach_run, load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

SIDE = 32
CLOSE = 1e-6  # scores nearer than this could change places by the order of a sum
CLIPS = {
    "ucf101": (
        "v_ApplyEyeMakeup_g01_c01.avi",
        "v_ApplyEyeMakeup_g02_c03.avi",
        "v_HandStandPushups_g01_c01.avi",
        "v_JumpRope_g03_c02.avi",
        "v_TaiChi_g01_c01.avi",
    ),
    "hmdb51": (
        "April_09_brush_hair_u_nm_np1_ba_goo_0.avi",
        "Atte_brush_hair_f_nm_np2_le_goo_2.avi",
        "Goal_kick_ball_f_cm_np1_ba_bad_3.avi",
        "Messi_kick_ball_f_cm_np1_fr_med_1.avi",
        "Duel_draw_sword_u_cm_np2_ri_med_0.avi",
        "Rob_draw_sword_h_nm_np1_le_goo_5.avi",
    ),
    "kinetics": ("0wR5jVB-WPk_000417_000427.mp4", "-3B32lodo2M_000059_000069.mp4", "zzy8LNvbkpI_000002_000012.mp4"),
    "ssv2": ("74225.webm", "116154.webm", "198186.webm"),
    "msrvtt": ("video9770.mp4", "video9771.mp4", "video7020.mp4", "video9773.mp4", "video7026.mp4"),
    "msvd": ("-4wsuPCjDBc_5_15.avi", "eyhzdC936uk_15_27.avi", "q3I3R-oF0Fk_1_20.avi", "WPG-BIWOrG4_16_26.avi"),
    "didemo": (
        "10015567@N08_3655084291_394ad64272.mov",
        "58190218@N00_2559464602_77c68e14a5.m4v",
        "24511045@N04_5263191592_ca0a3ee5ef.mpg",
    ),
    "lsmdc": (
        "1004_Juno_00.00.32.122-00.00.37.819.avi",
        "1004_Juno_00.00.44.020-00.00.46.000.avi",
        "3009_BATTLE_LOS_ANGELES_00.04.30.510-00.04.35.000.avi",
    ),
    "activitynet": ("v_uqiMw7tQ1Cc.mp4", "v_bXdq2zI1Ms0.mkv", "v_FsS_NCZEfaI.mp4"),
}
BROKEN = "video9999"
"""A clip of the frames file that could not be decoded."""


@dataclass(frozen=True)
class World:
    """What all runs start from: a folder of videos for each benchmark, the frames of all of them, and a model."""

    folder: Path
    model: Path

    @property
    def frames(self) -> Path:
        return self.folder / "frames.h5"

    @property
    def base(self) -> tuple[str, ...]:
        """The flags of the base model alone."""
        return "--base-only", "--model", str(self.model)

    @property
    def flags(self) -> tuple[str, ...]:
        return (*self.base, "--frames", str(self.frames))


def names_of(family: str) -> list[str]:
    """The clip ids of a benchmark."""
    return [name.rpartition(".")[0] for name in CLIPS[family]]


@pytest.fixture(scope="session")
def world(tmp_path_factory, tiny_model) -> World:
    return make_world(tmp_path_factory.getbasetemp() / "world", tiny_model)


@cache
def make_world(folder: Path, model: Path) -> World:
    seed = 100
    for family, names in CLIPS.items():
        (folder / "videos" / family).mkdir(parents=True)
        for name in names:
            seed += 1
            write_video(folder / "any.mp4", seed=seed, seconds=3.0, rate=5)
            (folder / "any.mp4").rename(folder / "videos" / family / name)
    (folder / "videos" / "broken").mkdir()
    (folder / "videos" / "broken" / f"{BROKEN}.mp4").write_text("no video\n" * 50)
    recipe = SamplingRecipe(size=SIDE, events=2, frames_per_event=2)
    made = World(folder, model)
    extract([folder / "videos"], made.frames, recipe=recipe, workers=1)
    return made


# The program


@dataclass(frozen=True)
class Said:
    code: int
    stdout: str
    stderr: str


@pytest.fixture
def here(tmp_path, monkeypatch) -> Callable[..., Said]:
    """Run the program in this process, in the folder of the test."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Said:
        done = CliRunner().invoke(app, list(map(str, arguments)))
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert "unexpected" not in done.stderr and "Traceback" not in done.stderr, done.stderr
        return Said(done.exit_code, done.stdout, done.stderr)

    return run


def refused(said: Said, code: int) -> str:
    """Return the error and the hint of a run that must fail with one line of each and nothing else on stdout."""
    lines = [line for line in said.stderr.splitlines() if line.startswith(("error: ", "hint: "))]
    assert said.code == code and said.stdout == "", said
    assert [line.split(":")[0] for line in lines] == ["error", "hint"], said.stderr
    return "\n".join(lines)


@dataclass(frozen=True)
class Scored:
    """A run's results, its samples, and what it said."""

    document: dict
    samples: list[dict]
    said: Said

    def metric(self, name: str, group: str = "") -> dict:
        where = self.document["groups"] if group else self.document["metrics"]
        (found,) = [one for one in where if (one["name"], one["group"]) == (name, group)]
        return found

    def values(self, key: str = "value") -> dict[str, float]:
        """The headline numbers."""
        return {one["name"]: one[key] for one in self.document["metrics"]}

    def grouped(self, key: str = "value") -> dict[tuple[str, str], float]:
        """The breakdowns."""
        found = {(one["name"], one["group"]): one[key] for one in self.document["groups"]}
        assert len(found) == len(self.document["groups"])
        return found


def scored(here, *arguments: object, code: int = 0, output: str = "made/results.json") -> Scored:
    """Run ``evaluate`` with ``--json``; stdout, the results file and the samples file must agree."""
    said = here("evaluate", *arguments, "--json", "-o", output)
    assert said.code == code, said.stderr
    path = Path(output)
    document = json.loads(said.stdout)
    assert document == json.loads(path.read_text())
    beside = path.with_name(document["samples"]["file"])
    assert beside.name == f"{path.stem}.samples.jsonl"
    assert hashlib.sha256(beside.read_bytes()).hexdigest() == document["samples"]["sha256"]
    header, *samples = map(json.loads, beside.read_text().splitlines())
    assert len(samples) == document["samples"]["count"] == header["counts"]["samples"]
    assert all(sample["outcomes"].keys() == document["models"].keys() for sample in samples)
    for metric in document["metrics"] + document["groups"]:
        assert metric["standard_error"] >= 0 and metric["n"] > 0
    return Scored(document, samples, said)


def frames_by_the_hint(here, said: str, videos: Path) -> Path:
    """Follow the very command that a refusal names, and return the frames file."""
    words = shlex.split(said.split("extract them with: ")[1].split("; or pass")[0])
    assert words[:2] == ["figclip", "extract-frames"]
    words = [str(videos) if word == "VIDEOS" else "asked.h5" if word == "FRAMES.h5" else word for word in words[1:]]
    assert here(*words).code == 0
    return Path("asked.h5")


# One at a time


class Eyes:
    """A model that sees one frame and reads one text at a time, each text once."""

    def __init__(self, clip) -> None:
        self.clip = clip
        self._texts: dict[str, np.ndarray] = {}

    def look(self, pixels: np.ndarray, pooling: str = "mean-l2") -> np.ndarray:
        """The feature of (frames, 32, 32, 3) uint8."""
        with torch.no_grad():
            frames = [self.clip.encode_frames(torch.from_numpy(one[None].copy()))[0].numpy() for one in pixels]
        return pooled(np.array(frames, dtype=np.float64), pooling)

    def raw_text(self, text: str) -> np.ndarray:
        if text not in self._texts:
            with torch.no_grad():
                self._texts[text] = self.clip.encode_texts([text])[0].double().numpy()
        return self._texts[text]

    def text(self, text: str) -> np.ndarray:
        return unit(self.raw_text(text))


def unit(feature: np.ndarray) -> np.ndarray:
    return feature / np.sqrt((feature * feature).sum())


def pooled(features: np.ndarray, pooling: str) -> np.ndarray:
    """Read from left to right: what is done to (n, D) first, and last."""
    if pooling == "mean-l2":
        return unit(features.mean(axis=0))
    mean = np.array([unit(one) for one in features]).mean(axis=0)
    return unit(mean) if pooling == "l2-mean-l2" else mean


def score(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.float32(np.dot(a, b)))


def rank(own: float, others: Sequence[float], ties: str = "average") -> float:
    """How many score higher, and a share of those that score the same; no score is nearly the same."""
    assert all(other == own or abs(other - own) > CLOSE for other in others)
    share = {"average": 0.5, "optimistic": 0.0, "pessimistic": 1.0}[ties]
    return sum(other > own for other in others) + share * sum(other == own for other in others)


@pytest.fixture(scope="session")
def base_eyes(tiny_model) -> Eyes:
    return Eyes(load_clip(ModelSource(str(tiny_model))))


@pytest.fixture(scope="session")
def adapted_eyes(finished_run) -> Eyes:
    return Eyes(attach_run(load_base(finished_run), finished_run))


def clip_pixels(frames: Path) -> Callable[[tuple], np.ndarray]:
    """Pixels of looks (clip, event or None)."""
    reader = FramesReader(frames)

    def pixels(look):
        stored = reader.read(look[0])  # (events, frames, 32, 32, 3)
        return stored.reshape(-1, SIDE, SIDE, 3) if look[1] is None else stored[look[1]]

    return pixels


def image_pixels(root: Path) -> Callable[[tuple], np.ndarray]:
    """Pixels of looks (file, box or None); the short side of what is cut out is 32, so that nothing is resized."""

    def pixels(look):
        whole = np.asarray(Image.open(root / look[0]).convert("RGB"))
        x, y, width, height = look[1] or (0, 0, whole.shape[1], whole.shape[0])
        assert min(width, height) == SIDE
        cut = whole[y : y + height, x : x + width]
        top, left = (height - SIDE) // 2, (width - SIDE) // 2
        return cut[None, top : top + SIDE, left : left + SIDE]

    return pixels


def draw(path: Path, seed: int, width: int = SIDE, height: int = SIDE) -> None:
    """Draw an image of coloured blocks."""
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    Image.fromarray(np.kron(blocks, np.ones((8, 8, 1), dtype=np.uint8))).save(path)


def write(path: Path, content: object) -> Path:
    """Write a text as it is, anything else as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_bytes(text.encode())
    return path


_QUALITIES = ("red", "small", "wooden", "old", "happy")
_THINGS = ("dog", "man", "table", "girl", "horse", "bird", "car")
_DOINGS = ("pushes", "sees", "carries", "follows")


def sentences(number: int) -> tuple[str, str]:
    """A sentence and the same with its qualities swapped."""
    first, second = _QUALITIES[number % 5], _QUALITIES[(number + 2) % 5]
    thing, doing, other = _THINGS[number % 7], _DOINGS[number % 4], _THINGS[(number + 3) % 7]
    return f"a {first} {thing} {doing} a {second} {other}", f"a {second} {thing} {doing} a {first} {other}"
