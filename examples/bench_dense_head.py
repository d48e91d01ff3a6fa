"""Train a head for dense captioning on the demo's world, and see that it tells what happens and when.

    python examples/bench_dense_head.py [--train 400] [--test 100] [--epochs 20] [--width 128] [--json]

Draws clips and their timed sentences, extracts two frames a second, and trains a head on the shipped base model's
features of frames, with a tenth of the clips as validation. Two rows say what is possible without looking: the most
frequent number of events at their mean places with the most frequent sentence, and the same head trained with the
annotation of other clips. A third one has the segments of the annotation, and writes sentences alone. All are scored
on test clips that no model has seen, as `figclip evaluate dense-captioning` does, times 100. With --folder, what was
drawn and extracted there is taken again. Prints a Markdown table, or JSON.
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
COLUMNS = ("CIDEr", "BLEU-4", "recall", "precision")
FPS = 2.0


@dataclass(frozen=True)
class World:
    """Clips of the demo.

    Attributes:
        folder: Where everything is.
        annotations: Timed sentences, by split.
        clips: Frames, by split.
    """

    folder: Path
    annotations: dict[str, Path]
    clips: dict[str, StoredClips]

    def of(self, split: str, annotations: Path | None = None) -> AnnotatedVideos:
        """Return annotation and frames of a split."""
        return AnnotatedVideos((annotations or self.annotations[split],), self.clips[split])


def make_world(folder: Path, counts: dict[str, int]) -> World:
    """Draw clips and extract their frames; what is there is taken again."""
    recipe = SamplingRecipe(size=64, policy="fps", fps=FPS)
    if not (folder / "dense").is_dir():
        write_world(folder, seed=0, counts=counts)
    clips = {}
    for split in SPLITS:
        frames = folder / f"{split}.h5"
        if not frames.exists():
            extract([folder / "videos" / split], frames, recipe=recipe, workers=1)
        clips[split] = StoredClips(FramesReader(frames), PROTOCOLS["figclip"])
    return World(folder, {split: folder / "dense" / f"{split}.json" for split in SPLITS}, clips)


def majority(world: World, output: Path) -> None:
    """Write the most frequent number of events, at their mean places, with the most frequent sentence."""
    told = list(json.loads(world.annotations["train"].read_text()).values())
    count = Counter(len(video["sentences"]) for video in told).most_common(1)[0][0]
    sentence = Counter(text for video in told for text in video["sentences"]).most_common(1)[0][0]
    alike = [video["timestamps"] for video in told if len(video["timestamps"]) == count]
    places = np.mean(np.array(alike, dtype=np.float64), axis=0).tolist()
    proposals = [{"sentence": sentence, "timestamp": place} for place in places]
    names = json.loads(world.annotations["test"].read_text())
    write_json(output, {"version": "1", "results": dict.fromkeys(names, proposals), "external_data": {}})


def of_other_clips(annotations: Path, output: Path) -> Path:
    """Write an annotation in which each clip has the events of the next one; all clips are equally long."""
    told = json.loads(annotations.read_text())
    names = list(told)
    write_json(output, {name: told[other] for name, other in zip(names, names[1:] + names[:1], strict=True)})
    return output


def train_and_predict(
    world: World, model: SeenModel, name: str, mode: str, arguments: argparse.Namespace, output: Path
) -> dict[str, float]:
    """Train a head, write its predictions of the test clips, and return what it took."""
    annotations = {split: world.annotations[split] for split in ("train", "valid")}
    if name == "blind":
        annotations = {
            split: of_other_clips(path, world.folder / f"blind-{split}.json") for split, path in annotations.items()
        }
    options = DenseOptions(mode=mode, width=arguments.width, queries=10, caption_layers=2, max_tokens=40)
    how = TrainingOptions(epochs=arguments.epochs, batch_size=16)
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


def scores(world: World, predictions: Path) -> dict[str, float]:
    """Return what the evaluation says, times 100."""
    options = DenseCaptioningOptions(meteor="off")
    results = evaluate_dense_captioning(predictions, [world.annotations["test"]], options=options).results
    found = {}
    for metric in results.as_document()["metrics"]:
        if metric["name"] in COLUMNS:
            found[metric["name"]] = metric["value"]
    return found


def measure(world: World, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row for each way to predict."""
    model = seen_model(load_clip(ModelSource(str(base_model_folder()))), None, features="plain")
    rows: list[dict[str, Any]] = []
    majority(world, world.folder / "majority.json")
    rows.append({"name": "without looking: the most frequent", **scores(world, world.folder / "majority.json")})
    for name, mode, shown in (
        ("blind", "proposals", "without looking: annotation of other clips"),
        ("head", "proposals", "head"),
        ("given", "given", "head, segments given"),
    ):
        output = world.folder / f"{name}.json"
        took = train_and_predict(world, model, name, mode, arguments, output)
        rows.append({"name": shown, **scores(world, output), **took})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the Markdown table."""
    lines = [f"| | {' | '.join(COLUMNS)} | trained, s | predicted, s |", "| --- |" + " ---: |" * (len(COLUMNS) + 2)]
    for row in rows:
        cells = [f"{row[column]:.1f}" for column in COLUMNS]
        cells += [f"{row[key]:.0f}" if key in row else "" for key in ("train_seconds", "predict_seconds")]
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=400, help="clips to train on")
    parser.add_argument("--test", type=int, default=100, help="clips to score")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="keep clips, frames and heads here")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    arguments = parser.parse_args()
    counts = {"train": arguments.train, "valid": max(2, arguments.train // 10), "test": arguments.test}
    with tempfile.TemporaryDirectory() as temporary:
        world = make_world(arguments.folder or Path(temporary), counts)
        rows = measure(world, arguments)
    if arguments.json:
        print(json.dumps({"machine": machine(), "counts": counts, "rows": rows}, indent=1))
        return
    print(f"{machine()}; {counts['train']} clips to train on, {counts['test']} to score, {arguments.epochs} epochs\n")
    print(table(rows))


if __name__ == "__main__":
    main()
