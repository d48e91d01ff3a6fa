"""The model card of a head for situation recognition, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """# {name}

A head for situation recognition on VidSitu, trained with figclip on frozen features: {parts}. After VideoWhisperer
(arXiv 2210.10828) and FiGCLIP (arXiv 2401.07669).

| | |
| --- | --- |
| base model | {model} |
| base weights (SHA-256) | `{base_sha256}` |
| adapted by | {run} |
| features | {features}, {width} wide |
| frames | {events} events of {frames_per_event} frames, {size} x {size} pixels |
| annotation | {annotations} (`{annotations_sha256}`) |
| clips | {used} trained on, {validation} held out, {without} without frames |
| learned from | {examples} |
| verb senses | {senses} |
| tokens of phrases | {vocabulary} ({vocabulary_size}), at most {max_tokens} a phrase |
| training | {epochs} epochs of {batch_size} clips a step, AdamW, rate {lr:g}, dropout {dropout:g}, seed {seed} |
| these weights | {selected} |

## Parameters

| part | trainable parameters |
| --- | ---: |
{parameters}

`figclip predict situation --head` writes VidSitu's leaderboard files with this head, for frames that were extracted
alike, and with the same base model and run. `figclip evaluate situation` scores them.
"""

_FEATURES = {"tokens": "event and video tokens of the contextualizer", "plain": "pooled frames"}


def head_card(name: str, config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return the card of a head from its resolved configuration and how it ended."""
    model, clips, sizes, how = config["model"], config["clips"], config["sizes"], config["training"]
    counts = config["parameters"]
    rows = [f"| {part} | {number:,} |" for part, number in counts.items()]
    examples = config["examples"]
    recipe = config["frames"]["recipe"]
    return _CARD.format(
        name=name,
        parts=", ".join(sizes["parts"]),
        model=model["name"],
        base_sha256=model["sha256"],
        run="nothing" if model["run"] is None else f"{model['run']} (`{model['adapter_sha256'][:12]}`)",
        features=f"frames, and {_FEATURES[config['features']]}",
        width=sizes["feature_width"],
        events=recipe["events"],
        frames_per_event=recipe["frames_per_event"],
        size=recipe["size"],
        annotations=clips["training"]["annotations"]["name"],
        annotations_sha256=clips["training"]["annotations"]["sha256"][:12],
        used=clips["training"]["used"],
        validation=0 if clips["validation"] is None else clips["validation"]["used"],
        without=clips["training"]["without_frames"],
        examples=", ".join(f"{examples[kind]:,} {kind}" for kind in ("events", "phrases", "relations")),
        senses=sizes["senses"],
        vocabulary=config["options"]["vocabulary"],
        vocabulary_size=sizes["vocabulary_size"],
        max_tokens=sizes["max_tokens"],
        epochs=how["epochs"],
        batch_size=how["batch_size"],
        lr=how["lr"],
        dropout=how["dropout"],
        seed=how["seed"],
        selected=_selected(result),
        parameters="\n".join([*rows, f"| all | {sum(counts.values()):,} |"]),
    )


def _selected(result: Mapping[str, Any]) -> str:
    said = f"of epoch {result['best_epoch']} of {result['epochs']}"
    score = result["best_score"]
    return said if score is None else f"{said}, validation score {score:.4f}"
