"""Time the scoring of dense captions against pycocoevalcap's own scorers, in one run on the same files.

    python examples/bench_dense_captioning.py [--annotations val_1.json] [--videos 4917] [--proposals 10] [--meteor]

The references are ActivityNet Captions' ``val_1.json`` where it is named, else sentences and times drawn at random;
the proposals are drawn from them, half of them near an event. figclip scores every measure at four overlaps with
errors and samples; pycocoevalcap (pip install pycocoevalcap) scores CIDEr and BLEU alone, of the same pairs of words
video by video, as densevid_eval calls it. The numbers of both are compared first. Memory is the process's peak before
the other has run. ``--meteor`` also times METEOR and SODA_c, which need Java and the package. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import platform
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from figclip_cli.evaluate.datasets.dense_captions import read_reference_sets
from figclip_cli.evaluate.datasets.dense_submissions import read_submission
from figclip_cli.evaluate.dense_captioning.scores import SubmissionScores, key_of, references_of
from figclip_cli.evaluate.dense_captioning.task import evaluate_dense_captioning
from figclip_cli.evaluate.dense_captioning_options import DenseCaptioningOptions

WORDS = "a the man woman dog child ball bike is are runs jumps sits holds throws and then on in with up down".split()


def make_references(videos: int, rng: random.Random) -> dict[str, Any]:
    """Make videos of about as many and as long events as ActivityNet Captions has."""
    made = {}
    for number in range(videos):
        duration, events = rng.uniform(20, 230), rng.randint(2, 5)
        times = [sorted((rng.uniform(0, duration), rng.uniform(0, duration))) for _ in range(events)]
        sentences = [" ".join(rng.choices(WORDS, k=rng.randint(7, 20))) + "." for _ in times]
        made[f"v_{number:06d}"] = {"duration": duration, "timestamps": times, "sentences": sentences}
    return made


def make_proposals(references: dict[str, Any], count: int, rng: random.Random) -> dict[str, Any]:
    """Make proposals, half of them near an event, with sentences that lack a fifth of their words."""
    texts = [text for video in references.values() for text in video["sentences"]]
    made = {}
    for name, video in references.items():
        proposals = []
        for _ in range(count):
            place = rng.randrange(len(video["sentences"]))
            near, length = rng.random() < 0.5, video["duration"]
            start, end = video["timestamps"][place] if near else (rng.uniform(0, length), rng.uniform(0, length))
            times = sorted(one + rng.uniform(-0.1, 0.1) * length * near for one in (start, end))
            text = video["sentences"][place] if near and rng.random() < 0.5 else rng.choice(texts)
            said = " ".join(word for word in text.split() if rng.random() > 0.2)
            proposals.append({"sentence": said, "timestamp": times})
        made[name] = proposals
    return made


def theirs(scores: SubmissionScores, thresholds: tuple[float, ...]) -> float | None:
    """Score the same pairs with pycocoevalcap, compare, and return the seconds; None where it is not installed."""
    try:
        from pycocoevalcap.bleu.bleu import Bleu
        from pycocoevalcap.cider.cider import Cider
    except ImportError:
        return None
    seconds = 0.0
    for threshold in thresholds:
        hypotheses, references, videos = scores.pairs(threshold)
        groups: dict[int, list[int]] = {}
        for row, video in enumerate(videos.tolist()):
            groups.setdefault(video, []).append(row)
        for video, rows in groups.items():
            own = {row: [references[row]] for row in rows}, {row: [hypotheses[row]] for row in rows}
            started = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                bleu = Bleu(4).compute_score(*own, verbose=0)[0]
            cider = Cider().compute_score(*own)[0]
            seconds += time.perf_counter() - started
            np.testing.assert_allclose(scores.values[key_of("CIDEr", threshold)][video], cider, atol=1e-9)
            np.testing.assert_allclose(scores.values[key_of("BLEU-4", threshold)][video], bleu[3], atol=1e-9)
    return seconds


def main() -> None:
    """Make the files, score them both ways and print the table."""
    parser = argparse.ArgumentParser(description="Time the scoring of dense captions.")
    parser.add_argument("--annotations", type=Path, help="ActivityNet Captions' val_1.json. Default: random ones")
    parser.add_argument("--videos", type=int, default=4917)
    parser.add_argument("--proposals", type=int, default=10)
    parser.add_argument("--meteor", action="store_true", help="Also METEOR and SODA_c.")
    flags = parser.parse_args()
    rng = random.Random(0)
    whole = json.loads(flags.annotations.read_text()) if flags.annotations else make_references(flags.videos, rng)
    references = dict(list(whole.items())[: flags.videos])
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        annotations, predictions = Path(folder) / "val.json", Path(folder) / "predictions.json"
        annotations.write_text(json.dumps(references))
        results = make_proposals(references, flags.proposals, rng)
        predictions.write_text(json.dumps({"version": "1", "results": results, "external_data": {"used": False}}))
        options = DenseCaptioningOptions(meteor="off")
        started = time.perf_counter()
        evaluate_dense_captioning(predictions, [annotations], options=options).write(Path(folder) / "results.json")
        rows.append(("figclip: everything without METEOR, errors and samples", time.perf_counter() - started))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        by_video = references_of(read_reference_sets([annotations]))
        scores = SubmissionScores(read_submission(predictions), by_video, options)
        started = time.perf_counter()
        scores.add_words()
        rows.append(("figclip: CIDEr and BLEU of the pairs alone", time.perf_counter() - started))
        seconds = theirs(scores, options.thresholds)
        if seconds is not None:
            rows.append(("pycocoevalcap: CIDEr and BLEU of the pairs alone", seconds))
        if flags.meteor:
            started = time.perf_counter()
            evaluate_dense_captioning(predictions, [annotations], options=DenseCaptioningOptions(meteor="on"))
            rows.append(("figclip: everything with METEOR and SODA_c", time.perf_counter() - started))
    print(f"{len(references):,} videos, {flags.proposals} proposals each; Python {platform.python_version()}, ", end="")
    print(f"{platform.machine()}; figclip's peak memory without METEOR {memory:.2f} GB\n")
    print("| what | seconds |\n| --- | ---: |")
    for what, seconds in rows:
        print(f"| {what} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
