"""Train the tiny CLIP model that the demo starts from, on single frames of the synthetic world.

    python examples/train_demo_base.py OUT [--steps 1500] [--frames 20000] [--seed 0]

The captions are like those on the web: most name only what is to be seen, a share names the action. OUT becomes an
open_clip folder with a model card and a training log. Rows of the token embedding that no text of the demo needs
are zeroed, so that the file compresses well.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from figclip_cli.demo.render import SIZE, Stage, add_noise, draw
from figclip_cli.demo.scenario import COLOURS, SCENES, SHAPES, VERBS, Event, plan_clip
from figclip_cli.demo.world import with_article
from figclip_cli.models.clip import build_architecture

MODEL_CFG = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIZE, "layers": 4, "width": 128, "head_width": 32, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 3},
    "quick_gelu": True,
}
PREPROCESS_CFG = {
    "size": [SIZE, SIZE], "mode": "RGB", "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic", "resize_mode": "shortest",
}  # fmt: skip
BATCH, PEAK_LEARNING_RATE, WARMUP_STEPS = 256, 1.5e-3, 100
ACTION_SHARE, LOOSE_SHARE = 0.15, 0.15


def naming_caption(event: Event, scene: str, rng: random.Random) -> str:
    """Name some of what is to be seen, and nothing of what happens."""
    seen = [actor.name for actor in (event.agent, event.patient, event.bystander) if actor is not None]
    rng.shuffle(seen)
    phrases = [with_article(name) for name in seen[: rng.choice((1, 2, 2, 3))]]
    text = " and ".join(phrases)
    frame = rng.choice(("{}", "{} in the {s}", "{}, {s}", "a picture of {}", "{s} with {}", "there is {} in the {s}"))
    return frame.format(text, s=scene)


def action_caption(event: Event, scene: str, rng: random.Random) -> str:
    """Say who does what to whom, in natural words."""
    agent, verb = with_article(event.agent.name), event.verb
    text = f"{agent} {verb.third_person}" + (f" {with_article(event.patient.name)}" if event.patient else "")
    extra = {"left": " to the left", "right": " to the right", "up": " up"}[event.direction]
    return text + rng.choice(("", extra, f" {event.manner}", f" in the {scene}"))


def loose_caption(event: Event, scene: str, rng: random.Random) -> str:
    """List facts in any order, bound to no role: long texts without who does what to whom."""
    actors = [actor.name for actor in (event.agent, event.patient) if actor is not None]
    facts = [*(f"there is {name}" for name in actors), f"scene is {scene}"]
    facts += rng.sample(
        [f"action is {event.verb.word}", f"manner is {event.manner}", f"direction is {event.direction}"], 2
    )
    rng.shuffle(facts)
    return "In this photo, " + ", ".join(facts)


def caption(event: Event, scene: str, rng: random.Random) -> str:
    """Draw one caption of a frame."""
    kind = rng.random()
    if kind < ACTION_SHARE:
        return action_caption(event, scene, rng)
    make = loose_caption if kind < ACTION_SHARE + LOOSE_SHARE else naming_caption
    return make(event, scene, rng)


def draw_frames(count: int, seed: int, split: str) -> tuple[torch.Tensor, list[tuple[Event, str]]]:
    """Draw single frames of many clips: (count, 64, 64, 3) uint8, and what each shows."""
    rng = random.Random(f"{seed}/{split}")
    frames, shown = np.empty((count, SIZE, SIZE, 3), dtype=np.uint8), []
    for number in range(count):
        plan = plan_clip(seed + 1000, split, number // 5)  # other clips than the demo's
        event = plan.events[number % 5]
        moment = draw(plan.scene, event, Stage.of(f"{plan.clip_id}/{number}"), rng.random())
        frames[number] = add_noise(moment, rng.randrange(16))
        shown.append((event, plan.scene))
    return torch.from_numpy(frames), shown


def to_input(frames: torch.Tensor) -> torch.Tensor:
    """Normalise (N, H, W, 3) uint8 as the model's preprocessing says."""
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(PREPROCESS_CFG[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (pixels - mean) / std


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then cosine."""
    if step < WARMUP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP_STEPS
    return PEAK_LEARNING_RATE * 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Encode texts as the model does, without the padding behind the longest one: the same features, sooner."""
    length = int((tokens != 0).sum(dim=1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ model.text_projection


def train(
    model: torch.nn.Module, tokenizer: Any, frames: torch.Tensor, shown: list, steps: int, seed: int, log: Path
) -> None:
    """CLIP's own symmetric loss on random captions of random frames."""
    rng = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.05)
    order = torch.Generator().manual_seed(seed)
    started, running = time.monotonic(), 0.0
    with log.open("w") as file:
        for step in range(steps):
            picks = torch.randint(0, len(frames), (BATCH,), generator=order)
            texts = [caption(*shown[i], rng) for i in picks.tolist()]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, steps)
            images = F.normalize(model.encode_image(to_input(frames[picks])), dim=-1)
            words = F.normalize(encode_text(model, tokenizer(texts)), dim=-1)
            logits = model.logit_scale.exp().clamp(max=100) * images @ words.T
            same = torch.tensor([[a == b for b in texts] for a in texts]) & ~torch.eye(BATCH, dtype=torch.bool)
            logits = logits.masked_fill(same, float("-inf"))
            target = torch.arange(BATCH)
            loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
            if step % 50 == 0 or step == steps - 1:
                line = {"step": step, "loss": round(running, 4), "minutes": round((time.monotonic() - started) / 60, 2)}
                file.write(json.dumps(line) + "\n")
                file.flush()
                print(line, flush=True)


@torch.no_grad()
def measure(model: torch.nn.Module, tokenizer: Any, frames: torch.Tensor, shown: list) -> dict[str, float]:
    """Accuracy in percent of choosing the right one of two captions (chance 50), on unseen combinations."""
    images = F.normalize(model.encode_image(to_input(frames)), dim=-1)

    def score(texts: list[str]) -> torch.Tensor:
        return (images * F.normalize(model.encode_text(tokenizer(texts)), dim=-1)).sum(-1)

    rng = random.Random(1)
    pairs: dict[str, tuple[list[str], list[str], list[bool]]] = {}

    def add(kind: str, right: str, wrong: str, valid: bool) -> None:
        entry = pairs.setdefault(kind, ([], [], []))
        for values, value in zip(entry, (right, wrong, valid), strict=True):
            values.append(value)  # type: ignore[arg-type]

    for event, scene in shown:
        agent, patient, verb = event.agent, event.patient, event.verb
        colour = rng.choice([c for c in COLOURS if c != agent.colour])
        shape = rng.choice([s for s in SHAPES if s != agent.shape])
        add("colour", f"a {agent.name}", f"a {colour} {agent.shape}", True)
        add("shape", f"a {agent.name}", f"a {agent.colour} {shape}", True)
        add(
            "scene",
            f"a {agent.name}, {scene}",
            f"a {agent.name}, {rng.choice([s for s in SCENES if s != scene])}",
            True,
        )
        whom = patient.name if patient else ""
        other = rng.choice([v for v in VERBS if v != verb and bool(v.patient_role) == bool(patient)] or [verb])
        add(
            "verb",
            f"a {agent.name} {verb.third_person} a {whom}",
            f"a {agent.name} {other.third_person} a {whom}",
            patient is not None,
        )
        add(
            "who does it to whom",
            f"a {agent.name} {verb.third_person} a {whom}",
            f"a {whom} {verb.third_person} a {agent.name}",
            patient is not None,
        )
    figures = {}
    for kind, (right, wrong, valid) in pairs.items():
        hit = (score(right) > score(wrong))[torch.tensor(valid)]
        figures[kind] = round(100 * hit.float().mean().item(), 1)
    return figures


def kept_tokens(tokenizer: Any) -> torch.Tensor:
    """Return which rows of the token embedding any text of the demo may need, (vocabulary,) bool."""
    data = Path(__file__).resolve().parents[1] / "figclip_cli" / "prompts" / "data" / "propbank_roles.json"
    senses = json.loads(data.read_text())["senses"]
    texts = [role for sense in senses.values() for role in sense["roles"].values()] + [s.split(".")[0] for s in senses]
    rng = random.Random(0)
    for number in range(2000):
        plan = plan_clip(7, "train", number)
        texts += [
            make(event, plan.scene, rng)
            for event in plan.events
            for make in (naming_caption, action_caption, loose_caption)
        ]
    texts += ["In this photo, the action is , the .", "a photo of a .", "thing agent patient is of to from with by on"]
    kept = torch.zeros(49408, dtype=torch.bool)
    for start in range(0, len(texts), 4096):
        kept[tokenizer(texts[start : start + 4096]).unique()] = True
    return kept


CARD = """# The demo's base model

A tiny CLIP model ({parameters:,} parameters, of which most are token embeddings; QuickGELU; {size} x {size} pixels)
trained from scratch by `examples/train_demo_base.py` on {frames:,} single frames of the synthetic world, {steps}
steps of {batch} frames, seed {seed}. It knows nothing of real pictures.

{naming:.0f} % of its captions name only what is to be seen, {loose:.0f} % list facts bound to no role, and
{action:.0f} % say who does what to whom. Choosing the right one of two captions on frames with combinations of agent,
verb and patient that were never trained on (chance is 50 %):

| what differs | accuracy |
| --- | ---: |
{rows}

Weights are stored in float16; rows of the token embedding that no text of the demo needs are zero. Apache-2.0, like
the package.
"""


def main() -> None:
    """Train, measure, and write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--frames", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    torch.manual_seed(arguments.seed)
    model = build_architecture(MODEL_CFG)
    frames, shown = draw_frames(arguments.frames, arguments.seed, "train")
    arguments.out.mkdir(parents=True, exist_ok=True)
    train(model, tokenizer, frames, shown, arguments.steps, arguments.seed, arguments.out / "training_log.jsonl")
    model.eval()
    kept = kept_tokens(tokenizer)
    with torch.no_grad():
        model.token_embedding.weight[~kept] = 0
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    figures = measure(model, tokenizer, *draw_frames(2000, arguments.seed, "valid"))
    save_file(state, arguments.out / "open_clip_model.safetensors", metadata={"format": "pt"})
    config = {"model_cfg": MODEL_CFG, "preprocess_cfg": PREPROCESS_CFG}
    (arguments.out / "open_clip_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    card = CARD.format(
        parameters=sum(p.numel() for p in model.parameters()), size=SIZE, frames=arguments.frames,
        steps=arguments.steps, batch=BATCH, seed=arguments.seed, action=100 * ACTION_SHARE, loose=100 * LOOSE_SHARE,
        naming=100 * (1 - ACTION_SHARE - LOOSE_SHARE), rows="\n".join(f"| {k} | {v} % |" for k, v in figures.items()),
    )  # fmt: skip
    (arguments.out / "README.md").write_text(card)
    print(figures)


if __name__ == "__main__":
    main()
