"""Time what adapt adds to a plain tower: the LoRA projection, and one training step, against the obvious way.

    python examples/bench_adapt.py [--clips 4] [--repeats 5]

Same inputs, one run, medians. The peer of the projection is loralib's own forward; the peer of the step is a loop
that encodes its texts in every step and uses loralib's forward. Weights are random: only the time is measured.
"""

from __future__ import annotations

import argparse
import copy
import platform
from collections.abc import Callable

import loralib
import torch
import torch.nn.functional as F
from timing import median_seconds

from figclip_cli.adapt.objective import objective
from figclip_cli.models.clip import build_architecture
from figclip_cli.models.contextualizer import ContextualizerConfig, VideoContextualizer
from figclip_cli.models.lora import LoraConfig, QkvLora, attach_lora, lora_layers

EVENTS, FRAMES, NEGATIVES = 5, 4, 4


def loralib_forward(layer: QkvLora, x: torch.Tensor) -> torch.Tensor:
    """Return what loralib's MergedLinear computes: the full update is built and multiplied by."""
    return loralib.MergedLinear.forward(layer, x)


def bench_projection(repeats: int, tokens: int = 20_000, width: int = 768, rank: int = 64) -> None:
    """Forward and backward of one q, k, v projection of ViT-B."""
    torch.manual_seed(0)
    layer = QkvLora(torch.randn(3 * width, width) * 0.02, torch.zeros(3 * width), LoraConfig(rank, float(rank)))
    x = torch.randn(tokens, width, requires_grad=True)

    def step(forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        return lambda: forward(x).sum().backward()

    frozen = median_seconds(step(lambda v: F.linear(v, layer.weight, layer.bias)), repeats)
    ours = median_seconds(step(layer), repeats)
    theirs = median_seconds(step(lambda v: loralib_forward(layer, v)), repeats)
    print(f"projection, {tokens} tokens, D {width}, rank {rank}, forward + backward:")
    print(f"  frozen alone {frozen:.3f} s   ours {ours:.3f} s   loralib {theirs:.3f} s   ratio {theirs / ours:.2f}")


def bench_step(repeats: int, clips: int, rank: int = 64) -> None:
    """One training step of ViT-B/32: cached texts and our projection, against neither."""
    import open_clip

    torch.manual_seed(0)
    config = copy.deepcopy(open_clip.get_model_config("ViT-B-32"))
    model = build_architecture(config).eval()
    attach_lora(model, LoraConfig(rank, float(rank)), seed=0, image_size=224)
    contextualizer = VideoContextualizer(ContextualizerConfig(width=512))
    parameters = [p for m in (model, contextualizer) for p in m.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6)
    images = torch.randn(clips * EVENTS * FRAMES, 3, 224, 224)
    rows = clips * EVENTS
    texts = rows * (1 + NEGATIVES)
    tokens = open_clip.get_tokenizer("ViT-B-32")(["In this photo, the action is walk, the walker is man"] * texts)
    positives = torch.arange(rows).reshape(clips, EVENTS)
    negatives = rows + torch.arange(rows * NEGATIVES).reshape(clips, EVENTS, NEGATIVES)
    with torch.no_grad():
        cached = F.normalize(model.encode_text(tokens), dim=-1)

    def step(table: Callable[[], torch.Tensor]) -> None:
        features = model.encode_image(images).unflatten(0, (clips, EVENTS, FRAMES))
        terms = objective(
            features, contextualizer, text_table=table(), positives=positives, negatives=negatives,
            logit_scale=100.0, video_weight=0.25,
        )  # fmt: skip
        optimizer.zero_grad()
        terms.total.backward()
        optimizer.step()

    def encode_every_time() -> torch.Tensor:
        with torch.no_grad():
            return F.normalize(model.encode_text(tokens), dim=-1)

    ours = median_seconds(lambda: step(lambda: cached), repeats)
    for _, layer in lora_layers(model):
        layer.forward = lambda x, layer=layer: loralib_forward(layer, x)  # type: ignore[method-assign]
    plain = median_seconds(lambda: step(encode_every_time), repeats)
    print(f"training step, ViT-B/32, {clips} clips, {len(images)} frames, {texts} texts, rank {rank}:")
    print(f"  ours {ours:.2f} s   plain loop {plain:.2f} s   ratio {plain / ours:.2f}")


def main() -> None:
    """Run both benchmarks and say on what."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"torch {torch.__version__}, {platform.machine()}, {torch.get_num_threads()} threads")
    bench_projection(arguments.repeats)
    bench_step(arguments.repeats, arguments.clips)


if __name__ == "__main__":
    main()
