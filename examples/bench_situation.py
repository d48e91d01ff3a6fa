"""Time `figclip evaluate situation` on a split of VidSitu's size, and its text metrics against pycocoevalcap.

    python examples/bench_situation.py [--clips 1326] [--rounds 3] [--compared] [--json]

Makes annotation and predictions as large as VidSitu's validation split: five events of a clip, three to six roles of an
event, ten annotators of verbs, three to five of roles; phrases have one to eight words whose frequencies fall as 1/n.
The whole command is timed as a process of its own, from reading to standard errors, pinned to one core; --compared
scores two models, with the paired tests. Then CIDEr, BLEU and ROUGE-L of all roles, and CIDEr again for every verb and
every role, by figclip and, where it is installed (pip install pycocoevalcap), by pycocoevalcap, after the two have
been held against each other. Prints Markdown tables, or JSON. The best of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from timing import machine

from figclip_cli.evaluate.datasets.vidsitu import read_truth
from figclip_cli.evaluate.datasets.vidsitu_predictions import read_predictions
from figclip_cli.evaluate.metrics.bleu import bleu_counts, corpus_bleu
from figclip_cli.evaluate.metrics.cider import cider, cider_in_groups
from figclip_cli.evaluate.metrics.rouge import rouge_l
from figclip_cli.evaluate.situation.role_items import hypotheses_of, role_items

EVENTS = ("Ev1", "Ev2", "Ev3", "Ev4", "Ev5")
RELATED = ("Ev1", "Ev2", "Ev4", "Ev5")
KEYS = ("Arg0 (agent)", "Arg1 (patient)", "Arg2 (instrument)", "ArgM (direction)", "ArgM (location)", "ArgM (manner)")
NAMES = ("Arg0", "Arg1", "Arg2", "ADir", "ALoc", "AMnr", "AScn")
LABELS = ("Causes", "Reaction To", "Enables", "NoRel")
WORDS = [f"word{number}" for number in range(4000)]
SENSES = [f"verb{number}.01" for number in range(1500)]
Texts = tuple[
    list[str], list[tuple[str, ...]], "np.ndarray[Any, np.dtype[np.int64]]", "np.ndarray[Any, np.dtype[np.int64]]"
]


def often(rng: random.Random, names: Sequence[str]) -> str:
    """Return a name; their frequencies fall about as 1/n."""
    return names[min(len(names) - 1, int(len(names) ** rng.random()) - 1)]


def phrase(rng: random.Random) -> str:
    """Return a noun phrase."""
    return " ".join(often(rng, WORDS) for _ in range(rng.randint(1, 8)))


def write_split(folder: Path, clips: int, rng: random.Random) -> None:
    """Write the three files of a split, and predictions of two models."""
    ids = [f"v_{number:011d}_seg_{number % 90}_{number % 90 + 10}" for number in range(clips)]
    annotations, info = [], []
    models: dict[str, dict[str, list[Any]]] = {name: {"verbs": [], "roles": [], "relations": []} for name in "ab"}
    for index, clip in enumerate(ids):
        keys = [rng.sample(KEYS, rng.randint(2, 5)) for _ in EVENTS]
        senses, spoken = [often(rng, SENSES) for _ in EVENTS], [phrase(rng) for _ in range(6)]
        for _ in range(rng.choice((3, 4, 4, 5))):
            record: dict[str, Any] = {}
            for event, own, sense in zip(EVENTS, keys, senses, strict=True):
                args = {key: rng.choice(spoken) if rng.random() < 0.6 else phrase(rng) for key in own}
                args["Scene of the Event"] = rng.choice(spoken)
                record[event] = {"vid_seg_int": clip, "Verb": sense, "VerbID": sense, "Args": args}
                record[event]["Arg_List"] = {key: place for place, key in enumerate(args)}
                record[event]["EvRel"] = rng.choice(LABELS)
            annotations.append(record)
        votes = {
            event: [rng.choice((sense, sense, often(rng, SENSES))) for _ in range(10)]
            for event, sense in zip(EVENTS, senses, strict=True)
        }
        info.append({"vid_seg_int": clip, "vbid_lst": votes})
        for predictions in models.values():
            rows = [
                [rng.choice(votes[event]) if rng.random() < 0.3 else often(rng, SENSES) for _ in range(5)]
                for event in EVENTS
            ]
            said = {e: {n: rng.choice(spoken) if rng.random() < 0.5 else phrase(rng) for n in NAMES} for e in EVENTS}
            predictions["verbs"].append({"ann_idx": index, "pred_vbs_ev": rows})
            predictions["roles"].append({"ann_idx": index, "vb_output": said})
            labels = [[rng.choice(LABELS)] * 3 for _ in RELATED]
            predictions["relations"].append({"ann_idx": index, "pred_evrels_ev": labels})
    documents = {"vseg_split_valid_lb": ids, "vsann_valid_lb": annotations, "vinfo_valid_lb": info}
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    for name, predictions in models.items():
        (folder / name).mkdir()
        for kind, records in predictions.items():
            (folder / name / f"{kind}.json").write_text(json.dumps(records))


def whole_command(folder: Path, compared: bool) -> float:
    """Return the seconds that the command takes on one core."""
    core = min(os.sched_getaffinity(0))
    words = [
        sys.executable,
        "-m",
        "figclip_cli",
        "evaluate",
        "situation",
        "--predictions",
        "a",
        "--overwrite",
        "--quiet",
    ]
    began = time.perf_counter()
    subprocess.run(
        [*words, *(["--base", "b"] if compared else [])],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    return time.perf_counter() - began


def read_texts(folder: Path) -> Texts:
    """Return hypotheses, references, and the numbers of verb and role of every item."""
    truth = read_truth(folder / "vseg_split_valid_lb.json", folder / "vsann_valid_lb.json")
    found = role_items(truth)
    texts = hypotheses_of(found.items, read_predictions([folder / "a"], truth.clip_ids))
    groups = [
        np.unique([getattr(item, of) for item in found.items], return_inverse=True)[1] for of in ("sense", "name")
    ]
    return texts, [item.texts for item in found.items], groups[0], groups[1]


def ours(texts: Texts) -> dict[str, Callable[[], Any]]:
    """Return what figclip computes, by name."""
    hypotheses, references, verbs, roles = texts
    return {
        "CIDEr": lambda: float(cider(hypotheses, references).mean()),
        "CIDEr of every verb": lambda: macro(cider_in_groups(hypotheses, references, verbs), verbs),
        "CIDEr of every role": lambda: macro(cider_in_groups(hypotheses, references, roles), roles),
        "BLEU-4": lambda: float(corpus_bleu(bleu_counts(hypotheses, references))[3]),
        "ROUGE-L": lambda: float(rouge_l(hypotheses, references).mean()),
    }


def theirs(texts: Texts) -> dict[str, Callable[[], Any]]:
    """Return what pycocoevalcap computes, by the same names."""
    from pycocoevalcap.bleu.bleu import Bleu  # type: ignore[import-untyped]
    from pycocoevalcap.cider.cider import Cider  # type: ignore[import-untyped]
    from pycocoevalcap.rouge.rouge import Rouge  # type: ignore[import-untyped]

    hypotheses, references, verbs, roles = texts

    def of(rows: Sequence[int]) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
        return {row: list(references[row]) for row in rows}, {row: [hypotheses[row]] for row in rows}

    def grouped(groups: Any) -> float:
        rows = [np.flatnonzero(groups == number).tolist() for number in range(int(groups.max()) + 1)]
        return float(np.mean([Cider().compute_score(*of(own))[0] for own in rows]))

    every = range(len(hypotheses))
    return {
        "CIDEr": lambda: float(Cider().compute_score(*of(every))[0]),
        "CIDEr of every verb": lambda: grouped(verbs),
        "CIDEr of every role": lambda: grouped(roles),
        "BLEU-4": lambda: float(Bleu(4).compute_score(*of(every), verbose=0)[0][3]),
        "ROUGE-L": lambda: float(Rouge().compute_score(*of(every))[0]),
    }


def macro(scores: Any, groups: Any) -> float:
    """Return the unweighted mean over groups of the mean in each."""
    return float(np.mean(np.bincount(groups, scores) / np.bincount(groups)))


def timed(compute: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds and the result."""
    began = time.perf_counter()
    made = compute()
    return time.perf_counter() - began, made


def main() -> None:
    """Time everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=1326)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--compared", action="store_true", help="score two models and their difference")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_split(folder, asked.clips, random.Random(0))
        command = min(whole_command(folder, asked.compared) for _ in range(asked.rounds))
        texts = read_texts(folder)
    contenders = {"figclip": ours(texts)} | ({"pycocoevalcap": theirs(texts)} if find_spec("pycocoevalcap") else {})
    seconds: dict[str, dict[str, float]] = {metric: {} for metric in contenders["figclip"]}
    for metric, of_metric in seconds.items():
        values = []
        for contender, computes in contenders.items():
            # The other one takes most of a minute: once is enough.
            rounds = [timed(computes[metric]) for _ in range(asked.rounds if contender == "figclip" else 1)]
            of_metric[contender] = min(took for took, _ in rounds)
            values.append(rounds[0][1])
        if not np.allclose(values, values[0], rtol=0, atol=1e-9):
            raise SystemExit(f"{metric}: the contenders do not agree: {values}")
    report = {
        "clips": asked.clips,
        "roles": len(texts[0]),
        "compared": asked.compared,
        "command_seconds": command,
        "seconds": seconds,
    }
    if asked.json:
        print(json.dumps({**report, "machine": machine()}))
        return
    print(f"{asked.clips:,} clips, {len(texts[0]):,} scored roles; {'two models' if asked.compared else 'one model'}\n")
    print(f"whole command, one core: {command:.1f} s\n")
    print(f"| seconds | {' | '.join(contenders)} |\n| --- |{' ---: |' * len(contenders)}")
    for metric, of_metric in seconds.items():
        print(f"| {metric} | {' | '.join(f'{of_metric[one]:.2f}' for one in contenders)} |")


if __name__ == "__main__":
    main()
