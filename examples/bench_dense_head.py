"""Train a head for dense captioning on made-up videos, and see that it tells what happens and when.

    python examples/bench_dense_head.py [--world demo|parted] [--train 400] [--test 100] [--epochs 16] [--json]

Draws videos and their timed sentences, extracts two frames a second, and trains a head on the shipped base model's
features of frames, with a tenth of the videos as validation. `--world demo` is the demo's: clips of ten seconds that
are told of in steps of two seconds, by two annotators. `--world parted` shows parts of the same clips, of any length,
parted by dark pauses of any length.

Three rows say what is possible without looking: the most frequent number of events at their mean places with the most
frequent sentence; that sentence in each fifth of the video; and the same head trained with the annotation of other
videos. The last row has the segments of the annotation, and writes sentences alone. All are scored on test videos that
no model has seen, as `figclip evaluate dense-captioning` does; "counted" is how many events too many or too few a
video has, on average, beside the first annotator's. With --folder, what was drawn and extracted there is taken again.
Prints a Markdown table, or JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from timing import machine

from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.dense_captions import EVENT_SECONDS, segments, sentence
from figclip_cli.demo.render import FRAMES_PER_SECOND, SIZE, Picture, add_noise, draw_clip, write_mp4
from figclip_cli.demo.scenario import plan_clip
from figclip_cli.demo.world import write_world
from figclip_cli.evaluate.dense_captioning.task import evaluate_dense_captioning
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.files import write_json
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.heads.dense.inputs import AnnotatedVideos
from figclip_cli.heads.dense.loading import load_head
from figclip_cli.heads.dense.options import DenseOptions, DensePredictOptions
from figclip_cli.heads.dense.predict import asked_videos, predict_dense_captioning
from figclip_cli.heads.dense.train import train_dense_captioning
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.options import TrainingOptions
from figclip_cli.heads.seen_model import SeenModel, seen_model
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource

SPLITS = ("train", "valid", "test")
COLUMNS = ("CIDEr", "BLEU-4", "METEOR", "SODA_c", "recall", "precision")
FPS = 2.0
PAUSE_FRAMES = (4, 24)  # of the drawn ones, at least and at most
LEAST_FRAMES = 8  # of a part


@dataclass(frozen=True)
class World:
    """Drawn videos.

    Attributes:
        folder: Where everything is.
        annotations: Timed sentences, by split; of several annotators the first one's.
        references: Of the test split, all annotators'.
        clips: Frames, by split.
    """

    folder: Path
    annotations: dict[str, Path]
    references: list[Path]
    clips: dict[str, StoredClips]

    def of(self, split: str, annotations: Path | None = None) -> AnnotatedVideos:
        """Return annotation and frames of a split."""
        return AnnotatedVideos((annotations or self.annotations[split],), self.clips[split])

    def told(self, split: str) -> dict[str, Any]:
        """Return what the first annotator tells."""
        told: dict[str, Any] = json.loads(self.annotations[split].read_text())
        return told


def make_world(folder: Path, counts: dict[str, int], kind: str = "demo") -> World:
    """Draw videos and extract their frames; what is there is taken again."""
    recipe = SamplingRecipe(size=SIZE, policy="fps", fps=FPS)
    if not (folder / "dense").is_dir():
        if kind == "demo":
            write_world(folder, seed=0, counts=counts)
        else:
            write_parted(folder, counts)
    clips = {}
    for split in SPLITS:
        frames = folder / f"{split}.h5"
        if not frames.exists():
            extract([folder / "videos" / split], frames, recipe=recipe, workers=1)
        clips[split] = StoredClips(FramesReader(frames), PROTOCOLS["figclip"])
    annotations = {split: folder / "dense" / f"{split}.json" for split in SPLITS}
    second = folder / "dense" / "test_2.json"
    references = [annotations["test"], *([second] if second.exists() else [])]
    return World(folder, annotations, references, clips)


def write_parted(folder: Path, counts: dict[str, int]) -> None:
    """Draw parts of the demo's clips, parted by pauses, and write when they are and what happens in them."""
    for split, count in counts.items():
        (folder / "videos" / split).mkdir(parents=True)
        told = {}
        for number in range(count):
            plan = plan_clip(0, split, number)
            generator = np.random.default_rng((SPLITS.index(split), number))
            drawn, pictures = draw_clip(plan), [pause(generator)]
            entry: dict[str, list[Any]] = {"timestamps": [], "sentences": []}
            for one in segments(plan):
                first, last = (int(place * EVENT_SECONDS * FRAMES_PER_SECOND) for place in (one.first, one.last + 1))
                length = int(generator.integers(LEAST_FRAMES, last - first + 1))
                first += int(generator.integers(last - first - length + 1))
                start = sum(map(len, pictures))
                pictures += [drawn[first : first + length], pause(generator)]
                entry["timestamps"].append([start / FRAMES_PER_SECOND, (start + length) / FRAMES_PER_SECOND])
                entry["sentences"].append(sentence(one))
            shown = np.concatenate(pictures)
            write_mp4(folder / "videos" / split / f"{plan.clip_id}.mp4", shown)
            told[plan.clip_id] = {"duration": len(shown) / FRAMES_PER_SECOND, **entry}
        write_json(folder / "dense" / f"{split}.json", told)


def pause(generator: np.random.Generator) -> Picture:
    """Return dark pictures."""
    count = int(generator.integers(PAUSE_FRAMES[0], PAUSE_FRAMES[1] + 1))
    return np.stack([add_noise(np.zeros((SIZE, SIZE, 3), np.uint8), number) for number in range(count)])


def most_frequent(world: World) -> tuple[list[list[float]], str]:
    """Return the mean places, as shares, of the most frequent number of events, and the most frequent sentence."""
    told = list(world.told("train").values())
    count = Counter(len(video["sentences"]) for video in told).most_common(1)[0][0]
    text = Counter(text for video in told for text in video["sentences"]).most_common(1)[0][0]
    alike = [video for video in told if len(video["timestamps"]) == count]
    shares = [np.array(video["timestamps"], dtype=np.float64) / video["duration"] for video in alike]
    return np.mean(shares, axis=0).tolist(), text


def write_places(world: World, shares: list[list[float]], text: str, output: Path) -> None:
    """Write one sentence at the same places of every test video."""
    results = {
        name: [{"sentence": text, "timestamp": [share * video["duration"] for share in place]} for place in shares]
        for name, video in world.told("test").items()
    }
    write_json(output, {"version": "1", "results": results, "external_data": {}})


def of_other_videos(annotations: Path, output: Path) -> Path:
    """Write an annotation in which each video has the events of the next one, at the same shares of its duration."""
    told = json.loads(annotations.read_text())
    names, made = list(told), {}
    for name, other in zip(names, names[1:] + names[:1], strict=True):
        longer = told[name]["duration"] / told[other]["duration"]
        times = [[time * longer for time in pair] for pair in told[other]["timestamps"]]
        made[name] = {**told[other], "duration": told[name]["duration"], "timestamps": times}
    write_json(output, made)
    return output


def train_and_predict(
    world: World, model: SeenModel, name: str, mode: str, arguments: argparse.Namespace, output: Path
) -> dict[str, float]:
    """Train a head, write its predictions of the test videos, and return what it took."""
    annotations = {split: world.annotations[split] for split in ("train", "valid")}
    if name == "blind":
        annotations = {
            split: of_other_videos(path, world.folder / f"blind-{split}.json") for split, path in annotations.items()
        }
    options = DenseOptions(mode=mode, width=arguments.width, queries=10, caption_layers=2, max_tokens=40)
    how = TrainingOptions(epochs=arguments.epochs, batch_size=8)
    head = HeadFolder(world.folder / "heads" / name)
    head.check({}, may_change=frozenset(), resume=False, overwrite=True)
    summary = train_dense_captioning(
        world.of("train", annotations["train"]),
        model,
        head,
        options=options,
        how=how,
        validation=world.of("valid", annotations["valid"]),
        cache=world.folder,
        overwrite=True,
    )
    started = time.perf_counter()
    asked = asked_videos(world.of("test"), world.clips["test"])
    predict_dense_captioning(
        load_head(head), model, world.clips["test"], asked, output, options=DensePredictOptions(), cache=world.folder
    )
    return {
        "train_seconds": summary.fitted.train_seconds,
        "predict_seconds": time.perf_counter() - started,
        "parameters": summary.fitted.parameters,
    }


def scores(world: World, predictions: Path, meteor: str = "off") -> dict[str, float]:
    """Return what the evaluation says, times 100, and the mean error of the number of events."""
    options = DenseCaptioningOptions(meteor=meteor)
    results = evaluate_dense_captioning(predictions, world.references, options=options).results
    found = {one["name"]: one["value"] for one in results.as_document()["metrics"] if one["name"] in COLUMNS}
    made = json.loads(predictions.read_text())["results"]
    errors = [abs(len(made[name]) - len(video["sentences"])) for name, video in world.told("test").items()]
    return {**found, "counted": sum(errors) / len(errors)}


def measure(world: World, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each way to predict."""
    model = seen_model(load_clip(ModelSource(str(base_model_folder()))), None, features="plain")
    rows: list[dict[str, Any]] = []
    places, text = most_frequent(world)
    fifths = [[number / 5, (number + 1) / 5] for number in range(5)]
    for name, shares, shown in (("majority", places, "the most frequent"), ("fifths", fifths, "each fifth")):
        output = world.folder / f"{name}.json"
        write_places(world, shares, text, output)
        rows.append({"name": f"without looking: {shown}", **scores(world, output, arguments.meteor)})
    for name, mode, shown in (
        ("blind", "proposals", "without looking: annotation of other videos"),
        ("head", "proposals", "head"),
        ("given", "given", "head, segments given"),
    ):
        output = world.folder / f"{name}.json"
        took = train_and_predict(world, model, name, mode, arguments, output)
        rows.append({"name": shown, **scores(world, output, arguments.meteor), **took})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table."""
    columns = [column for column in COLUMNS if column in rows[0]]
    lines = [
        f"| | {' | '.join(columns)} | counted | trained, s | predicted, s |",
        "| --- |" + " ---: |" * (len(columns) + 3),
    ]
    for row in rows:
        cells = [f"{row[column]:.1f}" for column in columns] + [f"{row['counted']:.2f}"]
        cells += [f"{row[key]:.0f}" if key in row else "" for key in ("train_seconds", "predict_seconds")]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", choices=("demo", "parted"), default="demo", help="which videos; see above")
    parser.add_argument("--train", type=int, default=400, help="videos to train on")
    parser.add_argument("--test", type=int, default=100, help="videos to score")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="keep videos, frames and heads here")
    parser.add_argument("--meteor", choices=("off", "auto", "on"), default="off", help="METEOR and SODA_c, with Java")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    counts = {"train": arguments.train, "valid": max(2, arguments.train // 10), "test": arguments.test}
    with tempfile.TemporaryDirectory() as temporary:
        world = make_world(arguments.folder or Path(temporary), counts, arguments.world)
        rows = measure(world, arguments)
    if arguments.json:
        print(json.dumps({"machine": machine(), "counts": counts, "rows": rows}, indent=1))
        return
    sizes = f"{counts['train']} videos to train on, {counts['test']} to score, {arguments.epochs} epochs"
    print(f"{machine()}; {arguments.world}: {sizes}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
