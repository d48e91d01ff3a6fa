"""Time the contrastive objective, forward and backward, against other ways to it, in one run on the same inputs.

    python examples/bench_contrastive.py [--sizes 1024 4096] [--device cuda --precision bf16] [--json]

Contenders: plain torch over the stored score matrix, torch.compile of that, open_clip's ClipLoss, memeff and Inf-CL
(both CUDA only; pip install memeff==0.3.1 inf-cl==1.2.1), and figclip's. Rounds take turns; the order rotates. The
scale is 100 and constant, since not all peers make a gradient for it. Extra memory is what the peak is above inputs and
libraries, gradients included: on a CPU the resident peak of a process of its own, on a GPU what torch allocated.
Errors are against float64: the loss's relative error, and the largest error of a gradient over the largest gradient.
Prints Markdown tables, or one JSON document.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import contrastive_peers as peers
import torch
from contrastive_peers import Batches, Step
from timing import machine, median_seconds
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIZES = {"cpu": [64, 256, 1024, 2048, 4096, 8192, 16384], "cuda": [100, 1024, 4096, 16384, 65536]}
WIDTHS = {"cpu": [512], "cuda": [512, 768]}
CONTENDERS = ("plain", "compiled", "open_clip", "memeff", "inf_cl", "ours")
GRAPHS = ("plain/graph", "ours/graph")
PRODUCTS = "products alone"
EVENTS, TERMS_ROWS = 5, 100
# Rows whose float64 gradients are compared, where all would take minutes.
SAMPLE, ALL_ROWS = 1024, {"cpu": 16384, "cuda": 131072}
# Rounds, by the most rows that get so many.
REPEATS = {"cpu": ((1024, 20), (4096, 10), (8192, 5), (math.inf, 3)), "cuda": ((16384, 20), (math.inf, 5))}
COLUMNS = ("B", "", "ms", "range", "plain over it", "compiled over it", "products, %", "extra MiB", "loss error",
           "gradient error")  # fmt: skip


class Kind(NamedTuple):
    """What a table is about."""

    trained: bool
    negatives: bool
    terms: bool = False


KINDS = {
    "frozen-negatives": Kind(trained=False, negatives=True),
    "trained-negatives": Kind(trained=True, negatives=True),
    "frozen": Kind(trained=False, negatives=False),
    "trained": Kind(trained=True, negatives=False),
    "terms": Kind(trained=False, negatives=True, terms=True),
}
TABLES = {"cpu": ["frozen-negatives", "trained", "terms"], "cuda": list(KINDS)}


def make_case(name: str, rows: int, width: int, arguments: argparse.Namespace) -> Batches:
    """Return the batches of a table at a size."""
    kind = KINDS[name]
    negatives = arguments.negatives if kind.negatives else 0
    how = {"trained": kind.trained, "dtype": DTYPES[arguments.precision], "device": arguments.device}
    if kind.terms:
        return peers.make_terms(rows, EVENTS, width, negatives, **how)
    return (peers.make_batch(rows, width, negatives, **how),)


class Products:
    """The matrix products alone, without a store of the whole matrix: what no method on a CPU gets below.

    Scores, and from a matrix of that size each gradient: 4 B^2 D operations, or 6 if the text side is trained.
    """

    def __init__(self, batches: Batches) -> None:
        self._terms = [
            (view.detach(), texts.detach(), torch.empty_like(view), torch.empty_like(texts) if trained else None)
            for views, texts, trained in ((batch.views, batch.texts, batch.texts.requires_grad) for batch in batches)
            for view in views
        ]
        rows = len(batches[0].texts)
        tiles = {(min(high, rows), min(wide, rows)) for high in (128, 512, 2048) for wide in (512, 2048, rows)}
        self._scratch = torch.empty(max(high * wide for high, wide in tiles))
        self.tile = min(sorted(tiles), key=self._seconds_per_score)

    def __call__(self) -> None:
        """Do all products."""
        for term in self._terms:
            for top in range(0, len(term[0]), self.tile[0]):
                for left in range(0, len(term[1]), self.tile[1]):
                    self._multiply(term, slice(top, top + self.tile[0]), slice(left, left + self.tile[1]))

    def _multiply(self, term: tuple[Tensor, Tensor, Tensor, Tensor | None], rows: slice, columns: slice) -> None:
        view, texts, of_view, of_texts = term[0][rows], term[1][columns], term[2][rows], term[3]
        scores = self._scratch[: len(view) * len(texts)].view(len(view), len(texts))
        torch.mm(view, texts.T, out=scores)
        of_view.addmm_(scores, texts, beta=0)
        if of_texts is not None:
            of_texts[columns].addmm_(scores.T, view, beta=0)

    def _seconds_per_score(self, tile: tuple[int, int]) -> float:
        rows, columns = slice(0, tile[0]), slice(0, tile[1])
        return median_seconds(lambda: self._multiply(self._terms[0], rows, columns), 5) / (tile[0] * tile[1])


def seconds_of(step: Callable[[], object], device: str, calls: int) -> float:
    """Return the seconds a call took, over some calls."""
    if device == "cuda":
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        begin.record()
        for _ in range(calls):
            step()
        end.record()
        torch.cuda.synchronize()
        return begin.elapsed_time(end) / 1000 / calls
    started = time.perf_counter()
    for _ in range(calls):
        step()
    return (time.perf_counter() - started) / calls


def in_turn(steps: dict[str, Callable[[], object]], device: str, repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each round of each contender; a turn of a fast one is many calls."""
    enough = 0.005 if device == "cuda" else 0.02
    calls = {name: max(1, min(1000, math.ceil(enough / seconds_of(step, device, 1)))) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    for number in range(repeats):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            step = steps[name]
            times[name].append(seconds_of(step, device, calls[name]))
            if isinstance(step, Step):
                step.clear()
    return times


def rows_compared(rows: int, device: str) -> Tensor:
    """Return the rows whose gradients are compared: all, or a sample of a large batch."""
    if rows <= ALL_ROWS[device]:
        return torch.arange(rows, device=device)
    return torch.randperm(rows, generator=torch.Generator().manual_seed(0))[:SAMPLE].sort().values.to(device)


def memory_on_gpu(step: Step) -> int:
    """Return the bytes that a call allocates at its peak."""
    step.clear()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def memory_of_process(table: str, name: str, rows: int, width: int, arguments: argparse.Namespace) -> int:
    """Return the bytes by which a call raises the resident peak of a process of its own."""
    words = [sys.executable, __file__, "--measure-memory", name, str(rows), "--tables", table, "--width", str(width)]
    words += ["--negatives", str(arguments.negatives), "--precision", arguments.precision]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise peers.LeftOut((done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1])
    return int(done.stdout.split()[-1])


def print_memory(arguments: argparse.Namespace) -> None:
    """Print by how many bytes a call raises this process's resident peak.

    A call at a tiny size comes first, for thread pools and libraries; of a compiled function at the real size.
    """
    name, rows = arguments.measure_memory[0], int(arguments.measure_memory[1])
    table, width = arguments.tables[0], arguments.width[0]
    batches = make_case(table, rows, width, arguments)
    step = peers.make_step(name, batches)
    tiny = step if name == "compiled" else peers.make_step(name, make_case(table, min(rows, 64), width, arguments))
    tiny()
    tiny.clear()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what the warm-up freed would hide what the call takes
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of the warm-up and of making the inputs
    before = resident("VmRSS")
    step()
    print(max(0, resident("VmHWM") - before))


def resident(field: str) -> int:
    """Return a field of this process's status, in bytes; ``getrusage`` would give a child its parent's peak."""
    return int(Path("/proc/self/status").read_text().split(field + ":")[1].split()[0]) << 10


def start(names: list[str], batches: Batches) -> tuple[dict[str, Step], dict[str, str]]:
    """Return the contenders that can do this, after their first call, and why the others cannot."""
    steps, left_out = {}, {}
    for name in names:
        try:
            step = peers.make_step(name, batches)
            step.warm_up()
            steps[name] = step
        except Exception as error:  # a peer's failure is a line of the report, whatever it is
            left_out[name] = peers.first_line(error)
        gc.collect()
        torch.cuda.empty_cache()  # does nothing on a CPU
    return steps, left_out


def measure(table: str, rows: int, width: int, arguments: argparse.Namespace, rate: float | None) -> dict[str, Any]:
    """Measure all contenders of a table at a size; return what there is to say."""
    device = arguments.device
    batches = make_case(table, rows, width, arguments)
    truth = peers.exact(batches, partial(rows_compared, device=device), 2 ** (26 if device == "cuda" else 24) // rows)
    names = [*arguments.contenders, *(GRAPHS if device == "cuda" and KINDS[table].terms else ())]
    steps, left_out = start(names, batches)
    found: dict[str, dict[str, Any]] = {}
    for name, step in steps.items():
        found[name] = {"name": name, **truth.errors(step), "compile_seconds": step.compile_seconds}
        step.clear()
    loss, compared = truth.loss, len(truth.rows[0])
    del truth
    for name, step in steps.items():
        if arguments.no_memory or name.endswith(peers.GRAPH):
            continue
        try:
            memory = memory_of_process(table, name, rows, width, arguments) if device == "cpu" else memory_on_gpu(step)
            found[name]["extra_bytes"] = memory
        except peers.LeftOut as reason:
            left_out[f"memory of {name}"] = str(reason)
    turns: dict[str, Callable[[], object]] = dict(steps)
    products = Products(batches) if device == "cpu" else None
    if products is not None:
        turns[PRODUCTS], found[PRODUCTS] = products, {"name": PRODUCTS}
    repeats = arguments.repeats or next(rounds for limit, rounds in REPEATS[device] if rows <= limit)
    times = in_turn(turns, device, repeats)
    medians = {name: statistics.median(values) for name, values in times.items()}
    floor = medians.get(PRODUCTS) if rate is None else peers.operations(batches, device) / rate
    for name, result in found.items():
        middle = medians[name]
        result |= {"seconds": times[name], "median_seconds": middle, "products_share": floor and floor / middle}
        result |= {f"{other}_over_it": medians.get(other, math.nan) / middle for other in ("plain", "compiled")}
    return {
        "table": table,
        "rows": rows,
        "width": width,
        "negatives": arguments.negatives if KINDS[table].negatives else 0,
        "loss": loss,
        "gradient_rows_compared": compared,
        "operations": peers.operations(batches, device),
        "tile": products and products.tile,
        "contenders": list(found.values()),
        "left_out": left_out,
    }


def product_rate(arguments: argparse.Namespace) -> float | None:
    """Return the measured operations a second of a large product on the GPU; none on a CPU, where sizes matter."""
    if arguments.device != "cuda":
        return None
    a = torch.randn(8192, 8192, device="cuda").to(DTYPES[arguments.precision])
    times = [seconds_of(lambda: torch.mm(a, a), "cuda", 10) for _ in range(10)]
    return 2 * 8192**3 / statistics.median(times[3:])


def title(table: str, width: int, arguments: argparse.Namespace) -> str:
    """Return a table's title."""
    kind = KINDS[table]
    terms = f"two views of {TERMS_ROWS} events, two of {TERMS_ROWS // EVENTS} clips, " if kind.terms else ""
    private = f"{arguments.negatives if kind.negatives else 0} private negatives a row"
    return f"**{terms}text {'trained' if kind.trained else 'frozen'}, {private}, D {width}, {arguments.precision}**"


def figure(value: float) -> str:
    """Return a number with three digits that count; blank if it is none."""
    if math.isnan(value):
        return ""
    return f"{value:,.{max(0, 3 - (len(str(int(value))) if value >= 1 else 0))}f}"


def lines(result: dict[str, Any]) -> Iterator[str]:
    """Return the lines of a size in its table."""
    for one in result["contenders"]:
        milliseconds = [1000 * value for value in one["seconds"]]
        memory, share = one.get("extra_bytes"), one["products_share"]
        cells = [
            f"{result['rows']:,}",
            one["name"],
            figure(1000 * one["median_seconds"]),
            f"{figure(min(milliseconds))} to {figure(max(milliseconds))}",
            figure(one["plain_over_it"]),
            figure(one["compiled_over_it"]),
            "" if share is None else f"{100 * share:.0f}",
            "" if memory is None else f"{memory / 2**20:,.1f}",
            *(f"{one[key]:.1e}" if key in one else "" for key in ("loss_error", "gradient_error")),
        ]
        yield f"| {' | '.join(cells)} |"


def remarks(results: list[dict[str, Any]]) -> Iterator[str]:
    """Return what a table has no place for."""
    compiled, tiles, reasons = [], [], defaultdict(list)
    for result in results:
        at = f"at {result['rows']:,}"
        for one in result["contenders"]:
            if one.get("compile_seconds") is not None:
                compiled.append(f"{one['compile_seconds']:.1f} s {at}")
        if result["tile"]:
            tiles.append(f"{result['tile'][0]:,} x {result['tile'][1]:,} {at}")
        if result["gradient_rows_compared"] < result["rows"]:
            yield f"Gradients {at}: {result['gradient_rows_compared']:,} sampled rows were compared"
        for name, reason in result["left_out"].items():
            reasons[name, reason].append(at)
    yield "Loss: " + ", ".join(f"{result['loss']:.4f} at {result['rows']:,}" for result in results)
    if compiled:
        yield f"Compiling, not in the times: {', '.join(compiled)}"
    if tiles:
        yield f"Best tiles of the products alone: {', '.join(tiles)}"
    for (name, reason), sizes in reasons.items():
        yield f"{name}{'' if len(sizes) == len(results) else ' ' + ', '.join(sizes)} left out: {reason}"


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all tables; print them as they come, unless JSON is asked for."""
    rate = product_rate(arguments)
    say: Callable[..., None] = (lambda *_, **__: None) if arguments.json else print
    say(f"{machine()}; device {arguments.device}; forward and backward")
    if rate:
        say(f"a product of two 8192 x 8192 {arguments.precision} matrices: {rate / 1e12:.1f} TFLOP/s")
    found = []
    for table, width in itertools.product(arguments.tables, arguments.width):
        say(f"\n{title(table, width, arguments)}\n\n| {' | '.join(COLUMNS)} |")
        say("| ---: | --- |" + " ---: |" * (len(COLUMNS) - 2), flush=True)
        results = []
        for rows in [TERMS_ROWS] if KINDS[table].terms else arguments.sizes:
            results.append(measure(table, rows, width, arguments, rate))
            say("\n".join(lines(results[-1])), flush=True)
        say("\n" + "\n".join(remarks(results)))
        found += results
    return {
        "machine": machine(),
        "device": arguments.device,
        "precision": arguments.precision,
        "product_rate": rate,
        "results": found,
    }


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=list(SIZES))
    parser.add_argument("--sizes", type=int, nargs="+", help="rows of a batch, B")
    parser.add_argument("--width", type=int, nargs="+", help="width of a feature, D")
    parser.add_argument("--negatives", type=int, default=4, help="private negatives of a row")
    parser.add_argument("--precision", choices=list(DTYPES), help="bf16 on a GPU, fp32 on a CPU")
    parser.add_argument("--repeats", type=int, help="rounds; by size if not given")
    parser.add_argument("--tables", nargs="+", choices=list(KINDS))
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), help="also ours/BACKEND")
    parser.add_argument("--without-compile", action="store_true", help="compiling takes 10 to 25 s a size on a CPU")
    parser.add_argument("--no-memory", action="store_true", help="on a CPU memory takes a process for each figure")
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
    parser.add_argument("--measure-memory", nargs=2, metavar=("NAME", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no GPU")
    arguments.sizes = arguments.sizes or SIZES[arguments.device]
    arguments.width = arguments.width or WIDTHS[arguments.device]
    arguments.tables = arguments.tables or TABLES[arguments.device]
    arguments.precision = arguments.precision or ("bf16" if arguments.device == "cuda" else "fp32")
    if arguments.without_compile:
        arguments.contenders = [name for name in arguments.contenders if name != "compiled"]
    return arguments


def main() -> None:
    """Run."""
    arguments = parsed()
    if arguments.measure_memory:
        print_memory(arguments)
        return
    with tempfile.TemporaryDirectory() as cache:  # an earlier run's compiled code would make compiling look fast
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        document = run(arguments)
    if arguments.json:
        print(json.dumps(json.loads(json.dumps(document), parse_constant=lambda _: None), indent=1))  # nan to null


if __name__ == "__main__":
    main()
