"""The model card of a head for dense captioning, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CARD = """# {name}

A head for dense video captioning, trained with figclip on frozen features of frames: {mode}. After PDVC (arXiv
2108.07781), with plain attention.

| | |
| --- | --- |
| base model | {model} |
| base weights (SHA-256) | `{base_sha256}` |
| adapted by | {run} |
| frames | {frames}, {size} x {size} pixels; at most {positions} of a video are looked at |
| annotation | {annotations} |
| videos | {used} trained on, {validation} held out, {without} without frames |
| events | {events:,}, at most {max_events} of a video |
| queries | {queries} |
| tokens of captions | {vocabulary} ({vocabulary_size}), at most {max_tokens} a caption; {overlong} captions are cut |
| parameters | {parameters:,} |
| training | {epochs} epochs of {batch_size} videos a step, AdamW, rate {lr:g}, dropout {dropout:g}, seed {seed} |
| these weights | {selected} |

`figclip predict dense-captioning --head` writes a submission with this head, for frames that were extracted alike, and
with the same base model and run. `figclip evaluate dense-captioning` scores it.
"""

_MODES = {"proposals": "it finds events and writes captions", "given": "it writes captions of segments that are given"}


def head_card(name: str, config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return the card of a head from its resolved configuration and how it ended."""
    model, sizes, how, recipe = config["model"], config["sizes"], config["training"], config["frames"]["recipe"]
    training, held_out = config["videos"]["training"], config["videos"]["validation"]
    return _CARD.format(
        name=name,
        mode=_MODES[sizes["mode"]],
        model=model["name"],
        base_sha256=model["sha256"],
        run="nothing" if model["run"] is None else f"{model['run']} (`{model['adapter_sha256'][:12]}`)",
        frames=_frames(recipe),
        size=recipe["size"],
        positions=sizes["positions"],
        annotations=", ".join(f"{one['name']} (`{one['sha256'][:12]}`)" for one in training["annotations"]),
        used=training["used"],
        validation=0 if held_out is None else held_out["used"],
        without=training["without_frames"],
        events=training["events"],
        max_events=sizes["max_events"],
        queries="none, segments are given" if sizes["mode"] == "given" else sizes["queries"],
        vocabulary=config["options"]["vocabulary"],
        vocabulary_size=sizes["vocabulary_size"],
        max_tokens=sizes["max_tokens"],
        overlong=config["overlong_captions"],
        parameters=result["parameters"],
        epochs=how["epochs"],
        batch_size=how["batch_size"],
        lr=how["lr"],
        dropout=how["dropout"],
        seed=how["seed"],
        selected=_selected(config, result),
    )


def _frames(recipe: Mapping[str, Any]) -> str:
    if recipe["policy"] == "fps":
        return f"{recipe['fps']:g} a second"
    return f"{recipe['events'] * recipe['frames_per_event']} of each video ({recipe['policy']})"


def _selected(config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    said = f"of epoch {result['best_epoch']} of {result['epochs']}"
    score = result["best_score"]
    what = "mean of F1 and CIDEr" if config["options"]["best_by"] == "captions" else "loss"
    return said if score is None else f"{said}, {what} of held-out videos {score:.4f}"
