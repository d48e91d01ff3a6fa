"""Time adapt's training step, data loading included, against a plain loop, in one run on the same inputs.

    python examples/bench_adapt.py [--model ViT-B-32] [--clips 4] [--rounds 5] [--device cuda --precision bf16]

The plain loop is what one would write first: open_clip's model with LoRA by loralib (its own forward) or by PEFT, the
texts encoded in every step, four eager cross-entropies. Rounds take turns. Weights are random and pictures are made
up: only times are measured. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from adapt_inputs import EVENTS, FRAMES, write_inputs
from adapt_plain import PlainLoop, has_peft
from timing import machine, median_seconds
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from figclip_cli.adapt.batches import Batch, Batches
from figclip_cli.adapt.frames_on_device import choose_jpeg_decoder, on_device
from figclip_cli.adapt.objective import clip_views, contrastive_terms
from figclip_cli.adapt.optimizer import make_optimizer
from figclip_cli.adapt.options import AdaptOptions, Execution
from figclip_cli.adapt.prepare import Prepared, prepare
from figclip_cli.adapt.processes import Processes
from figclip_cli.adapt.sources import ClipLists, SourceFiles
from figclip_cli.adapt.step import Step
from figclip_cli.adapt.text_side import texts_of_run
from figclip_cli.adapt.texts import kinds_of_negatives
from figclip_cli.models.clip import build_architecture
from figclip_cli.models.source import ModelSource
from figclip_cli.reporting import SILENT

VIDSITU_CLIPS, EPOCHS, PAPER_BATCH = 23_626, 40, 20
CONTENDERS = ("figclip", "loralib", "peft")


class Figclip:
    """figclip's own step on stored clips."""

    def __init__(self, folder: Path, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        processes = Processes(0, 1, self.device)
        self.options = AdaptOptions(
            rank=arguments.rank, batch_clips=arguments.clips, epochs=10_000, precision=arguments.precision
        )
        execution = Execution(
            compile=arguments.compile,
            gradient_checkpointing=arguments.gradient_checkpointing,
            micro_batch_clips=arguments.micro_batch_clips,
        )
        files = [SourceFiles((folder / "frames.h5",), folder / "prompts.jsonl")]
        self.prepared: Prepared = prepare(
            files, ModelSource(str(folder / "model")), ClipLists(), self.options, execution, self.device, SILENT
        )
        sources, model = self.prepared.sources, self.prepared.model
        kinds = kinds_of_negatives(sources, self.options)
        texts = texts_of_run(
            model.clip, sources, kinds, self.options, processes, beside=folder / "prompts.jsonl", reporter=SILENT
        )
        self._step = Step(model, texts.side, self.options, processes, arguments.micro_batch_clips)
        self._optimizer = make_optimizer(model, self.options)
        decoder = choose_jpeg_decoder(arguments.jpeg_decoder, self.device, stored_as_jpeg=True)
        batches = Batches(
            sources,
            texts.annotations,
            size=arguments.clips,
            seed=0,
            workers=arguments.workers,
            as_jpeg=decoder == "nvjpeg",
            pin_memory=self.device.type == "cuda",
        )
        stream = batches.stream(0, 0, self.options.epochs)
        self._stream = on_device(stream, self.device, self.prepared.frame_size, texts.side.known)
        self.waited = 0.0

    def next_batch(self) -> Batch:
        """Return the next batch, and note how long it took."""
        started = time.perf_counter()
        batch = next(self._stream)
        self.waited += time.perf_counter() - started
        return batch

    def step(self) -> float:
        """Do one whole step; return the loss."""
        terms = self._step.gradients(self.next_batch(), 0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return float(terms.total.detach())

    def staged_step(self, note: Callable[[str], None]) -> None:
        """Do one step in stages, each ended by ``note``; the graph is cut between towers, contextualizer and loss."""
        batch, model = self.next_batch(), self.prepared.model
        note("data")
        assert isinstance(batch.frames, Tensor) and batch.texts is not None
        features = self._step.encode(batch.frames)
        note("towers")
        leaf = features.detach().requires_grad_()
        views = clip_views(leaf, batch.layout, model.contextualizer)
        note("contextualizer")
        found = [*views.events.items(), *views.videos.items()]
        leaves = [view.detach().requires_grad_() for _, view in found]
        half = len(views.events)
        cut = type(views)(
            dict(zip(views.events, leaves[:half], strict=True)), dict(zip(views.videos, leaves[half:], strict=True))
        )
        terms = contrastive_terms(
            cut, batch.layout, batch.texts, logit_scale=model.logit_scale(), weights=self.options.term_weights()
        )
        terms.total.backward()
        note("loss")
        torch.autograd.backward([view for _, view in found], [one.grad for one in leaves])
        note("contextualizer")
        features.backward(leaf.grad)
        note("towers")
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        note("optimizer")


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def shares(ours: Figclip, device: str, rounds: int) -> dict[str, float]:
    """Return the share of a step's time by part, over some steps."""
    seconds: dict[str, float] = {}
    started = time.perf_counter()

    def note(part: str) -> None:
        nonlocal started
        synchronize(device)
        now = time.perf_counter()
        seconds[part] = seconds.get(part, 0.0) + now - started
        started = now

    for _ in range(rounds):
        started = time.perf_counter()
        ours.staged_step(note)
    total = sum(seconds.values())
    return {part: value / total for part, value in seconds.items()}


def in_turn(contenders: dict[str, Any], device: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each step of each contender; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 2):
        for name, contender in contenders.items():
            synchronize(device)
            started = time.perf_counter()
            contender.step()
            synchronize(device)
            if number >= 2:  # the first two warm up
                times[name].append(time.perf_counter() - started)
    return times


def needed_flops(folder: Path, arguments: argparse.Namespace, frames: int) -> float:
    """Return the floating-point operations that a step's image tower needs.

    The frozen tower forward, and backward to its inputs: twice the forward. LoRA forward and backward: three times its
    two products. Recomputation and cleverness do not count.
    """
    clip = loaded(folder)
    counter = FlopCounterMode(display=False)
    with counter:  # with gradients: without them attention takes a path that is not counted
        clip.encode_image(torch.zeros(1, 3, arguments.size, arguments.size))
    forward = counter.get_total_flops() * frames
    visual: Any = clip.visual
    tokens = visual.positional_embedding.shape[0]
    width, blocks = visual.transformer.width, visual.transformer.layers
    lora = 3 * blocks * 2 * (2 * tokens * frames * width * arguments.rank) * 3  # q, k, v; A and B; forward, two back
    return float(2 * forward + lora)


def loaded(folder: Path) -> Any:
    """Return the plain open_clip model of the folder."""
    from safetensors.torch import load_file

    config = json.loads((folder / "model" / "open_clip_config.json").read_text())["model_cfg"]
    model = build_architecture(config)
    model.load_state_dict(load_file(folder / "model" / "open_clip_model.safetensors"))
    return model.eval()


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """Return the measured FLOPs a second of a large matrix product."""
    side = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))

    def product() -> None:
        a @ b
        synchronize(device)

    return 2 * side**3 / median_seconds(product, 5)


def make_contender(name: str, folder: Path, arguments: argparse.Namespace) -> Any:
    """Return a contender by name."""
    if name == "figclip":
        return Figclip(folder, arguments)
    return PlainLoop(folder, loaded(folder), name, arguments)


def peak_memory(folder: Path, name: str) -> int:
    """Return the peak memory in MiB of a process that does two steps."""
    words = [sys.executable, __file__, *sys.argv[1:], "--inputs", str(folder), "--memory-of", name]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def print_memory(name: str, folder: Path, arguments: argparse.Namespace) -> None:
    """Do two steps and print this process's peak memory in MiB."""
    contender = make_contender(name, folder, arguments)
    for _ in range(2):
        contender.step()
    if arguments.device == "cuda":
        print(torch.cuda.max_memory_allocated() >> 20)
    else:
        print(peak_resident_mib())


def peak_resident_mib() -> int:
    """Return this process's peak resident memory; ``getrusage`` would give a child its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) >> 10


def report(folder: Path, arguments: argparse.Namespace) -> None:
    """Measure all contenders and print the tables."""
    names = [name for name in CONTENDERS if name not in arguments.without and (name != "peft" or has_peft())]
    contenders = {name: make_contender(name, folder, arguments) for name in names}
    times = in_turn(contenders, arguments.device, arguments.rounds)
    ours = contenders["figclip"]
    ours.waited = 0.0
    frames = arguments.clips * EVENTS * FRAMES
    seconds = {name: statistics.median(values) for name, values in times.items()}
    print(f"\n{arguments.model}, {arguments.clips} clips, {frames} frames a step, rank {arguments.rank}, "
          f"{arguments.precision}, {arguments.rounds} rounds; {machine()}\n")  # fmt: skip
    print("| | seconds a step (range) | images/s | peak MiB | figclip's steps over it |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in names:
        spread = f"{seconds[name]:.3f} ({min(times[name]):.3f} to {max(times[name]):.3f})"
        memory = "" if arguments.no_memory else str(peak_memory(folder, name))
        ratio = seconds[name] / seconds["figclip"]
        print(f"| {name} | {spread} | {frames / seconds[name]:.1f} | {memory} | {ratio:.2f} |")
    print("\n| part of figclip's step | share, % |\n| --- | ---: |")
    for part, share in shares(ours, arguments.device, arguments.rounds).items():
        print(f"| {part} | {100 * share:.1f} |")
    flops = needed_flops(folder, arguments, frames)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(arguments.precision, torch.float32)
    rate = matrix_rate(arguments.device, dtype)
    used = flops / seconds["figclip"]
    print(f"\n{flops / 1e12:.2f} TFLOP a step, {used / 1e12:.3f} TFLOP/s: {100 * used / rate:.0f} % of a large matrix "
          f"product's {rate / 1e12:.2f}")  # fmt: skip
    if arguments.peak_tflops:
        print(f"{100 * used / 1e12 / arguments.peak_tflops:.0f} % of the device's {arguments.peak_tflops:g} TFLOP/s")
    steps = EPOCHS * VIDSITU_CLIPS / PAPER_BATCH
    per_step = seconds["figclip"] * PAPER_BATCH / arguments.clips
    print(f"40 epochs of VidSitu ({steps:.0f} steps of 20 clips): {steps * per_step / 60:.0f} minutes, extrapolated")


def bench_projection(rounds: int, tokens: int = 20_000, width: int = 768, rank: int = 64) -> None:
    """Print forward and backward times of one q, k, v projection of ViT-B, by each way to compute it."""
    from adapt_plain import projections

    torch.manual_seed(0)
    x = torch.randn(tokens, width, requires_grad=True)
    ways = projections(width, rank)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, forward in ways.items():
            started = time.perf_counter()
            forward(x).sum().backward()
            if number:
                times[name].append(time.perf_counter() - started)
    print(f"\nOne q, k, v projection, {tokens} tokens, D {width}, rank {rank}, forward and backward\n")
    print("| | seconds | over the frozen projection |\n| --- | ---: | ---: |")
    frozen = statistics.median(times["frozen"])
    for name, values in times.items():
        print(f"| {name} | {statistics.median(values):.3f} | {statistics.median(values) / frozen:.2f} |")


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32-quickgelu", help="open_clip architecture; weights are random")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--stored-clips", type=int, default=12)
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--jpeg-decoder", default="auto")
    parser.add_argument("--micro-batch-clips", type=int)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--peak-tflops", type=float, help="of the device, as its maker states it")
    parser.add_argument("--without", nargs="*", default=[], choices=CONTENDERS[1:])
    parser.add_argument("--no-projection", action="store_true")
    parser.add_argument("--no-memory", action="store_true", help="peak memory needs a process for each contender")
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--memory-of", choices=CONTENDERS, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the benchmarks."""
    arguments = parsed()
    if arguments.memory_of:
        print_memory(arguments.memory_of, arguments.inputs, arguments)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_inputs(folder, arguments.model, arguments.size, arguments.stored_clips)
        if not arguments.no_projection and arguments.device == "cpu":
            bench_projection(arguments.rounds)
        report(folder, arguments)


if __name__ == "__main__":
    main()
