"""The model card of a run, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figclip_cli.markdown import code, inline

_FACTS = """| | |
| --- | --- |
| base model | {base} |
| base weights (SHA-256) | `{base_sha256}` |
| activation | {activation} |
| input | {size} x {size} pixels |
| clips used | {used} of {annotated} annotated ({share:.1f} %), {excluded} excluded, {validation} held out |
| subset (SHA-256 of the clip ids) | {subset} |
| {adapted} |
| objective | {objective} |
| contextualizer | {contextualizer} |
| training | {epochs} epochs of {batch_clips} clips a step, AdamW, {schedule} rate {learning_rate:g}, seed {seed} |
| these weights | {selected} |

## Adapted modules

| module | kind | trainable parameters |
| --- | --- | ---: |
{modules}
"""

_CARD = """# {name}

CLIP adapted on densely annotated video clips with figclip, a re-implementation of FiGCLIP (arXiv 2401.07669).
Use the image tower alone for retrieval, action recognition and compositional tests; the contextualizer is for
tasks that read event tokens.

{facts}
The weights stay under the licence of the base model. `figclip evaluate retrieval --run` compares this model
with its base; `figclip export` merges it into ordinary open_clip weights.
"""


def model_card(name: str, config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return the card of a run from its resolved configuration and how it ended."""
    return _CARD.format(name=inline(name), facts=facts(config, result))


def facts(config: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """Return the part of the card that an export's card has too: base, data, recipe and adapted modules."""
    lora, model, clips = config["lora"], config["model"], config["clips"]
    source = model["source"]
    rows = "\n".join(f"| {code(m['name'])} | {inline(m['kind'])} | {m['parameters']:,} |" for m in lora["modules"])
    return _FACTS.format(
        base=inline(model["name"] + (f" ({source['pretrained']})" if source["pretrained"] else "")),
        base_sha256=model["sha256"],
        activation="QuickGELU" if model["model_cfg"]["quick_gelu"] else "GELU",
        size=model["preprocess_cfg"]["size"][0],
        used=clips["used"],
        excluded=clips["excluded"],
        validation=clips["validation"],
        annotated=clips["annotated"],
        share=100 * clips["used"] / clips["annotated"],
        subset=code(clips["sha256"]),
        adapted=_adapted(lora),
        objective=_objective(config),
        contextualizer=f"{config['contextualizer_layers']} layers" if config["contextualizer"] else "none",
        epochs=config["epochs"],
        batch_clips=config["batch_clips"],
        learning_rate=config["learning_rate"],
        schedule=inline(config["schedule"]),
        seed=config["seed"],
        selected=_selected(result),
        modules=rows,
    )


def _adapted(lora: Mapping[str, Any]) -> str:
    if lora["rank"] == 0:
        return f"tuned | all weights of: {lora['towers']}"
    where = (
        f"on {', '.join(lora['targets'])} of {len(lora['modules'])} modules ({lora['towers']}, blocks {lora['blocks']})"
    )
    return f"LoRA | rank {lora['rank']}, alpha {lora['alpha']:g}, dropout {lora['dropout']:g}, {where}"


def _objective(config: Mapping[str, Any]) -> str:
    weights = [f"{term} {config[f'{term}_weight']:g}" for term in ("clip_event", "clip_video")]
    if config["contextualizer"]:
        weights += [f"{term} {config[f'{term}_weight']:g}" for term in ("vc_event", "vc_video")]
    anchors = [f"anchor {kind} {weight:g}" for kind, weight in sorted(config["anchor"].items())]
    negatives = "hard negatives" if config["hard_negatives"] else "no hard negatives"
    natural = "same-video negatives" if config["natural_negatives"] else "no same-video negatives"
    return ", ".join([*weights, *anchors, negatives, natural])


def _selected(result: Mapping[str, Any]) -> str:
    done = f"of {result['steps']} in {result['epochs']} epochs"
    said = f"{result['selected']}, after step {result['selected_step']} {done}"
    if result["best_score"] is None:
        return said
    return f"{said}; best {result['best_by']} {result['best_score']:.4f} after step {result['best_step']}"
