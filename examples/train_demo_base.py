"""Train the tiny CLIP model that the demo starts from, on single frames of the synthetic world.

    python examples/train_demo_base.py OUT    # the one that is shipped; 35 minutes on one core

The captions are like those on the web: most name what is to be seen, tell where it is or how it looks, a few name the
action or say who does what to whom. Each stands against a near miss too, the same caption of a frame that differs in
one thing, since a small world has few of them in a batch. Before and beside that the text tower learns to let read from
its features who and what stands in which role of a prompt or a sentence: so it encodes order, roles, manner and
direction, as the text towers of large models do, while hardly a frame teaches the image tower of roles. OUT becomes an
open_clip folder with a model card and a training log. Rows of the token embedding that no text of the demo needs are
zeroed, so that the file compresses well.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from demo_base_captions import KINDS, Shown, caption, every_text
from demo_base_probes import probes
from demo_base_roles import FACTS, UNTOLD, told_events
from safetensors.torch import save_file
from torch import Tensor, nn

from figclip_cli.demo.drawing import SIZE, Drawing, add_noise
from figclip_cli.demo.poses import Stage
from figclip_cli.demo.scenario import plan_clip
from figclip_cli.models.clip import build_architecture
from figclip_cli.models.text_encoding import quick_tokenizer

MODEL_CFG: dict[str, Any] = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIZE, "layers": 4, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
    "quick_gelu": True,
}
PREPROCESS_CFG = {
    "size": [SIZE, SIZE], "mode": "RGB", "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic", "resize_mode": "shortest",
}  # fmt: skip
BATCH, PEAK_LEARNING_RATE, WARMUP_STEPS, LOG_EVERY = 160, 1e-3, 200, 100
FRAMES_PER_CLIP = 5
FEATURE_LENGTH = 16.0
# Clips of a step whose events are told: while texts are trained alone, and beside frames.
TEXT_CLIPS = (16, 5)
# Clips of other seeds than those of the demo, whose own are small numbers.
WORLD_SEED = 1000

Probe = tuple[Tensor, list[Shown]]


def draw_frames(clips: int, seed: int, split: str) -> tuple[Tensor, list[Shown]]:
    """Draw one frame of each event of many clips: (5 * clips, 64, 64, 3) uint8, and what each shows."""
    rng = random.Random(f"{seed}/{split}")
    frames = torch.empty((clips * FRAMES_PER_CLIP, SIZE, SIZE, 3), dtype=torch.uint8)
    shown = []
    for number in range(len(frames)):
        plan = plan_clip(WORLD_SEED + seed, split, number // FRAMES_PER_CLIP)
        event = plan.events[number % FRAMES_PER_CLIP]
        stage, phase = Stage.of(f"{plan.clip_id}/{number}"), rng.random()
        picture = add_noise(Drawing(plan.scene, event, stage).at(phase), rng.randrange(16))
        frames[number] = torch.from_numpy(picture)
        shown.append(Shown.of(plan.scene, event, stage, phase))
    return frames, shown


def to_input(frames: Tensor) -> Tensor:
    """Normalise (N, H, W, 3) uint8 as the model's preprocessing says."""
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(PREPROCESS_CFG[key], device=frames.device).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then cosine."""
    if step < WARMUP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP_STEPS
    return PEAK_LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))


def encode_text(model: Any, tokens: Tensor) -> Tensor:
    """Encode texts as the model does, without the padding behind the longest one: the same features, sooner."""
    length = int((tokens != 0).sum(dim=1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x), device=x.device), tokens.argmax(dim=-1)] @ model.text_projection


def encode_texts(model: Any, tokens: Tensor, parts: int = 4) -> Tensor:
    """Encode texts in parts of similar length: the same features, sooner still."""
    order = (tokens != 0).sum(dim=1).argsort()
    features = torch.cat([encode_text(model, tokens[rows]) for rows in order.chunk(parts)])
    return features[order.argsort()]


def contrast(model: Any, frames: Tensor, tokens: Tensor) -> Tensor:
    """CLIP's symmetric loss of B frames and 2 B texts, the second half near misses; equal texts are no negatives."""
    images = F.normalize(model.encode_image(to_input(frames)), dim=-1)
    words = F.normalize(encode_texts(model, tokens), dim=-1)
    logits = model.logit_scale.exp().clamp(max=100) * images @ words.T
    own = torch.eye(len(frames), len(tokens), dtype=torch.bool, device=tokens.device)
    same = (tokens[: len(frames), None] == tokens[None]).all(-1) & ~own
    logits = logits.masked_fill(same, float("-inf"))
    target = torch.arange(len(frames), device=tokens.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits[:, : len(frames)].T, target))


def read_roles(model: Any, readers: nn.Linear, tokenizer: Any, told: list[tuple[str, list[int]]]) -> Tensor:
    """Cross-entropy of reading each fact linearly from a text's feature, as the mean over facts."""
    tokens = tokenizer([text for text, _ in told]).to(readers.weight.device)
    facts = torch.tensor([numbers for _, numbers in told], device=tokens.device)
    features = FEATURE_LENGTH * F.normalize(encode_texts(model, tokens), dim=-1)
    read = readers(features).split([len(values) for _, values in FACTS], dim=-1)
    losses = [F.cross_entropy(logits, facts[:, n], ignore_index=UNTOLD) for n, logits in enumerate(read)]
    return torch.stack(losses).mean()


def train(
    model: Any, tokenizer: Any, frames: Tensor, shown: list[Shown], probe: Probe, args: argparse.Namespace
) -> None:
    """Train on random captions of random frames, and log the smoothed loss."""
    rng = random.Random(args.seed)
    readers = nn.Linear(MODEL_CFG["embed_dim"], sum(len(values) for _, values in FACTS)).to(args.device)
    trained = [*model.parameters(), *readers.parameters()]
    optimizer = torch.optim.AdamW(trained, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    started, running = time.monotonic(), 0.0
    with (args.out / "training_log.jsonl").open("w") as file:
        for step in range(args.steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, args.steps)
            clips = TEXT_CLIPS[0] if step < args.texts_first else TEXT_CLIPS[1]
            loss = read_roles(model, readers, tokenizer, told_events(clips, WORLD_SEED + args.seed, rng))
            if step >= args.texts_first:
                picks = rng.sample(range(len(frames)), BATCH)
                captions, misses = zip(*(caption(shown[i], rng) for i in picks), strict=True)
                tokens = tokenizer([*captions, *misses]).to(args.device)
                loss = loss + contrast(model, frames[picks].to(args.device), tokens)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
            if step % LOG_EVERY == 0 or step == args.steps - 1:
                line = {"step": step, "loss": round(running, 4), "minutes": round((time.monotonic() - started) / 60, 2)}
                file.write(json.dumps(line) + "\n")
                file.flush()
                print(line, flush=True)
            if args.probe_every and step and step % args.probe_every == 0:
                figures = measure(model, tokenizer, probe, args.device)
                print(figures, flush=True)
                write(model, args.out / f"step-{step}", args, figures, len(frames))


@torch.no_grad()
def measure(model: Any, tokenizer: Any, probe: Probe, device: str) -> dict[str, float]:
    """Accuracy in percent of choosing the right one of two texts (chance 50), on unseen combinations."""
    frames, shown = probe
    parts = [model.encode_image(to_input(part.to(device))) for part in frames.split(256)]
    images = F.normalize(torch.cat(parts), dim=-1)
    figures = {}
    for kind, pairs in probes(shown).items():
        rows = torch.tensor([row for row, _, _ in pairs], device=device)
        right, wrong = (
            torch.cat(
                [encode_text(model, tokenizer(list(texts[i : i + 256])).to(device)) for i in range(0, len(texts), 256)]
            )
            for texts in ([r for _, r, _ in pairs], [w for _, _, w in pairs])
        )
        better = (images[rows] * (F.normalize(right, dim=-1) - F.normalize(wrong, dim=-1))).sum(-1) > 0
        figures[kind] = round(100 * better.float().mean().item(), 1)
    return figures


CARD = """# The demo's base model

A tiny CLIP model ({parameters:,} parameters, of which most are token embeddings; QuickGELU; {size} x {size} pixels)
trained by `examples/train_demo_base.py` on {frames:,} single frames of the synthetic world, {steps:,}
steps of {batch} frames, seed {seed}. The first {texts_first} steps train the text tower alone: from the features of
prompts and sentences it must be read who and what stands in which role. That goes on beside the frames. It knows
nothing of real pictures.

Its captions are like those on the web, mostly incomplete:

| captions that | share |
| --- | ---: |
{shares}

Choosing the right one of two texts on frames with combinations of agent, verb and patient that were never trained on
(chance is 50 %):

| what differs | accuracy |
| --- | ---: |
{rows}

Weights are stored in float16; rows of the token embedding that no text of the demo needs are zero. Apache-2.0, like
the package.
"""


def kept_tokens(tokenizer: Any) -> Tensor:
    """Return which rows of the token embedding any text of the demo may need, (vocabulary,) bool."""
    texts = every_text()
    kept = torch.zeros(MODEL_CFG["text_cfg"]["vocab_size"], dtype=torch.bool)
    for start in range(0, len(texts), 4096):
        kept[tokenizer(texts[start : start + 4096]).unique()] = True
    return kept


def write(model: Any, out: Path, args: argparse.Namespace, figures: dict[str, float], frames: int) -> None:
    """Write the folder: weights, configuration, card."""
    out.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, out / "open_clip_model.safetensors", metadata={"format": "pt"})
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    card = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()), size=SIZE, frames=frames, steps=args.steps, batch=BATCH,
        seed=args.seed, texts_first=args.texts_first,
        shares="\n".join(f"| {kind.about} | {100 * kind.share:.0f} % |" for kind in KINDS),
        rows="\n".join(f"| {kind} | {value} % |" for kind, value in figures.items()),
    )  # fmt: skip
    (out / "README.md").write_text(card)


def main() -> None:
    """Train, measure, and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--clips", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts-first", type=int, default=200, help="steps on texts alone, before frames join")
    parser.add_argument(
        "--probe-every", type=int, default=0, help="measure and write what there is every so many steps"
    )
    args = parser.parse_args()
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = quick_tokenizer(SimpleTokenizer())
    torch.manual_seed(args.seed)
    model: Any = build_architecture(MODEL_CFG).to(args.device)
    frames, shown = draw_frames(args.clips, args.seed, "train")
    probe = draw_frames(400, args.seed, "valid")
    args.out.mkdir(parents=True, exist_ok=True)
    train(model, tokenizer, frames, shown, probe, args)
    model.eval()
    with torch.no_grad():
        model.token_embedding.weight[~kept_tokens(tokenizer).to(args.device)] = 0
    model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    figures = measure(model, tokenizer, probe, args.device)
    write(model.cpu(), args.out, args, figures, len(frames))
    print(figures)


if __name__ == "__main__":
    main()
