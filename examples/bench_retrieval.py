"""Time the ranks of texts among videos against other ways to them, in one run on the same features.

    python examples/bench_retrieval.py [--cases small middle large repeated alike disk] [--width 512] [--json]

Contenders: figclip's exact ranks of both directions and of texts alone, the same without bfloat16; and for texts alone
torch's products with topk(10) and with argsort, and faiss's exact search (pip install faiss-cpu) for 10 and for all
videos. The first ten say R@1 to R@10 and no more; only ranks say the median and the mean. Rounds take turns. Features
are made so that ranks are about those of zero-shot CLIP on MSR-VTT. Before anything is timed, every contender's ranks
of some texts are held against float64 scores. Extra memory is how far a call raises the resident peak of a process of
its own; ``disk`` reads features from HDF5 and reports all memory of the process. Prints Markdown tables, or JSON.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import numpy.typing as npt
import torch
from timing import machine
from torch import Tensor

from figclip_cli.evaluate.metrics import streamed_ranks as ours
from figclip_cli.evaluate.metrics.exact_scores import precisions

K = 10
NOT_FOUND = math.inf
SAMPLE = 512
# What takes longer than minutes: a full order of so many scores, or so long a list in faiss.
MOST_SORTED, MOST_LISTED = 2.0e8, 2048


class Case(NamedTuple):
    """What is ranked.

    Attributes:
        repeated: Share of texts that are a copy of another text.
        noise: Size of what tells the features of a side apart; 0 makes all alike.
    """

    texts: int
    videos: int
    rounds: int
    repeated: float = 0.0
    noise: float = 1.0


CASES = {
    "small": Case(1_000, 1_000, 41),
    "middle": Case(10_000, 10_000, 9),
    "large": Case(200_000, 5_000, 5),
    "wide": Case(5_000, 200_000, 5),
    "repeated": Case(27_763, 670, 21, repeated=0.4),  # the size of MSVD's test split
    "alike": Case(10_000, 10_000, 3, noise=0.0),  # a model that has collapsed: all scores tie
}
DISK = "disk"
Ranks = npt.NDArray[np.float64]


class Features(NamedTuple):
    """(N, D) and (M, D) float32, and (N,) each text's own video."""

    texts: Tensor
    videos: Tensor
    own: npt.NDArray[np.int64]


def make_features(case: Case, width: int) -> Features:
    """Make features of unit length with two means, a falling spectrum and so much in common that R@1 is about 30 %."""
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, width + 1) ** -0.4
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator))[0] * (spectrum / spectrum.norm())[:, None]
    means = torch.randn(2, width, generator=generator) / math.sqrt(width)
    means[:, width // 4] += 0.6  # CLIP has such a feature, too
    common = torch.randn(case.videos, width, generator=generator)
    own = torch.arange(case.texts) * case.videos // case.texts  # in the order of the videos, as files list them
    sides = []
    for mean, of_side in zip(means, (common[own], common), strict=True):
        mixed = 0.55 * of_side + math.sqrt(1 - 0.55**2) * torch.randn(of_side.shape, generator=generator)
        raw = 0.75 * mean / mean.norm() + case.noise * 0.66 * (mixed @ turn)
        sides.append(torch.nn.functional.normalize(raw))
    copies = int(case.repeated * case.texts)
    sides[0][torch.randperm(case.texts, generator=generator)[:copies]] = sides[0][
        torch.randint(0, case.texts, (copies,), generator=generator)
    ].clone()
    return Features(sides[0], sides[1], own.numpy())


def rank_exactly(features: Features, directions: list[ours.Direction], *, rough: bool = True) -> Ranks:
    """Return the ranks of texts by figclip."""
    before = ours.precisions
    if not rough:
        ours.precisions = lambda device, width, _: precisions(device, width, 0)  # too few scores for the probe
    try:
        rows = ours.TensorRows(features.texts), ours.TensorRows(features.videos)
        how: dict[str, Any] = {"ties": "optimistic", "multi_caption": "max-per-video", "directions": directions}
        return ours.streamed_ranks(*rows, features.own, **how)["t2v"].values
    finally:
        ours.precisions = before


def place(found: npt.NDArray[np.int64], own: npt.NDArray[np.int64]) -> Ranks:
    """Return where each row of found videos (n, k) names its own."""
    hit = found == own[:, None]
    return np.where(hit.any(axis=1), hit.argmax(axis=1), NOT_FOUND)


def rank_by_torch(features: Features, rows: int, *, order_all: bool) -> Ranks:
    """Return ranks from products of blocks of texts, and the first of each row or its whole order."""
    room, places = torch.empty(rows * len(features.videos)), []
    for start in range(0, len(features.texts), rows):
        texts = features.texts[start : start + rows]
        scores = room[: len(texts) * len(features.videos)].view(len(texts), -1)
        torch.mm(texts, features.videos.T, out=scores)
        if order_all:
            found = scores.argsort(dim=1, descending=True)
        else:
            found = scores.topk(min(K, len(features.videos)), dim=1).indices
        places.append(place(found.numpy(), features.own[start : start + rows]))
    return np.concatenate(places)


def rank_by_faiss(features: Features, count: int) -> Ranks:
    """Return ranks from an exact search for so many videos."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    index = faiss.IndexFlatIP(features.videos.shape[1])
    index.add(features.videos.numpy())
    return place(index.search(features.texts.numpy(), count)[1], features.own)


def best_rows(features: Features, *, order_all: bool) -> int:
    """Return the rows of a block with which torch is fastest on the first texts."""
    some = features._replace(texts=features.texts[:4096], own=features.own[:4096])

    def seconds(rows: int) -> float:
        started = time.perf_counter()
        rank_by_torch(some, rows, order_all=order_all)
        return time.perf_counter() - started

    choices = (256, 1024, 4096) if len(some.videos) <= 20_000 else (64, 256)
    return min(choices, key=lambda rows: min(seconds(rows) for _ in range(2)))


def contenders(features: Features) -> tuple[dict[str, Callable[[], Ranks]], list[str]]:
    """Return what can do this case, and what was left out and why."""
    scores = len(features.texts) * len(features.videos)
    first = best_rows(features, order_all=False)
    found: dict[str, Callable[[], Ranks]] = {
        "ours, both directions": lambda: rank_exactly(features, ["t2v", "v2t"]),
        "ours": lambda: rank_exactly(features, ["t2v"]),
        "ours without bfloat16": lambda: rank_exactly(features, ["t2v"], rough=False),
        "torch topk": lambda: rank_by_torch(features, first, order_all=False),
    }
    left_out = []
    if scores <= MOST_SORTED:
        whole = best_rows(features, order_all=True)
        found["torch argsort"] = lambda: rank_by_torch(features, whole, order_all=True)
    else:
        left_out.append("torch argsort left out: minutes")
    try:
        import faiss  # noqa: F401
    except ImportError as error:
        return found, [*left_out, f"faiss left out: {error}"]
    found["faiss"] = lambda: rank_by_faiss(features, min(K, len(features.videos)))
    if len(features.videos) <= MOST_LISTED:
        found["faiss, all"] = lambda: rank_by_faiss(features, len(features.videos))
    else:
        left_out.append(f"faiss for all left out: more than {MOST_LISTED:,} videos")
    return found, left_out


def check(name: str, ranks: Ranks, features: Features) -> None:
    """Hold ranks of some texts against float64 scores, up to what float32 cannot tell apart; exit if one is wrong."""
    picked = np.random.default_rng(0).permutation(len(features.texts))[:SAMPLE]
    scores = features.texts[picked].double() @ features.videos.double().T
    own = scores[torch.arange(len(picked)), torch.from_numpy(features.own[picked])][:, None]
    least, most = ((scores > own + e).sum(dim=1).numpy() for e in (1e-6, -1e-6))
    ours_strict = name.startswith("ours")
    exact = (scores.float() > own.float()).sum(dim=1).numpy()
    given = ranks[picked]
    fine = given == exact if ours_strict else (given >= least) & (given <= most)
    beyond = np.isinf(given) & (most >= K)
    if not bool((fine | beyond).all()):
        wrong = int(np.flatnonzero(~(fine | beyond))[0])
        sys.exit(f"{name}: text {picked[wrong]} has rank {given[wrong]}, not {least[wrong]} to {most[wrong]}")


def in_turn(found: dict[str, Callable[[], Ranks]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each round of each contender."""
    times: dict[str, list[float]] = {name: [] for name in found}
    names = list(found)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            started = time.perf_counter()
            found[name]()
            times[name].append(time.perf_counter() - started)
    return times


def resident(field: str) -> int:
    """Return a field of this process's status, in bytes; ``getrusage`` would give a child its parent's peak."""
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) << 10


def print_memory(name: str, case: Case, width: int) -> None:
    """Print by how many bytes a call raises this process's resident peak."""
    features = make_features(case, width)
    contenders(make_features(case._replace(texts=64, videos=64), width))[0][name]()  # libraries and threads
    call = contenders(features)[0][name]
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of what went before
    before = resident("VmRSS")
    call()
    print(max(0, resident("VmHWM") - before))


def memory_of(name: str, case_name: str, width: int) -> int | None:
    """Return the bytes of a contender in a process of its own; None if that process failed."""
    words = [sys.executable, __file__, "--measure-memory", name, "--cases", case_name, "--width", str(width)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return None if done.returncode else int(done.stdout.split()[-1])


def measure(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Check and measure all contenders of a case."""
    case = CASES[name]
    features = make_features(case, arguments.width)
    found, left_out = contenders(features)
    ranks = {contender: call() for contender, call in found.items()}
    for contender, values in ranks.items():
        check(contender, values, features)
    times = in_turn(found, arguments.rounds or case.rounds)
    medians = {contender: statistics.median(seconds) for contender, seconds in times.items()}
    exact = ranks["ours"]
    return {
        "case": name,
        "texts": case.texts,
        "videos": case.videos,
        "width": arguments.width,
        "metrics": {
            **{f"R@{k}": 100 * float((exact < k).mean()) for k in (1, 5, 10)},
            "MdR": float(np.median(exact)) + 1,
        },
        "left_out": left_out,
        "contenders": [
            {
                "name": contender,
                "seconds": times[contender],
                "median_seconds": median,
                "extra_bytes": None if arguments.no_memory else memory_of(contender, name, arguments.width),
                **{f"{peer}_over_it": medians[peer] / median for peer in ("torch topk", "faiss") if peer in medians},
            }
            for contender, median in medians.items()
        ],
    }


def write_features(path: Path, case: Case, width: int) -> None:
    """Write features that know nothing of each other, block by block."""
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        for name, rows in (("texts", case.texts), ("videos", case.videos)):
            dataset = file.create_dataset(name, (rows, width), np.float32)
            for start in range(0, rows, 10_000):
                size = (min(10_000, rows - start), width)
                dataset[start : start + 10_000] = generator.standard_normal(size, dtype=np.float32)


def rank_from_disk(path: Path) -> None:
    """Rank the features of a file in both directions; print the seconds and the peak of this process."""
    with h5py.File(path) as file:
        texts, videos = ours.ArrayRows(file["texts"]), ours.ArrayRows(file["videos"])
        started = time.perf_counter()
        ours.streamed_ranks(
            texts, videos, np.arange(len(texts)) % len(videos), ties="average", multi_caption="min-rank"
        )
        print(time.perf_counter() - started, resident("VmHWM"))


def measure_disk(width: int) -> dict[str, Any]:
    """Measure the large case with features on disk."""
    case = CASES["large"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.h5"
        write_features(path, case, width)
        words = [sys.executable, __file__, "--from-disk", str(path)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    seconds, peak = done.stdout.split()[-2:]
    return {"case": DISK, "texts": case.texts, "videos": case.videos, "width": width, "seconds": float(seconds),
            "peak_bytes": int(peak)}  # fmt: skip


def table(result: dict[str, Any]) -> str:
    """Return a case's table."""
    size = f"{result['texts']:,} texts, {result['videos']:,} videos, D {result['width']}"
    if result["case"] == DISK:
        peak, matrix = result["peak_bytes"] / 2**20, result["texts"] * result["videos"] / 2**18
        told = f"{result['seconds']:.2f} s, {peak:,.0f} MiB at the peak with torch (the matrix: {matrix:,.0f} MiB)"
        return f"\n**{size}, from disk, both directions**: {told}"
    metrics = ", ".join(f"{name} {value:.1f}" for name, value in result["metrics"].items())
    lines = [
        f"\n**{result['case']}: {size}** ({metrics})\n",
        "| | s | range | ns a score | topk over it | faiss over it | extra MiB |",
    ]
    lines.append("| --- |" + " ---: |" * 6)
    for one in result["contenders"]:
        median, memory = one["median_seconds"], one["extra_bytes"]
        over = (f"{one[key]:.2f}" if key in one else "" for key in ("torch topk_over_it", "faiss_over_it"))
        cells = [one["name"], f"{median:.4g}", f"{min(one['seconds']):.4g} to {max(one['seconds']):.4g}",
                 f"{1e9 * median / result['texts'] / result['videos']:.2f}", *over,
                 "" if memory is None else f"{memory / 2**20:,.1f}"]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, *(f"\n{reason}" for reason in result["left_out"])])


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=[*CASES, DISK], default=[*CASES, DISK])
    parser.add_argument("--width", type=int, default=512, help="width of a feature, D")
    parser.add_argument("--rounds", type=int, help="by case if not given")
    parser.add_argument("--no-memory", action="store_true", help="memory takes a process for each figure")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--measure-memory", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--from-disk", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run."""
    arguments = parsed()
    if arguments.measure_memory:
        print_memory(arguments.measure_memory, CASES[arguments.cases[0]], arguments.width)
        return
    if arguments.from_disk:
        rank_from_disk(arguments.from_disk)
        return
    say: Callable[..., None] = (lambda *_, **__: None) if arguments.json else print
    say(machine())
    results = []
    for name in arguments.cases:
        results.append(measure_disk(arguments.width) if name == DISK else measure(name, arguments))
        say(table(results[-1]), flush=True)
    if arguments.json:
        print(json.dumps({"machine": machine(), "results": results}, indent=1))


if __name__ == "__main__":
    main()
