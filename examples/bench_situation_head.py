"""Train heads for situation recognition on the demo's world, and see that they read what is to be seen.

    python examples/bench_situation_head.py [--demo FOLDER] [--epochs 15] [--train 160] [--test 100] [--json]

Draws the demo's clips, extracts frames and trains a head on the shipped base model's plain features, with half the
default width, one decoder layer instead of three and eight clips a step, as suits so few clips; with --demo, a folder
that `figclip demo` made, its clips and frames are taken, and heads are trained on the features of its run too, plain
and as the contextualizer's tokens. Two rows say what is possible without looking: the
most frequent verb, phrase of each role and relation of the training clips, and a head that was trained on features of
another clip. All rows are scored on test clips that no model has seen, by the official scorer's definitions, times 100.
Given: the annotated verbs and roles are told, and phrases written for them. Prints a Markdown table, or JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from timing import machine

from figclip_cli.demo.base_model import base_model_folder
from figclip_cli.demo.world import write_world
from figclip_cli.evaluate.datasets.vidsitu import SituationTruth, read_truth, vidsitu_files
from figclip_cli.evaluate.datasets.vidsitu_annotations import EVENTS, ROLES, read_annotations
from figclip_cli.evaluate.datasets.vidsitu_predictions import read_predictions
from figclip_cli.evaluate.protocols import PROTOCOLS
from figclip_cli.evaluate.situation.task import official_scores
from figclip_cli.evaluate.visuals import StoredClips
from figclip_cli.frames import FramesReader, SamplingRecipe, extract
from figclip_cli.heads.folder import HeadFolder
from figclip_cli.heads.options import PLAIN, TOKENS, TrainingOptions
from figclip_cli.heads.seen_model import SeenModel, seen_model
from figclip_cli.heads.situation.labels import roles_of
from figclip_cli.heads.situation.loading import load_head
from figclip_cli.heads.situation.options import PARTS, PredictOptions, SituationOptions
from figclip_cli.heads.situation.predict import asked_clips, predict_situation
from figclip_cli.heads.situation.predicting import ClipPrediction
from figclip_cli.heads.situation.prediction_files import PredictionFolder
from figclip_cli.heads.situation.train import AnnotatedClips, train_situation
from figclip_cli.models.adapted import load_base
from figclip_cli.models.clip import load_clip
from figclip_cli.models.source import ModelSource
from figclip_cli.run_folder import RunFolder

COLUMNS = (
    ("verb acc@1", "predicted", "Per_Ev_Top_1"),
    ("CIDEr", "predicted", "cider"),
    ("CIDEr, given", "given", "cider"),
    ("LEA", "predicted", "lea"),
    ("relation acc@1", "predicted", "Top_1"),
)
HEAD = SituationOptions(width=128, decoder_layers=1)


@dataclass(frozen=True)
class World:
    """Where annotation and frames are, and where features and heads may be written."""

    vidsitu: Path
    frames: dict[str, Path]
    run: RunFolder | None
    work: Path

    def annotations(self, split: str) -> Path:
        """Return the annotation of a split."""
        return vidsitu_files(self.vidsitu, split).annotations

    def clips(self, split: str) -> StoredClips:
        """Open the frames of a split."""
        return StoredClips(FramesReader(self.frames[split]), PROTOCOLS["figclip"])


def make_world(demo: Path | None, work: Path, counts: dict[str, int]) -> World:
    """Take the world of a demo, or draw one."""
    if demo is not None:
        frames = {split: demo / f"{split}-frames.h5" for split in counts}
        return World(demo / "world" / "vidsitu", frames, RunFolder(demo / "runs" / "demo"), work)
    world = write_world(work / "world", seed=0, counts=counts)
    frames = {split: work / f"{split}-frames.h5" for split in counts}
    for split, path in frames.items():
        extract([world.videos[split]], path, recipe=SamplingRecipe(size=64))
    return World(world.vidsitu, frames, None, work)


def most_frequent(world: World) -> tuple[str, dict[str, str], str]:
    """Return the verb, the phrase of each role that most events have, and the relation that are most frequent."""
    annotated = read_annotations(world.annotations("train")).values()
    events = [event for of_clip in annotated for annotation in of_clip for event in annotation]
    verb = Counter(event.sense for event in events).most_common(1)[0][0]
    phrases = {role: Counter(found[role] for event in events if role in (found := roles_of(event))) for role in ROLES}
    usual = {role: counted.most_common(1)[0][0] for role, counted in phrases.items() if counted}
    relation = Counter(event.relation for event in events if event.relation).most_common(1)[0][0]
    return verb, usual, relation


def guess(world: World, truth: SituationTruth, *, given: bool) -> Path:
    """Write the prediction of someone who has seen the training clips' annotation and no video."""
    verb, usual, relation = most_frequent(world)
    events = [e for of in read_annotations(world.annotations("train")).values() for one in of for e in one]
    often = [role for role in ROLES if 2 * sum(role in roles_of(event) for event in events) >= len(events)]
    made = {}
    for clip_id, references in zip(truth.clip_ids, truth.references(), strict=True):
        named = [{argument.name for argument in event.arguments} if given else often for event in references[0]]
        roles = [{role: usual[role] for role in ROLES if role in own and role in usual} for own in named]
        made[clip_id] = ClipPrediction(
            verbs=[[verb]] * len(EVENTS),
            verb_scores=[[1.0]] * len(EVENTS),
            senses=[verb] * len(EVENTS),
            roles=roles,
            relations=[[relation] * 3] * 4,
            relation_scores=[[1.0] * 3] * 4,
        )
    folder = world.work / f"guess-{given}"
    PredictionFolder(folder, "json").write(truth.clip_ids, made, PARTS, {}, split=False)
    return folder


def of_another_clip(world: World) -> Path:
    """Write the training annotation with the ids of the clips turned round by one."""
    records = json.loads(world.annotations("train").read_text())
    clip_ids = sorted({record["Ev1"]["vid_seg_int"] for record in records})
    other = dict(zip(clip_ids, clip_ids[1:] + clip_ids[:1], strict=True))
    for record in records:
        clip_id = other[record["Ev1"]["vid_seg_int"]]
        for event in EVENTS:
            record[event]["vid_seg_int"] = clip_id
    path = world.work / "vsann_shuffled_lb.json"
    path.write_text(json.dumps(records))
    return path


def model_of(world: World, features: str | None) -> SeenModel:
    """Load the base model, or the run with its features."""
    if features is None or world.run is None:
        return seen_model(load_clip(ModelSource(str(base_model_folder()))), None)
    return seen_model(load_base(world.run), world.run, features=features)


def score(truth: SituationTruth, folders: dict[str, Path]) -> dict[str, float]:
    """Return the numbers of the table."""
    scores = {
        how: official_scores(truth, read_predictions([folder], truth.clip_ids)) for how, folder in folders.items()
    }
    return {column: 100 * float(scores[how][key]) for column, how, key in COLUMNS}


def head_row(
    world: World, truth: SituationTruth, name: str, annotations: Path, features: str | None, how: TrainingOptions
) -> dict[str, Any]:
    """Train a head, predict the test clips and score them."""
    folder = HeadFolder(world.work / "heads" / name.replace(" ", "-").replace(",", ""))
    trained = train_situation(
        AnnotatedClips(annotations, world.clips("train")),
        model_of(world, features),
        folder,
        options=HEAD,
        how=how,
        cache=world.work,
    ).fitted
    predicted = {}
    files = vidsitu_files(world.vidsitu, "test")
    for mode in ("predicted", "given"):
        clips = world.clips("test")
        asked = asked_clips(clips, files.split, files.annotations)
        predicted[mode] = folder.path / mode
        predict_situation(
            load_head(folder),
            model_of(world, features),
            clips,
            asked,
            PredictionFolder(predicted[mode], "json"),
            options=PredictOptions(verbs=mode, roles=mode),
            cache=world.work,
        )
    return {**score(truth, predicted), "seconds": trained.train_seconds, "parameters": trained.parameters}


def rows(world: World, how: TrainingOptions) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of the table."""
    truth = read_truth(*vidsitu_files(world.vidsitu, "test"))
    guesses = {mode: guess(world, truth, given=mode == "given") for mode in ("predicted", "given")}
    yield "most frequent", score(truth, guesses)
    annotations = world.annotations("train")
    yield "base, plain", head_row(world, truth, "base", annotations, None, how)
    if world.run is not None:
        yield "adapted, plain", head_row(world, truth, "adapted plain", annotations, PLAIN, how)
        yield "adapted, tokens", head_row(world, truth, "adapted tokens", annotations, TOKENS, how)
    yield "features of another clip", head_row(world, truth, "another", of_another_clip(world), None, how)


def shown(name: str, row: dict[str, Any]) -> str:
    """Return a row of the Markdown table."""
    numbers: Sequence[str] = [f"{row[column]:.1f}" for column, _, _ in COLUMNS]
    seconds = f"{row['seconds']:.0f}" if "seconds" in row else ""
    parameters = f"{row['parameters']:,}" if "parameters" in row else ""
    return f"| {name} | {' | '.join([*numbers, seconds, parameters])} |"


def main() -> None:
    """Make the world, train the heads and print the table."""
    parser = argparse.ArgumentParser(description="Train heads for situation recognition on the demo's world.")
    parser.add_argument("--demo", type=Path, help="Folder of a finished figclip demo. Default: a new world, no run")
    parser.add_argument("--train", type=int, default=160, help="Clips that are drawn to train on.")
    parser.add_argument("--test", type=int, default=100, help="Clips that are drawn to test on.")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    how = TrainingOptions(epochs=flags.epochs, batch_size=8, seed=flags.seed)
    with tempfile.TemporaryDirectory() as folder:
        world = make_world(flags.demo, Path(folder), {"train": flags.train, "test": flags.test})
        counts = {split: len(world.clips(split).reader.clip_ids) for split in world.frames}
        made = {}
        if not flags.json:
            print(
                f"{counts['train']} clips to train on, {counts['test']} to test; {flags.epochs} epochs; {machine()}\n"
            )
            print(f"| head | {' | '.join(column for column, _, _ in COLUMNS)} | training seconds | parameters |")
            print(f"| --- |{' ---: |' * (len(COLUMNS) + 2)}", flush=True)
        for name, row in rows(world, how):
            made[name] = row
            if not flags.json:
                print(shown(name, row), flush=True)
    if flags.json:
        print(json.dumps({"clips": counts, "epochs": flags.epochs, "machine": machine(), "rows": made}, indent=2))


if __name__ == "__main__":
    main()
