"""Write the synthetic world as files: videos, annotation as VidSitu has it, split lists, coarse and dense captions."""

from __future__ import annotations

import csv
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from figclip_cli.demo.dense_captions import write_dense_captions
from figclip_cli.demo.naming import write_naming
from figclip_cli.demo.render import draw_clip, write_mp4
from figclip_cli.demo.scenario import SPLITS, ClipPlan, plan_clip
from figclip_cli.demo.vidsitu_folder import annotate, write_vidsitu_folder
from figclip_cli.demo.wording import with_article
from figclip_cli.errors import MachineError, UsageError, nearest
from figclip_cli.files import write_json
from figclip_cli.reporting import SILENT, Reporter

_WORTH_PROCESSES = 300  # clips


@dataclass(frozen=True)
class WorldFiles:
    """Where everything is.

    Attributes:
        videos: Folder of mp4 files, by split.
        annotations: ``vsann_SPLIT_lb.json``, by split.
        captions: ``captions_SPLIT.csv`` of ``valid`` and ``test``, by split: what is to be seen, but not what happens.
        naming: ``naming_SPLIT.jsonl`` of the same, by split: choices that ask for colours, shapes and the like alone.
        vidsitu: Folder as VidSitu publishes its annotation, with all annotators of ``valid`` and ``test``.
        dense: ``dense/SPLIT.json``, by split: segments of each clip and a sentence for each, in ActivityNet's format.
        dense_second: ``dense/SPLIT_2.json`` of ``valid`` and ``test``, by split: the same told by someone else.
    """

    videos: dict[str, Path]
    annotations: dict[str, Path]
    captions: dict[str, Path]
    naming: dict[str, Path]
    vidsitu: Path
    dense: dict[str, Path]
    dense_second: dict[str, Path]


def write_world(folder: Path, *, seed: int, counts: Mapping[str, int], reporter: Reporter = SILENT) -> WorldFiles:
    """Draw clips and write their annotation.

    Args:
        folder: Where; made if absent.
        seed: Decides every clip.
        counts: Clips of each split, for example ``{"train": 160, "valid": 20, "test": 100}``.

    Raises:
        UsageError: A split is not one of the world's.
        MachineError: ffmpeg failed or the disk is full.
    """
    for split in counts:
        if split not in SPLITS:
            raise UsageError(f"the world has no split '{split}'", nearest(split, SPLITS))
    plans = {split: [plan_clip(seed, split, number) for number in range(count)] for split, count in counts.items()}
    videos = {split: folder / "videos" / split for split in plans}
    annotations = {split: folder / f"vsann_{split}_lb.json" for split in plans}
    captions = {split: folder / f"captions_{split}.csv" for split in plans if split != "train"}
    naming = {split: folder / f"naming_{split}.jsonl" for split in captions}
    _draw([(plan, videos[split] / f"{plan.clip_id}.mp4") for split in plans for plan in plans[split]], reporter)
    for split, of_split in plans.items():
        write_json(annotations[split], [annotate(plan) for plan in of_split])
        write_json(folder / f"vseg_split_{split}_lb.json", [plan.clip_id for plan in of_split])
        write_vidsitu_folder(folder / "vidsitu", split, of_split)
    for split, path in captions.items():
        _write_captions(path, plans[split])
        write_naming(naming[split], plans[split])
    dense, second = _write_dense(folder / "dense", plans)
    return WorldFiles(videos, annotations, captions, naming, folder / "vidsitu", dense, second)


def _draw(todo: Sequence[tuple[ClipPlan, Path]], reporter: Reporter) -> None:
    for path in {path.parent for _, path in todo}:
        path.mkdir(parents=True, exist_ok=True)
    with reporter.track("draw clips", len(todo), "clips") as progress, _pool(len(todo)) as pool:
        try:
            for _ in pool.map(_draw_one, todo, chunksize=4):
                progress.advance()
        except BaseException as error:
            pool.shutdown(wait=False, cancel_futures=True)
            if isinstance(error, BrokenExecutor):
                raise MachineError("a process that draws clips was killed", "free memory and run again") from error
            raise


def _pool(clips: int) -> Executor:
    """Processes draw twice as fast as threads, but take a second or two to start."""
    if clips < _WORTH_PROCESSES:
        return ThreadPoolExecutor(2)
    deaf = (signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is heard by the process that waits for them
    return ProcessPoolExecutor(2, get_context("spawn"), initializer=signal.signal, initargs=deaf)


def _draw_one(item: tuple[ClipPlan, Path]) -> None:
    plan, path = item
    write_mp4(path, draw_clip(plan))


def _write_dense(folder: Path, plans: Mapping[str, Sequence[ClipPlan]]) -> tuple[dict[str, Path], dict[str, Path]]:
    first = {split: folder / f"{split}.json" for split in plans}
    second = {split: folder / f"{split}_2.json" for split in plans if split != "train"}
    for split, path in first.items():
        write_dense_captions(path, plans[split])
    for split, path in second.items():
        write_dense_captions(path, plans[split], second=True)
    return first, second


def coarse_caption(plan: ClipPlan) -> str:
    """Return a caption that names who is there and where, but not what happens."""
    actors = dict.fromkeys(a.name for event in plan.events for a in (event.agent, event.patient) if a is not None)
    names = [with_article(name) for name in sorted(actors)]
    return f"{', '.join(names[:-1])} and {names[-1]}, {plan.scene}" if len(names) > 1 else f"{names[0]}, {plan.scene}"


def _write_captions(path: Path, plans: Sequence[ClipPlan]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["video_id", "sentence"])
        writer.writerows([plan.clip_id, coarse_caption(plan)] for plan in plans)
